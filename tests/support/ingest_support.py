"""What every test of a reader holds its result to, and how it looks at it: `pytest` puts this folder on the path."""

from typing import Any

import pandas as pd

from clinical_mm import tables
from clinical_mm.ingest.ledger import Ledger, is_conserved
from clinical_mm.ingest.samples import GenomicTables
from clinical_mm.study.root import Study


def checked_notes(frame: pd.DataFrame, ledger: Ledger) -> tuple[pd.DataFrame, Ledger]:
    """Notes and ledger as they are, after: the schema holds, every record has one fate, and none is named twice."""
    tables.to_arrow(tables.NOTES, frame)
    assert is_conserved(ledger.counts())
    assert ledger.records()["locator"].is_unique
    return frame, ledger


def checked_samples(genomic: GenomicTables, ledger: Ledger) -> tuple[GenomicTables, Ledger]:
    """Samples and ledger as they are, after: schemas hold, values and rows agree, every record has one fate."""
    tables.to_arrow(tables.GENOMIC_SAMPLES, genomic.samples)
    tables.to_arrow(tables.RECORDS, ledger.records())
    assert genomic.values["sample_id"].to_pylist() == list(genomic.samples["sample_id"])
    assert is_conserved(ledger.counts())
    return genomic, ledger


def values_of(genomic: GenomicTables) -> dict[str, dict[str, float | None]]:
    """Values by sample and feature, None where nothing was measured."""
    rows = genomic.values.to_pylist()
    return {row.pop("sample_id"): row for row in rows}


def reasons_of(ledger: Ledger) -> dict[str, str]:
    """Reason codes by locator of what was not accepted."""
    records = ledger.records()
    return dict(zip(records["locator"], records["reason_code"], strict=True))


def fates_of(ledger: Ledger, within: str) -> dict[str, tuple[str, str]]:
    """Disposition and reason code of what was not accepted, by the locator without the file's own name."""
    records = ledger.records().to_dict("records")
    return {r["locator"].removeprefix(f"{within}#"): (r["disposition"], r["reason_code"]) for r in records}


def table_source(kind: str) -> dict[str, Any]:
    """A source of covariates or outcomes in `labs.csv` or `outcomes.csv`: the number y of each id."""
    paths = {"clinical": "labs.csv", "outcomes": "outcomes.csv"}
    declared = {"kind": kind, "path": paths[kind], "patient_id": "id", "variables": {"y": {"minimum": 0}}}
    return declared | ({"is_timeless": True} if kind == "clinical" else {})


def study_of(sources: dict[str, dict[str, Any]], modality: str) -> Study:
    """A study of these sources with one task, which reads one modality and asks for y."""
    task = {
        "question": "?",
        "outcome": {"kind": "binary", "variable": "y"},
        "index_time": "none",
        "modalities": {modality: {}},
    }
    return Study.model_validate({"study": "s", "sources": sources, "tasks": {"t": task}})
