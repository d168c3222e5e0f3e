"""The answer to a task's question in words, with its calibrated probability and interval.

What the calibration is stands in `clinical_mm.evaluation.calibration`; where a model was never evaluated there is
none, and the answer says so.
"""

import math
from dataclasses import dataclass

from clinical_mm.reports.page import Answer, ClassChance
from clinical_mm.reports.wording import percent
from clinical_mm.study.tasks import BinaryOutcome, MulticlassOutcome, Outcome, SurvivalOutcome


@dataclass(frozen=True)
class Risk:
    """A calibrated probability and its interval.

    Attributes:
        probability: of the outcome, the class, or the event by `horizon`.
        lower: end of the interval, or None where there is none.
        upper: end of the interval, or None.
        horizon: survival: the time by which the event is asked about, in the outcome's unit.
        classes: multiclass: the probabilities of all classes.
        note: what is unusual about the calibration, in a sentence; empty where nothing is.
    """

    probability: float
    lower: float | None
    upper: float | None
    horizon: float | None = None
    classes: tuple[float, ...] = ()
    note: str = ""


def output_unit(outcome: Outcome) -> str:
    """The scale that contributions are in, for a reader."""
    if isinstance(outcome, SurvivalOutcome):
        return "log hazard (+0.69 doubles the hazard)"
    if isinstance(outcome, MulticlassOutcome):
        return "the explained class's logit"
    return "log odds (+0.69 doubles the odds)"


def answer(
    outcome: Outcome,
    logits: tuple[float, ...],
    target: int,
    *,
    risk: Risk | None,
    confidence: float,
    typical: float | None,
    rank: float | None,
) -> Answer:
    """The answer for one patient.

    Args:
        outcome: of the task.
        logits: all outputs.
        target: the output that is explained.
        risk: calibrated, of the explained output, or None.
        confidence: of the interval, of 1.
        typical: the outcome's share among held-out patients, or None.
        rank: share of the held-out patients whose output is lower, or None.
    """
    if isinstance(outcome, SurvivalOutcome):
        return _survival(outcome, risk, confidence, rank)
    if isinstance(outcome, MulticlassOutcome):
        return _multiclass(outcome, logits, target, risk, confidence)
    return _binary(outcome, logits[0], risk, confidence, typical)


def sigmoid(value: float) -> float:
    """The logistic function, without overflow."""
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))


def softmax(logits: tuple[float, ...]) -> tuple[float, ...]:
    """Probabilities of the classes."""
    top = max(logits)
    powers = [math.exp(v - top) for v in logits]
    return tuple(p / sum(powers) for p in powers)


def _within(risk: Risk, confidence: float) -> str:
    if risk.lower is None or risk.upper is None:
        return ""
    return f" ({percent(confidence)} interval {percent(risk.lower)} to {percent(risk.upper)})"


def _binary(
    outcome: BinaryOutcome, logit: float, risk: Risk | None, confidence: float, typical: float | None
) -> Answer:
    name = f"{outcome.variable} = {outcome.positive}"
    shown = risk or Risk(sigmoid(logit), None, None)
    how = "calibrated" if risk else "not calibrated"
    return Answer(
        headline=percent(shown.probability),
        caption=f"probability of {name}, {how}",
        sentence=(
            f"The model puts the probability of {name} at {percent(shown.probability)}{_within(shown, confidence)}."
        ),
        probability=shown.probability,
        lower=shown.lower,
        upper=shown.upper,
        typical=typical,
        is_calibrated=risk is not None,
    )


def _multiclass(
    outcome: MulticlassOutcome, logits: tuple[float, ...], target: int, risk: Risk | None, confidence: float
) -> Answer:
    chances = risk.classes if risk else softmax(logits)
    shown = risk or Risk(chances[target], None, None)
    name = outcome.classes[target]
    return Answer(
        headline=name,
        caption=f"{outcome.variable}, probability {percent(shown.probability)}",
        sentence=(
            f"The model's answer is {name}, with a probability of {percent(shown.probability)}"
            f"{_within(shown, confidence)}{'' if risk else ', not calibrated'}."
        ),
        probability=shown.probability,
        lower=shown.lower,
        upper=shown.upper,
        classes=tuple(
            ClassChance(c, p, i == target)
            for i, (c, p) in enumerate(zip(outcome.classes, chances, strict=True))
        ),
        is_calibrated=risk is not None,
    )


def _survival(outcome: SurvivalOutcome, risk: Risk | None, confidence: float, rank: float | None) -> Answer:
    place = (
        ""
        if rank is None
        else f" The hazard is higher than that of {percent(rank)} of the held-out patients."
    )
    if risk is None or risk.horizon is None:
        return Answer(
            headline="not ranked" if rank is None else percent(rank),
            caption="of the held-out patients have a lower hazard; no calibrated risk",
            sentence=f"The model orders patients by hazard and was not calibrated to a risk.{place}",
            is_calibrated=False,
        )
    by = f"{risk.horizon:.4g} {outcome.duration_unit}"
    return Answer(
        headline=percent(risk.probability),
        caption=f"estimated risk of {outcome.event} within {by}",
        sentence=(
            f"The model estimates the risk of {outcome.event} within {by} of the index time at "
            f"{percent(risk.probability)}{_within(risk, confidence)}.{place}"
        ),
        probability=risk.probability,
        lower=risk.lower,
        upper=risk.upper,
    )
