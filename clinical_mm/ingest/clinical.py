"""Clinical covariates: rows of a patient, or of a patient and time, to one row a value."""

from pathlib import Path

import numpy as np
import pandas as pd

from clinical_mm import tables
from clinical_mm.ingest.delivery import Delivery
from clinical_mm.ingest.ledger import Ledger
from clinical_mm.ingest.tabular import read_rows
from clinical_mm.ingest.times import TimeReader
from clinical_mm.ingest.variables import columns_of, comparable, read_values, report_problems, settle_rows
from clinical_mm.study.sources import ClinicalSource


def read_clinical(
    name: str, source: ClinicalSource, delivery: Delivery, files: list[Path], ledger: Ledger
) -> pd.DataFrame:
    """Read the covariates of a source.

    Args:
        name: of the source.
        source: its declaration.
        delivery: where the files lie.
        files: the source's files in it.
        ledger: is told the fate of each row, once; values that cannot be true are put on record by their variable.

    Returns:
        Rows of `tables.CLINICAL`: one a value; absent values have none.

    Raises:
        DeliveryError: a column is missing, or zone, encoding or delimiter are none.
    """
    columns = {"patient_id": source.patient_id, **columns_of(source.variables)}
    if source.available_time is not None:
        columns["available_time"] = source.available_time
    reader = TimeReader(source.time, name)
    missing = frozenset(source.missing_values)
    rows = read_rows(name, source.table, columns, delivery, files, ledger)
    is_nobody = np.isin(rows.text("patient_id"), list(missing | {""}))
    rows = rows.set_aside(is_nobody, ledger, "missing_patient_id", "the row names no patient")
    if source.available_time is not None:
        is_unreadable = reader.read(list(rows.cells["available_time"])).is_unreadable
        sentence = "the available time is not in the declared form"
        rows = rows.set_aside(is_unreadable, ledger, "unreadable_time", sentence)
        if not source.is_timeless:
            is_missing = reader.read(list(rows.cells["available_time"])).is_missing
            sentence = "the row does not say when its values could be known"
            rows = rows.set_aside(is_missing, ledger, "missing_time", sentence)

    values = {v: read_values(rows, v, spec, missing) for v, spec in source.variables.items()}
    is_empty = np.all([~read.is_known & (read.problem == "") for read in values.values()], axis=0)
    if is_empty.any():
        rows = rows.set_aside(is_empty, ledger, "empty_row", "no declared variable has a value in the row")
        values = {v: read_values(rows, v, spec, missing) for v, spec in source.variables.items()}
    times = np.full(len(rows), np.datetime64("NaT", "us"))
    if source.available_time is not None:
        times = reader.read(list(rows.cells["available_time"])).values
    keys = pd.DataFrame({"patient_id": rows.text("patient_id"), "time": times})
    compared = {v: comparable(read) for v, read in values.items()}
    stands = settle_rows(keys, compared, rows, ledger, "the same patient and time")
    report_problems(values, rows, stands, ledger)

    locators = np.array(rows.locators(), dtype=object)
    parts = []
    for variable, spec in source.variables.items():
        read = values[variable]
        chosen = stands & read.is_known
        part = pd.DataFrame(
            {
                "source": name,
                "delivery": delivery.name,
                "locator": locators[chosen],
                "source_patient_id": keys["patient_id"].to_numpy()[chosen],
                "variable": variable,
                "value_number": read.number[chosen],
                "value_text": read.text[chosen],
                "unit": getattr(spec, "unit", None),
                "available_time": times[chosen],
            }
        )
        parts.append(part.drop_duplicates(["source_patient_id", "available_time"]))
    if not len(rows):
        return tables.empty(tables.CLINICAL)
    return pd.concat(parts).sort_values(
        ["source_patient_id", "available_time", "variable"], ignore_index=True
    )
