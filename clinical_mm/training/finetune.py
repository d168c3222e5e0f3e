"""The stage `train`: a version of a task's fusion model, one member a fold, finished as a whole or carried on.

A version is named by what it is made from, so the same study, data and seed find the finished one again. How a member
learns stands in `fold`; opening a version in `members`.
"""

import platform
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import pandas as pd
from transformers import TrainerCallback

from clinical_mm.features.encoder import resolve_encoder
from clinical_mm.features.loaded import TaskFeatures
from clinical_mm.model.building import read_encoder_config
from clinical_mm.model.frozen_states import CACHE as TEXT_STATES
from clinical_mm.store import Store, content_hash, file_hash, read_json, write_file, write_json
from clinical_mm.study.root import Study
from clinical_mm.study.tasks import Task
from clinical_mm.summary import Check, StageSummary
from clinical_mm.training.fold import Sources, train_fold
from clinical_mm.training.members import (
    ABOUT,
    LATEST,
    TRAINING,
    Member,
    latest_version,
    load_member,
    load_members,
    record_splits,
    version_directory,
)
from clinical_mm.training.model_card import model_card
from clinical_mm.training.quiet import quiet
from clinical_mm.training.validation import DISCRIMINATION

__all__ = ["Member", "latest_version", "load_member", "load_members", "train", "version_directory"]

VERSION = 2
_LIBRARIES = ("clinical-mm", "torch", "transformers", "monai", "numpy", "safetensors")
_UNFINISHED = ".training-"


def train(
    study: Study,
    store: Store,
    task: str,
    seed: int | None = None,
    *,
    callbacks: tuple[TrainerCallback, ...] = (),
) -> StageSummary:
    """Train a task's model on its current features, or carry on an interrupted training of the same.

    Args:
        study: the study.
        store: its store.
        task: name of the task.
        seed: of everything that is drawn; default: the study's.
        callbacks: further callbacks of the Hugging Face Trainer.

    Returns:
        The version, its members' course, and whether they learned anything; `is_unchanged` where the version was
        finished before.

    Raises:
        StoreError: the features are missing, or another run trains this task.
        EncoderError: pretrained weights are missing or do not fit.
        TrainingError: patients or events are too few, or the loss is no longer finite.
    """
    seed = study.seed if seed is None else seed
    with store.lock(f"train-{task}"):
        features = TaskFeatures.load(study, store, task)
        sources = weight_sources(study, store, study.tasks[task])
        version = version_of(study.tasks[task], features.fingerprint, sources, seed)
        models = store.task(task, "models")
        finished = models / version
        is_unchanged = (finished / ABOUT).is_file()
        working = models / f"{_UNFINISHED}{version}"
        _remove_other_unfinished(models, working)
        if not is_unchanged:
            with quiet(study.tasks[task].training.threads):
                folds = [
                    train_fold(
                        features,
                        fold,
                        sources,
                        seed + fold,
                        working,
                        text_states=store.cache(TEXT_STATES),
                        callbacks=callbacks,
                    )
                    for fold in sorted(int(f) for f in features.splits["fold"].unique())
                ]
            record_splits(store, task, version, features.splits)
            _finish(working, finished, _Version(study, task, version, features, seed, folds))
        write_json(models / LATEST, {"version": version})
    return _summary(finished, study.tasks[task], is_unchanged=is_unchanged)


def weight_sources(study: Study, store: Store, task: Task) -> Sources:
    """Where a task's pretrained weights lie.

    Raises:
        EncoderError: the text encoder is nowhere.
    """
    text, image = task.modalities.text, task.modalities.image
    return Sources(
        encoder=None if text is None else resolve_encoder(study, store, text),
        image_weights=None if image is None or image.weights is None else study.resolve_path(image.weights),
    )


def version_of(task: Task, features_fingerprint: str, sources: Sources, seed: int) -> str:
    """Name of the version that these make: 12 hexadecimal digits."""
    settings = {
        key: value.model_dump(mode="json")
        for key, value in (
            ("outcome", task.outcome),
            ("modalities", task.modalities),
            ("model", task.model),
            ("training", task.training),
        )
    }
    return content_hash(settings, features_fingerprint, _identity(sources), seed, VERSION)[:12]


@dataclass(frozen=True)
class _Version:
    study: Study
    task: str
    version: str
    features: TaskFeatures
    seed: int
    folds: list[dict[str, Any]]


def _identity(sources: Sources) -> list[str]:
    """Hashes of local weights, ids and commits of the hub's."""
    parts: list[str] = []
    if sources.encoder is not None:
        directory = Path(sources.encoder)
        if directory.is_dir():
            files = sorted(p for p in directory.iterdir() if p.suffix in {".safetensors", ".bin", ".json"})
            parts += [f"{p.name} {file_hash(p)}" for p in files]
        else:
            commit = getattr(read_encoder_config(sources.encoder), "_commit_hash", None)
            parts.append(f"{sources.encoder} {commit}")
    if sources.image_weights is not None and sources.image_weights.is_file():
        parts.append(f"image {file_hash(sources.image_weights)}")
    return parts


def _remove_other_unfinished(models: Path, working: Path) -> None:
    """What was begun with other settings or data will not be carried on: its checkpoints only take room."""
    if models.is_dir():
        for path in models.glob(f"{_UNFINISHED}*"):
            if path != working:
                shutil.rmtree(path, ignore_errors=True)


def _finish(working: Path, finished: Path, made: _Version) -> None:
    study_json = made.study.model_dump(mode="json")
    about = {
        "task": made.task,
        "version": made.version,
        "folds": [f["fold"] for f in made.folds],
        "seed": made.seed,
        "modalities": list(made.study.tasks[made.task].modalities.names),
        "study": made.study.study,
        "study_hash": content_hash(study_json),
        "data_fingerprint": made.features.fingerprint,
        "features_form": made.features.form,
        "libraries": {"python": platform.python_version(), **{n: installed_version(n) for n in _LIBRARIES}},
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    shutil.rmtree(working / "checkpoints", ignore_errors=True)
    write_json(working / "study.json", study_json)
    write_file(working / "README.md", model_card(made.study, about, made.folds).encode())
    write_json(working / ABOUT, about)
    working.rename(finished)


def _summary(directory: Path, task: Task, *, is_unchanged: bool) -> StageSummary:
    about = read_json(directory / ABOUT)
    folds = [read_json(directory / f"fold_{fold}" / TRAINING) for fold in about["folds"]]
    measure = DISCRIMINATION[task.outcome.kind]
    table = pd.DataFrame(
        {
            "fold": [f["fold"] for f in folds],
            "training patients": [f["n_training"] for f in folds],
            "validation patients": [f["n_validation"] for f in folds],
            "best epoch": [f["best_epoch"] for f in folds],
            "epochs": [f["n_epochs"] for f in folds],
            "validation loss": [f["criterion"] for f in folds],
            "constant loss": [f["criterion_constant"] for f in folds],
            f"validation {measure}": [f["discrimination"] for f in folds],
            "seconds": [f["duration_s"] for f in folds],
        }
    )
    several = len(folds) > 1
    curves = {
        f"{name}_fold_{f['fold']}" if several else name: values
        for f in folds
        for name, values in f["curves"].items()
    }
    facts: dict[str, str | int | float] = {
        "version": about["version"],
        "members": len(folds),
        "modalities": " + ".join(about["modalities"]),
        "parameters": folds[0]["n_parameters"],
        "of these learning": folds[0]["n_learning_parameters"],
        "patients without usable features": sum(f["n_without_features"] for f in folds),
        "seconds": round(sum(f["duration_s"] for f in folds), 1),
    }
    return StageSummary(
        "train",
        facts=facts,
        tables={"members": table},
        curves=curves,
        checks=(_learned(folds),),
        path=directory,
        is_unchanged=is_unchanged,
    )


def _learned(folds: list[dict[str, Any]]) -> Check:
    """Whether the members beat a constant prediction on their validation patients; it warns and does not block."""
    judged = [f for f in folds if f["criterion"] is not None]
    better = sum(f["criterion"] < f["criterion_constant"] for f in judged)
    if not judged:
        sentence = (
            "no fold has validation patients that can tell epochs apart: every member is its last epoch"
        )
        return Check("learned", False, sentence, is_blocking=False)
    sentence = f"{better} of {len(judged)} members have a lower validation loss than a constant prediction"
    return Check("learned", better == len(judged), sentence, is_blocking=False)
