"""Single values of a DICOM dataset as Python has them, whatever the file wrote there.

A value that is absent, empty or no value of its kind is None: one unreadable attribute does not cost the file. What
the attributes mean together does not belong here.
"""

import math
import re
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Protocol

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

_DATE = re.compile(r"^(\d{4})[.-]?(\d{2})[.-]?(\d{2})$")  # 1996.10.29 is ACR-NEMA's form, still met
_TIME = re.compile(r"^(\d{2}):?(\d{2})?:?(\d{2})?(?:\.(\d{1,6}))?$")
_DATE_TIME = re.compile(r"^(\d{8})(\d{2,6}(?:\.\d{1,6})?)?(?:[+-]\d{4})?$")


class Attributes(Protocol):
    """The attributes of a data set or of one of its items: pydicom's `Dataset`, or a `header_walk.WalkedHeader`."""

    @property
    def original_encoding(self) -> Any:
        """Whether the representations of values are not written, and whether they are little endian."""

    @property
    def file_meta(self) -> Any:
        """The attributes (0002,eeee)."""

    def get(self, keyword: str, /) -> Any:
        """The value, or None."""


def tags_of(keywords: tuple[str, ...]) -> list[int]:
    """The tags of attributes, as `dcmread(specific_tags=…)` takes them.

    Raises:
        KeyError: a keyword is none of DICOM's.
    """
    tags = []
    for keyword in keywords:
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise KeyError(keyword)
        tags.append(tag)
    return tags


def transfer_syntax_of(dataset: Attributes) -> UID:
    """The declared transfer syntax; where none is declared, the native one that the data set was readable in."""
    meta = getattr(dataset, "file_meta", None)
    declared = None if meta is None else text(meta, "TransferSyntaxUID")
    if declared:
        return _uid(declared)
    is_implicit, is_little_endian = dataset.original_encoding
    if is_implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian


@lru_cache(maxsize=64)  # a UID is checked where it is made, which takes longer than to read it
def _uid(declared: str) -> UID:
    return UID(declared)


def raw(dataset: Attributes, keyword: str) -> Any:
    """The attribute's value, or None where it is absent or does not convert."""
    try:
        return dataset.get(keyword)
    except (
        ArithmeticError,
        AttributeError,
        BytesLengthException,
        LookupError,
        NotImplementedError,
        TypeError,
        ValueError,
    ):
        return None


def text(dataset: Attributes, keyword: str) -> str | None:
    r"""The attribute as text without padding; several values joined by a backslash, as DICOM writes them."""
    value = raw(dataset, keyword)
    if value is None:
        return None
    if type(value) is str and value.isascii():
        return value.replace("\0", "").strip() or None
    if not isinstance(value, (str, bytes)) and hasattr(value, "__iter__"):
        value = "\\".join(str(part) for part in value)
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    # Whatever character set was declared: what goes on is valid UTF-8 without the padding of UIDs and text.
    cleaned = str(value).replace("\0", "").strip().encode("utf-8", "replace").decode("utf-8")
    return cleaned or None


def numbers(dataset: Attributes, keyword: str, count: int | None = None) -> tuple[float, ...] | None:
    """The attribute's values as finite numbers; None unless all are, and there are `count` of them."""
    value = raw(dataset, keyword)
    if value is None or value == "":
        return None
    parts = [value] if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__") else value
    try:
        found = tuple(map(float, parts))
    except (ValueError, TypeError, OverflowError):
        return None
    if not found or (count is not None and len(found) != count) or not all(map(math.isfinite, found)):
        return None
    return found


def number(dataset: Attributes, keyword: str) -> float | None:
    """The attribute's first value as a finite number."""
    found = numbers(dataset, keyword)
    return None if found is None else found[0]


def whole(dataset: Attributes, keyword: str) -> int | None:
    """The attribute's first value as a whole number."""
    found = number(dataset, keyword)
    return None if found is None or found != int(found) else int(found)


def items(dataset: Attributes, keyword: str) -> list[Dataset]:
    """The items of a sequence; none where it is absent or no sequence."""
    value = raw(dataset, keyword)
    if value is None or isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        return []
    return [item for item in value if isinstance(item, Dataset)]


def moment(dataset: Attributes, date_keyword: str, time_keyword: str) -> datetime | None:
    """A date with its time (PS3.5 section 6.2, DA and TM); midnight where the time is absent or unreadable."""
    return _moment(text(dataset, date_keyword) or "", text(dataset, time_keyword) or "")


@lru_cache(maxsize=4096)  # the files of a series have their dates and most times in common
def _moment(date: str, time: str) -> datetime | None:
    match = _DATE.match(date)
    if match is None:
        return None
    try:
        day = datetime(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        return None
    return day + (_time_of_day(time) or timedelta(0))


def date_time(dataset: Attributes, keyword: str) -> datetime | None:
    """A DT value as the equipment's own clock showed it: an offset from UTC is part of the clock and dropped."""
    match = _DATE_TIME.match(text(dataset, keyword) or "")
    if match is None:
        return None
    try:
        day = datetime.strptime(match[1], "%Y%m%d")
    except ValueError:
        return None
    return day + (_time_of_day(match[2] or "") or timedelta(0))


def _time_of_day(written: str) -> timedelta | None:
    match = _TIME.match(written)
    if match is None:
        return None
    hours, minutes, seconds = (int(match[place] or 0) for place in (1, 2, 3))
    # 60 is a leap second: it and everything else past the day's end is no time.
    if hours > 23 or minutes > 59 or seconds > 59:
        return None
    return timedelta(
        hours=hours, minutes=minutes, seconds=seconds, microseconds=int((match[4] or "0").ljust(6, "0"))
    )
