"""What a reader must know before believing a page: what was missing, what was left out, what was not reached."""

import pandas as pd

from clinical_mm.explain.explanation import Explanation
from clinical_mm.reports.answer import Risk
from clinical_mm.reports.page import Fact
from clinical_mm.reports.vocabulary import ITEM_NOUNS, MODALITY_NAMES, reason
from clinical_mm.reports.wording import counted, enumerated, percent
from clinical_mm.study.tasks import Task

_BY_DESIGN = ("slices_not_taken",)  # left out as the study asks: listed, not warned of
_WIDE = 0.5  # width of a probability's interval from which it says little


def warnings(
    task: Task,
    items: pd.DataFrame,
    *,
    features_left_out: pd.DataFrame,
    index_time: pd.Timestamp | None,
    explanation: Explanation,
    risk: Risk | None,
) -> tuple[str, ...]:
    """Sentences, the gravest first; none where there is nothing to warn of.

    Args:
        task: the task.
        items: the patient's rows of `tables.ITEMS`.
        features_left_out: rows (modality, reason, n).
        index_time: the patient's, or None.
        explanation: of the patient.
        risk: calibrated, or None.
    """
    found: list[str] = []
    complete = explanation.completeness
    if not complete.is_reached:
        found.append(
            f"The contributions miss the model's output by {percent(complete.error)} after {complete.steps} steps, "
            f"{percent(complete.tolerance)} was asked for: read their amounts as approximate."
        )
    if risk is None:
        found.append("The answer is not calibrated: read it as an order of patients, not as a risk.")
    elif risk.lower is not None and risk.upper is not None and risk.upper - risk.lower > _WIDE:
        found.append("The interval of the answer spans more than half of the scale: the model does not know.")
    if risk is not None and risk.note:
        found.append(f"The calibration is weak: {risk.note}.")
    absent = [c.modality for c in explanation.contributions if not c.is_present]
    if absent:
        missing = enumerated([MODALITY_NAMES.get(m, m).lower() for m in absent])
        there = enumerated([MODALITY_NAMES.get(m, m).lower() for m in explanation.present])
        found.append(f"Without {missing}: the answer rests on {there} alone.")
    cut = features_left_out[~features_left_out["reason"].isin(_BY_DESIGN)]
    for modality, of_modality in cut.groupby("modality", sort=False):
        parts = [f"{int(row['n']):,} {reason(row['reason'])}" for row in of_modality.to_dict("records")]
        name = MODALITY_NAMES.get(str(modality), str(modality))
        found.append(f"{name} were not read in full: {enumerated(parts)}.")
    found += _after_index(task, items, index_time)
    return tuple(found)


def left_out(
    explanation: Explanation, items: pd.DataFrame, features_left_out: pd.DataFrame
) -> tuple[Fact, ...]:
    """What the model did not read, by modality and reason: absent modalities, unused items, cut budgets."""
    facts = []
    for c in explanation.contributions:
        name = MODALITY_NAMES.get(c.modality, c.modality)
        nouns = ITEM_NOUNS[c.modality]
        unused = items[(items["modality"] == c.modality) & ~items["is_used"]]
        if not c.is_present:
            known = (
                f"{counted(len(unused), *nouns)} on record, none usable"
                if len(unused)
                else "nothing on record"
            )
            facts.append(Fact(name, f"absent: {known}"))
        facts += [
            Fact(name, f"{counted(int(n), *nouns)} not used: {reason(str(code))}")
            for code, n in unused["reason_code"].value_counts(sort=True).items()
        ]
        cut = features_left_out[features_left_out["modality"] == c.modality]
        facts += [
            Fact(name, f"{int(row['n']):,} not read: {reason(row['reason'])}")
            for row in cut.to_dict("records")
        ]
        n_missing = sum(1 for f in explanation.features if f.modality == c.modality and not f.is_observed)
        if c.is_present and n_missing:
            facts.append(Fact(name, f"{counted(n_missing, 'feature')} not measured"))
    return tuple(facts)


def _after_index(task: Task, items: pd.DataFrame, index_time: pd.Timestamp | None) -> list[str]:
    """Items from after the index time are read only where the study allows it, with its reason."""
    if index_time is None:
        return []
    late = items[items["is_used"] & (items["available_time"] > index_time)]
    found = []
    for modality, of_modality in late.groupby("modality", sort=False):
        settings = getattr(task.modalities, str(modality))
        noun = counted(len(of_modality), *ITEM_NOUNS[str(modality)])
        why = settings.window.reason or "no reason given"
        found.append(f"{noun} became available after the index time. The study allows it: {why}")
    return found
