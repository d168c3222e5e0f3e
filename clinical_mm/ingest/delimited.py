"""Records of delimited text (CSV, TSV), counted: none is lost, shifted or glued to another without being told.

RFC 4180 with the quotes read strictly: text after a closing quote, or a quote that is never closed, makes one record
malformed and the next begins on the following line. What the columns mean does not belong here.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.opening import (
    FREE_BYTES,
    UnreadableFileError,
    check_malformed,
    content_ending,
    open_text,
)
from clinical_mm.study.sources import TableFormat

_TAB_ENDINGS = {".tsv", ".txt", ".maf", ".tab"}
_BLANK = frozenset({"\n", "\r\n", "\r"})
_LONGEST_FIELD = 2**31 - 1  # the csv module's own limit of 131,072 characters is less than a long note


class Record(NamedTuple):
    """A record of a delimited file; the header has number 0, and `problem` says why a record has no usable fields."""

    number: int
    fields: list[str]
    problem: str | None = None


def read_delimited(
    path: Path, table: TableFormat, source: str, free_bytes: int = FREE_BYTES
) -> Iterator[Record]:
    """Read the header and then every record; blank lines, and comment lines between records, are none.

    Args:
        path: the file; compression and the default delimiter follow its ending.
        table: how it is written.
        source: name of the source, for errors.
        free_bytes: so much may come of a compressed file, however small it is.

    Yields:
        The header as record 0; then records from 1. One with another number of fields than the header has a problem.

    Raises:
        UnreadableFileError: the file is empty, has no readable header, is damaged, does not decode, or nearly all of
            its rows are malformed.
        DeliveryError: delimiter or encoding cannot be such.
    """
    default = "\t" if content_ending(path) in _TAB_ENDINGS else ","
    delimiter = table.delimiter or default
    csv.field_size_limit(_LONGEST_FIELD)
    n_columns = -1
    number = -1
    skip = 0
    n_malformed = 0
    while True:
        with open_text(path, table.encoding, source, free_bytes) as stream:
            lines = _Lines(stream, table.comment, skip)
            reader = _reader(lines, delimiter, source)
            while True:
                lines.begin_record()
                try:
                    fields = next(reader)
                except StopIteration:
                    if n_columns < 0:
                        raise UnreadableFileError(
                            "unreadable_file", "the file is empty: a header line was expected"
                        ) from None
                    return
                except csv.Error:
                    fields = []
                    problem: str | None = (
                        "a quote in the row is never closed"
                        if lines.is_exhausted
                        else "text stands after the closing quote of a field"
                    )
                else:
                    if not fields:
                        continue
                    problem = None
                number += 1
                if number == 0:
                    if problem is not None:
                        raise UnreadableFileError("unreadable_file", f"the header cannot be read: {problem}")
                    n_columns = len(fields)
                elif problem is None and len(fields) != n_columns:
                    problem = f"the row has {len(fields)} fields and the header {n_columns}"
                n_malformed += problem is not None
                check_malformed(n_malformed, number)
                yield Record(number, fields, problem)
                if problem is not None and lines.is_exhausted and not fields:
                    # The open quote swallowed all that follows: read that anew, after the line of the quote. After
                    # it no quote is left that could stay open, so this happens once.
                    skip = lines.record_line
                    break


class _Lines(Iterator[str]):
    """The lines of a stream as the csv reader takes them, comment lines left out where a record would begin."""

    def __init__(self, stream: IO[str], comment: str | None, skip: int) -> None:
        self._stream = stream
        self._comment = comment
        self._is_beginning = True
        self._n_read = 0
        self.record_line = 0  # number of the line on which the present record begins, from 1
        self.is_exhausted = False
        for _ in range(skip):
            self._next()

    def begin_record(self) -> None:
        """The line that is taken next begins a record."""
        self._is_beginning = True

    def _next(self) -> str:
        line = next(self._stream)
        self._n_read += 1
        return line

    def __next__(self) -> str:
        try:
            line = self._next()
            if self._is_beginning:
                while line in _BLANK or (self._comment is not None and line.startswith(self._comment)):
                    line = next(self._stream)  # rather than by a call: a bomb may hold millions of these
                    self._n_read += 1
                self._is_beginning = False
                self.record_line = self._n_read
        except StopIteration:
            self.is_exhausted = True
            raise
        if not line.isascii():
            line.encode("utf-8")  # refuses surrogates, which some codecs let pass and no table can hold
        return line


def _reader(lines: Iterator[str], delimiter: str, source: str) -> Iterator[list[str]]:
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise DeliveryError(
            f"source {source}: the delimiter {delimiter!r} is not one character, or is a quote or line end"
        )
    return csv.reader(lines, delimiter=delimiter, strict=True)
