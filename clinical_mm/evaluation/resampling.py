"""Bootstrap resamples of patients, as counts: how often each patient was drawn.

Drawn once for a set of patients and used for every model, so that differences between models are paired. In k-fold
cross-validation patients are drawn within their fold, since scores of two folds' members have no common scale. A
resample on which a metric has no value (one class alone, no comparable pair) is drawn again.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clinical_mm.evaluation.concordance import comparable_pairs
from clinical_mm.evaluation.held_out import Floats, HeldOut

_MAX_REDRAWS = 200
"""Rounds of drawing again before the remaining resamples are drawn with one patient of each class set in advance."""


@dataclass(frozen=True)
class FoldResamples:
    """The resamples of one fold: `rows` `[n]` are its places in the `HeldOut`, `counts` `[r, n]` the draws."""

    fold: int
    rows: npt.NDArray[np.intp]
    counts: npt.NDArray[np.uint16]


def draw(held: HeldOut, n_resamples: int, seed: int) -> list[FoldResamples]:
    """Resamples of the patients of every fold on which the metrics have a value.

    A fold on which they have none even as it stands (no event, one class alone) is left out; the caller sees that
    by its absence.

    Args:
        held: predictions; only patients, folds and outcomes are read, so that every model of the same patients
            gets the same resamples.
        n_resamples: how many.
        seed: of the draws; the same seed and patients give the same resamples.
    """
    resamples = []
    for fold in np.unique(held.folds):
        rows = np.flatnonzero(held.folds == fold)
        part = held.take(rows)
        if is_defined(part):
            rng = np.random.default_rng([seed, int(fold)])
            resamples.append(FoldResamples(int(fold), rows, _draw_fold(part, n_resamples, rng)))
    return resamples


def is_defined(held: HeldOut) -> bool:
    """Whether the metrics have a value on these patients: two classes, or a comparable pair."""
    if held.kind == "survival":
        assert held.durations is not None
        return bool(comparable_pairs(held.durations, held.labels).any())
    return len(np.unique(held.labels)) > 1


def _draw_fold(held: HeldOut, n_resamples: int, rng: np.random.Generator) -> npt.NDArray[np.uint16]:
    counts = _counts(rng, n_resamples, len(held))
    for _ in range(_MAX_REDRAWS):
        undefined = _undefined(held, counts)
        if not undefined.any():
            return counts
        counts[undefined] = _counts(rng, int(undefined.sum()), len(held))
    for row in np.flatnonzero(_undefined(held, counts)):
        anchors = _anchors(held, rng)
        others = rng.integers(0, len(held), len(held) - len(anchors))
        counts[row] = np.bincount([*anchors, *others], minlength=len(held))
    return counts


def _undefined(held: HeldOut, counts: npt.NDArray[np.uint16]) -> npt.NDArray[np.bool_]:
    """`[r]` whether a resample lacks a class that occurs, or a comparable pair."""
    if held.kind == "survival":
        return _without_pair(held, counts)
    is_missing = [~(counts[:, held.labels == c] > 0).any(axis=1) for c in np.unique(held.labels)]
    return np.logical_or.reduce(is_missing)


def _anchors(held: HeldOut, rng: np.random.Generator) -> list[int]:
    """Patients who make sure that the metrics have a value: one of each class, or a comparable pair."""
    if held.kind == "survival":
        assert held.durations is not None
        pairs = np.argwhere(comparable_pairs(held.durations, held.labels))
        return list(pairs[rng.integers(len(pairs))])
    return [int(rng.choice(np.flatnonzero(held.labels == c))) for c in np.unique(held.labels)]


def _without_pair(held: HeldOut, counts: npt.NDArray[np.uint16]) -> npt.NDArray[np.bool_]:
    """`[r]` whether a resample has no comparable pair: no event before the longest duration that was drawn."""
    assert held.durations is not None
    # A censored patient outlives an event of the same time by a hair.
    moment = held.durations + np.where(held.labels == 0, 1e-9 * (1 + np.abs(held.durations)), 0.0)
    drawn = counts > 0
    first_event = np.where(drawn & (held.labels == 1), moment, np.inf).min(axis=1)
    last = np.where(drawn, moment, -np.inf).max(axis=1)
    return np.asarray(first_event >= last)


def _counts(rng: np.random.Generator, n_resamples: int, n: int) -> npt.NDArray[np.uint16]:
    drawn = rng.integers(0, n, (n_resamples, n)) + np.arange(n_resamples)[:, None] * n
    return np.bincount(drawn.ravel(), minlength=n_resamples * n).reshape(n_resamples, n).astype(np.uint16)


def interval(values: Floats, confidence: float) -> tuple[float, float]:
    """Percentile interval of resampled values `[r]`."""
    tail = (1 - confidence) / 2
    lower, upper = np.quantile(values, [tail, 1 - tail])
    return float(lower), float(upper)
