"""Candidates: the current records of each modality that a task could read, as items with the patient they are of.

What a task refuses for what it is (a note of another type, a series with too few slices) is marked here; when it may
be read, and which of several, is for `alignment`.
"""

import re

import numpy as np
import pandas as pd

from clinical_mm import tables
from clinical_mm.cohort.current import TABLE_OF_STAGE, current_rows, revisions
from clinical_mm.cohort.flow import Flow
from clinical_mm.store import Store
from clinical_mm.study.root import Study
from clinical_mm.study.tasks import (
    ClinicalModality,
    GenomicsModality,
    ImageModality,
    Task,
    TextModality,
)

STAGE_OF_MODALITY = {"text": "notes", "image": "imaging", "genomics": "genomics", "clinical": "clinical"}
"""The ingest stage whose table holds a modality."""

COLUMNS = [
    "patient_id",
    "source",
    "delivery",
    "item_id",
    "available_time",
    "group",  # within which `choose` chooses: a source, a variable, or all of the patient
    "weight",  # of two at the same time, the heavier goes first
    "reason_code",  # why it cannot be read, whatever its time; "" where it can
]

_READ = {
    "text": ["note_id", "note_type"],
    "image": ["series_instance_uid", "stack", "modality", "description", "is_volume", "shape"],
    "genomics": ["sample_id", "n_features"],
    "clinical": ["locator", "variable", "value_number", "value_text"],
}


def candidates(
    study: Study,
    store: Store,
    task: Task,
    modality: str,
    *,
    links: pd.DataFrame,
    eligible: pd.Series,
    flow: Flow,
) -> pd.DataFrame:
    """The items of one modality that belong to eligible patients.

    Args:
        study: declares the sources.
        store: where they were ingested to.
        task: the task.
        modality: text, image, genomics or clinical.
        links: `tables.LINKS`.
        eligible: ids of the patients whom the task can label or score.
        flow: gets the steps from ingested rows to records of eligible patients.

    Returns:
        `COLUMNS`, a row an item.
    """
    settings = getattr(task.modalities, modality)
    stage = STAGE_OF_MODALITY[modality]
    table = TABLE_OF_STAGE[stage]
    sources = settings.sources or study.sources_of(modality)
    read = [*_READ[modality], "source", "delivery", "source_patient_id", "available_time"]
    rows = current_rows(store, table, stage, [c for c in table.columns if c in read])
    rows = rows[rows["source"].isin(sources)]
    fates = revisions(store, table, stage)
    fates = fates[fates["source"].isin(sources)]
    replaced = {name: int(fates[name].sum()) for name in ("duplicate", "superseded", "retracted")}
    flow.add(
        f"{modality}: rows that stand, over all deliveries", int(fates["rows"].sum()), len(rows), replaced
    )
    linked = rows.merge(
        links[["source", "source_patient_id", "patient_id", "status"]],
        on=["source", "source_patient_id"],
        how="left",  # LINKS' key: an id of a source stands there once
    )
    is_linked = linked["patient_id"].notna()
    flow.add(
        f"{modality}: linked to a patient",
        len(rows),
        int(is_linked.sum()),
        linked.loc[~is_linked, "status"].value_counts().sort_index().to_dict(),
    )
    own = linked[linked["patient_id"].isin(eligible)].reset_index(drop=True)
    whose = "with a usable outcome" if task.index_time == "outcomes" else "to be labelled or scored"
    flow.add(
        f"{modality}: of a patient {whose}", int(is_linked.sum()), len(own), "the patient is not among them"
    )
    if isinstance(settings, TextModality):
        items = _notes(own, settings)
    elif isinstance(settings, ImageModality):
        items = _series(own, settings)
    elif isinstance(settings, GenomicsModality):
        items = _samples(own)
    else:
        items = _values(own, settings)
    return items[COLUMNS]


def clinical_item_id(rows: pd.DataFrame) -> pd.Series:
    """Item ids of rows of `tables.CLINICAL`: `<variable>@<delivery>/<locator>`."""
    return rows["variable"] + "@" + rows["delivery"] + "/" + rows["locator"]


def series_item_id(rows: pd.DataFrame) -> pd.Series:
    """Item ids of rows of `tables.SERIES`: `<series instance uid>#<stack>`."""
    return rows["series_instance_uid"] + "#" + rows["stack"].astype(str)


def _notes(rows: pd.DataFrame, settings: TextModality) -> pd.DataFrame:
    is_wrong = ~rows["note_type"].isin(settings.note_types) & bool(settings.note_types)
    return rows.assign(
        item_id=rows["note_id"],
        group="",
        weight=0,
        reason_code=np.where(is_wrong, "wrong_note_type", ""),
    )


def _series(rows: pd.DataFrame, settings: ImageModality) -> pd.DataFrame:
    n_slices = rows["shape"].str[0].astype("int64")
    is_wrong_modality = ~rows["modality"].isin(settings.modality) & bool(settings.modality)
    is_wrong_description = pd.Series(False, index=rows.index)
    if settings.description is not None:
        wanted = re.compile(settings.description)
        found = {text: bool(wanted.search(text)) for text in rows["description"].dropna().unique()}
        is_wrong_description = ~rows["description"].map(found).eq(True)
    reasons = np.select(
        [
            is_wrong_modality,
            is_wrong_description,
            n_slices < settings.min_slices,
            ~rows["is_volume"].astype(bool) & (settings.spatial_dims == 3),
        ],
        ["wrong_modality", "wrong_description", "too_few_slices", "not_a_volume"],
        default="",
    )
    return rows.assign(item_id=series_item_id(rows), group="", weight=n_slices, reason_code=reasons)


def _samples(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(
        item_id=rows["sample_id"],
        group=rows["source"],
        weight=rows["n_features"],
        reason_code=np.where(rows["n_features"] == 0, "no_features", ""),
    )


def _values(rows: pd.DataFrame, settings: ClinicalModality) -> pd.DataFrame:
    is_wrong = ~rows["variable"].isin(settings.variables) & bool(settings.variables)
    is_missing = rows["value_number"].isna() & rows["value_text"].isna()
    return rows.assign(
        item_id=clinical_item_id(rows),
        group=rows["variable"],
        weight=0,
        reason_code=np.select([is_wrong, is_missing], ["wrong_variable", "missing_value"], default=""),
    )


def records_flow(study: Study, task: Task, counts: pd.DataFrame, flow: Flow) -> None:
    """One step a modality: of the records that its sources delivered, how many ingest accepted."""
    dispositions = [c for c in tables.COUNTS.columns if c in ("duplicate", "superseded", "quarantined")]
    for modality in task.modalities.names:
        sources = getattr(task.modalities, modality).sources or study.sources_of(modality)
        own = counts[counts["source"].isin(sources)]
        reasons = {name: int(own[name].sum()) for name in dispositions}
        flow.add(
            f"{modality}: delivered records that ingest accepted",
            int(own["found"].sum()),
            int(own["accepted"].sum()),
            reasons,
        )
