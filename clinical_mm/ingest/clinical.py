"""Clinical covariates: rows of a patient, of a patient and time, or of a value, to one row a value.

Which values are possible, and how units become others, is for `variables`.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from clinical_mm import tables
from clinical_mm.ingest.delivery import Delivery
from clinical_mm.ingest.ledger import Ledger
from clinical_mm.ingest.tabular import Rows, read_rows
from clinical_mm.ingest.times import TimeReader
from clinical_mm.ingest.variables import (
    Values,
    columns_of,
    comparable,
    read_values,
    report_problems,
    sentence_of,
    settle_rows,
    values_of,
)
from clinical_mm.study.sources import ClinicalSource

_LONG_SENTENCES = {
    "undeclared_variable": "the row is of a variable that the source does not declare",
    "empty_row": "the row has no value",
}


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
    read = _read_long if source.layout == "long" else _read_wide
    frame = read(name, source, delivery, files, ledger)
    return frame if len(frame) else tables.empty(tables.CLINICAL)


def _usable_rows(  # noqa: PLR0917
    name: str,
    source: ClinicalSource,
    columns: dict[str, str],
    delivery: Delivery,
    files: list[Path],
    ledger: Ledger,
) -> tuple[Rows, np.ndarray]:
    """The rows that name a patient and have a time where they must, and their times [n]."""
    columns = {"patient_id": source.patient_id, **columns}
    if source.available_time is not None:
        columns["available_time"] = source.available_time
    reader = TimeReader(source.time, name)
    rows = read_rows(name, source.table, columns, delivery, files, ledger)
    is_nobody = np.isin(rows.text("patient_id"), [*source.missing_values, ""])
    rows = rows.set_aside(is_nobody, ledger, "missing_patient_id", "the row names no patient")
    if source.available_time is None:
        return rows, np.full(len(rows), np.datetime64("NaT", "us"))
    is_unreadable = reader.read(list(rows.cells["available_time"])).is_unreadable
    sentence = "the available time is not in the declared form"
    rows = rows.set_aside(is_unreadable, ledger, "unreadable_time", sentence)
    if not source.is_timeless:
        is_missing = reader.read(list(rows.cells["available_time"])).is_missing
        sentence = "the row does not say when its values could be known"
        rows = rows.set_aside(is_missing, ledger, "missing_time", sentence)
    return rows, reader.read(list(rows.cells["available_time"])).values


def _read_wide(
    name: str, source: ClinicalSource, delivery: Delivery, files: list[Path], ledger: Ledger
) -> pd.DataFrame:
    missing = frozenset(source.missing_values)
    rows, times = _usable_rows(name, source, columns_of(source.variables), delivery, files, ledger)
    values = {v: read_values(rows, v, spec, missing) for v, spec in source.variables.items()}
    is_empty = np.all([~read.is_known & (read.problem == "") for read in values.values()], axis=0)
    if is_empty.any():
        rows = rows.set_aside(is_empty, ledger, "empty_row", "no declared variable has a value in the row")
        times = times[~is_empty]
        values = {v: read_values(rows, v, spec, missing) for v, spec in source.variables.items()}
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
    return pd.concat(parts).sort_values(
        ["source_patient_id", "available_time", "variable"], ignore_index=True
    )


def _read_long(
    name: str, source: ClinicalSource, delivery: Delivery, files: list[Path], ledger: Ledger
) -> pd.DataFrame:
    """A row is a value: one that cannot be used is quarantined with its row, since there is nothing else in it."""
    assert source.variable_column is not None
    assert source.value_column is not None
    columns = {"variable": source.variable_column, "value": source.value_column}
    if source.unit_column is not None:
        columns["unit"] = source.unit_column
    rows, times = _usable_rows(name, source, columns, delivery, files, ledger)
    of_code = {spec.column or variable: variable for variable, spec in source.variables.items()}
    variables = np.array([of_code.get(code) for code in rows.text("variable")], dtype=object)
    cells, units = rows.text("value"), rows.text("unit") if source.unit_column is not None else None
    n = len(rows)
    number, text = np.full(n, np.nan), np.full(n, None, dtype=object)
    problem = np.full(n, "undeclared_variable", dtype=object)
    for variable, spec in source.variables.items():
        of = variables == variable
        read = values_of(
            cells[of], None if units is None else units[of], spec, frozenset(source.missing_values)
        )
        number[of], text[of] = read.number, read.text
        problem[of] = np.where(read.is_known | (read.problem != ""), read.problem, "empty_row")
    for code in dict.fromkeys(problem[problem != ""]):
        locators = rows.take(problem == code).locators()
        for locator in locators:
            ledger.quarantine(locator, code, _LONG_SENTENCES.get(code) or sentence_of(code))
    is_good = problem == ""
    rows, times, variables = rows.take(is_good), times[is_good], variables[is_good]
    read = Values(number[is_good], text[is_good], problem[is_good], np.ones(len(rows), dtype=bool))
    keys = pd.DataFrame({"patient_id": rows.text("patient_id"), "variable": variables, "time": times})
    stands = settle_rows(
        keys, {"value": comparable(read)}, rows, ledger, "the same patient, variable and time"
    )
    unit_of = {variable: getattr(spec, "unit", None) for variable, spec in source.variables.items()}
    frame = pd.DataFrame(
        {
            "source": name,
            "delivery": delivery.name,
            "locator": np.array(rows.locators(), dtype=object)[stands],
            "source_patient_id": keys["patient_id"].to_numpy()[stands],
            "variable": variables[stands],
            "value_number": read.number[stands],
            "value_text": read.text[stands],
            "unit": [unit_of[variable] for variable in variables[stands]],
            "available_time": times[stands],
        }
    )
    return frame.sort_values(["source_patient_id", "available_time", "variable"], ignore_index=True)
