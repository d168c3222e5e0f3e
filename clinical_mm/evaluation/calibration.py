"""From scores to risks that mean what they say: one map a fold, fitted on that fold's validation patients.

Held-out test patients play no part in a map. The interval of a risk is that of the map: what it would have been with
other validation patients; it does not tell how the model would have come out with other training patients. Fitting
itself does not belong here, nor do metrics.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lifelines import KaplanMeierFitter
from scipy.special import expit, softmax

from clinical_mm.errors import ModelError
from clinical_mm.evaluation.held_out import Floats, HeldOut
from clinical_mm.evaluation.recalibration import fit_hazard, fit_line, fit_temperature
from clinical_mm.store import read_json, write_json

_IDENTITY = {"binary": (0.0, 1.0), "multiclass": (1.0,)}
MIN_PATIENTS = 5
"""Fewer validation patients, or none with the event, do not move the model's own probabilities."""


@dataclass(frozen=True)
class FoldCalibration:
    """The map of one fold.

    Attributes:
        fold: the fold.
        kind: binary, multiclass or survival.
        parameters: binary: intercept and slope of the log odds; multiclass: inverse temperature; survival: slope of
            the log hazard and cumulative baseline hazard at the horizon.
        resampled: `[r, p]` the same from resamples of the validation patients; without a row: no interval.
        threshold: binary: the risk from which on the answer is yes, the prevalence among training patients.
        n_patients: validation patients.
        n_events: positives, events, or patients of the rarest class among them.
        note: what is unusual about it, in a sentence; empty where nothing is.
    """

    fold: int
    kind: str
    parameters: tuple[float, ...]
    resampled: Floats
    threshold: float
    n_patients: int
    n_events: int
    note: str = ""

    def risk(self, scores: Floats, confidence: float = 0.95) -> tuple[Floats, Floats, Floats]:
        """Risk, and the lower and upper end of its interval, in the shape of the scores.

        Args:
            scores: `[n]` or `[n, 1]` log odds or log hazard ratios, or `[n, c]` class logits.
            confidence: of the interval. Without resamples the interval is the risk itself.
        """
        scores = np.asarray(scores, dtype=np.float64)
        parameters = np.array([self.parameters])
        risk = _apply(self.kind, scores, parameters)[0]
        if not len(self.resampled):
            return risk, risk.copy(), risk.copy()
        tail = (1 - confidence) / 2
        lower, upper = np.quantile(_apply(self.kind, scores, self.resampled), [tail, 1 - tail], axis=0)
        # The percentile interval of a skewed map can miss its own estimate by a hair.
        return risk, np.minimum(lower, risk), np.maximum(upper, risk)


@dataclass(frozen=True)
class Calibration:
    """The maps of a model, one a fold.

    Attributes:
        kind: binary, multiclass or survival.
        folds: the map of each fold.
        confidence: of the intervals.
        horizon: survival: the time, in the unit of the durations, by which the risk is that of having had the event.
        meaning: what a risk is the risk of, to be printed beside it.
    """

    kind: str
    folds: Mapping[int, FoldCalibration]
    confidence: float
    horizon: float | None
    meaning: str

    def risk(self, logit: Floats | float, fold: int = 0) -> tuple[Floats, Floats, Floats]:
        """Risk with its interval for scores of the member of a fold; see `FoldCalibration.risk`.

        Raises:
            ModelError: there is no map of that fold.
        """
        if fold not in self.folds:
            raise ModelError(
                f"the calibration has no fold {fold}: it has {sorted(self.folds)}; evaluate again"
            )
        return self.folds[fold].risk(np.asarray(logit, dtype=np.float64), self.confidence)

    @property
    def thresholds(self) -> dict[int, float]:
        """Binary: the risk from which on the answer is yes, by fold."""
        return {fold: c.threshold for fold, c in self.folds.items()}

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "kind": self.kind,
            "confidence": self.confidence,
            "horizon": self.horizon,
            "meaning": self.meaning,
            "folds": [
                {
                    "fold": c.fold,
                    "parameters": [None if np.isnan(p) else p for p in c.parameters],
                    "resampled": c.resampled.tolist(),
                    "threshold": c.threshold,
                    "n_patients": c.n_patients,
                    "n_events": c.n_events,
                    "note": c.note,
                }
                for c in self.folds.values()
            ],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Calibration":
        """What `to_json` gave."""
        kind = value["kind"]
        folds = {
            c["fold"]: FoldCalibration(
                c["fold"],
                kind,
                tuple(np.nan if p is None else p for p in c["parameters"]),
                np.array(c["resampled"], dtype=np.float64).reshape(-1, len(c["parameters"])),
                c["threshold"],
                c["n_patients"],
                c["n_events"],
                c["note"],
            )
            for c in value["folds"]
        }
        return cls(kind, folds, value["confidence"], value["horizon"], value["meaning"])

    def write(self, directory: Path) -> Path:
        """Write `calibration.json`."""
        path = directory / "calibration.json"
        write_json(path, self.to_json())
        return path

    @classmethod
    def load(cls, directory: Path) -> "Calibration":
        """Read `calibration.json`.

        Raises:
            StoreError: it is missing or damaged.
        """
        return cls.from_json(read_json(directory / "calibration.json"))


def fit_calibration(
    validation: HeldOut,
    thresholds: Mapping[int, float],
    *,
    n_resamples: int,
    confidence: float,
    seed: int,
    horizon: float | None = None,
    meaning: str = "",
) -> Calibration:
    """Fit the map of every fold on its validation patients.

    Args:
        validation: the model's predictions for validation patients; their probabilities are not read.
        thresholds: for every fold of the model the risk from which on the answer is yes.
        n_resamples: of the validation patients, for the interval; 0 for none.
        confidence: of the interval.
        seed: of the resamples.
        horizon: survival: the time to which the risk refers.
        meaning: what a risk is the risk of.
    """
    folds = {
        fold: _fit_fold(
            validation.take(validation.folds == fold),
            fold,
            threshold,
            n_resamples=n_resamples,
            seed=seed,
            horizon=horizon,
        )
        for fold, threshold in thresholds.items()
    }
    return Calibration(validation.kind, folds, confidence, horizon, meaning)


def _fit_fold(
    held: HeldOut, fold: int, threshold: float, *, n_resamples: int, seed: int, horizon: float | None
) -> FoldCalibration:
    kind, n_events = held.kind, held.n_events if len(held) else 0
    is_poor = len(held) < MIN_PATIENTS or len(np.unique(held.labels)) < 2
    if kind == "survival" and (n_events == 0 or len(held) < MIN_PATIENTS):
        note = f"{len(held)} validation patients with {n_events} events: no baseline hazard, so no risk"
        return FoldCalibration(
            fold, kind, (1.0, np.nan), np.empty((0, 2)), threshold, len(held), n_events, note
        )
    if kind != "survival" and is_poor:
        note = f"{len(held)} validation patients, one outcome alone or too few: the model's own probability stands"
        size = len(_IDENTITY[kind])
        return FoldCalibration(
            fold, kind, _IDENTITY[kind], np.empty((0, size)), threshold, len(held), n_events, note
        )
    rng = np.random.default_rng([seed, fold])
    drawn = rng.multinomial(len(held), np.full(len(held), 1 / len(held)), n_resamples)
    counts = np.concatenate([np.ones((1, len(held))), drawn.astype(np.float64)])
    fitted = _fit(held, counts, horizon)
    return FoldCalibration(fold, kind, tuple(fitted[0].tolist()), fitted[1:], threshold, len(held), n_events)


def _fit(held: HeldOut, counts: Floats, horizon: float | None) -> Floats:
    if held.kind == "binary":
        return fit_line(held.scores[:, 0], held.labels, counts)
    if held.kind == "multiclass":
        blocks = np.array_split(counts, max(1, counts.size * held.scores.shape[1] // 2_000_000))
        return np.concatenate([fit_temperature(held.scores, held.labels, block) for block in blocks])
    assert held.durations is not None
    assert horizon is not None
    return fit_hazard(held.scores[:, 0], held.durations, held.labels, counts, horizon)


def _apply(kind: str, scores: Floats, parameters: Floats) -> Floats:
    """Risks by each of the parameters, `[r, *scores.shape]`."""
    columns = [column.reshape(-1, *[1] * scores.ndim) for column in parameters.T]
    if kind == "binary":
        return np.asarray(expit(columns[0] + columns[1] * scores))
    if kind == "multiclass":
        return np.asarray(softmax(columns[0] * scores, axis=-1))
    return np.asarray(-np.expm1(-columns[1] * np.exp(columns[0] * scores)))


def median_follow_up(durations: Floats, events: Floats) -> float:
    """Median follow-up by the reverse Kaplan-Meier estimate (Schemper and Smith 1996).

    Where fewer than half of the patients were censored in time for it to exist, the median duration.
    """
    fitter = KaplanMeierFitter().fit(durations, event_observed=np.asarray(events) == 0)
    median = float(fitter.median_survival_time_)
    return median if np.isfinite(median) else float(np.median(durations))


def reliability(
    risk: Floats, labels: Floats, durations: Floats | None, horizon: float | None, n_groups: int = 5
) -> pd.DataFrame:
    """Mean risk said against risk observed, in groups of equal size by the risk.

    Args:
        risk: `[n]` said.
        labels: `[n]` 0 or 1, or whether the event was seen.
        durations: `[n]` for survival: the observed risk is one minus Kaplan-Meier's estimate at the horizon.
        horizon: survival: the time to which the risk refers.
        n_groups: groups; fewer where that would leave fewer than five patients in one.

    Returns:
        One row a group: `n_patients`, `mean_risk`, `observed_risk`; none where there is no patient.
    """
    if not len(risk):  # no fold had enough validation patients for a map
        return pd.DataFrame({"n_patients": [], "mean_risk": [], "observed_risk": []})
    order = np.argsort(risk, kind="stable")
    groups = np.array_split(order, max(1, min(n_groups, len(risk) // MIN_PATIENTS)))
    rows = []
    for group in groups:
        if durations is None or horizon is None:
            observed = float(labels[group].mean())
        else:
            fitter = KaplanMeierFitter().fit(durations[group], event_observed=labels[group])
            observed = 1 - float(fitter.predict(horizon))
        rows.append(
            {"n_patients": len(group), "mean_risk": float(risk[group].mean()), "observed_risk": observed}
        )
    return pd.DataFrame(rows)
