"""Trained models on disk: versions of a task, and their members, one a fold.

Opening one needs its directory alone: no hub, no study, no pickle. How they are made stands in `finetune`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_model

from clinical_mm.errors import ModelError
from clinical_mm.features.statistics import Statistics
from clinical_mm.model.config import FusionConfig
from clinical_mm.model.network import FusionModel
from clinical_mm.store import Store, read_json
from clinical_mm.training.quiet import quiet

ABOUT = "model.json"
"""Written last into a version's directory: where it stands the version is finished."""

LATEST = "latest.json"
STATISTICS = "statistics.json"
TRAINING = "training.json"


@dataclass(frozen=True)
class Member:
    """The model of one fold, with the statistics of its training patients.

    Attributes:
        model: in eval mode, on the CPU.
        statistics: that standardise its inputs.
        fold: whose test patients it has not seen.
    """

    model: FusionModel
    statistics: Statistics
    fold: int


def version_directory(store: Store, task: str, version: str) -> Path:
    """Directory of a finished version.

    Raises:
        ModelError: there is none.
    """
    directory = store.task(task, "models") / version
    if not (directory / ABOUT).is_file():
        raise ModelError(f"task {task} has no model {version}: `clinical-mm train` makes the newest")
    return directory


def latest_version(store: Store, task: str) -> str:
    """The version that was trained last.

    Raises:
        ModelError: none was.
    """
    pointer = store.task(task, "models") / LATEST
    if not pointer.is_file():
        raise ModelError(f"no model of task {task} was trained yet: run `clinical-mm train` first")
    return str(read_json(pointer)["version"])


def about_version(directory: Path) -> dict[str, Any]:
    """What `model.json` says: task, version, folds, hashes, seed, libraries, modalities."""
    about: dict[str, Any] = read_json(directory / ABOUT)
    return about


def load_members(directory: Path) -> list[Member]:
    """All members of a version, in the order of their folds."""
    members = []
    for fold in about_version(directory)["folds"]:
        of_fold = directory / f"fold_{fold}"
        statistics = Statistics.from_json((of_fold / STATISTICS).read_text(encoding="utf-8"))
        members.append(Member(load_member(of_fold), statistics, int(fold)))
    return members


def load_member(directory: Path) -> FusionModel:
    """The model of a member's directory: in eval mode, on the CPU.

    Raises:
        ModelError: a file is missing, or the weights do not fit the configuration.
    """
    files = {name: directory / name for name in ("config.json", "model.safetensors")}
    missing = [name for name, path in files.items() if not path.is_file()]
    if missing:
        raise ModelError(f"the model directory {directory} lacks {', '.join(missing)}: train it again")
    values = read_json(files["config.json"])
    if values.get("model_type") != FusionConfig.model_type:
        raise ModelError(f"{directory} holds no fusion model: its config.json is of another type")
    with quiet():
        model = FusionModel(FusionConfig.from_dict(values))
        try:
            load_model(model, files["model.safetensors"])
        except (RuntimeError, SafetensorError) as error:
            first = str(error).splitlines()[0]
            raise ModelError(
                f"the weights in {directory} do not fit their configuration ({first}): train it again"
            ) from None
    model.eval()  # type: ignore[no-untyped-call]
    return model
