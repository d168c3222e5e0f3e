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


def why_unlabelled(cohort: pd.DataFrame, with_record: pd.Series) -> str:
    """What becomes of the patients without a label, and where some lack an outcome record, how many.

    Args:
        cohort: `tables.COHORT`.
        with_record: ids of patients with an outcome record of the task.
    """
    reason = "in the cohort, to be scored"
    has_record = cohort["patient_id"].isin(with_record)
    n_without, n_unknown = int((~has_record).sum()), int((has_record & cohort["label"].isna()).sum())
    if not n_without:
        return reason
    unknown = f", outcome not known {n_unknown}" if n_unknown else ""
    return f"{reason}: no outcome record {n_without}{unknown}"


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
