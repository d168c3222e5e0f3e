"""Whether the bytes that a header declares are really in the file: before anything is decoded or allocated.

Follows PS3.5 section 8 and A.4 (native and encapsulated pixel data) and PS3.10 (deflated data sets). What the pixels
mean does not belong here.
"""

import os
import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

MAX_INFLATED_BYTES = 1 << 28
"""A deflated file that unfolds to more is refused: 1 MB unfolds to 1 GB of zeros, half a GB of empty items takes a
parser ten seconds, and what is sent deflated are reports and single images."""

MAX_DECODED_BYTES = 16 << 30
"""More than this of one file would fill a disk rather than a model."""

UNDEFINED_LENGTH = 0xFFFFFFFF
_LONG_LENGTH_VRS = {b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN"}
_PIXEL_ELEMENTS = (0x0008, 0x0009, 0x0010)
_ITEM, _SEQUENCE_END = 0xE000, 0xE0DD
_CHUNK = 1 << 20


class ExtentError(Exception):
    """The pixel data are not as declared; `reason_code` and the sentence say how."""

    def __init__(self, reason_code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason_code = reason_code


@dataclass(frozen=True)
class ImageShape:
    """The size of an image as its header declares it."""

    frames: int
    rows: int
    columns: int
    samples: int
    bits_allocated: int
    is_422: bool

    @property
    def native_bytes(self) -> int:
        """Bytes of the uncompressed pixel data (PS3.5 section 8.1 and 8.2)."""
        samples = 2 if self.is_422 else self.samples
        return -(-self.frames * self.rows * self.columns * samples * self.bits_allocated // 8)

    @property
    def decoded_bytes(self) -> int:
        """At most so many bytes does decoding write: float32, or uint8 in three channels."""
        return self.frames * self.rows * self.columns * 4


@dataclass(frozen=True)
class PixelElement:
    """The pixel data element: where its value begins and how long it says that it is."""

    element: int
    value_offset: int
    length: int


def pixel_element_at(file: BinaryIO, *, is_implicit: bool, is_little_endian: bool) -> PixelElement | None:
    """The pixel data element whose tag begins at the file's position; None where another or none does."""
    order = "<" if is_little_endian else ">"
    begin = file.read(8)
    if len(begin) < 8:
        return None
    group, element = struct.unpack(f"{order}HH", begin[:4])
    if group != 0x7FE0 or element not in _PIXEL_ELEMENTS:
        return None
    if is_implicit:
        (length,) = struct.unpack(f"{order}L", begin[4:])
    elif begin[4:6] in _LONG_LENGTH_VRS:
        rest = file.read(4)
        if len(rest) < 4:
            return None
        (length,) = struct.unpack(f"{order}L", rest)
    else:
        (length,) = struct.unpack(f"{order}H", begin[6:])
    return PixelElement(element, file.tell(), length)


def check_native(shape: ImageShape, declared: int, available: int) -> None:
    """Uncompressed pixel data: all that the header declares is there.

    Raises:
        ExtentError: truncated_file, or malformed_header where the length is undefined.
    """
    if declared == UNDEFINED_LENGTH:
        raise ExtentError("malformed_header", "the pixel data are uncompressed and of undefined length")
    held = min(declared, available)
    if held < shape.native_bytes:
        raise ExtentError(
            "truncated_file",
            f"the header declares {shape.native_bytes} bytes of pixel data, the file holds {held}: deliver it again",
        )


def check_encapsulated(file: BinaryIO, pixels: PixelElement, n_frames: int) -> None:
    """Compressed pixel data: every fragment is whole, the last is followed by the delimiter, each frame has one.

    Raises:
        ExtentError: truncated_file, or malformed_header where the value is no sequence of fragments.
    """
    if pixels.length != UNDEFINED_LENGTH:
        raise ExtentError(
            "malformed_header", "the transfer syntax is a compressed one, the pixel data are not"
        )
    size = os.fstat(file.fileno()).st_size
    file.seek(pixels.value_offset)
    n_items = 0
    while True:
        begin = file.read(8)
        if len(begin) < 8:
            raise ExtentError(
                "truncated_file", "the file ends within its compressed pixel data: deliver it again"
            )
        group, element, length = struct.unpack("<HHL", begin)
        if (group, element) == (0xFFFE, _SEQUENCE_END):
            break
        if (group, element) != (0xFFFE, _ITEM) or length == UNDEFINED_LENGTH:
            raise ExtentError("malformed_header", "the compressed pixel data are no sequence of fragments")
        if file.tell() + length > size:
            raise ExtentError(
                "truncated_file", "the file ends within a compressed fragment: deliver it again"
            )
        file.seek(length, os.SEEK_CUR)
        n_items += 1
    n_fragments = n_items - 1  # the first item is the offset table
    if n_fragments < n_frames:
        raise ExtentError(
            "truncated_file",
            f"{n_frames} frames are declared, {max(n_fragments, 0)} compressed fragments are there",
        )


def check_inflated_size(file: BinaryIO, limit: int = MAX_INFLATED_BYTES) -> None:
    """The deflated data set at the file's position unfolds to no more than the limit; keeps nothing of it.

    Raises:
        ExtentError: too_large, or truncated_file or unreadable_file where the stream does not end or is damaged.
    """
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    total = 0
    while not inflate.eof:
        pending = inflate.unconsumed_tail or file.read(_CHUNK)
        try:
            unfolded = len(inflate.decompress(pending, _CHUNK))
        except zlib.error:
            raise ExtentError("unreadable_file", "the deflated data set is damaged") from None
        if not pending and not unfolded:
            raise ExtentError("truncated_file", "the deflated data set does not end: deliver it again")
        total += unfolded
        if total > limit:
            raise ExtentError("too_large", f"the deflated data set unfolds to more than {limit >> 20} MiB")
