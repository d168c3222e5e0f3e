"""How good the model behind the pages is, read from the evaluation, the cohort and the model's own directory."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from clinical_mm import tables
from clinical_mm.cohort.build import CohortTables
from clinical_mm.evaluation.calibration import Calibration
from clinical_mm.evaluation.metrics import METRICS
from clinical_mm.evaluation.record import load_evaluation
from clinical_mm.explain.explanation import Explanation
from clinical_mm.reports.answer import Risk
from clinical_mm.reports.page import Fact
from clinical_mm.reports.vocabulary import EVENT_NAMES, metric_name
from clinical_mm.reports.wording import interval, percent
from clinical_mm.store import Store, content_hash
from clinical_mm.study.root import Study
from clinical_mm.study.tasks import BinaryOutcome, Task
from clinical_mm.training.members import about_version, splits_of_version, version_directory


@dataclass(frozen=True)
class Evidence:
    """What is known about a model version on held-out patients.

    Attributes:
        version: of the model.
        kind: of the outcome: binary, multiclass or survival.
        first_line: whether fusion beats the best baseline, in a sentence.
        confidence: of the intervals, of 1.
        calibration: or None where the version was not evaluated.
        metrics: `tables.METRICS`.
        scores: the fusion model's predictions with all modalities for test patients: `fold`, `output`, `score`.
        typical: share of the held-out patients with the outcome, for a binary one; else None.
        n_patients: of each split, by name; for k-fold those of a fold on average.
        is_cross_validated: whether each patient was held out by one of several members.
        flow: `tables.FLOW`.
        model: the model's own description: versions, hashes, seed.
        fingerprint: of all of it.
    """

    version: str
    kind: str
    first_line: str
    confidence: float
    calibration: Calibration | None
    metrics: pd.DataFrame
    scores: pd.DataFrame
    typical: float | None
    n_patients: Mapping[str, int]
    is_cross_validated: bool
    flow: pd.DataFrame
    model: Mapping[str, Any]
    fingerprint: str

    def risk(self, explanation: Explanation) -> Risk | None:
        """The calibrated risk of the explained output; None where there is none."""
        if self.calibration is None or explanation.fold not in self.calibration.folds:
            return None
        of_fold = self.calibration.folds[explanation.fold]
        values, lower, upper = self.calibration.risk(np.array([explanation.logits]), explanation.fold)
        target = explanation.target
        value = float(values[0, target])
        if not np.isfinite(value):
            return None
        risk = Risk(value, None, None, self.calibration.horizon, note=of_fold.note)
        if len(of_fold.resampled):
            risk = replace(risk, lower=float(lower[0, target]), upper=float(upper[0, target]))
        if self.calibration.kind == "multiclass":
            risk = replace(risk, classes=tuple(float(v) for v in values[0]))
        return risk

    def rank(self, explanation: Explanation) -> float | None:
        """Share of the same member's other test patients whose output is lower; None where there are none."""
        same = self.scores[
            (self.scores["fold"] == explanation.fold)
            & (self.scores["output"] == explanation.target)
            & (self.scores["patient_id"] != explanation.patient_id)
        ]
        return float((same["score"] < explanation.completeness.score).mean()) if len(same) else None

    @property
    def trust(self) -> tuple[Fact, ...]:
        """The first metric with its interval, what the calibration rests on, and how many patients there were."""
        facts = []
        if len(self.metrics):
            main = self.metrics.iloc[0]
            n = f"{int(main['n_patients']):,} held-out patients ({int(main['n_events']):,} {EVENT_NAMES[self.kind]})"
            ends = interval(main["lower"], main["upper"], 3)
            facts.append(
                Fact(
                    f"Test {metric_name(main['metric'])}",
                    f"{main['value']:.3f} ({percent(self.confidence)} interval {ends}) on {n}",
                )
            )
        else:
            facts.append(Fact("Test metrics", "this version was not evaluated"))
        if self.calibration is not None:
            n_validation = sum(c.n_patients for c in self.calibration.folds.values())
            facts.append(Fact("Calibrated on", f"{n_validation:,} validation patients"))
        each = " in each fold, on average" if self.is_cross_validated else ""
        parts = ", ".join(f"{n:,} {name}" for name, n in self.n_patients.items())
        facts.append(Fact("Patients", f"{parts}{each}"))
        return tuple(facts)

    def provenance(self, explanation: Explanation) -> tuple[Fact, ...]:
        """Which model, study and data the page is made of."""
        facts = [Fact("Model version", self.version), Fact("Member", f"fold {explanation.fold}")]
        for key, label in _PROVENANCE.items():
            if self.model.get(key) is not None:
                facts.append(Fact(label, str(self.model[key])))
        libraries = self.model.get("libraries") or {}
        if libraries:
            facts.append(Fact("Software", ", ".join(f"{k} {v}" for k, v in sorted(libraries.items()))))
        return tuple(facts)


_PROVENANCE = {
    "study_hash": "Study file (SHA-256)",
    "data_fingerprint": "Data fingerprint",
    "seed": "Seed",
}


def load_evidence(study: Study, store: Store, task: str, version: str, cohort: CohortTables) -> Evidence:
    """What the store knows about a model version; of one that was not evaluated only where it comes from.

    Raises:
        ModelError: there is no such version.
    """
    evaluation = load_evaluation(store, task, version)
    model = about_version(version_directory(store, task, version))
    splits = splits_of_version(store, task, version, cohort.splits)
    n_folds = max(int(splits["fold"].nunique()), 1)
    first_line = "This model version was not evaluated: run `clinical-mm evaluate`."
    metrics, scores, calibration = tables.empty(tables.METRICS), tables.empty(tables.PREDICTIONS), None
    if evaluation is not None:
        metrics = _whole_first(evaluation.metrics(), study.tasks[task])
        scores = _whole_scores(evaluation.predictions(), study.tasks[task])
        calibration, first_line = evaluation.calibration, evaluation.first_line
    return Evidence(
        version=version,
        kind=study.tasks[task].outcome.kind,
        first_line=first_line,
        confidence=study.tasks[task].evaluation.confidence if calibration is None else calibration.confidence,
        calibration=calibration,
        metrics=metrics,
        scores=scores,
        typical=_typical(cohort, study.tasks[task]),
        n_patients={
            name: round(int((splits["split"] == name).sum()) / n_folds)
            for name in ("train", "validation", "test")
        },
        is_cross_validated=n_folds > 1,
        flow=cohort.flow,
        model=model,
        fingerprint=content_hash(
            version, cohort.fingerprint, None if evaluation is None else evaluation.fingerprint
        ),
    )


def _whole_first(metrics: pd.DataFrame, task: Task) -> pd.DataFrame:
    """The table with the fusion model on all modalities of the test patients first, metrics in their own order."""
    order = {name: i for i, name in enumerate(METRICS[task.outcome.kind])}
    ranked = metrics.assign(
        _other=(metrics["model"] != "fusion") | (metrics["subset"] != "+".join(task.modalities.names)),
        _split=metrics["split"] != "test",
        _metric=metrics["metric"].map(order).fillna(len(order)),
    ).sort_values(["_split", "_other", "_metric"], kind="stable")
    return ranked.drop(columns=["_other", "_split", "_metric"]).reset_index(drop=True)


def _whole_scores(predictions: pd.DataFrame, task: Task) -> pd.DataFrame:
    is_whole = (predictions["model"] == "fusion") & (predictions["subset"] == "+".join(task.modalities.names))
    return predictions[is_whole & (predictions["split"] == "test")]


def _typical(cohort: CohortTables, task: Task) -> float | None:
    """Share of the held-out patients with the outcome."""
    if not isinstance(task.outcome, BinaryOutcome):
        return None
    tested = cohort.splits.loc[cohort.splits["split"] == "test", "patient_id"].unique()
    labels = cohort.cohort.set_index("patient_id")["label"].reindex(tested).dropna()
    return float(labels.mean()) if len(labels) else None
