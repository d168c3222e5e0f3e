"""Two models on the same patients: the paired bootstrap, and the rule by which a challenger is promoted.

Every resample draws the same patients for both models, so what is common to both cancels. Who is champion, and where
that is kept, does not belong here.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from clinical_mm.errors import ModelError
from clinical_mm.evaluation.held_out import HeldOut
from clinical_mm.evaluation.metrics import LOWER_IS_BETTER, primary_metric, resampled, value
from clinical_mm.evaluation.resampling import draw, interval

_NAMES = {"auroc": "AUROC", "auroc_macro": "mean AUROC of the classes", "c_index": "c-index"}
"""Primary metrics as a reader writes them."""


@dataclass(frozen=True)
class Comparison:
    """The difference of two models on the same held-out patients, signed so that above 0 means `first` is better.

    Attributes:
        first: name of the model that is judged.
        second: name of the model that it is held against.
        metric: the metric.
        first_value: of the first.
        second_value: of the second.
        difference: by how much the first is better.
        lower: lower end of the difference's interval.
        upper: upper end.
        confidence: of the interval.
        margin: how much worse counts as worse.
        p_worse_than_margin: share of the resamples in which the first is worse by more than the margin.
        n_patients: patients that both were judged on.
        n_events: positives, events, or patients of the rarest class among them.
    """

    first: str
    second: str
    metric: str
    first_value: float
    second_value: float
    difference: float
    lower: float
    upper: float
    confidence: float
    margin: float
    p_worse_than_margin: float
    n_patients: int
    n_events: int

    @property
    def is_better(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.lower > 0

    @property
    def is_not_worse(self) -> bool:
        """Whether the whole interval lies above minus the margin."""
        return self.lower > -self.margin

    def __str__(self) -> str:
        metric = _NAMES.get(self.metric, self.metric)
        return (
            f"{metric} {self.first_value:.3f} against {self.second_value:.3f}, difference "
            f"{self.difference:+.3f} [{self.lower:+.3f}, {self.upper:+.3f}], {self.n_patients} patients"
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def compare(
    first: HeldOut,
    second: HeldOut,
    names: tuple[str, str],
    *,
    n_resamples: int,
    confidence: float,
    margin: float,
    seed: int,
    metric: str | None = None,
) -> Comparison:
    """Paired bootstrap of the difference between two models (Efron and Tibshirani 1993, chapter 13).

    Args:
        first: predictions of the model that is judged.
        second: of the model that it is held against, for the same patients in the same folds.
        names: of the two.
        n_resamples: resamples of patients.
        confidence: of the interval.
        margin: how much worse counts as worse.
        seed: of the resamples.
        metric: default: the primary one of the outcome's kind.

    Raises:
        ModelError: the patients are not the same, or no metric has a value on them.
    """
    is_same = np.array_equal(first.patient_ids, second.patient_ids) and np.array_equal(
        first.folds, second.folds
    )
    if not is_same or not np.array_equal(first.labels, second.labels):
        raise ModelError(
            f"{names[0]} and {names[1]} were judged on different patients: evaluate both on the same splits"
        )
    metric = metric or primary_metric(first.kind)
    resamples = draw(first, n_resamples, seed)
    if not resamples:
        raise ModelError(
            f"{names[0]} and {names[1]} cannot be compared: {len(first)} patients in common without two outcomes"
        )
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    differences = sign * (resampled(first, metric, resamples) - resampled(second, metric, resamples))
    lower, upper = interval(differences, confidence)
    first_value, second_value = value(first, metric, resamples), value(second, metric, resamples)
    used = first.take(np.concatenate([r.rows for r in resamples]))
    return Comparison(
        *names,
        metric=metric,
        first_value=first_value,
        second_value=second_value,
        difference=sign * (first_value - second_value),
        lower=lower,
        upper=upper,
        confidence=confidence,
        margin=margin,
        p_worse_than_margin=float((differences < -margin).mean()),
        n_patients=len(used),
        n_events=used.n_events,
    )


@dataclass(frozen=True)
class Decision:
    """Whether a challenger may be promoted, and why: one sentence a condition."""

    is_allowed: bool
    reasons: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The reasons in one line."""
        return "; ".join(self.reasons)


def decide(
    against_champion: Comparison | None, against_baseline: Comparison | None, beat_baseline: bool
) -> Decision:
    """The rule of promotion.

    1. Against the champion: the lower end of the interval of (challenger - champion) lies above minus the margin.
       Where there is no champion the condition holds.
    2. Against the best classical baseline, where `beat_baseline` is set: the difference (challenger - baseline) is
       not below 0 as a point estimate. The interval is not asked for: on the few hundred held-out patients of a usual
       cohort hardly any model would pass. The best baseline is the one that is best on these very patients, which
       favours the baseline. Where no baseline could be computed the condition does not hold.

    Args:
        against_champion: challenger as first, champion as second; None where there is no champion.
        against_baseline: challenger as first, best baseline as second; None where there is no baseline.
        beat_baseline: whether the second condition is asked for.
    """
    reasons = []
    is_allowed = True
    if against_champion is None:
        reasons.append("there is no champion to be compared with")
    else:
        verdict = "is not measurably worse than" if against_champion.is_not_worse else "may be worse than"
        reasons.append(
            f"{verdict} the champion by the margin of {against_champion.margin:g} ({against_champion})"
        )
        is_allowed = against_champion.is_not_worse
    if not beat_baseline:
        reasons.append("the baselines are not asked for")
    elif against_baseline is None:
        reasons.append("no classical baseline was computed, and the study asks to be no worse than the best")
        is_allowed = False
    else:
        is_above = against_baseline.difference >= 0
        verdict = "is not worse than" if is_above else "is worse than"
        reasons.append(
            f"{verdict} the best classical baseline, {against_baseline.second} ({against_baseline})"
        )
        is_allowed = is_allowed and is_above
    return Decision(is_allowed, tuple(reasons))
