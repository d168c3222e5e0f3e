"""An epoch over cached image tensors as training reads it, against copying the same bytes in memory."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import DataLoader

from benchmarks._synthetic import make_features, open_features
from benchmarks.harness import Benchmark, Side
from clinical_mm.features.dataset import PatientDataset, collate
from clinical_mm.features.statistics import Statistics

N_PATIENTS, SIZE, BATCH = 240, (96, 96, 96), 8
_HELD: list[npt.NDArray[np.float16]] = []
"""What the other side copies: in memory before its time begins."""


def _image_alone(modalities: dict[str, Any]) -> None:
    image = modalities["image"] | {"size": list(SIZE), "spacing_mm": [2.0, 2.0, 2.0], "augment": False}
    modalities.clear()
    modalities["image"] = image


def _prepare(folder: Path, scale: float) -> None:
    make_features(folder, round(N_PATIENTS * scale), ["imaging"], _image_alone)


def _ids(folder: Path) -> tuple[Any, list[str]]:
    features = open_features(folder)
    return features, [p for p in features.cohort.index if features.images(p)]


def _dataset(folder: Path) -> PatientDataset:
    features, ids = _ids(folder)
    return PatientDataset(features, Statistics(), ids)


def _open(folder: Path) -> None:
    # What a training opens once: study, cohort, tables. Every tensor is mapped anew within the time.
    _OPENED[folder] = _dataset(folder)


_OPENED: dict[Path, PatientDataset] = {}


def _hold(folder: Path) -> None:
    features, ids = _ids(folder)
    _HELD.extend(np.array(tensor) for p in ids for tensor in features.image_tensors(p))


def _epoch(folder: Path) -> list[float]:
    found = [0.0, 0.0]
    loader: DataLoader[Any] = DataLoader(_OPENED[folder], batch_size=BATCH, collate_fn=collate)
    for batch in loader:
        image = batch["image"][batch["image_mask"]] if not batch["image_mask"].all() else batch["image"]
        found[0] += image.numel()
        found[1] += float(image.reshape(-1, *SIZE)[:, 48, 48, 48].double().sum())
    return found


def _copy(folder: Path) -> list[float]:
    found = [0.0, 0.0]
    for first in range(0, len(_HELD), BATCH):
        batch = np.stack(_HELD[first : first + BATCH])
        found[0] += batch.size
        found[1] += float(batch.reshape(-1, *SIZE)[:, 48, 48, 48].astype(np.float64).sum())
    return found


def _agree(ours: list[float], other: list[float]) -> None:
    assert ours[0] == other[0] > 0, "another number of voxels"
    assert np.isclose(ours[1], other[1]), "other voxels"


BENCHMARK = Benchmark(
    what="an epoch over cached float16 tensors of 96³, one a patient: from the disk's cache to batches of 8",
    bar="0.5× (at most twice the time)",
    prepare=_prepare,
    ours=Side("dataset, memory maps, collate", _epoch, before=_open),
    other=Side("copying the same bytes in memory into batches of 8", _copy, before=_hold),
    agree=_agree,
    note="Both allocate each batch anew. Files are in the page cache, as in the second epoch of a training.",
)
