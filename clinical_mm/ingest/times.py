"""Delivered times to hospital-local ones: timezone-naive, in microseconds.

A time that names its offset is converted to the source's zone; one that names none is local already. Nothing is
guessed: what is not in the declared form is unreadable. Whether a time may be missing is for the readers.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from clinical_mm.errors import DeliveryError
from clinical_mm.study.sources import TimeFormat

_ISO = re.compile(
    r"(\d{4}-\d{2}-\d{2}|\d{8})"
    r"(?:[T ](\d{2}:?\d{2}(?::?\d{2}(?:[.,]\d{1,9})?)?)\s?(Z|z|[+-]\d{2}(?::?\d{2})?)?)?"
)
_DAY = np.timedelta64(1, "D")
_MISSING = frozenset({"", "NA", "NaN", "nan", "NaT", "null", "NULL", "None"})


@dataclass(frozen=True)
class Times:
    """Times of n records: `values` [n] datetime64[us], NaT where one is missing or unreadable."""

    values: np.ndarray
    is_missing: np.ndarray
    is_unreadable: np.ndarray


class TimeReader:
    """Reads times of one source.

    Raises:
        DeliveryError: there is no such time zone.
    """

    def __init__(self, settings: TimeFormat, source: str) -> None:
        self._format = settings.format
        try:
            self._zone = ZoneInfo(settings.timezone or "UTC")
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise DeliveryError(
                f"source {source}: {settings.timezone!r} is no IANA time zone, such as Europe/Berlin"
            ) from None

    def read(self, cells: Sequence[object]) -> Times:
        """Read a column of text, or of `datetime` where the file itself has times."""
        known: dict[object, datetime | None] = {}
        values = np.full(len(cells), np.datetime64("NaT"), dtype="datetime64[us]")
        is_missing = np.zeros(len(cells), dtype=bool)
        is_unreadable = np.zeros(len(cells), dtype=bool)
        for i, cell in enumerate(cells):
            if is_missing_time(cell):
                is_missing[i] = True
                continue
            if cell not in known:
                known[cell] = self.read_one(cell)
            moment = known[cell]
            if moment is None:
                is_unreadable[i] = True
            else:
                values[i] = moment
        return Times(values, is_missing, is_unreadable)

    def read_one(self, cell: object) -> datetime | None:
        """One time, or None where it is unreadable."""
        if isinstance(cell, datetime):
            moment: datetime | None = cell
        elif isinstance(cell, date):
            moment = datetime(cell.year, cell.month, cell.day)
        else:
            moment = _parsed(str(cell).strip(), self._format)
        if moment is None or moment.tzinfo is None:
            return moment
        try:
            return moment.astimezone(self._zone).replace(tzinfo=None)
        except (OverflowError, ValueError):
            return None  # at the ends of the calendar


def is_missing_time(cell: object) -> bool:
    """Whether a cell says that there is no time."""
    return cell is None or (isinstance(cell, str) and cell.strip() in _MISSING)


def end_of_day_where_hourless(moment: np.datetime64) -> np.datetime64:
    """The moment, or where it is midnight, as systems write what knows only the day, the end of that day.

    >>> end_of_day_where_hourless(np.datetime64("2024-01-02T00:00", "us"))
    np.datetime64('2024-01-03T00:00:00.000000')
    """
    return moment + _DAY if moment == moment.astype("datetime64[D]") else moment


def _parsed(text: str, form: str | None) -> datetime | None:
    if form is None and not _ISO.fullmatch(text):
        return None
    try:
        if form is not None:
            return datetime.strptime(text, form)
        return datetime.fromisoformat(text.replace(",", ".").replace("z", "Z").replace(" Z", "Z"))
    except (ValueError, OverflowError):
        return None
