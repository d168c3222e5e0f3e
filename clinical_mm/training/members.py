"""Trained models on disk: versions of a task, and their members, one a fold.

Loading one needs its directory alone: no hub, no study, no pickle. Opening it on a task's features also asks whether
it reads features of this form, and whom it learned from. How they are made stands in `finetune`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import SafetensorError
from safetensors.torch import load_model

from clinical_mm import tables
from clinical_mm.errors import ModelError
from clinical_mm.features.loaded import TaskFeatures
from clinical_mm.features.statistics import Statistics
from clinical_mm.model.config import FusionConfig
from clinical_mm.model.frozen_states import CACHE as TEXT_STATES
from clinical_mm.model.frozen_states import attach_frozen_states
from clinical_mm.model.network import FusionModel
from clinical_mm.store import Store, read_json, safe_name
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


@dataclass(frozen=True)
class TrainedVersion:
    """A finished version, opened on the features that stand now.

    Attributes:
        version: its name.
        directory: where it lies.
        members: one a fold.
        splits: `tables.SPLITS` as this version sees the patients of today: whom its members learned from, whom they
            stopped on, and whom they never saw. Patients who are neither here nor tested are unknown to it.
    """

    version: str
    directory: Path
    members: list[Member]
    splits: pd.DataFrame


def open_version(store: Store, task: str, version: str, features: TaskFeatures) -> TrainedVersion:
    """Open a version to read a task's current features.

    Raises:
        ModelError: there is no such version, it is incomplete, or it reads features of another form.
    """
    directory = version_directory(store, task, version)
    form, own = features.form, about_version(directory).get("features_form", {})
    changed = sorted(name for name in {*form, *own} if form.get(name) != own.get(name))
    if changed:
        raise ModelError(
            f"model {version} of task {task} was trained on another form of {', '.join(changed)} than the features "
            "have now (settings, tokenizer or variables changed): train anew, or set the study back"
        )
    members = load_members(directory)
    for member in members:
        attach_frozen_states(member.model, store.cache(TEXT_STATES))
    splits = splits_of_version(store, task, version, features.splits)
    return TrainedVersion(version, directory, members, splits)


def record_splits(store: Store, task: str, version: str, splits: pd.DataFrame) -> None:
    """Keep on record whom a version is trained on; beside the model, since a model directory names no patient."""
    directory = _splits_directory(store, task, version)
    directory.mkdir(parents=True, exist_ok=True)
    tables.write_table(tables.SPLITS, splits, directory)


def splits_of_version(store: Store, task: str, version: str, current: pd.DataFrame) -> pd.DataFrame:
    """The splits of today's patients as a version sees them.

    What a patient was to the version when it was trained stays, whatever the splits say today. Of those who came
    later the ones that are tested today are tested; the others, from whom the next version will learn, are left out.

    Args:
        store: the store.
        task: name of the task.
        version: of the model.
        current: `tables.SPLITS` of today.
    """
    recorded = tables.read_table(tables.SPLITS, _splits_directory(store, task, version))
    key = ["patient_id", "fold"]
    folds = set(recorded["fold"])
    merged = current.merge(recorded, on=key, how="left", suffixes=("_now", ""))
    is_known = merged["patient_id"].isin(recorded["patient_id"])
    is_new = ~is_known & (merged["split_now"] == "test") & merged["fold"].isin(folds)
    merged.loc[is_new, "split"] = "test"
    kept = merged[merged["split"].notna()]
    return kept[["patient_id", "fold", "split"]].sort_values(key, ignore_index=True)


def _splits_directory(store: Store, task: str, version: str) -> Path:
    return store.task(task, "trained_on") / safe_name(version)


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
