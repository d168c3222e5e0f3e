"""Clinical covariates: numbers with their bounds, categories with their levels, and nothing guessed."""

from datetime import datetime
from pathlib import Path

import hypothesis.strategies as st
import pandas as pd
import pytest
from hypothesis import given, settings

from clinical_mm import tables
from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.clinical import read_clinical
from clinical_mm.ingest.delivery import Delivery
from clinical_mm.ingest.ledger import Ledger, is_conserved
from clinical_mm.study.sources import ClinicalSource

VARIABLES = {
    "age_years": {"column": "age", "unit": "years", "minimum": 0, "maximum": 120},
    "sex": {"type": "category", "levels": ["f", "m"]},
}


def _read(folder: Path, content: str | None, **options: object) -> tuple[pd.DataFrame, Ledger]:
    if content is not None:
        (folder / "c.csv").write_text(content)
    source = ClinicalSource.model_validate(
        {
            "kind": "clinical",
            "path": "*.csv",
            "patient_id": "id",
            "is_timeless": "available_time" not in options,
            "variables": VARIABLES,
            **options,
        }
    )
    ledger = Ledger("s", "d", "row")
    frame = read_clinical("s", source, Delivery("d", folder), sorted(folder.iterdir()), ledger)
    tables.to_arrow(tables.CLINICAL, frame)
    tables.to_arrow(tables.RECORDS, ledger.records())
    assert is_conserved(ledger.counts())
    return frame, ledger


def _values(frame: pd.DataFrame) -> dict[tuple[str, str], float | str]:
    found = {}
    for row in frame.itertuples():
        assert pd.isna(row.value_number) != (row.value_text is None)
        value = row.value_number if row.value_text is None else row.value_text
        found[row.source_patient_id, row.variable] = value
    assert len(found) == len(frame)
    return found


def _fates(ledger: Ledger) -> dict[str, tuple[str, str]]:
    records = ledger.records()
    fates = zip(records["disposition"], records["reason_code"], strict=True)
    return dict(zip(records["locator"].str.removeprefix("c.csv#"), fates, strict=True))


def test_each_value_is_a_row_with_its_unit_and_the_place_where_it_stands(tmp_path: Path) -> None:
    frame, ledger = _read(tmp_path, "id,age,sex,unread\n007,65,f,x\n8,70.5,m,y\n")
    assert _values(frame) == {
        ("007", "age_years"): 65.0,
        ("007", "sex"): "f",
        ("8", "age_years"): 70.5,
        ("8", "sex"): "m",
    }
    units = dict(zip(frame["variable"], frame["unit"], strict=True))
    assert units == {"age_years": "years", "sex": None}
    assert list(frame["locator"]) == ["c.csv#row 1", "c.csv#row 1", "c.csv#row 2", "c.csv#row 2"]
    assert ledger.n_accepted == ledger.n_found == 2


@pytest.mark.parametrize(
    ("cell", "number"),
    [("0", 0.0), ("120", 120.0), (" 65 ", 65.0), ("6.5e1", 65.0), ("+7", 7.0), ("-0", 0.0), (".5", 0.5)],
)
def test_numbers_within_the_bounds_and_on_them_are_read(tmp_path: Path, cell: str, number: float) -> None:
    frame, ledger = _read(tmp_path, f"id,age,sex\n1,{cell},f\n")
    assert _values(frame)["1", "age_years"] == number
    assert ledger.records().empty


@pytest.mark.parametrize(
    ("column", "cell", "reason_code"),
    [
        ("age", "-0.1", "out_of_range"),
        ("age", "120.1", "out_of_range"),
        ("age", "1e999", "not_a_number"),
        ("age", "inf", "not_a_number"),
        ("age", "NAN", "not_a_number"),
        ("age", "sixty", "not_a_number"),
        ("age", "6_5", "not_a_number"),
        ("age", '"65,5"', "not_a_number"),
        ("age", "65 years", "not_a_number"),
        ("age", ">89", "not_a_number"),
        ("sex", "F", "unknown_level"),
        ("sex", "0", "unknown_level"),
        ("sex", "f.", "unknown_level"),
    ],
)
def test_a_value_that_cannot_be_true_is_absent_and_on_record_and_the_rest_of_the_row_stands(
    tmp_path: Path, column: str, cell: str, reason_code: str
) -> None:
    good = {"age": "65", "sex": "f"}
    row = {**good, column: cell}
    frame, ledger = _read(tmp_path, f"id,age,sex\n1,{row['age']},{row['sex']}\n2,65,f\n")
    variable = {"age": "age_years", "sex": "sex"}[column]
    assert ("1", variable) not in _values(frame)
    assert len(frame) == 3
    assert _fates(ledger) == {f"row 1 {variable}": ("quarantined", reason_code)}
    assert ledger.n_accepted == 2
    assert cell.strip('"') not in ledger.records()["sentence"][0]


@pytest.mark.parametrize("cell", ["", "NA", "NaN", "nan", "null", "None", "  "])
def test_a_missing_value_has_no_row_and_is_no_fault(tmp_path: Path, cell: str) -> None:
    frame, ledger = _read(tmp_path, f"id,age,sex\n1,{cell},f\n")
    assert _values(frame) == {("1", "sex"): "f"}
    assert ledger.records().empty


def test_declared_missing_values_take_the_place_of_the_usual_ones(tmp_path: Path) -> None:
    variables = {"age": {}, "sex": {"type": "category", "levels": ["f", "NA"]}}
    frame, ledger = _read(
        tmp_path, "id,age,sex\n1,-9,NA\n2,7,?\n", variables=variables, missing_values=["-9", "?"]
    )
    assert _values(frame) == {("1", "sex"): "NA", ("2", "age"): 7.0}
    assert ledger.records().empty


def test_a_number_without_bounds_may_be_any_finite_one(tmp_path: Path) -> None:
    frame, _ = _read(tmp_path, "id,x\n1,-1e300\n", variables={"x": None})
    assert _values(frame) == {("1", "x"): -1e300}


def test_levels_are_text_so_that_codes_keep_their_zeros(tmp_path: Path) -> None:
    variables = {"icd": {"type": "category", "levels": ["01", "1"]}}
    frame, _ = _read(tmp_path, "id,icd\na,01\nb,1\n", variables=variables)
    assert _values(frame) == {("a", "icd"): "01", ("b", "icd"): "1"}


def test_a_row_without_a_patient_or_without_any_value_is_quarantined(tmp_path: Path) -> None:
    frame, ledger = _read(tmp_path, "id,age,sex\n,65,f\nNA,65,f\n3,,NA\n4,65,\n5\n")
    assert _values(frame) == {("4", "age_years"): 65.0}
    assert _fates(ledger) == {
        "row 1": ("quarantined", "missing_patient_id"),
        "row 2": ("quarantined", "missing_patient_id"),
        "row 3": ("quarantined", "empty_row"),
        "row 5": ("quarantined", "malformed_row"),
    }


def test_values_of_several_times_stand_beside_each_other(tmp_path: Path) -> None:
    content = "id,time,age,sex\n1,2024-02-01,66,f\n1,2024-01-01,65,\n"
    frame, _ = _read(tmp_path, content, available_time="time")
    found = frame[frame["variable"] == "age_years"]
    assert list(zip(found["available_time"], found["value_number"], strict=True)) == [
        (datetime(2024, 1, 1), 65.0),
        (datetime(2024, 2, 1), 66.0),
    ]


def test_a_time_that_is_missing_or_unreadable_quarantines_the_row(tmp_path: Path) -> None:
    content = "id,time,age,sex\n1,,65,f\n2,31/02/2024,65,f\n3,2024-01-01,65,f\n"
    frame, ledger = _read(tmp_path, content, available_time="time")
    assert set(frame["source_patient_id"]) == {"3"}
    assert _fates(ledger) == {
        "row 1": ("quarantined", "missing_time"),
        "row 2": ("quarantined", "unreadable_time"),
    }
    frame, ledger = _read(tmp_path, content, available_time="time", is_timeless=True)
    assert set(frame["source_patient_id"]) == {"1", "3"}
    assert _fates(ledger) == {"row 2": ("quarantined", "unreadable_time")}


def test_times_are_converted_to_the_zone_of_the_source(tmp_path: Path) -> None:
    zone = {"timezone": "Europe/Berlin"}
    frame, _ = _read(
        tmp_path, "id,time,age,sex\n1,2024-01-05T23:30:00Z,65,\n", available_time="time", time=zone
    )
    assert list(frame["available_time"]) == [datetime(2024, 1, 6, 0, 30)]


def test_rows_of_a_patient_complete_each_other_and_one_that_adds_nothing_is_a_duplicate(
    tmp_path: Path,
) -> None:
    frame, ledger = _read(tmp_path, "id,age,sex\n1,65,\n1,,f\n1,65.0,f\n2,70,m\n")
    assert _values(frame) == {
        ("1", "age_years"): 65.0,
        ("1", "sex"): "f",
        ("2", "age_years"): 70.0,
        ("2", "sex"): "m",
    }
    assert _fates(ledger) == {"row 3": ("duplicate", "identical_record")}
    assert ledger.n_accepted == 3


def test_rows_of_a_patient_that_differ_are_all_quarantined(tmp_path: Path) -> None:
    frame, ledger = _read(tmp_path, "id,age,sex\n1,65,f\n1,65,f\n1,66,\n2,70,m\n")
    assert set(frame["source_patient_id"]) == {"2"}
    assert _fates(ledger) == {f"row {n}": ("quarantined", "conflicting_records") for n in (1, 2, 3)}


def test_the_same_time_of_a_patient_must_agree_and_another_need_not(tmp_path: Path) -> None:
    content = "id,time,age,sex\n1,2024-01-01,65,\n1,2024-01-01T00:00,66,\n1,2024-01-02,67,\n"
    frame, ledger = _read(tmp_path, content, available_time="time")
    assert _values(frame) == {("1", "age_years"): 67.0}
    assert set(_fates(ledger)) == {"row 1", "row 2"}


def test_a_value_that_cannot_be_true_is_completed_by_another_row(tmp_path: Path) -> None:
    frame, ledger = _read(tmp_path, "id,age,sex\n1,650,f\n1,65,\n")
    assert _values(frame) == {("1", "age_years"): 65.0, ("1", "sex"): "f"}
    assert _fates(ledger) == {"row 1 age_years": ("quarantined", "out_of_range")}


@pytest.mark.parametrize(
    "content", [None, "id,age,sex\n", "id,age,sex\n1,65,f\n1,66,f\n", "id,age,sex\n,,\n"]
)
def test_nothing_usable_gives_an_empty_table_of_the_right_schema(tmp_path: Path, content: str | None) -> None:
    frame, _ = _read(tmp_path, content)
    assert len(frame) == 0


def test_the_order_of_rows_and_files_does_not_matter_to_what_stands(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,age,sex\n2,70,m\n")
    frame, _ = _read(tmp_path, "id,age,sex\n1,65,f\n")
    assert list(frame["source_patient_id"]) == ["1", "1", "2", "2"]
    assert set(frame["locator"]) == {"c.csv#row 1", "a.csv#row 1"}


def test_a_missing_column_is_named_by_the_column_and_not_the_variable(tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match="source s: there is no column 'age'"):
        _read(tmp_path, "id,sex\n1,f\n")


_ages = st.sampled_from(["", "65", "66", "-1", "x", "NA"])
_sexes = st.sampled_from(["", "f", "m", "q"])


@given(st.lists(st.tuples(st.sampled_from(["1", "2", ""]), _ages, _sexes), max_size=10))
@settings(max_examples=150, deadline=None)
def test_a_patient_has_a_value_where_all_usable_rows_agree(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]
) -> None:
    content = "id,age,sex\n" + "".join(",".join(row) + "\n" for row in rows)
    frame, ledger = _read(tmp_path_factory.mktemp("c"), content)
    wanted: dict[tuple[str, str], float | str] = {}
    for patient in ("1", "2"):
        ages = {float(age) for p, age, _ in rows if p == patient and age in {"65", "66"}}
        sexes = {sex for p, _, sex in rows if p == patient and sex in {"f", "m"}}
        if len(ages) > 1 or len(sexes) > 1:
            continue
        if ages:
            wanted[patient, "age_years"] = ages.pop()
        if sexes:
            wanted[patient, "sex"] = sexes.pop()
    assert _values(frame) == wanted
    assert ledger.n_found == len(rows)
