"""Outcomes: one row a patient, with the index time from which is predicted, to one row a patient and variable."""

from pathlib import Path

import numpy as np
import pandas as pd

from clinical_mm import tables
from clinical_mm.ingest.delivery import Delivery
from clinical_mm.ingest.ledger import Ledger
from clinical_mm.ingest.tabular import read_rows
from clinical_mm.ingest.times import TimeReader
from clinical_mm.ingest.variables import columns_of, comparable, read_values, report_problems, settle_rows
from clinical_mm.study.sources import OutcomesSource


def read_outcomes(
    name: str, source: OutcomesSource, delivery: Delivery, files: list[Path], ledger: Ledger
) -> pd.DataFrame:
    """Read the outcomes of a source.

    Args:
        name: of the source.
        source: its declaration.
        delivery: where the files lie.
        files: the source's files in it.
        ledger: is told the fate of each row, once; values that cannot be true are put on record by their variable.

    Returns:
        Rows of `tables.OUTCOMES`: one a patient and declared variable, without a value where it is not known yet.

    Raises:
        DeliveryError: a column is missing, or zone, encoding or delimiter are none.
    """
    columns = {"patient_id": source.patient_id, **columns_of(source.variables)}
    if source.index_time is not None:
        columns["index_time"] = source.index_time
    reader = TimeReader(source.time, name)
    missing = frozenset(source.missing_values)
    rows = read_rows(name, source.table, columns, delivery, files, ledger)
    is_nobody = np.isin(rows.text("patient_id"), list(missing | {""}))
    rows = rows.set_aside(is_nobody, ledger, "missing_patient_id", "the row names no patient")
    if source.index_time is not None:
        is_unreadable = reader.read(list(rows.cells["index_time"])).is_unreadable
        sentence = "the index time is not in the declared form"
        rows = rows.set_aside(is_unreadable, ledger, "unreadable_time", sentence)
        is_missing = reader.read(list(rows.cells["index_time"])).is_missing
        sentence = "the row has no index time, and nothing can be predicted without"
        rows = rows.set_aside(is_missing, ledger, "missing_time", sentence)

    values = {v: read_values(rows, v, spec, missing) for v, spec in source.variables.items()}
    times = np.full(len(rows), np.datetime64("NaT", "us"))
    compared = {v: comparable(read) for v, read in values.items()}
    if source.index_time is not None:
        times = reader.read(list(rows.cells["index_time"])).values
        compared["index time"] = times.astype(object)
    patients = rows.text("patient_id")
    keys = pd.DataFrame({"patient_id": patients})
    stands = settle_rows(keys, compared, rows, ledger, "the same patient")
    report_problems(values, rows, stands, ledger)

    locators = np.array(rows.locators(), dtype=object)
    parts = []
    for variable, spec in source.variables.items():
        read = values[variable]
        part = pd.DataFrame(
            {
                "source": name,
                "delivery": delivery.name,
                "locator": locators[stands],
                "source_patient_id": patients[stands],
                "variable": variable,
                "value_number": read.number[stands],
                "value_text": read.text[stands],
                "unit": getattr(spec, "unit", None),
                "index_time": times[stands],
            }
        )
        # Of rows that complete each other, the one that has the value speaks for the variable.
        is_unknown = pd.Series(~read.is_known[stands]).sort_values(kind="stable")
        parts.append(part.iloc[is_unknown.index].drop_duplicates("source_patient_id"))
    if not len(rows):
        return tables.empty(tables.OUTCOMES)
    return pd.concat(parts).sort_values(["source_patient_id", "variable"], ignore_index=True)
