"""A delivery out of an OMOP database: the NOTE table, and who its persons are, as Parquet.

Read through SQLAlchemy by server-side cursors, so that memory does not grow with the table; written aside, synced and
renamed, so that a delivery is whole or is not there. Every cell is text as the database has it: what a row is worth
is judged by ingest. Nothing that the database answers is repeated in an error: it may name hosts and users.
"""

import math
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from clinical_mm.errors import DeliveryError, StudyError
from clinical_mm.ingest.delivery import SUCCESS_MARK, Delivery, delivery_name, files_of_pattern
from clinical_mm.ingest.omop import NOTE_COLUMNS
from clinical_mm.progress import track
from clinical_mm.store import Store, sync_directory, write_file
from clinical_mm.study.root import Study
from clinical_mm.study.sources import NotesOmopSource, OmopDatabase
from clinical_mm.summary import StageSummary

PERSON_COLUMNS = ("person_id", "person_source_value")
"""The columns of PERSON that are written: what the id of a person is elsewhere, and nothing else of them."""

_ROWS_AT_ONCE = 2000
_ASIDE = ".fetching-"
_REFUSALS = {  # SQLSTATE, https://www.postgresql.org/docs/current/errcodes-appendix.html
    "42501": "does not let this user read the table {table}: grant SELECT on it",
    "42P01": "has no table {table}, as OMOP CDM 5.4 names it: see database.db_schema",
    "42703": "has a table {table} without one of the columns {columns}",
    "3F000": "has no such schema: see database.db_schema",
}


def fetch(
    study: Study, store: Store, source: str, *, delivery: str | None = None, since: date | None = None
) -> StageSummary:
    """Write a new delivery of what a source's database holds.

    Args:
        study: the study.
        store: for its lock.
        source: name of a source of kind `notes_omop` that declares a `database`.
        delivery: name of the delivery; default: the present time (UTC) and the source.
        since: only notes of this day or later, by `note_date`.

    Returns:
        The numbers of rows, and where the delivery lies.

    Raises:
        StudyError: there is no such source, it declares no database, its path does not match what is written, or the
            environment does not hold the URL.
        DeliveryError: the delivery exists; the database cannot be reached or read, or its tables are others.
    """
    declared = study.sources.get(source)
    if not isinstance(declared, NotesOmopSource) or declared.database is None:
        raise StudyError(
            f"source {source}: there is none of kind notes_omop that declares a database to fetch"
        )
    name = delivery_name(delivery or f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}-{source}")
    engine = _engine(source, declared.database)
    target = study.landing_path / name
    try:
        with store.lock("fetch"):
            if target.exists():
                raise DeliveryError(f"the delivery {name} is in {study.landing_path} already: name another")
            study.landing_path.mkdir(parents=True, exist_ok=True)
            for left in study.landing_path.glob(f"{_ASIDE}*"):  # of a fetch that was killed
                shutil.rmtree(left, ignore_errors=True)
            aside = study.landing_path / f"{_ASIDE}{uuid.uuid4().hex}"
            folder = aside / source
            try:
                folder.mkdir(parents=True)
                _require_matching(source, declared, aside, folder / "note.parquet")
                counts = _write(engine, source, declared.database.db_schema, folder, since)
                for path in (folder, aside):
                    sync_directory(path)
                aside.rename(target)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
            sync_directory(study.landing_path)
            write_file(target / SUCCESS_MARK, b"")
    finally:
        engine.dispose()
    facts: dict[str, str | int | float] = {
        "delivery": name,
        "notes": counts["note"],
        "persons": counts["person"],
    }
    return StageSummary("fetch", facts if since is None else {**facts, "since": str(since)}, path=target)


def _engine(source: str, database: OmopDatabase) -> sa.Engine:
    variable = database.url_variable
    text = os.environ.get(variable, "")
    if not text:
        raise StudyError(
            f"source {source}: the environment variable {variable} is empty: set it to the database's URL"
        )
    try:
        url = sa.make_url(text)
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+psycopg")
        is_new_file = url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file()
        engine = sa.create_engine(url, poolclass=NullPool, hide_parameters=True)
    except (ImportError, sa.exc.NoSuchModuleError):
        raise StudyError(
            f"source {source}: the driver that the URL in {variable} asks for is not installed: for PostgreSQL, "
            "`pip install 'clinical-mm[postgres]'`"
        ) from None
    except (sa.exc.ArgumentError, ValueError):
        raise StudyError(
            f"source {source}: the environment variable {variable} holds no database URL"
        ) from None
    if is_new_file:  # SQLite would make it
        raise DeliveryError(f"source {source}: the SQLite file that {variable} names is not there")
    if url.get_backend_name() == "postgresql":
        engine = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    return engine


def _require_matching(source: str, declared: NotesOmopSource, aside: Path, note: Path) -> None:
    note.touch()
    person = note.with_name("person.parquet")
    person.touch()
    if files_of_pattern(Delivery(aside.name, aside), declared.path) != [note]:
        raise StudyError(
            f"source {source}: its path {declared.path!r} has to match {source}/note.parquet, which fetch writes, "
            f"and not the {person.name} beside it"
        )


def _write(
    engine: sa.Engine, source: str, schema: str | None, folder: Path, since: date | None
) -> dict[str, int]:
    note = sa.table("note", *(sa.column(name) for name in NOTE_COLUMNS), schema=schema)
    person = sa.table("person", *(sa.column(name) for name in PERSON_COLUMNS), schema=schema)
    notes = sa.select(*note.columns).order_by(note.c.note_id)
    if since is not None:
        # SQLite holds days as text, which sorts as days do.
        bound = str(since) if engine.dialect.name == "sqlite" else since
        notes = notes.where(note.c.note_date >= bound)
    queries = {"note": notes, "person": sa.select(*person.columns).order_by(person.c.person_id)}
    counts = {}
    with _reading(source, "note", NOTE_COLUMNS), engine.connect() as connection:
        for table, query in queries.items():
            columns = tuple(column.name for column in query.selected_columns)
            with _reading(source, table, columns):
                result = connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query)
                counts[table] = _write_parquet(folder / f"{table}.parquet", columns, result.partitions())
    return counts


@contextmanager
def _reading(source: str, table: str, columns: Sequence[str]) -> Iterator[None]:
    """Errors of the database as a sentence of our own."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None)
        if state in _REFUSALS:
            sentence = _REFUSALS[state].format(table=table, columns=", ".join(columns))
        elif state is None and isinstance(error, sa.exc.OperationalError) and error.statement is None:
            sentence = "cannot be reached, or refuses the login: see its URL, and whether it runs"
        else:
            names = ", ".join(columns)
            sentence = f"cannot be read: a table {table} with the columns {names} was expected"
        raise DeliveryError(f"source {source}: the database {sentence}") from None
    except (sa.exc.SQLAlchemyError, UnicodeError):
        raise DeliveryError(
            f"source {source}: the database cannot be read: its table {table} is not as expected"
        ) from None


def _write_parquet(path: Path, columns: Sequence[str], parts: Iterator[Sequence[sa.Row[Any]]]) -> int:
    """Write rows as text, a row group a part; returns how many."""
    schema = pa.schema([(name, pa.string()) for name in columns])
    n_rows = 0
    with path.open("wb") as file:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for rows in track(parts, f"fetching {path.stem}"):
                cells = [pa.array(map(_text, column), pa.string()) for column in zip(*rows, strict=True)]
                writer.write_table(pa.Table.from_arrays(cells, schema=schema))
                n_rows += len(rows)
        file.flush()
        os.fsync(file.fileno())
    return n_rows


def _text(cell: object) -> str | None:
    """A cell as text: times in ISO 8601, whole numbers without a decimal point."""
    if cell is None or isinstance(cell, str):
        return cell
    if isinstance(cell, date | time):
        return cell.isoformat()
    if isinstance(cell, float | Decimal) and math.isfinite(cell) and cell == int(cell):
        return str(int(cell))
    if isinstance(cell, bytes | bytearray | memoryview):
        raise UnicodeError  # bytes say in no encoding what they mean
    return str(cell)
