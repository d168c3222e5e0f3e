"""Predictions as arrays: what one model said about patients whose outcome is known, and what came of them.

Metrics, calibration and comparison all start from here. Where the numbers are made, or judged, does not belong here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from clinical_mm.errors import TableError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Outcome = str
"""`binary`, `multiclass` or `survival`, as `Task.outcome.kind` spells it."""


@dataclass(frozen=True)
class HeldOut:
    """Predictions of one model for one split, sorted by (fold, patient).

    Attributes:
        kind: binary, multiclass or survival.
        patient_ids: `[n]`; in validation a patient may be there once a fold.
        folds: `[n]`.
        scores: `[n, o]` log odds, logits of the classes, or log hazard ratio.
        probabilities: `[n, o]`, None for survival.
        decisions: `[n]` the predicted class, None for survival.
        labels: `[n]` 0 or 1, the class's place, or whether the event was seen.
        durations: `[n]` for survival, else None.
    """

    kind: Outcome
    patient_ids: npt.NDArray[np.object_]
    folds: Integers
    scores: Floats
    probabilities: Floats | None
    decisions: Integers | None
    labels: Integers
    durations: Floats | None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> "HeldOut":
        """The same for some of the rows, in their order."""
        return HeldOut(
            self.kind,
            self.patient_ids[rows],
            self.folds[rows],
            self.scores[rows],
            None if self.probabilities is None else self.probabilities[rows],
            None if self.decisions is None else self.decisions[rows],
            self.labels[rows],
            None if self.durations is None else self.durations[rows],
        )

    @property
    def n_events(self) -> int:
        """Positives, events, or patients of the rarest class that occurs."""
        if self.kind == "multiclass":
            return int(np.unique(self.labels, return_counts=True)[1].min()) if len(self) else 0
        return int(self.labels.sum())


def held_out(
    predictions: pd.DataFrame, kind: Outcome, thresholds: Mapping[int, float] | None = None
) -> HeldOut:
    """Rows of `tables.PREDICTIONS` of one model, subset and split as arrays; rows without a label are left out.

    Args:
        predictions: the rows.
        kind: binary, multiclass or survival.
        thresholds: binary: the probability from which on the answer is yes, by fold; default 0.5.

    Raises:
        TableError: a patient lacks an output, or has one twice.
    """
    known = predictions[predictions["label"].notna()]
    known = known.sort_values(["fold", "patient_id", "output"], kind="stable")
    n_outputs = int(known["output"].max()) + 1 if len(known) else 1
    if not np.array_equal(known["output"].to_numpy(), np.tile(np.arange(n_outputs), len(known) // n_outputs)):
        raise TableError("table predictions: a patient lacks an output of a model, or has one twice")
    first = known.iloc[::n_outputs]
    scores = known["score"].to_numpy(np.float64).reshape(-1, n_outputs)
    folds = first["fold"].to_numpy(np.int64)
    probabilities: Floats | None = None
    decisions: Integers | None = None
    if kind != "survival":
        probabilities = known["probability"].to_numpy(np.float64).reshape(-1, n_outputs)
        decisions = _decisions(kind, probabilities, folds, thresholds or {})
    return HeldOut(
        kind,
        first["patient_id"].to_numpy(object),
        folds,
        scores,
        probabilities,
        decisions,
        first["label"].to_numpy(np.int64),
        first["duration"].to_numpy(np.float64) if kind == "survival" else None,
    )


def _decisions(
    kind: Outcome, probabilities: Floats, folds: Integers, thresholds: Mapping[int, float]
) -> Integers:
    if kind == "multiclass":
        return probabilities.argmax(axis=1).astype(np.int64)
    cut = np.array([thresholds.get(int(fold), 0.5) for fold in folds])
    return (probabilities[:, 0] >= cut).astype(np.int64)
