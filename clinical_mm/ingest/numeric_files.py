"""Numeric matrices as they lie in files: labels as text, values as float32, bad rows and cells with their place.

Which way samples lie, and what becomes of them, is for `genomics`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from clinical_mm.ingest.delimited import read_delimited
from clinical_mm.ingest.opening import FREE_BYTES_SPARSE
from clinical_mm.ingest.tabular import cells_of, is_parquet, readable_parquet
from clinical_mm.study.sources import TableFormat

MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "na", "n/a", "null", "NULL", "None", "<NA>"})
"""Cells of a matrix that say that nothing was measured."""


@dataclass(frozen=True)
class Layout:
    """Which columns of a header are labels, by role, and which are values, by their places from 0."""

    labels: dict[str, int]
    values: list[int]


@dataclass(frozen=True)
class NumericFile:
    """A matrix as it lies in a file.

    Attributes:
        header: all columns of the file.
        layout: how they were taken.
        numbers: [r] number of each row in the file, from 1.
        labels: [r] cells by role, as text, or times where a Parquet file has them.
        values: [r, c] float32, NaN where nothing was measured or the cell is no number.
        bad: [k, 2] row and column in `values` of the cells that are no finite number.
        malformed: number and problem of rows without usable fields.
    """

    header: list[str]
    layout: Layout
    numbers: np.ndarray
    labels: dict[str, list[Any]]
    values: np.ndarray
    bad: np.ndarray
    malformed: list[tuple[int, str]]


def read_numeric(
    path: Path, table: TableFormat, source: str, choose: Callable[[list[str]], Layout]
) -> NumericFile:
    """Read a matrix from delimited text or Parquet.

    Args:
        path: the file.
        table: how it is written.
        source: name of the source, for errors.
        choose: says, given the header, which columns are labels and which are values.

    Raises:
        UnreadableFileError: it cannot be read as a whole.
        DeliveryError: from `choose`.
    """
    if is_parquet(path):
        return _read_parquet(path, source, choose)
    records = read_delimited(path, table, source, FREE_BYTES_SPARSE)
    header = next(records).fields
    layout = choose(header)
    pick = _picker(layout.values)
    label_places = list(layout.labels.values())
    rows: list[np.ndarray] = []
    labels: list[list[str]] = [[] for _ in label_places]
    numbers: list[int] = []
    malformed: list[tuple[int, str]] = []
    bad: list[tuple[int, int]] = []
    for record in records:
        if record.problem is not None:
            malformed.append((record.number, record.problem))
            continue
        values, columns = _floats(pick(record.fields))
        bad.extend((len(rows), c) for c in columns)
        rows.append(values)
        numbers.append(record.number)
        for kept, place in zip(labels, label_places, strict=True):
            kept.append(record.fields[place])
    return NumericFile(
        header,
        layout,
        np.array(numbers, dtype=np.int64),
        dict(zip(layout.labels, labels, strict=True)),
        np.stack(rows) if rows else np.empty((0, len(layout.values)), dtype=np.float32),
        np.array(bad, dtype=np.int64).reshape(-1, 2),
        malformed,
    )


def _read_parquet(path: Path, source: str, choose: Callable[[list[str]], Layout]) -> NumericFile:
    with readable_parquet(path) as file:
        header = list(file.schema_arrow.names)
        layout = choose(header)
        arrow = file.read()
        labels = {r: cells_of(arrow.column(p), source, header[p]) for r, p in layout.labels.items()}
        values = np.empty((arrow.num_rows, len(layout.values)), dtype=np.float32)
        bad: list[np.ndarray] = []
        for c, place in enumerate(layout.values):
            column = arrow.column(place)
            if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
                numbers = column.to_numpy(zero_copy_only=False).astype(np.float64)
                values[:, c], rows = _finite(numbers)
            else:
                values[:, c], rows = _floats([str(v) for v in cells_of(column, source, header[place])])
            bad.append(np.stack([rows, np.full(len(rows), c)], axis=1))
    found = np.concatenate([np.empty((0, 2), dtype=np.int64), *bad])
    return NumericFile(
        header, layout, np.arange(1, arrow.num_rows + 1), labels, values, found[np.lexsort(found.T[::-1])], []
    )


def _picker(places: list[int]) -> Callable[[list[str]], Sequence[str]]:
    if not places:
        return lambda _: ()
    if len(places) == places[-1] - places[0] + 1:
        return itemgetter(slice(places[0], places[-1] + 1))
    return itemgetter(*places)


def _floats(cells: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Cells [n] as float32 [n], and the places of those that are neither finite numbers nor missing."""
    try:
        if "_" in "".join(cells):
            raise ValueError  # Python would read 1_000, which no table means
        numbers = np.fromiter(map(float, cells), dtype=np.float64, count=len(cells))
    except ValueError:
        read = [_number(c) for c in cells]
        numbers = np.array(read, dtype=np.float64)
    return _finite(numbers)


def _number(cell: str) -> float:
    """A cell as a number, NaN where it is missing, infinite where it is neither."""
    if cell in MISSING:
        return np.nan
    try:
        return np.inf if "_" in cell else float(cell)
    except ValueError:
        return np.nan if cell.strip() in MISSING else np.inf


def _finite(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(over="ignore"):
        values = numbers.astype(np.float32)
    bad = np.flatnonzero(np.isinf(values))
    values[bad] = np.nan
    return values, bad
