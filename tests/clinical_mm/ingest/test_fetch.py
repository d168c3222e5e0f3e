"""Deliveries out of OMOP databases: SQLite, and a real PostgreSQL."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from clinical_mm.errors import DeliveryError, StoreError, StudyError
from clinical_mm.ingest.delivery import Delivery, complete_deliveries, find_deliveries
from clinical_mm.ingest.fetch import fetch
from clinical_mm.ingest.ledger import Ledger
from clinical_mm.ingest.notes_omop import read_notes_omop
from clinical_mm.store import Store
from clinical_mm.study.root import Study
from clinical_mm.study.sources import NotesOmopSource
from ingest_support import checked_notes, study_of, table_source
from omop_support import omop_note, omop_tables
from postgres_support import postgres_server

VARIABLE = "TEST_OMOP_URL"
SECRET = "zebrafish"


TEXT = "Größe 3 mm,\n„unverändert“."

NOTES = [
    omop_note(10_000_000_000, note_title=None, note_text="Later."),
    omop_note(2, note_date=date(2024, 3, 1), note_datetime=None, note_text=TEXT),
    omop_note(1, note_text=TEXT),
    omop_note(3, note_text=None),
]
PERSONS = [
    {"person_id": 7, "year_of_birth": 1950, "person_source_value": "MRN-007"},
    {"person_id": 8, "year_of_birth": 1960, "person_source_value": None},
]


def _fill(url: str, schema: str | None = None) -> None:
    engine = sa.create_engine(url, poolclass=NullPool)
    metadata = omop_tables(schema)
    with engine.begin() as connection:
        if schema is not None:
            connection.execute(sa.schema.CreateSchema(schema, if_not_exists=True))
        metadata.drop_all(connection)
        metadata.create_all(connection)
        for table in metadata.sorted_tables:
            connection.execute(table.insert(), NOTES if table.name == "note" else PERSONS)
    engine.dispose()


def _study(folder: Path, schema: str | None = None, path: str = "omop/note.parquet") -> tuple[Study, Store]:
    declared = {
        "kind": "notes_omop",
        "path": path,
        "database": {"url_variable": VARIABLE, "db_schema": schema},
    }
    study = study_of({"omop": declared, "y": table_source("outcomes")}, "text").placed_in(folder)
    return study, Store(study.store_path)


def _read(folder: Path) -> dict[str, dict[str, Any]]:
    source = NotesOmopSource(kind="notes_omop", path="omop/note.parquet")
    ledger = Ledger("s", "d", "row")
    files = [folder / "omop" / "note.parquet"]
    frame, ledger = checked_notes(read_notes_omop("s", source, Delivery("d", folder), files, ledger), ledger)
    assert list(ledger.records()["reason_code"]) == ["empty_text"]
    assert list(ledger.records()["locator"]) == ["omop/note.parquet#row 3"]
    columns = ["source_patient_id", "note_type", "available_time", "text"]
    return frame.set_index("note_id")[columns].to_dict("index")


EXPECTED = {
    "1": {
        "source_patient_id": "7",
        "note_type": "Discharge summary",
        "available_time": datetime(2024, 1, 2, 10),
        "text": TEXT,
    },
    "2": {
        "source_patient_id": "7",
        "note_type": "Discharge summary",
        "available_time": datetime(2024, 3, 2),  # the end of its day
        "text": TEXT,
    },
    "10000000000": {
        "source_patient_id": "7",
        "note_type": "32831",
        "available_time": datetime(2024, 1, 2, 10),
        "text": "Later.",
    },
}


@pytest.fixture
def sqlite_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"sqlite:///{tmp_path / 'omop.db'}"
    _fill(url)
    monkeypatch.setenv(VARIABLE, url)
    return url


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server() as url:
        _fill(url.replace("postgresql:", "postgresql+psycopg:"), "cdm")
        yield url


@pytest.fixture
def postgres_url(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(VARIABLE, server)
    return server


def _check_whole(study: Study, store: Store) -> None:
    summary = fetch(study, store, "omop", delivery="2024-05")
    assert summary.facts == {"delivery": "2024-05", "notes": 4, "persons": 2}
    assert [d.name for d in complete_deliveries(study)] == ["2024-05"]
    folder = study.landing_path / "2024-05"
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == [
        "_SUCCESS",
        "omop/note.parquet",
        "omop/person.parquet",
    ]
    assert _read(folder) == EXPECTED
    assert pq.read_table(folder / "omop" / "person.parquet").to_pylist() == [
        {"person_id": "7", "person_source_value": "MRN-007"},
        {"person_id": "8", "person_source_value": None},
    ]


def test_a_sqlite_database_becomes_a_delivery_that_ingest_reads(tmp_path: Path, sqlite_url: str) -> None:
    _check_whole(*_study(tmp_path))


@pytest.mark.service
def test_a_postgres_schema_becomes_a_delivery_that_ingest_reads(tmp_path: Path, postgres_url: str) -> None:
    _check_whole(*_study(tmp_path, "cdm"))


@pytest.mark.service
def test_notes_before_a_day_are_left_in_postgres(tmp_path: Path, postgres_url: str) -> None:
    study, store = _study(tmp_path, "cdm")
    assert fetch(study, store, "omop", since=date(2024, 3, 1)).facts["notes"] == 1
    assert fetch(study, store, "omop", delivery="none", since=date(2024, 3, 2)).facts["notes"] == 0


def test_notes_before_a_day_are_left_in_sqlite(tmp_path: Path, sqlite_url: str) -> None:
    study, store = _study(tmp_path)
    summary = fetch(study, store, "omop", since=date(2024, 3, 1))
    assert summary.facts["notes"] == 1
    assert summary.path is not None
    assert pq.read_table(summary.path / "omop" / "note.parquet")["note_id"].to_pylist() == ["2"]


def _refused(study: Study, store: Store, kind: type[Exception], match: str, **options: Any) -> None:
    with pytest.raises(kind, match=match) as refusal:
        fetch(study, store, "omop", **options)
    assert SECRET not in str(refusal.value)
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None
    left = [p.name for p in study.landing_path.glob("*")] if study.landing_path.is_dir() else []
    assert left == []


@pytest.mark.parametrize(
    ("url", "kind", "match"),
    [
        ("", StudyError, f"the environment variable {VARIABLE} is empty"),
        (SECRET, StudyError, "holds no database URL"),
        (f"{SECRET}://x", StudyError, "driver .* is not installed"),
        (f"sqlite:////tmp/{SECRET}.db", DeliveryError, "SQLite file .* is not there"),
        (f"postgresql://{SECRET}@127.0.0.1:1/x", DeliveryError, "cannot be reached"),
    ],
)
def test_a_database_that_cannot_be_opened_is_a_sentence_without_its_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, kind: type[Exception], match: str
) -> None:
    monkeypatch.setenv(VARIABLE, url)
    _refused(*_study(tmp_path), kind, match)


def test_a_path_that_does_not_match_what_is_written_is_a_mistake_in_the_study(
    tmp_path: Path, sqlite_url: str
) -> None:
    for path in ("note.parquet", "omop/*.parquet"):
        _refused(*_study(tmp_path, path=path), StudyError, "has to match omop/note.parquet")


def test_a_delivery_that_exists_is_never_changed(tmp_path: Path, sqlite_url: str) -> None:
    study, store = _study(tmp_path)
    fetch(study, store, "omop", delivery="d")
    before = (study.landing_path / "d" / "omop" / "note.parquet").stat()
    with pytest.raises(DeliveryError, match=r"is in .* already"):
        fetch(study, store, "omop", delivery="d")
    assert (study.landing_path / "d" / "omop" / "note.parquet").stat() == before
    with pytest.raises(DeliveryError, match="cannot be the name"):
        fetch(study, store, "omop", delivery="../d")


def test_a_fetch_that_was_killed_leaves_no_delivery_and_is_cleaned_up(
    tmp_path: Path, sqlite_url: str
) -> None:
    study, store = _study(tmp_path)
    (study.landing_path / ".fetching-killed" / "omop").mkdir(parents=True)
    assert find_deliveries(study) == []
    fetch(study, store, "omop", delivery="d")
    assert [p.name for p in study.landing_path.iterdir()] == ["d"]


def test_two_fetches_do_not_run_at_once(tmp_path: Path, sqlite_url: str) -> None:
    study, store = _study(tmp_path)
    with store.lock("fetch"), pytest.raises(StoreError, match="another run is working on fetch"):
        fetch(study, store, "omop")


def _changed(url: str, *statements: str) -> Callable[[], None]:
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    return engine.dispose


@pytest.mark.parametrize("statement", ["DROP TABLE note", "ALTER TABLE note DROP COLUMN note_title"])
def test_a_missing_table_or_column_of_sqlite_is_named(
    tmp_path: Path, sqlite_url: str, statement: str
) -> None:
    _changed(sqlite_url, statement)()
    _refused(*_study(tmp_path), DeliveryError, "a table note with the columns .*note_title.* was expected")


@pytest.mark.service
@pytest.mark.parametrize(
    ("statements", "match"),
    [
        (["DROP TABLE cdm.person"], "has no table person"),
        (["ALTER TABLE cdm.note DROP COLUMN note_title"], "a table note without one of .*note_title"),
        (["DROP SCHEMA cdm CASCADE"], "has no table note"),
    ],
)
def test_a_missing_table_or_column_of_postgres_is_named(
    tmp_path: Path, postgres_url: str, statements: list[str], match: str
) -> None:
    _changed(postgres_url, *statements)()
    try:
        _refused(*_study(tmp_path, "cdm"), DeliveryError, match)
    finally:
        _fill(postgres_url.replace("postgresql:", "postgresql+psycopg:"), "cdm")


@pytest.mark.service
def test_a_user_of_postgres_who_may_not_read_the_notes_is_told_so(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _changed(postgres_url, f"CREATE ROLE {SECRET} LOGIN", f"GRANT USAGE ON SCHEMA cdm TO {SECRET}")()
    monkeypatch.setenv(VARIABLE, postgres_url.replace("//postgres@", f"//{SECRET}@"))
    _refused(*_study(tmp_path, "cdm"), DeliveryError, "does not let this user read the table note")
    monkeypatch.setenv(VARIABLE, postgres_url.replace("//postgres@", f"//nobody-{SECRET}@"))
    _refused(*_study(tmp_path, "cdm"), DeliveryError, "cannot be reached, or refuses the login")


_FETCH = """
import resource, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1]]
from test_fetch import _study
from clinical_mm.ingest.fetch import fetch
fetch(*_study(Path(sys.argv[2]), sys.argv[3]), "omop", delivery="d")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.service
def test_memory_does_not_grow_with_the_notes_in_postgres(tmp_path: Path, postgres_url: str) -> None:
    """Of 200 MB of text a client-side cursor would hold all at once."""
    peaks_mb = {}
    url = postgres_url.replace("postgresql:", "postgresql+psycopg:")
    for schema, n in (("few", 10), ("many", 40_000)):
        _fill(url, schema)
        _changed(
            postgres_url,
            f"INSERT INTO {schema}.note (note_id, person_id, note_date, note_text) SELECT 100 + i, 7, '2024-01-02', "
            f"repeat(md5(i::text), 160) FROM generate_series(1, {n}) AS i",
        )()
        (tmp_path / schema).mkdir()
        support = Path(__file__).parents[2] / "support"
        outcome = subprocess.run(
            [sys.executable, "-c", _FETCH, str(Path(__file__).parent), str(tmp_path / schema), schema],
            env={**os.environ, "PYTHONPATH": str(support)},
            capture_output=True,
            text=True,
            check=True,
        )
        peaks_mb[schema] = int(outcome.stdout)
    assert peaks_mb["many"] - peaks_mb["few"] < 100
