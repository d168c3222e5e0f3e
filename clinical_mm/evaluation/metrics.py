"""The metrics of a task, each with a bootstrap interval over patients.

Values are scikit-learn's and lifelines' own. The resampled ones are computed for all resamples at once from how often
each patient was drawn; with every patient drawn once they equal the libraries' values. In k-fold cross-validation a
metric is the mean of the folds'. Drawing the resamples does not belong here.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from lifelines.utils import concordance_index
from sklearn.metrics import average_precision_score, brier_score_loss, recall_score, roc_auc_score

from clinical_mm.evaluation.concordance import resampled_c_index
from clinical_mm.evaluation.held_out import Floats, HeldOut, Integers
from clinical_mm.evaluation.resampling import FoldResamples, interval

METRICS = {
    "binary": ("auroc", "auprc", "brier", "balanced_accuracy"),
    "multiclass": ("auroc_macro", "balanced_accuracy", "brier"),
    "survival": ("c_index",),
}
"""Metrics of each kind of outcome; the first is the primary one, by which models are compared."""

LOWER_IS_BETTER = frozenset({"brier"})

_CELLS = 2_000_000
"""Numbers of a resampled metric's working array that are held at once."""


@dataclass(frozen=True)
class Estimate:
    """A metric's value, its interval, and the patients that it was computed on."""

    metric: str
    value: float | None
    lower: float | None
    upper: float | None
    n_patients: int
    n_events: int

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.metric} has no value on {self.n_patients} patients"
        return f"{self.metric} {self.value:.3f} [{self.lower:.3f}, {self.upper:.3f}]"


def primary_metric(kind: str) -> str:
    """The metric by which models of a kind of outcome are compared; higher is better."""
    return METRICS[kind][0]


def estimates(held: HeldOut, resamples: list[FoldResamples], confidence: float) -> list[Estimate]:
    """Every metric of the outcome's kind, with its interval.

    Args:
        held: predictions of one model.
        resamples: of the same patients; folds that are missing there have no value and are left out.
        confidence: of the interval.
    """
    used = held.take(np.concatenate([r.rows for r in resamples])) if resamples else held
    found = []
    for metric in METRICS[held.kind]:
        if not resamples:
            found.append(Estimate(metric, None, None, None, len(held), held.n_events if len(held) else 0))
            continue
        lower, upper = interval(resampled(held, metric, resamples), confidence)
        found.append(Estimate(metric, value(held, metric, resamples), lower, upper, len(used), used.n_events))
    return found


def value(held: HeldOut, metric: str, resamples: list[FoldResamples]) -> float:
    """The metric, averaged over the folds that have resamples."""
    return float(np.mean([_fold_value(held.take(r.rows), metric) for r in resamples]))


def resampled(held: HeldOut, metric: str, resamples: list[FoldResamples]) -> Floats:
    """`[r]` the metric of every resample, averaged over folds."""
    return np.asarray(
        np.mean([_fold_resampled(held.take(r.rows), metric, r.counts) for r in resamples], axis=0)
    )


def metrics_table(found: dict[tuple[str, str, str], list[Estimate]]) -> pd.DataFrame:
    """Estimates by (model, subset, split) as `tables.METRICS`."""
    return pd.DataFrame(
        [
            {
                "model": model,
                "subset": subset,
                "split": split,
                "metric": e.metric,
                "value": e.value,
                "lower": e.lower,
                "upper": e.upper,
                "n_patients": e.n_patients,
                "n_events": e.n_events,
            }
            for (model, subset, split), of_model in found.items()
            for e in of_model
        ]
    ).astype({"value": float, "lower": float, "upper": float})


def _fold_value(held: HeldOut, metric: str) -> float:
    labels = held.labels
    if metric == "c_index":
        return float(concordance_index(held.durations, -held.scores[:, 0], labels))
    assert held.probabilities is not None
    assert held.decisions is not None
    if metric == "balanced_accuracy":
        present = np.unique(labels)
        return float(recall_score(labels, held.decisions, labels=present, average="macro", zero_division=0.0))
    if held.kind == "multiclass":
        if metric == "brier":
            return float(_squared_errors(held).mean())
        per_class = [roc_auc_score(labels == c, held.probabilities[:, c]) for c in _rankable(labels)]
        return float(np.mean(per_class))
    if metric == "brier":
        return float(brier_score_loss(labels, held.probabilities[:, 0], pos_label=1))
    library = roc_auc_score if metric == "auroc" else average_precision_score
    return float(library(labels, held.scores[:, 0]))


def _fold_resampled(held: HeldOut, metric: str, counts: npt.NDArray[np.uint16]) -> Floats:
    step = max(1, _CELLS // max(len(held), 1))
    blocks = [counts[i : i + step].astype(np.float64) for i in range(0, len(counts), step)]
    return np.concatenate([_block_resampled(held, metric, block) for block in blocks])


def _block_resampled(held: HeldOut, metric: str, counts: Floats) -> Floats:
    labels = held.labels
    if metric == "c_index":
        assert held.durations is not None
        return resampled_c_index(held.scores[:, 0], held.durations, labels, counts)
    assert held.probabilities is not None
    assert held.decisions is not None
    if metric == "balanced_accuracy":
        is_right = (held.decisions == labels).astype(np.float64)
        classes = [(labels == c).astype(np.float64) for c in np.unique(labels)]
        return np.asarray(np.mean([(counts @ (is_right * c)) / (counts @ c) for c in classes], axis=0))
    if metric == "brier":
        return np.asarray(counts @ _squared_errors(held) / counts.sum(axis=1))
    if metric == "auroc_macro":
        probabilities = held.probabilities
        per_class = [resampled_auroc(probabilities[:, c], labels == c, counts) for c in _rankable(labels)]
        return np.asarray(np.mean(per_class, axis=0))
    fast = resampled_auroc if metric == "auroc" else resampled_auprc
    return fast(held.scores[:, 0], labels == 1, counts)


def _rankable(labels: Integers) -> Integers:
    """The classes that occur: each has positives, and negatives, since another occurs too."""
    return np.unique(labels)


def _squared_errors(held: HeldOut) -> Floats:
    """`[n]` squared distance of the probabilities from what came; over the classes summed (Brier 1950)."""
    assert held.probabilities is not None
    if held.kind == "binary":
        return np.asarray((held.probabilities[:, 0] - held.labels) ** 2)
    truth = np.eye(held.probabilities.shape[1])[held.labels]
    return np.asarray(((held.probabilities - truth) ** 2).sum(axis=1))


def resampled_auroc(score: Floats, is_positive: npt.NDArray[np.bool_], counts: Floats) -> Floats:
    """`[r]` area under the ROC curve of resamples `[r, n]`: the share of pairs in order, ties counting one half."""
    positive, negative = _by_score(score, is_positive, counts)
    below = np.cumsum(negative, axis=1) - negative
    right = (positive * (below + 0.5 * negative)).sum(axis=1)
    return np.asarray(right / (positive.sum(axis=1) * negative.sum(axis=1)))


def resampled_auprc(score: Floats, is_positive: npt.NDArray[np.bool_], counts: Floats) -> Floats:
    """`[r]` average precision of resamples `[r, n]`: precision at each threshold, weighted by the recall gained."""
    positive, negative = (x[:, ::-1] for x in _by_score(score, is_positive, counts))
    found = np.cumsum(positive, axis=1)
    called = found + np.cumsum(negative, axis=1)
    precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
    return np.asarray((positive * precision).sum(axis=1) / positive.sum(axis=1))


def _by_score(score: Floats, is_positive: npt.NDArray[np.bool_], counts: Floats) -> tuple[Floats, Floats]:
    """Positives and negatives drawn at each distinct score, ascending: two `[r, distinct]`."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) > 0])
    sorted_counts, positive = counts[:, order], is_positive[order]
    of_positive = np.add.reduceat(sorted_counts * positive, starts, axis=1)
    of_negative = np.add.reduceat(sorted_counts * ~positive, starts, axis=1)
    return of_positive, of_negative
