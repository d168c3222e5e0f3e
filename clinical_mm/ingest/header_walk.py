"""The plain DICOM header, read by a walk over its elements: what is not wanted is skipped by its length.

A walk gives the very values that pydicom gives, at a fraction of its time, or none at all: whatever is unusual in a
file (another encoding than little endian, a sequence that is wanted, an odd value representation, text that is not
plain in its character set, a number that is not written as one) ends it, and the caller asks pydicom. What the values
mean does not belong here. Runs in a decoding worker; it reads a bounded number of bounded blocks, and every step leads
forward, so hostile bytes cost no more than these. Follows PS3.5 sections 6.2 and 7, and PS3.10 section 7.
"""

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, BinaryIO

from pydicom.datadict import dictionary_has_tag, dictionary_VR, tag_for_keyword
from pydicom.uid import UID, ExplicitVRBigEndian, ImplicitVRLittleEndian

BLOCK_BYTES = 8192
"""Read at once: nearly every header ends in its first block."""

MAX_BLOCKS = 256
"""More than these (2 MiB of header beside the values that are skipped) are left to pydicom."""

_MAX_DEPTH = 16
_PREAMBLE_BYTES = 128
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXELS = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))
_LONG_VRS = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
_SHORT_VRS = frozenset(
    (
        *(b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO"),
        *(b"LT", b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"),
    )
)
_EXPLICIT, _IMPLICIT, _LENGTH = struct.Struct("<HH2sH"), struct.Struct("<HHL"), struct.Struct("<L")

_CHARACTER_SET = 0x00080005
_OF_META: "Wanted" = {0x00020010: ("TransferSyntaxUID", b"UI")}
_DEFLATED = ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205")

_ONE_TEXT = re.compile(rb"[ -\[\]-~]*\0*").fullmatch  # printable ASCII but the backslash, which parts values
_TEXTS = re.compile(rb"[ -~]*\0?").fullmatch
_NUMBER = rb" *[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d\d?)? *"
_NUMBERS = re.compile(_NUMBER + rb"(?:\\" + _NUMBER + rb")*\0?").fullmatch
_WHOLE = rb" *[+-]?\d{1,11} *"
_WHOLES = re.compile(_WHOLE + rb"(?:\\" + _WHOLE + rb")*\0?").fullmatch
_LONGEST_NUMBER = 16  # PS3.5 table 6.2-1: a DS of more is not one

_DECODED = {None: "latin-1", "ISO_IR 100": "latin-1", "ISO_IR 192": "utf-8"}
"""Character sets in which text beyond ASCII is read here, as pydicom reads it."""

_REGISTERED = (6, 58, 87, 100, 101, 109, 110, 126, 127, 138, 144, 148, 149, 159)
_WITH_ASCII = frozenset(
    (None, "", "ISO_IR 192", *(f"ISO{form} {n}" for form in ("_IR", " 2022 IR") for n in _REGISTERED))
)
"""Character sets in which printable ASCII is ASCII where no escape stands before it; JIS X 0201 is none of them."""


class _UnusualError(Exception):
    """What stands in the file is for pydicom to judge."""


class WalkedHeader:
    """Top-level attributes of a header, as `dicom_values` reads them.

    Attributes:
        get: by keyword: text, a number, or a tuple of several; None where it is absent or empty.
        file_meta: the transfer syntax, as pydicom's `file_meta` has it.
        original_encoding: whether values have no written representation, and whether they are little endian.
    """

    __slots__ = ("file_meta", "get", "original_encoding")

    def __init__(
        self, values: dict[str, Any], meta: "WalkedHeader | None" = None, is_implicit: bool = False
    ) -> None:
        self.get: Callable[[str], Any] = values.get
        self.file_meta = meta
        self.original_encoding = (is_implicit, True)


Wanted = Mapping[int, tuple[str, bytes]]
"""By tag: keyword and value representation."""


def wanted_elements(keywords: Sequence[str]) -> Wanted:
    """What `walk_header` takes to find these attributes.

    Raises:
        KeyError: a keyword is none of DICOM's.
    """
    wanted = {}
    for keyword in keywords:
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise KeyError(keyword)
        wanted[tag] = (keyword, dictionary_VR(tag).encode())
    return wanted


def walk_header(file: BinaryIO, wanted: Wanted) -> WalkedHeader | None:
    """The wanted attributes that stand before the pixel data.

    Args:
        file: at its beginning; afterwards at the tag of the pixel data.
        wanted: from `wanted_elements`.

    Returns:
        The header, or None where pydicom has to read the file; the position is anywhere then.
    """
    try:
        walk = _Walk(file)
        if walk.bytes_at(_PREAMBLE_BYTES, 4) != b"DICM":
            return None
        syntax, begin = walk.transfer_syntax(_PREAMBLE_BYTES + 4)
        is_implicit = syntax == ImplicitVRLittleEndian
        values, end = walk.elements(begin, wanted, is_implicit)
        if walk.tag_at(end) not in _PIXELS:
            return None
    except _UnusualError:
        return None
    file.seek(end)
    return WalkedHeader(values, WalkedHeader({"TransferSyntaxUID": syntax}), is_implicit)


class _Walk:
    """Elements of one file, through a window of it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._begin = 0
        self._data = file.read(BLOCK_BYTES)
        self._n_blocks = 1

    def bytes_at(self, offset: int, count: int) -> bytes:
        """So many bytes of the file.

        Raises:
            _UnusualError: they are not there, or too many blocks were read.
        """
        place = offset - self._begin
        if place < 0 or place + count > len(self._data):
            self._move(offset, count)
            place = 0
        return self._data[place : place + count]

    def tag_at(self, offset: int) -> int:
        """The tag that begins there."""
        group, element = struct.unpack("<HH", self.bytes_at(offset, 4))
        return int(group << 16 | element)

    def _move(self, offset: int, count: int) -> None:
        self._n_blocks += 1 + count // BLOCK_BYTES
        if self._n_blocks > MAX_BLOCKS:
            raise _UnusualError
        self._file.seek(offset)
        self._begin, self._data = offset, self._file.read(max(count, BLOCK_BYTES))
        if len(self._data) < count:
            raise _UnusualError

    def transfer_syntax(self, offset: int) -> tuple[str, int]:
        """The transfer syntax that the file meta declares, and where the data set begins."""
        found, offset = self.elements(offset, _OF_META, is_implicit=False, first=0x00020000, stop=0x00030000)
        syntax = found.get("TransferSyntaxUID", "")
        if not _is_plain(syntax):
            raise _UnusualError
        return syntax, offset

    def elements(
        self,
        offset: int,
        wanted: Wanted,
        is_implicit: bool,
        first: int = 0x00080000,
        stop: int = 0x7FE00008,
    ) -> tuple[dict[str, Any], int]:
        """The wanted values from a tag on, and where the first tag begins that is not below `stop`."""
        values: dict[str, Any] = {}
        charset: Any = None
        last = first - 1
        unpack = (_IMPLICIT if is_implicit else _EXPLICIT).unpack_from
        short_vrs, vr = _SHORT_VRS, b""
        data, begin = self._data, self._begin
        enough = len(data) - 12
        while True:
            place = offset - begin
            if not 0 <= place <= enough:
                self._move(offset, 12)
                data, begin, place = self._data, self._begin, 0
                enough = len(data) - 12
            if is_implicit:
                group, element, length = unpack(data, place)
            else:
                group, element, vr, length = unpack(data, place)
            tag = group << 16 | element
            if tag <= last:
                raise _UnusualError
            if tag >= stop:
                return values, offset
            last = tag
            value = offset + 8
            if vr and vr not in short_vrs:
                if vr not in _LONG_VRS:
                    raise _UnusualError
                (length,) = _LENGTH.unpack_from(data, place + 8)
                value = offset + 12
            if length == _UNDEFINED:
                if tag in wanted or not (self._is_sequence(tag) if is_implicit else vr == b"SQ"):
                    raise _UnusualError
                offset = self._after_items(value, None, is_implicit, 0)
                data, begin = self._data, self._begin
                enough = len(data) - 12
                continue
            offset = value + length
            if length and tag in wanted:
                keyword, own = wanted[tag]
                convert = _CONVERT.get(own)
                if convert is None or (vr and vr != own):
                    raise _UnusualError
                place = value - begin
                raw = data[place : place + length]
                if len(raw) < length:
                    raw = self.bytes_at(value, length)
                    data, begin = self._data, self._begin
                    enough = len(data) - 12
                found = convert(raw, charset)
                if tag == _CHARACTER_SET:
                    charset = found
                if found is not None:
                    values[keyword] = found

    def _explicit(self, offset: int) -> tuple[int, bytes, int, int]:
        """Tag, representation, length and place of the value of an element."""
        group, element, vr, length = _EXPLICIT.unpack(self.bytes_at(offset, 8))
        if vr in _SHORT_VRS:
            return group << 16 | element, vr, length, offset + 8
        if vr not in _LONG_VRS:
            raise _UnusualError
        (length,) = _LENGTH.unpack(self.bytes_at(offset + 8, 4))
        return group << 16 | element, vr, length, offset + 12

    def _implicit(self, offset: int) -> tuple[int, bytes, int, int]:
        group, element, length = _IMPLICIT.unpack(self.bytes_at(offset, 8))
        return group << 16 | element, b"", length, offset + 8

    def _is_sequence(self, tag: int) -> bool:
        return dictionary_has_tag(tag) and dictionary_VR(tag) == "SQ"

    def _after_items(self, offset: int, end: int | None, is_implicit: bool, depth: int) -> int:
        """Where a sequence ends whose items begin at `offset`: at `end`, or behind its delimiter."""
        if depth > _MAX_DEPTH:
            raise _UnusualError
        while offset != end:
            tag, _, length, value = self._implicit(offset)
            if tag == _SEQUENCE_END and length == 0 and end is None:
                return value
            if tag != _ITEM:
                raise _UnusualError
            offset = self._after_item(
                value, None if length == _UNDEFINED else value + length, is_implicit, depth
            )
        return offset

    def _after_item(self, offset: int, end: int | None, is_implicit: bool, depth: int) -> int:
        last = -1
        while offset != end:
            if end is not None and offset > end:
                raise _UnusualError
            tag, _, length, value = self._implicit(offset)
            if tag == _ITEM_END and length == 0 and end is None:
                return value
            tag, vr, length, value = self._implicit(offset) if is_implicit else self._explicit(offset)
            if tag <= last or tag >> 16 in (0, 2, 0xFFFE):
                raise _UnusualError
            last = tag
            is_sequence = self._is_sequence(tag) if is_implicit else vr == b"SQ"
            if length == _UNDEFINED and not is_sequence:
                raise _UnusualError
            if is_sequence:
                offset = self._after_items(
                    value, None if length == _UNDEFINED else value + length, is_implicit, depth + 1
                )
            else:
                offset = value + length
        return offset


@lru_cache(maxsize=64)
def _is_plain(syntax: str) -> bool:
    """Whether data sets of a transfer syntax are little endian and not deflated; nothing is known of private ones."""
    uid = UID(syntax)
    is_known = uid.is_transfer_syntax and not uid.is_private
    return is_known and uid != ExplicitVRBigEndian and uid not in _DEFLATED


def _one_text(raw: bytes, charset: Any) -> str | None:
    if not _ONE_TEXT(raw):
        raise _UnusualError
    return raw.decode("ascii").rstrip("\0 ") or None


def _texts(raw: bytes, charset: Any) -> str | tuple[str, ...] | None:
    if not _TEXTS(raw):
        raise _UnusualError
    found = raw.decode("ascii").rstrip("\0 ")
    return tuple(found.split("\\")) if "\\" in found else found or None


def _long_text(raw: bytes, charset: Any) -> str | None:
    if _ONE_TEXT(raw) and (charset in _WITH_ASCII or _are_with_ascii(charset)):
        return raw.decode("ascii").rstrip("\0 ") or None
    codec = _DECODED.get(charset) if charset is None or isinstance(charset, str) else None
    try:
        found = raw.decode(codec) if codec else ""
    except UnicodeDecodeError:
        raise _UnusualError from None
    if codec is None or any(mark in found for mark in "\\\x1b\n\r\t\f"):
        raise _UnusualError
    return found.rstrip("\0 ") or None


def _are_with_ascii(charset: Any) -> bool:
    return isinstance(charset, tuple) and all(each in _WITH_ASCII for each in charset)


def _written_numbers(
    pattern: Callable[[bytes], Any],
) -> Callable[[bytes, Any], str | tuple[str, ...]]:
    def numbers(raw: bytes, charset: Any) -> str | tuple[str, ...]:
        if not pattern(raw):
            raise _UnusualError
        found = raw.decode("ascii").rstrip("\0 ")
        if "\\" not in found:
            if len(found) > _LONGEST_NUMBER:
                raise _UnusualError
            return found.strip()
        parts = tuple(part.strip() for part in found.split("\\"))
        if max(map(len, parts)) > _LONGEST_NUMBER:
            raise _UnusualError
        return parts

    return numbers


def _unsigned(raw: bytes, charset: Any) -> int:
    if len(raw) != 2:
        raise _UnusualError
    return int.from_bytes(raw, "little")


def _doubles(raw: bytes, charset: Any) -> float | tuple[float, ...]:
    if len(raw) % 8:
        raise _UnusualError
    found: tuple[float, ...] = struct.unpack(f"<{len(raw) // 8}d", raw)
    return found[0] if len(found) == 1 else found


_CONVERT: dict[bytes, Callable[[bytes, Any], Any]] = {
    b"CS": _texts,
    b"DA": _one_text,
    b"DS": _written_numbers(_NUMBERS),
    b"DT": _one_text,
    b"FD": _doubles,
    b"IS": _written_numbers(_WHOLES),
    b"LO": _long_text,
    b"SH": _long_text,
    b"TM": _one_text,
    b"UI": _one_text,
    b"US": _unsigned,
}
"""By value representation; one that is not here is for pydicom."""
