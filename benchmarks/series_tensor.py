"""DICOM series to tensors of 96³, antialiased, against MONAI's ITK reader with Spacing and Resize."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import torch

from benchmarks._index_files import ROOT, template
from benchmarks.harness import Benchmark, Side
from clinical_mm.features.series_tensors import SeriesVolume, prepare_series, read_tensor
from clinical_mm.ingest.imaging import read_dicom
from clinical_mm.ingest.ledger import Ledger
from clinical_mm.store import Store
from clinical_mm.study.sources import DicomSource
from clinical_mm.study.tasks import ImageModality

N_SERIES, N_SLICES, ROWS, SIZE = 6, 120, 512, 96
SPACING_MM = (2.5, 0.7, 0.7)
WINDOW = (-150.0, 350.0)
THREADS = 2
"""Of each side: worker processes and torch's threads here, torch's and ITK's threads there."""

ERROR_BOUND = 2.0**-12 + 1e-6
"""Of ours: half a step of float16 just below 1, and the rounding of float32."""

_MONAI_BOUND = 0.05
"""Mean difference of the two sides at most, in a window of 1: MONAI samples single points of the volume."""


def _volume(n_slices: int, rows: int) -> npt.NDArray[np.int16]:
    """HU of soft blobs, of stripes finer than the new voxels, and of noise."""
    z, y, x = (
        np.linspace(-1, 1, n)[index]
        for n, index in zip(
            (n_slices, rows, rows),
            (np.s_[:, None, None], np.s_[None, :, None], np.s_[None, None, :]),
            strict=True,
        )
    )
    values = 250 * np.exp(-4 * (x**2 + y**2 + z**2)) + 60 * np.sin(9 * x) * np.sin(7 * y) + 40 * z
    stripes = 80.0 * (np.arange(rows) % 3 == 0)
    noise = np.random.default_rng(7).normal(0, 20, values.shape)
    return np.asarray(np.round(values + stripes + noise), dtype=np.int16)


def _prepare(folder: Path, scale: float) -> None:
    whole = scale >= 1
    n_series = max(1, round(N_SERIES * scale))
    n_slices, rows = (N_SLICES, ROWS) if whole else (max(16, round(N_SLICES * scale**0.5)), 128)
    volume = _volume(n_slices, rows)
    image = template(rows)
    image.PixelSpacing = list(map(str, SPACING_MM[1:]))
    for number in range(n_series):
        target = folder / "files" / f"{number:02d}"
        target.mkdir(parents=True)
        image.SeriesInstanceUID = f"{ROOT}6.{number}"
        for place, plane in enumerate(volume):
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}7.{number}.{place}"
            image.InstanceNumber = place
            image.ImagePositionPatient = ["-175", "-175", f"{place * SPACING_MM[0]:.2f}"]
            image.PixelData = (plane + 1024).astype("<u2").tobytes()
            image.save_as(target / f"{place:04d}.dcm", enforce_file_format=True)
    np.save(folder / "reference.npy", _reference(folder / "files" / "00"))


def _reference(series: Path) -> npt.NDArray[np.float64]:
    """The antialiased tensor in float64: means of the linear interpolation over each new voxel's box, summed up."""
    slices = [pydicom.dcmread(path) for path in sorted(series.iterdir())]
    stored = np.stack([s.pixel_array * float(s.RescaleSlope) + float(s.RescaleIntercept) for s in slices])
    values = np.clip((stored - WINDOW[0]) / (WINDOW[1] - WINDOW[0]), 0, 1)
    for axis, n_in in enumerate(values.shape):
        values = np.moveaxis(np.tensordot(_shares(n_in), values, axes=(1, axis)), 0, axis)
    return values


def _shares(n_in: int, n_points: int = 4000) -> npt.NDArray[np.float64]:
    """[SIZE, n_in], by sampling each box at many points rather than by the integral that is judged."""
    step = n_in / SIZE
    width = np.sqrt(max(step**2 - 1, 0.0))
    within = (np.arange(n_points) + 0.5) / n_points - 0.5
    shares = np.zeros((SIZE, n_in))
    for i in range(SIZE):
        at = np.clip(step * i + step / 2 - 0.5, -0.5, n_in - 0.5) + width * within
        at = np.clip(at, 0, n_in - 1)
        low = np.minimum(at.astype(int), n_in - 2)
        np.add.at(shares[i], low, (1 - (at - low)) / n_points)
        np.add.at(shares[i], low + 1, (at - low) / n_points)
    return shares


def _ours(folder: Path) -> list[Any]:
    torch.set_num_threads(THREADS)
    store = Store(folder / "store")
    files = sorted(path for path in (folder / "files").rglob("*.dcm"))
    delivery: Any = SimpleNamespace(name="d", path=folder / "files")
    series = read_dicom(
        "imaging", DicomSource(kind="dicom"), delivery, files, Ledger("imaging", "d", "file"), store.volumes
    )
    settings = ImageModality(size=(SIZE,) * 3, intensity="window", window_hu=WINDOW)
    checked: list[Any] = []
    for row in series.to_dict("records"):
        made = prepare_series(SeriesVolume.of(row, store.root), settings, store.cache("images"))
        tensor = read_tensor(store.cache("images"), made.key, 0)
        assert tensor is not None
        checked.append(float(tensor.mean(dtype=np.float64)))
        if len(checked) == 1:
            np.save(folder / "ours.npy", tensor[0])
    return [str(folder), *checked]


def _without_a_store(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder / "store", ignore_errors=True)


def monai_tensors(folder: Path, is_antialiased: bool) -> list[Any]:
    import itk
    from monai.transforms import Compose, LoadImage, Resize, ScaleIntensityRange, Spacing

    torch.set_num_threads(THREADS)
    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(THREADS)
    read = Compose(
        [
            LoadImage(reader="ITKReader", ensure_channel_first=True, image_only=True),
            ScaleIntensityRange(*WINDOW, 0.0, 1.0, clip=True),
            Spacing(pixdim=(1.0, 1.0, 1.0), mode="bilinear"),
            Resize((SIZE,) * 3, mode="trilinear", anti_aliasing=is_antialiased),
        ]
    )
    checked: list[Any] = []
    for series in sorted((folder / "files").iterdir()):
        tensor = torch.as_tensor(read(series)).half().numpy()[0].transpose(2, 1, 0)
        checked.append(float(tensor.mean(dtype=np.float64)))
        if len(checked) == 1:
            np.save(folder / "monai.npy", tensor)
    return [str(folder), *checked]


def _monai(folder: Path) -> list[Any]:
    return monai_tensors(folder, is_antialiased=True)


def open_libraries(folder: Path) -> None:
    import itk  # what takes seconds to import is no part of the work
    import monai.transforms  # noqa: F401

    itk.MultiThreaderBase.GetGlobalDefaultNumberOfThreads()


def _agree(ours: list[Any], other: list[Any]) -> None:
    folder = Path(ours[0])
    reference = np.load(folder / "reference.npy")
    error = np.abs(np.load(folder / "ours.npy").astype(np.float64) - reference).max()
    assert error <= ERROR_BOUND, f"ours differs from the reference in float64 by {error:.2g}"
    difference = np.abs(np.load(folder / "monai.npy").astype(np.float64) - reference).mean()
    assert difference <= _MONAI_BOUND, f"MONAI's tensor is another image: mean difference {difference:.2g}"
    assert len(ours) == len(other) > 1


BENCHMARK = Benchmark(
    what="6 CT series of 120 × 512 × 512 in DICOM to float16 tensors of 96³, antialiased",
    bar="6×",
    prepare=_prepare,
    ours=Side("ingest (headers, decoding, volume on disk) and features", _ours, before=_without_a_store),
    other=Side(
        "MONAI LoadImage(ITKReader), Spacing 1 mm, Resize with antialiasing", _monai, before=open_libraries
    ),
    agree=_agree,
    note="Ours is at most 2.5e-4 (of a window of 1) from the antialiased tensor in float64; two threads on each side.",
    needs_own_processes=True,  # ITK brings another GDCM than ours
)
