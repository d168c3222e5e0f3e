"""The NOTE table of the OMOP common data model 5.4 in a delivery: SQLite files and Parquet, only read, and streamed.

https://ohdsi.github.io/CommonDataModel/cdm54.html. What a row means belongs to the readers, and how a table comes out
of a database server to `fetch`.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.opening import UnreadableFileError
from clinical_mm.ingest.tabular import cells_of, is_parquet, readable_parquet

NOTE_COLUMNS = (
    "note_id",
    "person_id",
    "note_date",
    "note_datetime",
    "note_type_concept_id",
    "note_title",
    "note_text",
)
"""The columns of NOTE that are read."""

_ROWS_AT_ONCE = 1000
_LONGEST_CELL_BYTES = 64 << 20
_CELL_OVERHEAD_BYTES = 8
_MAX_UNFOLDING = 4
_FREE_BYTES = 32 << 20


def note_header(path: Path, source: str) -> list[str]:
    """The columns that a NOTE table has, in lower case.

    Raises:
        UnreadableFileError: the file is no Parquet or no SQLite database, is damaged, or has changes beside it.
        DeliveryError: the database has no such table.
    """
    if is_parquet(path):
        with readable_parquet(path) as file:
            return [name.lower() for name in file.schema_arrow.names]
    with _opened(path) as connection:
        # A virtual table has no page of its own, and code of SQLite's extensions behind it: none is a table of OMOP.
        has_table = sa.text(
            "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND lower(name) = 'note' AND rootpage > 0"
        )
        if not connection.scalar(has_table):
            raise DeliveryError(f"source {source}: the database has no table note, as OMOP CDM 5.4 names it")
        columns = connection.execute(sa.text("PRAGMA table_xinfo(note)")).all()
        if any(column.hidden for column in columns):
            # Its expression would run here, for as long and into as much memory as whoever wrote it wants.
            raise UnreadableFileError("unreadable_file", "the table note computes a column from others")
        if any(isinstance(column.name, bytes) for column in columns):
            raise UnreadableFileError("unreadable_file", "the names of the columns are no UTF-8")
        return [str(column.name).lower() for column in columns]


def note_cells(path: Path) -> Iterator[tuple[Any, ...]]:
    """The rows of NOTE: cells of `NOTE_COLUMNS`; of SQLite in the order of their ids, of Parquet in that of the file.

    Yields:
        Text, numbers, times of Parquet, or None; `bytes` where text is no UTF-8.

    Raises:
        UnreadableFileError: as `note_header`, or damage that shows only while rows are read.
        DeliveryError: a column of Parquet holds lists or structures.
    """
    if is_parquet(path):
        yield from _parquet_cells(path)
        return
    # Without types: SQLite holds in a column what it was given.
    columns: list[sa.ColumnClause[Any]] = [sa.column(name) for name in NOTE_COLUMNS]
    query = sa.select(*columns).select_from(sa.table("note")).order_by(sa.column("note_id"))
    with _opened(path) as connection:
        left = max(_FREE_BYTES, _MAX_UNFOLDING * path.stat().st_size)
        for row in connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query):
            left -= sum(_CELL_OVERHEAD_BYTES + (len(c) if isinstance(c, str | bytes) else 0) for c in row)
            if left < 0:
                # Default values and pages that stand in for each other: each is read again for every row.
                raise UnreadableFileError("too_large", "the rows hold more than the database has room for")
            yield tuple(row)


def _parquet_cells(path: Path) -> Iterator[tuple[Any, ...]]:
    with readable_parquet(path) as file:
        by_lower = {name.lower(): name for name in file.schema_arrow.names}
        wanted = [by_lower[name] for name in NOTE_COLUMNS]
        for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=wanted):
            cells = [cells_of(pa.chunked_array([batch.column(n)]), path.name, n) for n in wanted]
            yield from (
                (*(None if cell == "" else cell for cell in row),) for row in zip(*cells, strict=True)
            )


@contextmanager
def _opened(path: Path) -> Iterator[sa.Connection]:
    for ending in ("-wal", "-journal"):
        beside = path.with_name(path.name + ending)
        if beside.is_file() and beside.stat().st_size:
            raise UnreadableFileError(
                "unreadable_file",
                f"a file {ending} beside the database holds changes that are not yet in it: close it, deliver again",
            )
    engine = sa.create_engine("sqlite://", creator=partial(_connected, path), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            yield connection
    except (sa.exc.DBAPIError, sqlite3.Error, UnicodeDecodeError):  # names in a damaged schema are no text
        raise UnreadableFileError(
            "unreadable_file", "the file is no SQLite database, or is damaged, and cannot be read as a whole"
        ) from None
    finally:
        engine.dispose()


def _connected(path: Path) -> sqlite3.Connection:
    """A connection that writes nothing, not even beside the file."""
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
    connection.text_factory = _text
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_CELL_BYTES)
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _text(content: bytes) -> str | bytes:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content
