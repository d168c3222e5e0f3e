"""What is measured on the validation patients after every epoch, and what the best epoch is chosen by.

It is the task's loss over all validation patients at once: with some twenty-five of them the area under the curve moves
in steps of percents and ties often, the loss does not. Judging a finished model is evaluation's matter.
"""

import numpy as np
import torch
from lifelines.utils import concordance_index
from sklearn.metrics import roc_auc_score

from clinical_mm.model.heads import task_loss

CRITERION = "criterion"
"""Name of the measure that chooses the epoch; lower is better."""

DISCRIMINATION = {"binary": "auroc", "multiclass": "auroc", "survival": "c_index"}
"""What is recorded beside it, for a reader."""


def validation_metrics(outcome: str, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The criterion, and discrimination where it is defined.

    Args:
        outcome: binary, multiclass or survival.
        logits: [n, o].
        labels: as `task_loss` takes them.

    Returns:
        `criterion`, and `auroc` (one class against the rest, averaged, for several) or `c_index` where both kinds of
        patients are there.
    """
    loss = task_loss(outcome, torch.from_numpy(logits).float(), torch.from_numpy(labels))
    metrics = {CRITERION: float(loss)}
    value = _discrimination(outcome, logits.astype(np.float64), labels)
    if value is not None:
        metrics[DISCRIMINATION[outcome]] = value
    return metrics


def can_choose(outcome: str, labels: np.ndarray) -> bool:
    """Whether validation patients can tell epochs apart: there are some, and for survival two of them in order."""
    if not len(labels):
        return False
    if outcome != "survival":
        return True
    # Cox's criterion needs an event while someone else is still at risk.
    durations, events = labels[:, 0], labels[:, 1] > 0.5
    return bool((durations[events][:, None] < durations[None, :]).any())


def constant_criterion(outcome: str, training: np.ndarray, validation: np.ndarray, n_outputs: int) -> float:
    """The criterion of predicting the same for everyone: the training patients' prevalence, or equal hazards."""
    if outcome == "survival":
        logits = np.zeros((len(validation), 1))
    elif outcome == "binary":
        share = np.clip(training.mean(), 1e-6, 1 - 1e-6)
        logits = np.full((len(validation), 1), np.log(share / (1 - share)))
    else:
        counts = np.bincount(training.astype(int), minlength=n_outputs) + 1e-6
        logits = np.tile(np.log(counts / counts.sum()), (len(validation), 1))
    return validation_metrics(outcome, logits, validation)[CRITERION]


def _discrimination(outcome: str, logits: np.ndarray, labels: np.ndarray) -> float | None:
    if not np.isfinite(logits).all():
        return None
    if outcome == "survival":
        if not can_choose(outcome, labels):
            return None
        return float(concordance_index(labels[:, 0], -logits[:, 0], labels[:, 1]))
    if outcome == "binary":
        return float(roc_auc_score(labels, logits[:, 0])) if len(np.unique(labels)) == 2 else None
    classes = [c for c in range(logits.shape[1]) if 0 < (labels == c).sum() < len(labels)]
    values = [roc_auc_score(labels == c, _against_rest(logits, c)) for c in classes]
    return float(np.mean(values)) if values else None


def _against_rest(logits: np.ndarray, c: int) -> np.ndarray:
    """Log odds [n] of one class against all others."""
    rest = np.delete(logits, c, axis=1)
    highest = rest.max(axis=1)
    odds: np.ndarray = logits[:, c] - highest - np.log(np.exp(rest - highest[:, None]).sum(axis=1))
    return odds
