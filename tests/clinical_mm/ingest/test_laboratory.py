"""Laboratory values as they are delivered: a row a value, each in its unit, nothing converted that is not declared."""

from datetime import datetime
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pandas as pd
import pytest
from hypothesis import given, settings
from pydantic import ValidationError

from clinical_mm import tables
from clinical_mm.ingest.clinical import read_clinical
from clinical_mm.ingest.delivery import Delivery
from clinical_mm.ingest.ledger import Ledger, is_conserved
from clinical_mm.study.sources import ClinicalSource

# Creatinine weighs 113.12 g/mol: 1 mg/dL is 88.40 umol/L.
VARIABLES: dict[str, Any] = {
    "creatinine": {
        "column": "2160-0",
        "unit": "mg/dL",
        "conversions": {"umol/L": {"factor": 0.011312}},
        "minimum": 0.1,
        "maximum": 20,
    },
    "temperature": {
        "column": "8310-5",
        "unit": "Cel",
        "conversions": {"[degF]": {"factor": 0.5555555556, "offset": -17.7777777778}},
        "minimum": 25,
        "maximum": 45,
    },
    "blood_group": {"type": "category", "column": "882-1", "levels": ["A", "B", "AB", "0"]},
}
LONG: dict[str, Any] = {
    "layout": "long",
    "variable_column": "code",
    "value_column": "value",
    "unit_column": "unit",
    "available_time": "time",
    "variables": VARIABLES,
}
HEAD = "id,time,code,value,unit\n"
DAY = "2024-01-01T08:00"


def _source(**options: Any) -> ClinicalSource:
    return ClinicalSource.model_validate({"kind": "clinical", "path": "*.csv", "patient_id": "id", **options})


def _read(folder: Path, content: str, **options: Any) -> tuple[pd.DataFrame, dict[str, str]]:
    (folder / "l.csv").write_text(content)
    ledger = Ledger("s", "d", "row")
    frame = read_clinical("s", _source(**options), Delivery("d", folder), [folder / "l.csv"], ledger)
    tables.to_arrow(tables.CLINICAL, frame)
    assert is_conserved(ledger.counts())
    records = ledger.records()
    assert not records["sentence"].str.contains("mmol|umol").any()
    return frame, dict(
        zip(records["locator"].str.removeprefix("l.csv#row "), records["reason_code"], strict=True)
    )


def _long(folder: Path, *rows: str, **options: Any) -> tuple[pd.DataFrame, dict[str, str]]:
    return _read(folder, HEAD + "".join(f"{row}\n" for row in rows), **{**LONG, **options})


def test_a_row_is_a_value_in_the_unit_of_its_variable(tmp_path: Path) -> None:
    frame, records = _long(
        tmp_path,
        f"007,{DAY},2160-0,1.1,mg/dL",
        f"007,{DAY},8310-5,37.2,Cel",
        f"007,{DAY},882-1,AB,",
        "007,2024-01-02T08:00,2160-0,97,umol/L",
    )
    assert records == {}
    assert set(frame["source_patient_id"]) == {"007"}
    found = {(r.variable, r.available_time): (r.value_number, r.unit, r.locator) for r in frame.itertuples()}
    first, second = datetime(2024, 1, 1, 8), datetime(2024, 1, 2, 8)
    assert found["creatinine", first] == (1.1, "mg/dL", "l.csv#row 1")
    assert found["temperature", first] == (37.2, "Cel", "l.csv#row 2")
    assert found["creatinine", second][0] == pytest.approx(97 / 88.40, rel=1e-4)
    assert found["creatinine", second][1] == "mg/dL"
    assert list(frame["value_text"].dropna()) == ["AB"]


@pytest.mark.parametrize(
    ("code", "value", "unit", "reason_code"),
    [
        ("2160-0", "97", "mg/dL", "out_of_range"),  # the unit of another hospital, not said
        ("2160-0", "0.3", "umol/L", "out_of_range"),  # the range is asked of what comes of the conversion
        ("2160-0", "1.1", "g/dL", "unknown_unit"),
        ("2160-0", "1.1", "MG/DL", "unknown_unit"),  # UCUM tells m from M
        ("2160-0", "1.1", "", "missing_unit"),
        ("2160-0", "1.1", "NA", "missing_unit"),
        ("2160-0", "<5", "mg/dL", "not_a_number"),
        ("2160-0", ">100", "mg/dL", "not_a_number"),
        ("2160-0", '"1,5"', "mg/dL", "not_a_number"),
        ("2160-0", "1.1 mg/dL", "mg/dL", "not_a_number"),
        ("2160-0", "1e308", "umol/L", "out_of_range"),
        ("2160-0", "inf", "umol/L", "not_a_number"),
        ("2160-0", "hemolysed", "", "not_a_number"),
        ("2160-0", "", "mg/dL", "empty_row"),
        ("8310-5", "98.6", "Cel", "out_of_range"),
        ("882-1", "C", "", "unknown_level"),
        ("718-7", "13.5", "g/dL", "undeclared_variable"),
        ("", "13.5", "g/dL", "undeclared_variable"),
    ],
)
def test_a_value_that_cannot_be_true_is_quarantined_with_its_row_and_no_other(
    tmp_path: Path, code: str, value: str, unit: str, reason_code: str
) -> None:
    frame, records = _long(tmp_path, f"1,{DAY},{code},{value},{unit}", f"1,{DAY},2160-0,1.2,mg/dL")
    assert records == {"1": reason_code}
    assert list(frame["value_number"]) == [1.2]


def test_fahrenheit_has_an_offset(tmp_path: Path) -> None:
    frame, _ = _long(tmp_path, f"1,{DAY},8310-5,98.6,[degF]")
    assert frame["value_number"][0] == pytest.approx(37.0, abs=1e-6)


def test_the_same_value_twice_is_a_duplicate_and_two_that_differ_stand_neither(tmp_path: Path) -> None:
    frame, records = _long(
        tmp_path,
        f"1,{DAY},2160-0,1.1,mg/dL",
        f"1,{DAY},2160-0,1.10,mg/dL",
        f"2,{DAY},2160-0,1.1,mg/dL",
        f"2,{DAY},2160-0,1.3,mg/dL",
        f"2,{DAY},882-1,A,",
        "2,2024-01-03,2160-0,1.3,mg/dL",
    )
    assert records == {"2": "identical_record", "3": "conflicting_records", "4": "conflicting_records"}
    assert sorted(zip(frame["source_patient_id"], frame["variable"], strict=True)) == [
        ("1", "creatinine"),
        ("2", "blood_group"),
        ("2", "creatinine"),
    ]


def test_rows_without_patient_or_time_are_quarantined(tmp_path: Path) -> None:
    frame, records = _long(
        tmp_path, f",{DAY},2160-0,1,mg/dL", "1,,2160-0,1,mg/dL", "1,x,2160-0,1,mg/dL", f"1,{DAY}"
    )
    assert frame.empty
    assert records == {
        "1": "missing_patient_id",
        "2": "missing_time",
        "3": "unreadable_time",
        "4": "malformed_row",
    }


def test_without_a_unit_column_values_are_taken_in_the_declared_unit(tmp_path: Path) -> None:
    variables = {"creatinine": {"column": "2160-0", "unit": "mg/dL"}}
    frame, records = _long(tmp_path, f"1,{DAY},2160-0,1.1,kg", unit_column=None, variables=variables)
    assert (list(frame["value_number"]), list(frame["unit"]), records) == ([1.1], ["mg/dL"], {})


def test_in_a_wide_table_a_variable_names_the_column_of_its_unit(tmp_path: Path) -> None:
    variables = {"creatinine": {**VARIABLES["creatinine"], "column": "crea", "unit_column": "crea_unit"}}
    content = "id,crea,crea_unit,age\n1,97,umol/L,70\n2,1.1,mg/dL,70\n3,1.1,g/L,70\n4,,,70\n5,1.1,,70\n"
    frame, records = _read(
        tmp_path, content, is_timeless=True, variables={**variables, "age": {"unit": "years"}}
    )
    numbers = frame[frame["variable"] == "creatinine"].set_index("source_patient_id")["value_number"]
    assert numbers.to_dict() == {"1": pytest.approx(97 / 88.40, rel=1e-4), "2": 1.1}
    assert records == {"3 creatinine": "unknown_unit", "5 creatinine": "missing_unit"}
    assert (frame["variable"] == "age").sum() == 5  # the cell is quarantined, not the row


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value_column": None}, "names no variable_column, or no value_column"),
        ({"layout": "wide"}, "layout: long alone"),
        ({"unit_column": None}, "converts units without a unit_column"),
        ({"variables": {"a": {}}}, "has no unit"),
        ({"variables": {"a": {"unit": "g", "unit_column": "u"}}}, "the source, not a variable"),
        (
            {"variables": {"a": {"unit": "g"}, "b": {"unit": "g", "column": "a"}}},
            "two variables of the same code",
        ),
        ({"variables": {"a": {"conversions": {"g": {"factor": 1}}}}}, "has no unit"),
        ({"variables": {"a": {"unit": "g", "conversions": {"g": {"factor": 2}}}}}, "to itself"),
        ({"variables": {"a": {"unit": "g", "conversions": {"kg": {"factor": 0}}}}}, "greater than 0"),
    ],
)
def test_a_declaration_that_does_not_say_which_unit_applies_is_refused(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        _source(**{**LONG, **change})


def test_a_wide_source_that_converts_without_a_unit_column_is_refused() -> None:
    with pytest.raises(ValidationError, match="without its unit_column"):
        _source(is_timeless=True, variables={"a": VARIABLES["creatinine"]})


_row = st.tuples(
    st.sampled_from(["1", "2"]),
    st.sampled_from(["2160-0", "882-1", "x"]),
    st.sampled_from(["1", "88.4", "A", ""]),
    st.sampled_from(["mg/dL", "umol/L", "", "l"]),
)


@given(st.lists(_row, max_size=12))
@settings(max_examples=100, deadline=None)
def test_every_row_has_one_fate_and_long_and_wide_agree(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("l")
    frame, records = _long(folder, *(f"{i},{DAY},{code},{value},{unit}" for i, code, value, unit in rows))
    wanted: dict[tuple[str, str], set[object]] = {}
    for patient, code, value, unit in rows:
        if code == "882-1" and value == "A":
            wanted.setdefault((patient, "blood_group"), set()).add("A")
        if code == "2160-0" and value in {"1", "88.4"} and unit in {"mg/dL", "umol/L"}:
            in_mg = float(value) * (1 if unit == "mg/dL" else 0.011312)
            if 0.1 <= in_mg <= 20:
                wanted.setdefault((patient, "creatinine"), set()).add(in_mg)
    single = {key: values.pop() for key, values in wanted.items() if len(values) == 1}
    assert {
        (r.source_patient_id, r.variable): r.value_text or r.value_number for r in frame.itertuples()
    } == single
    assert len(records) + len(frame) == len(rows)
