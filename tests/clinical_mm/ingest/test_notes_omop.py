"""Notes from the NOTE table of OMOP CDM 5.4."""

import logging
import sqlite3
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from hypothesis import given, settings

from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.delivery import Delivery
from clinical_mm.ingest.ledger import Ledger
from clinical_mm.ingest.notes_omop import read_notes_omop
from clinical_mm.study.sources import NotesOmopSource
from ingest_support import checked_notes, fates_of
from omop_support import omop_note, omop_tables

NOTE = omop_tables().tables["note"]


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        NOTE.create(connection)
        if rows:
            connection.execute(NOTE.insert(), rows)
    engine.dispose()
    return path


def _write_raw(path: Path, rows: Sequence[tuple[Any, ...]], columns: str | None = None) -> Path:
    """Without types: any cell may hold anything, as SQLite has it."""
    path.unlink(missing_ok=True)
    named = columns or ", ".join(column.name for column in NOTE.columns if "class" not in column.name)
    connection = sqlite3.connect(path)
    connection.execute(f"CREATE TABLE note ({named})")
    marks = ", ".join("?" * len(named.split(",")))
    connection.executemany(f"INSERT INTO note VALUES ({marks})", rows)
    connection.commit()
    connection.close()
    return path


def _read(path: Path, **options: Any) -> tuple[pd.DataFrame, Ledger]:
    source = NotesOmopSource.model_validate({"kind": "notes_omop", "path": "*.db", **options})
    ledger = Ledger("s", "d", "row")
    frame = read_notes_omop("s", source, Delivery("d", path.parent), [path], ledger)
    return checked_notes(frame, ledger)


def test_a_row_is_a_note_with_ids_as_text(tmp_path: Path) -> None:
    frame, ledger = _read(_write(tmp_path / "o.db", [omop_note(9), omop_note(10, note_text="zwei\nüber")]))
    assert list(frame["note_id"]) == ["10", "9"]
    assert list(frame["locator"]) == ["o.db#row 2", "o.db#row 1"]
    assert list(frame["text"]) == ["zwei\nüber", "No change."]
    assert set(frame["source_patient_id"]) == {"7"}
    assert set(frame["note_type"]) == {"Discharge summary"}
    assert (frame["available_time"] == datetime(2024, 1, 2, 10)).all()
    assert frame["event_time"].isna().all()
    assert (ledger.n_found, ledger.n_accepted) == (2, 2)


@pytest.mark.parametrize(
    ("day", "moment", "available"),
    [
        (date(2024, 1, 2), datetime(2024, 1, 2, 10, 30), datetime(2024, 1, 2, 10, 30)),
        (None, datetime(2024, 1, 2, 10, 30), datetime(2024, 1, 2, 10, 30)),
        (date(2024, 1, 2), None, datetime(2024, 1, 3)),
        (date(2024, 1, 2), datetime(2024, 1, 2), datetime(2024, 1, 3)),
        (date(2023, 12, 31), None, datetime(2024, 1, 1)),
    ],
)
def test_a_note_whose_hour_is_unknown_is_available_from_the_end_of_its_day(
    tmp_path: Path, day: date | None, moment: datetime | None, available: datetime
) -> None:
    frame, _ = _read(_write(tmp_path / "o.db", [omop_note(note_date=day, note_datetime=moment)]))
    assert list(frame["available_time"]) == [available]


def test_a_time_with_an_offset_is_converted_to_the_zone_of_the_hospital(tmp_path: Path) -> None:
    row = (1, 7, None, "2024-01-02T10:00:00Z", 32831, None, "text")
    frame, _ = _read(_write_raw(tmp_path / "o.db", [row]), time={"timezone": "Europe/Berlin"})
    assert list(frame["available_time"]) == [datetime(2024, 1, 2, 11)]


@pytest.mark.parametrize(
    ("title", "concept", "kind"), [("", 32831, "32831"), (None, 0, None), (None, None, None), ("CT", 0, "CT")]
)
def test_without_a_title_the_concept_is_the_type(
    tmp_path: Path, title: str | None, concept: int | None, kind: str | None
) -> None:
    row = omop_note(note_title=title, note_type_concept_id=concept)
    frame, _ = _read(_write(tmp_path / "o.db", [row]))
    assert [k if isinstance(k, str) else None for k in frame["note_type"]] == [kind]


@pytest.mark.parametrize(
    ("cells", "reason_code"),
    [
        ((1, None, "2024-01-02", None, 0, None, "text"), "missing_patient_id"),
        ((1, 7, "2024-01-02", None, 0, None, None), "empty_text"),
        ((1, 7, "2024-01-02", None, 0, None, " \n"), "empty_text"),
        ((1, 7, None, "", 0, None, "text"), "missing_time"),
        ((1, 7, "2024-01-02", "soon", 0, None, "text"), "unreadable_time"),
        ((1, 7, 20240102, None, 0, None, "text"), "unreadable_time"),
        ((1, 7, "2024-01-02", 1.7e9, 0, None, "text"), "unreadable_time"),
        ((1, 7, "2024-01-02", None, 0, None, b"bytes"), "unknown_encoding"),
    ],
)
def test_a_row_that_cannot_be_used_is_quarantined_by_its_reason(
    tmp_path: Path, cells: tuple[Any, ...], reason_code: str
) -> None:
    good = (0, 7, "2024-01-02", None, 0, None, "good")
    frame, ledger = _read(_write_raw(tmp_path / "o.db", [cells, good]))
    assert list(frame["text"]) == ["good"]
    assert fates_of(ledger, "o.db") == {"row 2": ("quarantined", reason_code)}
    assert ledger.n_found == 2


def test_text_that_is_no_utf_8_is_quarantined_and_its_neighbours_are_read(tmp_path: Path) -> None:
    path = _write(tmp_path / "o.db", [omop_note(1), omop_note(2)])
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE note SET note_text = CAST(x'4772f6df65' AS TEXT) WHERE note_id = 1")
    connection.close()
    frame, ledger = _read(path)
    assert list(frame["note_id"]) == ["2"]
    assert fates_of(ledger, "o.db") == {"row 1": ("quarantined", "unknown_encoding")}


def test_numbers_that_became_fractions_keep_their_ids(tmp_path: Path) -> None:
    frame, _ = _read(_write_raw(tmp_path / "o.db", [(1.0, 7.0, "2024-01-02", None, 0.0, None, "text")]))
    assert frame[["note_id", "source_patient_id"]].to_numpy().tolist() == [["1", "7"]]


def test_repeated_and_contradictory_ids_are_settled_as_in_tables(tmp_path: Path) -> None:
    same = (1, 7, "2024-01-02", None, 0, None, "text")
    rows = [same, same, (2, 7, "2024-01-02", None, 0, None, "a"), (2, 8, "2024-01-02", None, 0, None, "b")]
    frame, ledger = _read(_write_raw(tmp_path / "o.db", rows))
    assert list(frame["note_id"]) == ["1"]
    assert fates_of(ledger, "o.db") == {
        "row 2": ("duplicate", "identical_record"),
        "row 3": ("quarantined", "conflicting_records"),
        "row 4": ("quarantined", "conflicting_records"),
    }


def test_names_may_be_in_capitals(tmp_path: Path) -> None:
    columns = "NOTE_ID, PERSON_ID, NOTE_DATE, NOTE_DATETIME, NOTE_TYPE_CONCEPT_ID, NOTE_TITLE, NOTE_TEXT"
    row = (1, 7, "2024-01-02", None, 0, None, "text")
    frame, _ = _read(_write_raw(tmp_path / "o.db", [row], columns))
    assert list(frame["text"]) == ["text"]


def test_a_missing_table_or_column_is_said_with_the_nearest(tmp_path: Path) -> None:
    columns = "note_id, person_id, note_date, note_datetime, note_type_concept_id, note_title, note_txt"
    with pytest.raises(DeliveryError, match=r"no column 'note_text': .*; did you mean 'note_txt'"):
        _read(_write_raw(tmp_path / "o.db", [], columns))
    sqlite3.connect(tmp_path / "empty.db").close()
    with pytest.raises(DeliveryError, match="the database has no table note"):
        _read(tmp_path / "empty.db")


def test_a_view_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE VIEW note AS SELECT 1 AS note_id")
    connection.close()
    with pytest.raises(DeliveryError, match="the database has no table note"):
        _read(path)


def test_a_file_that_is_no_whole_database_is_one_record(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    path.write_bytes(b"no database at all" * 100)
    frame, ledger = _read(path)
    assert frame.empty
    assert fates_of(ledger, "o.db") == {"o.db": ("quarantined", "unreadable_file")}
    path.unlink()
    _write(path, [omop_note(i, note_text="word " * 500) for i in range(200)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frame, ledger = _read(path)
    assert frame.empty
    assert fates_of(ledger, "o.db") == {"o.db": ("quarantined", "unreadable_file")}
    assert ledger.n_found == 1


def test_a_database_whose_last_changes_lie_beside_it_is_not_read_without_them(tmp_path: Path) -> None:
    path = _write(tmp_path / "o.db", [omop_note()])
    (tmp_path / "o.db-wal").write_bytes(b"changes")
    _, ledger = _read(path)
    assert fates_of(ledger, "o.db") == {"o.db": ("quarantined", "unreadable_file")}


def test_reading_writes_nothing(tmp_path: Path) -> None:
    path = _write(tmp_path / "o.db", [omop_note()])
    before = path.read_bytes()
    _read(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["o.db"]


def test_more_rows_than_are_fetched_at_once_are_all_read(tmp_path: Path) -> None:
    frame, ledger = _read(_write(tmp_path / "o.db", [omop_note(i) for i in range(2500)]))
    assert (len(frame), ledger.n_found) == (2500, 2500)


def test_no_sentence_and_no_log_holds_text_or_ids(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    rows = [
        (4711, 4711, "adenoma", None, 4711, "adenoma", "adenoma"),
        (4711, None, "2024-01-02", None, 4711, "adenoma", "adenoma"),
        (4711, 4712, "2024-01-02", None, 4711, "adenoma", b"adenoma"),
    ]
    _, ledger = _read(_write_raw(tmp_path / "o.db", rows))
    said = ledger.records().to_csv() + caplog.text
    assert len(ledger.records()) == 3
    for secret in ("4711", "4712", "adenoma"):
        assert secret not in said


CELLS = st.one_of(
    st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=5), st.binary(max_size=5)
) | st.sampled_from(["2024-01-02", "9999-12-31", "2024-01-02 10:00", 1, 7])


@given(st.lists(st.tuples(*[CELLS] * 7), max_size=5))
@settings(max_examples=100, deadline=None)
def test_any_cell_may_hold_anything_and_every_row_is_counted(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[Any, ...]]
) -> None:
    frame, ledger = _read(_write_raw(tmp_path_factory.mktemp("o") / "o.db", rows))
    assert ledger.n_found == len(rows)
    assert len(frame) == ledger.n_accepted


def _parquet(path: Path, rows: Sequence[dict[str, Any]], schema: pa.Schema | None = None) -> Path:
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path)
    return path


def test_a_parquet_file_of_note_is_read_as_the_database_is(tmp_path: Path) -> None:
    rows = [
        omop_note(1),
        omop_note(2, note_datetime=None),
        omop_note(3, note_title=None),
        omop_note(4, note_text="  "),
        omop_note(5, person_id=None),
        omop_note(6, note_date=None, note_datetime=None),
    ]
    of_sqlite, _ = _read(_write(tmp_path / "n.db", rows))
    frame, ledger = _read(_parquet(tmp_path / "note.parquet", rows))
    assert frame.drop(columns="locator").equals(of_sqlite.drop(columns="locator"))
    assert list(frame["available_time"]) == [
        *(datetime(2024, 1, 2, 10), datetime(2024, 1, 3)),
        datetime(2024, 1, 2, 10),
    ]
    assert fates_of(ledger, "note.parquet") == {
        "row 4": ("quarantined", "empty_text"),
        "row 5": ("quarantined", "missing_patient_id"),
        "row 6": ("quarantined", "missing_time"),
    }


def test_parquet_may_have_upper_case_names_text_and_an_offset(tmp_path: Path) -> None:
    rows = [{name.upper(): str(cell) for name, cell in omop_note(9).items()}]
    rows[0]["NOTE_DATETIME"] = "2024-01-02T10:00:00+00:00"
    frame, _ = _read(_parquet(tmp_path / "note.parquet", rows), time={"timezone": "Europe/Berlin"})
    assert list(frame["note_id"]) == ["9"]
    assert list(frame["available_time"]) == [datetime(2024, 1, 2, 11)]


def test_parquet_that_lacks_a_column_is_refused_and_damaged_parquet_quarantined(tmp_path: Path) -> None:
    rows = [{k: v for k, v in omop_note().items() if k != "note_title"}]
    with pytest.raises(DeliveryError, match="there is no column 'note_title'"):
        _read(_parquet(tmp_path / "note.parquet", rows))
    path = _parquet(tmp_path / "cut.parquet", [omop_note()])
    path.write_bytes(path.read_bytes()[:-8])
    frame, ledger = _read(path)
    assert frame.empty
    assert list(ledger.records()["reason_code"]) == ["unreadable_file"]
