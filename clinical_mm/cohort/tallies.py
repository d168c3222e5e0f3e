"""Small tables of a cohort for people: how labels and modality patterns lie over the splits."""

import pandas as pd

from clinical_mm.study.tasks import BinaryOutcome, MulticlassOutcome, SurvivalOutcome

_ORDER = {"train": 0, "validation": 1, "test": 2, "to be scored": 3}


def patterns_by_split(cohort: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    """Patients by fold, split and modality pattern; those without a label under `to be scored`."""
    return _tally(cohort, splits, cohort["modality_pattern"].rename("modalities"), has_unlabelled=True)


def labels_by_split(
    cohort: pd.DataFrame, splits: pd.DataFrame, outcome: BinaryOutcome | MulticlassOutcome | SurvivalOutcome
) -> pd.DataFrame:
    """Patients by fold, split and label."""
    if isinstance(outcome, BinaryOutcome):
        names = {0.0: f"not {outcome.positive}", 1.0: outcome.positive}
    elif isinstance(outcome, MulticlassOutcome):
        names = {float(place): name for place, name in enumerate(outcome.classes)}
    else:
        names = {0.0: "censored", 1.0: "event"}
    return _tally(cohort, splits, cohort["label"].map(names).rename("label"), has_unlabelled=False)


def _tally(
    cohort: pd.DataFrame, splits: pd.DataFrame, values: pd.Series, has_unlabelled: bool
) -> pd.DataFrame:
    by_patient = pd.DataFrame({"patient_id": cohort["patient_id"], "what": values})
    found = splits.merge(by_patient, on="patient_id")
    if has_unlabelled:
        unlabelled = by_patient[cohort["label"].isna().to_numpy()]
        found = pd.concat([found, unlabelled.assign(fold=0, split="to be scored")], ignore_index=True)
    table = found.groupby(["fold", "split", "what"]).size().unstack("what", fill_value=0).reset_index()
    table = table.sort_values(["fold", "split"], key=lambda c: c.map(_ORDER) if c.name == "split" else c)
    table["all"] = table.drop(columns=["fold", "split"]).sum(axis=1)
    return table.rename_axis(columns=None).reset_index(drop=True)
