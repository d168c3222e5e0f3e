"""Rows of delivered tables, CSV or Parquet: every cell as text, every row counted, every bad row quarantined.

A reader names the columns that it wants by role and gets rows that know where they are from. What a column means
belongs to the readers of notes, genomics, clinical covariates and outcomes.
"""

import difflib
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.delimited import read_delimited
from clinical_mm.ingest.delivery import Delivery
from clinical_mm.ingest.ledger import Ledger
from clinical_mm.ingest.opening import FREE_BYTES_SPARSE, MAX_UNFOLDING, UnreadableFileError
from clinical_mm.progress import track
from clinical_mm.study.sources import TableFormat

_PARQUET_ENDINGS = {".parquet", ".pq"}
_SHOWN_COLUMNS = 30
_FREE_CELLS = 2_000_000
_MAX_CELLS_A_BYTE = 100


@dataclass(frozen=True)
class Rows:
    """Rows of the files of a source, in the order of files and rows.

    Attributes:
        cells: one column a role; text, or `datetime` and `date` objects where a Parquet file has them; "" for nulls.
        file: [n] index into `files`.
        number: [n] number of the row in its file, from 1.
        files: paths within the delivery.
        digest: [n] hash of the whole row, where it was asked for.
    """

    cells: pd.DataFrame
    file: np.ndarray
    number: np.ndarray
    files: tuple[str, ...]
    digest: np.ndarray

    def __len__(self) -> int:
        return len(self.number)

    def take(self, chosen: np.ndarray) -> "Rows":
        """Those rows: a mask [n], or places."""
        cells = self.cells[chosen] if chosen.dtype == bool else self.cells.iloc[chosen]
        digest = self.digest[chosen] if len(self.digest) else self.digest
        return Rows(cells.reset_index(drop=True), self.file[chosen], self.number[chosen], self.files, digest)

    def locators(self) -> list[str]:
        """`path#row 7` of every row."""
        return [f"{self.files[f]}#row {n}" for f, n in zip(self.file, self.number, strict=True)]

    def text(self, role: str) -> np.ndarray:
        """A role's cells [n], as text without blanks around it."""
        return np.array([str(c).strip() for c in self.cells[role]], dtype=object)

    def set_aside(self, is_bad: np.ndarray, ledger: Ledger, reason_code: str, sentence: str) -> "Rows":
        """Quarantine the rows of a mask [n]; returns the others."""
        if not is_bad.any():
            return self
        for locator in self.take(is_bad).locators():
            ledger.quarantine(locator, reason_code, sentence)
        return self.take(~is_bad)


def is_parquet(path: Path) -> bool:
    """Whether a file's ending says Parquet."""
    return path.suffix.lower() in _PARQUET_ENDINGS


def read_rows(  # noqa: PLR0917 - what all readers take, and the columns
    source: str,
    table: TableFormat,
    columns: Mapping[str, str],
    delivery: Delivery,
    files: Sequence[Path],
    ledger: Ledger,
    *,
    has_digest: bool = False,
) -> Rows:
    """Read the wanted columns of all files.

    Args:
        source: name of the source, for errors.
        table: how delimited files are written.
        columns: the column of each role; two roles may share one.
        delivery: where the files lie.
        files: the files.
        ledger: is told of every row found, and of those without usable fields; a file that cannot be read as a whole
            counts as one record, quarantined.
        has_digest: also hash whole rows, to find repeated ones.

    Raises:
        DeliveryError: a column is missing, or stands twice.
    """
    roles = list(columns)
    by_role: list[list[Any]] = [[] for _ in roles]
    file: list[int] = []
    number: list[int] = []
    digests: list[bytes] = []
    for place, path in enumerate(track(files, f"reading {source}")):
        locator = delivery.relative(path)
        try:
            part = _read_file(source, table, list(columns.values()), path, has_digest)
        except UnreadableFileError as error:
            ledger.found()
            ledger.quarantine(locator, error.reason_code, error.sentence)
            continue
        ledger.found(len(part.numbers) + len(part.malformed))
        for row, problem in part.malformed:
            ledger.quarantine(f"{locator}#row {row}", "malformed_row", problem)
        for cells, found in zip(by_role, part.columns, strict=True):
            cells.extend(found)
        number.extend(part.numbers)
        file.extend([place] * len(part.numbers))
        digests.extend(part.digests)
    return Rows(
        pd.DataFrame(dict(zip(roles, by_role, strict=True)), columns=roles, dtype=object),
        np.array(file, dtype=np.int64),
        np.array(number, dtype=np.int64),
        tuple(delivery.relative(p) for p in files),
        np.array(digests, dtype=object),
    )


@dataclass(frozen=True)
class _Part:
    columns: list[Sequence[Any]]
    numbers: list[int]
    malformed: list[tuple[int, str]]
    digests: list[bytes]


def _read_file(source: str, table: TableFormat, wanted: list[str], path: Path, has_digest: bool) -> _Part:
    if is_parquet(path):
        return _read_parquet(source, wanted, path, has_digest)
    records = read_delimited(path, table, source)
    header = next(records).fields
    places = [place_of(column, header, source, wanted) for column in wanted]
    pick = itemgetter(*places) if len(places) > 1 else lambda fields: (fields[places[0]],)
    rows: list[tuple[str, ...]] = []
    numbers: list[int] = []
    malformed: list[tuple[int, str]] = []
    digests: list[bytes] = []
    for record in records:
        if record.problem is not None:
            malformed.append((record.number, record.problem))
            continue
        rows.append(pick(record.fields))
        numbers.append(record.number)
        if has_digest:
            digests.append(_digest(record.fields))
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True)) if rows else [()] * len(wanted)
    return _Part(columns, numbers, malformed, digests)


def _read_parquet(source: str, wanted: list[str], path: Path, has_digest: bool) -> _Part:
    with readable_parquet(path) as file:
        header = file.schema_arrow.names
        for column in wanted:
            place_of(column, header, source, wanted)
        arrow = file.read(columns=None if has_digest else list(dict.fromkeys(wanted)))
        columns: list[Sequence[Any]] = [cells_of(arrow.column(c), source, c) for c in wanted]
        digests: list[bytes] = []
        if has_digest:
            whole = [cells_of(arrow.column(i), source, name) for i, name in enumerate(arrow.column_names)]
            digests = [_digest(row) for row in zip(*whole, strict=True)]
    return _Part(columns, list(range(1, arrow.num_rows + 1)), [], digests)


@contextmanager
def readable_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file.

    Raises:
        UnreadableFileError: it is none, or damaged; also when that shows only while the block reads; `too_large`
            where it declares more than can be meant by a file of its size.
    """
    try:
        with pq.ParquetFile(path) as file:
            _check_unfolding(file.metadata, path.stat().st_size)
            yield file
    except (pa.ArrowException, OSError):
        raise UnreadableFileError(
            "unreadable_file", "the file ends in .parquet and is no readable Parquet"
        ) from None


def _check_unfolding(metadata: pq.FileMetaData, size: int) -> None:
    """Refuse a bomb: a kilobyte may declare a column of billions of equal values, or a text of gigabytes."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    n_cells = metadata.num_rows * metadata.num_columns
    n_bytes = sum(group.total_byte_size for group in groups)
    if (
        n_cells > _FREE_CELLS + _MAX_CELLS_A_BYTE * size
        or n_bytes > FREE_BYTES_SPARSE + MAX_UNFOLDING * size
        or any(group.num_rows > metadata.num_rows for group in groups)
    ):
        raise UnreadableFileError(
            "too_large", "the file declares more values than a file of its size can mean"
        )


def cells_of(column: pa.ChunkedArray, source: str, name: str) -> list[Any]:
    """The cells of a Parquet column as text; times stay times, whole numbers lose the `.0` that a null gave them.

    Raises:
        DeliveryError: the column holds lists, structures or bytes.
        UnreadableFileError: text that is no UTF-8.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    try:
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            return ["" if v is None else v for v in column.to_pylist()]
        if pa.types.is_floating(kind):
            return ["" if v is None or math.isnan(v) else _number_text(v) for v in column.to_pylist()]
        if pa.types.is_null(kind):
            return [""] * len(column)
        text = pc.cast(column, pa.string())
    except pa.ArrowNotImplementedError:
        raise DeliveryError(
            f"source {source}: the column {name!r} holds {kind}, and text was expected"
        ) from None
    try:
        return pc.fill_null(text, "").to_pylist()
    except UnicodeError:
        raise UnreadableFileError("unknown_encoding", "the file holds text that is no UTF-8") from None


def place_of(column: str, header: Sequence[str], source: str, wanted: Sequence[str]) -> int:
    """Place of a column in a header.

    The header is quoted only where it holds another wanted column and nothing that is not printable: else the file may
    have none, and its first line may be a patient's, or be damaged and run on into one that is.

    Raises:
        DeliveryError: it is not there, or there twice.
    """
    n = header.count(column) if isinstance(header, list) else list(header).count(column)
    if n == 1:
        return header.index(column)
    if n > 1:
        raise DeliveryError(
            f"source {source}: the column {column!r} stands {n} times in the header: rename one"
        )
    printable = [str(h)[:100] for h in header[:5000] if str(h).isprintable()]
    nearest = difflib.get_close_matches(column, printable, n=1, cutoff=0.75)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    if any(w in header for w in wanted) and len(printable) == len(header[:5000]):
        shown = ", ".join(str(h)[:60] for h in header[:_SHOWN_COLUMNS])
        more = f" and {len(header) - _SHOWN_COLUMNS} more" if len(header) > _SHOWN_COLUMNS else ""
        found = f"the file has {shown}{more}"
    else:
        found = f"its first line holds none of the declared columns in {len(header)} fields"
    raise DeliveryError(f"source {source}: there is no column {column!r}: {found}{hint}")


def _number_text(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _digest(fields: Sequence[Any]) -> bytes:
    joined = "\x1f".join(v.isoformat() if isinstance(v, date) else v for v in fields)
    return hashlib.blake2b(joined.encode("utf-8"), digest_size=16).digest()
