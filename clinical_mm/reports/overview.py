"""The index of a task's reports and the page on how good its model is, put together from what is in the store."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from clinical_mm.explain.explanation import Explanation
from clinical_mm.reports.answer import output_unit
from clinical_mm.reports.evidence import Evidence
from clinical_mm.reports.page import Fact, PatientPage
from clinical_mm.reports.vocabulary import EVENT_NAMES, MODALITY_NAMES, metric_name, model_name
from clinical_mm.reports.wording import percent
from clinical_mm.study.root import Study

_MIN_PATIENTS = 3
"""A word or feature of fewer patients than this stays off the page of the cohort: it could name one of them."""

_TOP = 20


@dataclass(frozen=True)
class IndexRow:
    """A patient in the index."""

    pseudonym: str
    sort_value: float | None
    headline: str
    interval: str
    modalities: tuple[str, ...]
    strongest: str
    strongest_amount: float
    completeness_error: float
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class IndexPage:
    """All of the index."""

    study: str
    task: str
    question: str
    version: str
    unit: str
    baseline_line: str
    risk_heading: str
    has_probability: bool
    facts: tuple[Fact, ...]
    rows: tuple[IndexRow, ...]


@dataclass(frozen=True)
class MetricRow:
    """A metric of a model on held-out patients."""

    model: str
    subset: str
    metric: str
    value: float | None
    lower: float | None
    upper: float | None
    n_patients: int
    n_events: int
    is_fusion: bool


@dataclass(frozen=True)
class MeanRow:
    """Mean magnitude of a modality's contributions."""

    modality: str
    n: int
    integrated_gradients: float
    shapley: float


@dataclass(frozen=True)
class FeatureMean:
    """A word or feature over the patients who have it."""

    name: str
    n_patients: int
    magnitude: float
    mean: float


@dataclass(frozen=True)
class FlowRow:
    """A step of the cohort's flow."""

    step: int
    name: str
    n_in: int
    n_out: int
    reason: str


@dataclass(frozen=True)
class CohortPage:
    """All of the page on how good the model is."""

    study: str
    task: str
    question: str
    unit: str
    baseline_line: str
    confidence: str
    events: str
    facts: tuple[Fact, ...]
    min_patients: int
    fusion: tuple[MetricRow, ...]
    baselines: tuple[MetricRow, ...]
    subsets: tuple[MetricRow, ...]
    contributions: tuple[MeanRow, ...]
    words: tuple[FeatureMean, ...]
    features: tuple[FeatureMean, ...]
    flow: tuple[FlowRow, ...]


class FeatureTally:
    """Sums of words' and features' contributions over patients, as they go by."""

    def __init__(self) -> None:
        self._words: dict[str, list[float]] = {}
        self._features: dict[str, list[float]] = {}

    def add(self, explanation: Explanation) -> None:
        """Count one patient."""
        of_patient: dict[str, float] = {}
        for word in explanation.words:
            if any(c.isalpha() for c in word.text):
                form = word.text.casefold()
                of_patient[form] = of_patient.get(form, 0.0) + word.attribution
        for form, value in of_patient.items():
            _count(self._words, form, value)
        for feature in explanation.features:
            if feature.is_observed:
                _count(self._features, feature.feature, feature.attribution)

    def words(self) -> tuple[FeatureMean, ...]:
        """Words of several patients with the largest summed magnitude."""
        return _largest(self._words)

    def features(self) -> tuple[FeatureMean, ...]:
        """Genes and clinical values of several patients with the largest summed magnitude."""
        return _largest(self._features)


def _count(sums: dict[str, list[float]], name: str, value: float) -> None:
    """Patients, sum of magnitudes, sum: three numbers a name, however many patients there are."""
    of_name = sums.setdefault(name, [0.0, 0.0, 0.0])
    of_name[0] += 1
    of_name[1] += abs(value)
    of_name[2] += value


def _largest(sums: dict[str, list[float]]) -> tuple[FeatureMean, ...]:
    rows = [
        (total, FeatureMean(name, int(n), total / n, signed_sum / n))
        for name, (n, total, signed_sum) in sums.items()
        if n >= _MIN_PATIENTS
    ]
    return tuple(row for _, row in sorted(rows, key=lambda pair: (-pair[0], pair[1].name))[:_TOP])


def index_row(page: PatientPage, explanation: Explanation) -> IndexRow:
    """A patient's line in the index."""
    answer = page.answer
    strongest = max(explanation.contributions, key=lambda c: abs(c.integrated_gradients))
    ends = "–" if answer.lower is None else f"{percent(answer.lower)} to {percent(answer.upper)}"
    return IndexRow(
        pseudonym=page.pseudonym,
        sort_value=answer.probability if answer.probability is not None else explanation.completeness.score,
        headline=answer.headline + (f" {percent(answer.probability)}" if answer.classes else ""),
        interval=ends,
        modalities=explanation.present,
        strongest=MODALITY_NAMES.get(strongest.modality, strongest.modality),
        strongest_amount=strongest.integrated_gradients,
        completeness_error=explanation.completeness.error,
        warnings=page.warnings,
    )


def index_page(study: Study, task_name: str, evidence: Evidence, rows: Iterable[IndexRow]) -> IndexPage:
    """The index, the highest risk first."""
    task = study.tasks[task_name]
    by_risk = sorted(rows, key=lambda row: (-(row.sort_value or 0.0), row.pseudonym))
    return IndexPage(
        study=study.study,
        task=task_name,
        question=task.question,
        version=evidence.version,
        unit=output_unit(task.outcome),
        baseline_line=evidence.first_line,
        risk_heading="Answer" if task.outcome.kind == "multiclass" else "Risk",
        has_probability=True,
        facts=evidence.trust,
        rows=tuple(by_risk),
    )


def cohort_page(
    study: Study, task_name: str, evidence: Evidence, contributions: pd.DataFrame, tally: FeatureTally
) -> CohortPage:
    """The page on how good the model is.

    Args:
        study: the study.
        task_name: of the task.
        evidence: of the evaluation.
        contributions: of all explained patients, as `explain.saved.CONTRIBUTIONS`.
        tally: of all explained patients.
    """
    task = study.tasks[task_name]
    rows = [
        _metric_row(row) for row in evidence.metrics[evidence.metrics["split"] == "test"].to_dict("records")
    ]
    complete = " + ".join(task.modalities.names)
    first = rows[0].metric if rows else ""
    fusion = [r for r in rows if r.is_fusion and r.subset == complete]
    main = fusion[0].metric if fusion else first
    of_main = [r for r in rows if r.metric == main]
    return CohortPage(
        study=study.study,
        task=task_name,
        question=task.question,
        unit=output_unit(task.outcome),
        baseline_line=evidence.first_line,
        confidence=percent(evidence.confidence),
        events=EVENT_NAMES[task.outcome.kind].capitalize(),
        facts=evidence.trust,
        min_patients=_MIN_PATIENTS,
        fusion=tuple(fusion),
        baselines=_best_first([r for r in of_main if not r.is_fusion or r.subset == complete]),
        subsets=_best_first([r for r in of_main if r.is_fusion]),
        contributions=_mean_rows(contributions),
        words=tally.words(),
        features=tally.features(),
        flow=tuple(
            FlowRow(int(f["step"]), f["name"], int(f["n_in"]), int(f["n_out"]), f["reason"])
            for f in evidence.flow.sort_values("step").to_dict("records")
        ),
    )


def _metric_row(row: dict) -> MetricRow:
    return MetricRow(
        model=model_name(row["model"]),
        subset=row["subset"].replace("+", " + "),
        metric=metric_name(row["metric"]),
        value=_finite(row["value"]),
        lower=_finite(row["lower"]),
        upper=_finite(row["upper"]),
        n_patients=int(row["n_patients"]),
        n_events=int(row["n_events"]),
        is_fusion=row["model"] == "fusion",
    )


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _best_first(rows: Sequence[MetricRow]) -> tuple[MetricRow, ...]:
    return tuple(sorted(rows, key=lambda r: -(r.value if r.value is not None else -1.0)))


def _mean_rows(contributions: pd.DataFrame) -> tuple[MeanRow, ...]:
    there = contributions[contributions["is_present"]]
    return tuple(
        MeanRow(
            MODALITY_NAMES.get(str(modality), str(modality)),
            len(of_modality),
            float(of_modality["integrated_gradients"].abs().mean()),
            float(of_modality["shapley"].abs().mean()),
        )
        for modality, of_modality in there.groupby("modality", sort=False)
    )
