"""Training one member: the patients of one fold in, one finished directory out, carried on after a crash.

The stage over all folds, versions and what is written beside the members stand in `finetune`.
"""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.tensorboard import SummaryWriter
from transformers import EarlyStoppingCallback, EvalPrediction, TrainerCallback, set_seed
from transformers.integrations.integration_utils import TensorBoardCallback

from clinical_mm.errors import TrainingError
from clinical_mm.features.dataset import PatientDataset, collate
from clinical_mm.features.encoder import load_tokenizer
from clinical_mm.features.loaded import TaskFeatures
from clinical_mm.features.statistics import Statistics
from clinical_mm.model.building import (
    frozen_share,
    fusion_config,
    n_outputs,
    read_encoder_config,
    start_model,
)
from clinical_mm.model.frozen_states import attach_frozen_states
from clinical_mm.model.network import FusionModel
from clinical_mm.store import read_json, write_file, write_json
from clinical_mm.study.tasks import Task
from clinical_mm.training.checkpoints import whole_checkpoints
from clinical_mm.training.members import STATISTICS, TRAINING
from clinical_mm.training.trainer import (
    EpochCallback,
    FusionTrainer,
    steps_per_epoch,
    training_arguments,
)
from clinical_mm.training.validation import (
    CRITERION,
    DISCRIMINATION,
    can_choose,
    constant_criterion,
    validation_metrics,
)
from clinical_mm.training.weight_average import WeightAverage


@dataclass(frozen=True)
class Sources:
    """Where pretrained weights come from.

    Attributes:
        encoder: directory or hub id of the text encoder, where the task reads text.
        image_weights: file of the image network's weights, where the study names one.
    """

    encoder: str | None
    image_weights: Path | None


def train_fold(
    features: TaskFeatures,
    fold: int,
    sources: Sources,
    seed: int,
    directory: Path,
    *,
    text_states: Path | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> dict[str, Any]:
    """Train the member of a fold, or carry on where it was interrupted.

    Args:
        features: of the task.
        fold: whose training and validation patients to use.
        sources: of pretrained weights.
        seed: of this fold.
        directory: of the version that is being made. `fold_<fold>` in it appears when the member is finished;
            checkpoints lie in `checkpoints/fold_<fold>` until then.
        text_states: folder of the states of frozen text encoders, to run them once a window; default: every time.
        callbacks: further ones, called after the others.

    Returns:
        What `training.json` says.

    Raises:
        TrainingError: patients or events are too few, or the loss is no longer finite.
    """
    finished = directory / f"fold_{fold}"
    if finished.is_dir():
        done: dict[str, Any] = read_json(finished / TRAINING)
        return done
    start_s = time.monotonic()
    task = features.task
    patients = _FoldPatients.of(features, fold)
    statistics = Statistics.fit(features, patients.training)
    set_seed(seed)
    model, report = _start(features, patients, statistics, sources)
    if text_states is not None:
        attach_frozen_states(model, text_states)
    training = PatientDataset(features, statistics, patients.training, augment=True, seed=seed)
    validation = PatientDataset(features, statistics, patients.validation)
    is_validated = can_choose(task.outcome.kind, patients.validation_labels)
    checkpoints = directory / "checkpoints" / f"fold_{fold}"
    n_training = len(patients.training)
    arguments = training_arguments(task.training, checkpoints, seed, n_training, is_validated=is_validated)
    average = WeightAverage(
        model, task.training.averaging_epochs * steps_per_epoch(task.training, n_training)
    )
    writer = SummaryWriter(str(directory / "tensorboard" / f"fold_{fold}"))
    of_training: list[TrainerCallback] = [
        TensorBoardCallback(writer),  # type: ignore[no-untyped-call]
        EpochCallback(training, f"training fold {fold}", task.training.epochs),
    ]
    if is_validated:
        of_training.append(EarlyStoppingCallback(task.training.patience))
    trainer = FusionTrainer(
        model=model,
        args=arguments,
        rates=modality_rates(task),
        average=average,
        train_dataset=training,
        eval_dataset=validation if is_validated else None,
        data_collator=collate,
        compute_metrics=_Metrics(task.outcome.kind),
        callbacks=[*of_training, *callbacks],
    )
    history = _run(trainer, average, checkpoints)
    writer.close()
    n_learning, n_parameters = frozen_share(model)
    content = {
        "fold": fold,
        "seed": seed,
        "n_training": n_training,
        "n_validation": len(patients.validation),
        "n_without_features": patients.n_without_features,
        "n_parameters": n_parameters,
        "n_learning_parameters": n_learning,
        "duration_s": round(time.monotonic() - start_s, 1),
        "image_weights_loaded": None if report is None else report.n_loaded,
        **_course(history, task.outcome.kind, is_validated=is_validated),
        "criterion_constant": constant_criterion(
            task.outcome.kind, patients.training_labels, patients.validation_labels, n_outputs(task.outcome)
        )
        if is_validated
        else None,
    }
    _write_member(model, statistics, sources, content, finished)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return content


def modality_rates(task: Task) -> dict[str, float]:
    """Learning rates of the modalities that have their own."""
    rates = {name: getattr(task.modalities, name).learning_rate for name in task.modalities.names}
    return {name: rate for name, rate in rates.items() if rate is not None}


@dataclass(frozen=True)
class _FoldPatients:
    training: list[str]
    validation: list[str]
    training_labels: np.ndarray
    validation_labels: np.ndarray
    n_without_features: int

    @classmethod
    def of(cls, features: TaskFeatures, fold: int) -> "_FoldPatients":
        named = {split: features.patients(fold, split) for split in ("train", "validation")}
        usable = {split: [p for p in ids if features.present(p).any()] for split, ids in named.items()}
        labels = {split: _labels(features, ids) for split, ids in usable.items()}
        _check_labels(features.task, labels["train"], fold)
        n_without = sum(map(len, named.values())) - sum(map(len, usable.values()))
        return cls(usable["train"], usable["validation"], labels["train"], labels["validation"], n_without)


def _labels(features: TaskFeatures, ids: list[str]) -> np.ndarray:
    labels = np.asarray(features.labels(ids), dtype=np.float64)
    if features.task.outcome.kind == "survival":
        return np.stack([np.asarray(features.durations(ids), dtype=np.float64), labels], axis=1)
    return labels


def _check_labels(task: Task, labels: np.ndarray, fold: int) -> None:
    if len(labels) < 2:
        raise TrainingError(
            f"fold {fold} has {len(labels)} training patients with usable features: see `clinical-mm cohort` for why "
            "the others are not"
        )
    if task.outcome.kind == "survival":
        if not (labels[:, 1] > 0.5).any():
            raise TrainingError(
                f"fold {fold}: no training patient had the event, so no hazard can be learned"
            )
    elif len(np.unique(labels)) < 2:
        raise TrainingError(
            f"fold {fold}: all {len(labels)} training patients have the same outcome, so nothing can be learned"
        )


def _start(
    features: TaskFeatures, patients: _FoldPatients, statistics: Statistics, sources: Sources
) -> tuple[FusionModel, Any]:
    task = features.task
    read = task.modalities
    config = fusion_config(
        task,
        encoder=None if sources.encoder is None else read_encoder_config(sources.encoder),
        in_channels=_image_channels(features, patients.training) if read.image is not None else None,
        n_genomics=len(statistics.genomics_features),
        n_clinical=len(statistics.clinical_features),
        class_weights=_class_weights(task, patients.training_labels),
    )
    return start_model(config, sources.encoder, sources.image_weights)


def _image_channels(features: TaskFeatures, ids: list[str]) -> int | None:
    for patient_id in ids:
        for image in features.images(patient_id):
            return int(image.tensor.shape[0])
    return None


def _class_weights(task: Task, labels: np.ndarray) -> list[float]:
    if not task.training.balance_classes or task.outcome.kind == "survival":
        return []
    n = 2 if task.outcome.kind == "binary" else n_outputs(task.outcome)
    counts = np.bincount(labels.astype(int), minlength=n)
    return [float(len(labels) / (n * count)) if count else 0.0 for count in counts]


@dataclass(frozen=True)
class _Metrics:
    """What the Trainer calls after an epoch; a class, so that it pickles."""

    outcome: str

    def __call__(self, predictions: EvalPrediction) -> dict[str, float]:
        logits, labels = np.asarray(predictions.predictions), np.asarray(predictions.label_ids)
        metrics = validation_metrics(self.outcome, logits, labels)
        if not np.isfinite(metrics[CRITERION]):
            raise TrainingError(
                "the validation loss is no longer a finite number: lower the learning rate, or train in fp32"
            )
        return metrics


def _run(trainer: FusionTrainer, average: WeightAverage, checkpoints: Path) -> list[dict[str, Any]]:
    """Train to the end and leave the best averaged weights in the model; gives the Trainer's log."""
    whole = whole_checkpoints(checkpoints)
    newest = whole[-1] if whole else None
    # One that had ended and died before the member was written is not trained on: that would make another model.
    if newest is None:
        trainer.train()
    elif not newest.is_last:
        average.load(newest.path)
        trainer.train(resume_from_checkpoint=str(newest.path))
    last = whole_checkpoints(checkpoints)[-1]
    average.load(checkpoints / (last.best or last.path.name))
    average.apply()
    log: list[dict[str, Any]] = read_json(last.path / "trainer_state.json")["log_history"]
    return log


def _course(history: list[dict[str, Any]], outcome: str, *, is_validated: bool) -> dict[str, Any]:
    measure = DISCRIMINATION[outcome]
    losses = [float(entry["loss"]) for entry in history if "loss" in entry]
    validated = [entry for entry in history if f"eval_{CRITERION}" in entry]
    criteria = [float(entry[f"eval_{CRITERION}"]) for entry in validated]
    curves = {"training_loss": losses}
    best = len(losses)
    if is_validated:
        best = int(np.argmin(criteria)) + 1
        curves["validation_loss"] = criteria
        if all(f"eval_{measure}" in entry for entry in validated):
            curves[f"validation_{measure}"] = [float(entry[f"eval_{measure}"]) for entry in validated]
    chosen = validated[best - 1] if is_validated else {}
    return {
        "best_epoch": best,
        "n_epochs": len(losses),
        "criterion": chosen.get(f"eval_{CRITERION}"),
        "discrimination": chosen.get(f"eval_{measure}"),
        "curves": curves,
    }


def _write_member(
    model: FusionModel, statistics: Statistics, sources: Sources, content: dict[str, Any], finished: Path
) -> None:
    aside = finished.with_name(f".{finished.name}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    model.eval()  # type: ignore[no-untyped-call]
    model.cpu()
    model.save_pretrained(aside)
    if sources.encoder is not None:
        load_tokenizer(sources.encoder).save_pretrained(aside)
    write_file(aside / STATISTICS, statistics.to_json().encode())
    write_json(aside / TRAINING, content)
    aside.rename(finished)
