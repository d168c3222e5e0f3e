"""Outcomes: one row a patient and variable, with the index time, also where the outcome is not known yet."""

from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest

from clinical_mm import tables
from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.delivery import Delivery
from clinical_mm.ingest.ledger import Ledger, is_conserved
from clinical_mm.ingest.outcomes import read_outcomes
from clinical_mm.study.sources import OutcomesSource

VARIABLES = {
    "survival_days": {"column": "days", "unit": "d", "minimum": 0},
    "status": {"type": "category", "levels": ["alive", "dead"]},
}
HEADER = "id,index,days,status\n"


def _read(folder: Path, content: str | None, **options: object) -> tuple[pd.DataFrame, Ledger]:
    if content is not None:
        (folder / "o.csv").write_text(content)
    declared = {
        "kind": "outcomes",
        "path": "*.csv",
        "patient_id": "id",
        "index_time": "index",
        "variables": VARIABLES,
        **options,
    }
    source = OutcomesSource.model_validate(declared)
    ledger = Ledger("s", "d", "row")
    frame = read_outcomes("s", source, Delivery("d", folder), sorted(folder.iterdir()), ledger)
    tables.to_arrow(tables.OUTCOMES, frame)
    tables.to_arrow(tables.RECORDS, ledger.records())
    assert is_conserved(ledger.counts())
    return frame, ledger


def _values(frame: pd.DataFrame) -> dict[tuple[str, str], float | str | None]:
    found = {}
    for row in frame.itertuples():
        number = None if pd.isna(row.value_number) else row.value_number
        found[row.source_patient_id, row.variable] = row.value_text if number is None else number
    assert len(found) == len(frame)
    return found


def _fates(ledger: Ledger) -> dict[str, tuple[str, str]]:
    records = ledger.records()
    fates = zip(records["disposition"], records["reason_code"], strict=True)
    return dict(zip(records["locator"].str.removeprefix("o.csv#"), fates, strict=True))


def test_a_patient_has_a_row_for_every_variable_with_unit_and_index_time(tmp_path: Path) -> None:
    frame, ledger = _read(tmp_path, HEADER + "007,2024-01-05,12,dead\n")
    assert _values(frame) == {("007", "survival_days"): 12.0, ("007", "status"): "dead"}
    assert dict(zip(frame["variable"], frame["unit"], strict=True)) == {"survival_days": "d", "status": None}
    assert list(frame["index_time"]) == [datetime(2024, 1, 5)] * 2
    assert list(frame["locator"]) == ["o.csv#row 1"] * 2
    assert ledger.n_accepted == 1


def test_an_outcome_that_is_not_known_yet_has_a_row_without_a_value(tmp_path: Path) -> None:
    frame, ledger = _read(tmp_path, HEADER + "1,2024-01-05,,NA\n")
    assert _values(frame) == {("1", "survival_days"): None, ("1", "status"): None}
    assert ledger.records().empty
    assert ledger.n_accepted == 1


@pytest.mark.parametrize(
    ("row", "variable", "reason_code"),
    [
        ("1,2024-01-05,-1,dead", "survival_days", "out_of_range"),
        ("1,2024-01-05,soon,dead", "survival_days", "not_a_number"),
        ("1,2024-01-05,3,DEAD", "status", "unknown_level"),
        ("1,2024-01-05,3,1", "status", "unknown_level"),
    ],
)
def test_a_value_that_cannot_be_true_is_not_known_and_on_record(
    tmp_path: Path, row: str, variable: str, reason_code: str
) -> None:
    frame, ledger = _read(tmp_path, HEADER + row + "\n")
    values = _values(frame)
    assert values.pop(("1", variable)) is None
    assert None not in values.values()
    assert _fates(ledger) == {f"row 1 {variable}": ("quarantined", reason_code)}
    assert ledger.n_accepted == 1


def test_a_row_without_patient_or_index_time_is_quarantined(tmp_path: Path) -> None:
    rows = ",2024-01-05,1,dead\nNA,2024-01-05,1,dead\n3,,1,dead\n4,05.01.2024,1,dead\n5,2024-01-05\n"
    frame, ledger = _read(tmp_path, HEADER + rows)
    assert len(frame) == 0
    assert _fates(ledger) == {
        "row 1": ("quarantined", "missing_patient_id"),
        "row 2": ("quarantined", "missing_patient_id"),
        "row 3": ("quarantined", "missing_time"),
        "row 4": ("quarantined", "unreadable_time"),
        "row 5": ("quarantined", "malformed_row"),
    }


def test_index_times_are_read_in_the_declared_form_and_zone(tmp_path: Path) -> None:
    form = {"format": "%d.%m.%Y %H:%M %z", "timezone": "Europe/Berlin"}
    frame, _ = _read(tmp_path, HEADER + "1,05.07.2024 22:30 +0000,1,dead\n", time=form)
    assert set(frame["index_time"]) == {datetime(2024, 7, 6, 0, 30)}


def test_without_an_index_time_the_column_is_not_read(tmp_path: Path) -> None:
    frame, _ = _read(tmp_path, HEADER + "1,nonsense,1,dead\n", index_time=None)
    assert frame["index_time"].isna().all()
    assert _values(frame)["1", "status"] == "dead"


def test_rows_of_a_patient_complete_each_other_whatever_their_order(tmp_path: Path) -> None:
    rows = ["1,2024-01-05,,dead\n", "1,2024-01-05,12,\n", "1,2024-01-05,12,dead\n"]
    frame, ledger = _read(tmp_path, HEADER + "".join(rows))
    assert _values(frame) == {("1", "survival_days"): 12.0, ("1", "status"): "dead"}
    locators = dict(zip(frame["variable"], frame["locator"], strict=True))
    assert locators == {"survival_days": "o.csv#row 2", "status": "o.csv#row 1"}
    assert _fates(ledger) == {"row 3": ("duplicate", "identical_record")}
    frame, ledger = _read(tmp_path, HEADER + "".join(reversed(rows)))
    assert _values(frame) == {("1", "survival_days"): 12.0, ("1", "status"): "dead"}
    assert set(_fates(ledger)) == {"row 2", "row 3"}


@pytest.mark.parametrize(
    "other", ["1,2024-01-05,13,dead\n", "1,2024-01-05,12,alive\n", "1,2024-01-06,12,dead\n"]
)
def test_rows_of_a_patient_that_differ_also_in_the_index_time_alone_are_quarantined(
    tmp_path: Path, other: str
) -> None:
    frame, ledger = _read(tmp_path, HEADER + "1,2024-01-05,12,dead\n" + other + "2,2024-01-05,1,dead\n")
    assert set(frame["source_patient_id"]) == {"2"}
    assert _fates(ledger) == {f"row {n}": ("quarantined", "conflicting_records") for n in (1, 2)}


@pytest.mark.parametrize("content", [None, HEADER, HEADER + "1,2024-01-05,1,dead\n1,2024-01-05,2,dead\n"])
def test_nothing_usable_gives_an_empty_table_of_the_right_schema(tmp_path: Path, content: str | None) -> None:
    frame, _ = _read(tmp_path, content)
    assert len(frame) == 0


def test_a_missing_index_time_column_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match="source s: there is no column 'index'"):
        _read(tmp_path, "id,days,status\n1,1,dead\n")
