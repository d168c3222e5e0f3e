"""Mutators: what is done to the bytes of a good file. Each is a function of bytes and a random source, and has a name.

Which kinds of file a mutator fits is said beside it; files that are made rather than mutated stand in `crafted`.
"""

import bz2
import gzip
import io
import lzma
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable

Mutator = Callable[[bytes, random.Random], bytes]

_LENGTHS = (0, 1, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFE, 0xFFFFFFFF)
_ODD_BYTES = (b"\0", b"\xff", b"\xfe\xff", b"\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x1b[2J", b"\x7f")
_VR = re.compile(
    rb"(?:[\x02-\x7f]\x00|\x00[\x02-\x7f]|\xe0\x7f)..(AE|AS|AT|CS|DA|DS|DT|FL|FD|IS|LO|LT|OB|OD|OF|OW|PN|SH|SL|SQ|SS|ST|TM|UI|UL|UN|US|UT)",
    re.DOTALL,
)
# Rows, columns, frames, samples, bits allocated, bits stored, high bit, planar configuration, sign: little-endian tags.
_SHAPE_TAGS = {
    0x0028: (0x0002, 0x0006, 0x0008, 0x0010, 0x0011, 0x0100, 0x0101, 0x0102, 0x0103, 0x1101, 0x1201, 0x3002)
}
_HUGE_FIELD = 1 << 20


def byte_flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def header_flip(data: bytes, rng: random.Random) -> bytes:
    """Where what follows is described: in the first or the last kilobyte."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 8))):
        place = rng.randrange(min(1024, len(changed)))
        place = place if rng.random() < 0.6 else len(changed) - 1 - place
        changed[place] = rng.randrange(256)
    return bytes(changed)


def truncation(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def beginning_cut_off(data: bytes, rng: random.Random) -> bytes:
    return data[rng.randrange(len(data)) :]


def span_removed(data: bytes, rng: random.Random) -> bytes:
    begin = rng.randrange(len(data))
    return data[:begin] + data[begin + rng.choice((1, 2, 7, 64, 1000)) :]


def span_repeated(data: bytes, rng: random.Random) -> bytes:
    begin = rng.randrange(len(data))
    span = data[begin : begin + rng.choice((1, 8, 100, 1000))]
    return data[:begin] + span * rng.choice((2, 3, 50)) + data[begin:]


def noise_inserted(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + rng.randbytes(rng.choice((1, 3, 40))) + data[place:]


def odd_bytes_inserted(data: bytes, rng: random.Random) -> bytes:
    changed = data
    for _ in range(rng.choice((1, 3))):
        place = rng.randrange(len(changed))
        changed = changed[:place] + rng.choice(_ODD_BYTES) + changed[place:]
    return changed


def nul_run(data: bytes, rng: random.Random) -> bytes:
    begin = rng.randrange(len(data))
    length = rng.choice((1, 16, 512))
    return data[:begin] + b"\0" * length + data[begin + length :]


def length_bomb(data: bytes, rng: random.Random) -> bytes:
    """Two, four or eight bytes at any place become a length that cannot be."""
    form = rng.choice(("<H", ">H", "<L", ">L", "<Q"))
    value = rng.choice(_LENGTHS) & ((1 << 8 * struct.calcsize(form)) - 1)
    place = rng.randrange(max(1, min(len(data), 4096 if rng.random() < 0.5 else len(data))))
    packed = struct.pack(form, value)
    return data[:place] + packed + data[place + len(packed) :]


def line_glued(data: bytes, rng: random.Random) -> bytes:
    ends = [i for i, byte in enumerate(data[: 1 << 16]) if byte == 10]
    if not ends:
        return byte_flip(data, rng)
    place = rng.choice(ends)
    return data[:place] + rng.choice((b"", b"\r", b"\t", b"\x0b", b"\xe2\x80\xa8")) + data[place + 1 :]


def quote_inserted(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + rng.choice((b'"', b'""', b"'", b'"\n')) + data[place:]


def huge_field(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data))
    field = rng.choice((b"A", b"9", b"<b>", b"{\\b", b"[", b'{"a":', b"&amp;", b" ")) * _HUGE_FIELD
    field = field[:_HUGE_FIELD]
    return data[:place] + (b'"' + field + b'"' if rng.random() < 0.5 else field) + data[place:]


def number_made_absurd(data: bytes, rng: random.Random) -> bytes:
    numbers = list(re.finditer(rb"\d+", data[: 1 << 16]))
    if not numbers:
        return byte_flip(data, rng)
    found = rng.choice(numbers)
    absurd = (b"9" * 400, b"-1", b"1e999", b"NaN", b"-0", b"0x7fffffff", b"2147483648", b"1" * 20, b"")
    return data[: found.start()] + rng.choice(absurd) + data[found.end() :]


def dicom_element_length(data: bytes, rng: random.Random) -> bytes:
    """The length of an element with an explicit VR."""
    elements = list(_VR.finditer(data[: 1 << 16]))
    if not elements:
        return length_bomb(data, rng)
    found = rng.choice(elements)
    is_long = found[1] in {b"OB", b"OD", b"OF", b"OW", b"SQ", b"UN", b"UT"}
    form, place = ("<L", found.end() + 2) if is_long else ("<H", found.end())
    value = rng.choice(_LENGTHS) & (0xFFFFFFFF if is_long else 0xFFFF)
    packed = struct.pack(form, value)
    return data[:place] + packed + data[place + len(packed) :]


def dicom_vr(data: bytes, rng: random.Random) -> bytes:
    elements = list(_VR.finditer(data[: 1 << 16]))
    if not elements:
        return byte_flip(data, rng)
    found = rng.choice(elements)
    other = rng.choice((b"SQ", b"UN", b"UT", b"DS", b"US", b"OB", b"PN", b"AT", b"??", b"\0\0"))
    return data[: found.start(1)] + other + data[found.end(1) :]


def dicom_dimension(data: bytes, rng: random.Random) -> bytes:
    """Rows, columns, frames, samples, bits and their like become absurd."""
    changed = data
    for _ in range(rng.choice((1, 2, 3))):
        group, elements = next(iter(_SHAPE_TAGS.items()))
        tag = struct.pack("<HH", group, rng.choice(elements))
        place = changed.find(tag)
        if place < 0 or place + 10 > len(changed):
            continue
        if changed[place + 4 : place + 6] == b"IS":
            length = struct.unpack_from("<H", changed, place + 6)[0]
            value = rng.choice((b"-1", b"0", b"99999999", b"1e9", b"", b"2147483647"))[:length].ljust(length)
            changed = changed[: place + 8] + value + changed[place + 8 + length :]
        else:
            value = struct.pack("<H", rng.choice((0, 1, 3, 7, 12, 16, 64, 0x7FFF, 0xFFFE, 0xFFFF)))
            changed = changed[: place + 8] + value + changed[place + 10 :]
    return changed if changed != data else dicom_element_length(data, rng)


def dicom_pixels(data: bytes, rng: random.Random) -> bytes:
    """Bytes of the pixel data alone, which is what native decoders are given."""
    place = data.rfind(b"\xe0\x7f\x10\x00")
    if place < 0 or place + 40 > len(data):
        return byte_flip(data, rng)
    changed = bytearray(data)
    window = min(len(data) - place - 12, rng.choice((64, 512, 1 << 20)))
    for _ in range(rng.choice((1, 2, 4, 32))):
        changed[place + 12 + rng.randrange(window)] = rng.randrange(256)
    return bytes(changed)


def uid_as_path(data: bytes, rng: random.Random) -> bytes:
    """A UID of the same length that would lead out of a folder."""
    uids = list(re.finditer(rb"1\.[0-9.]{8,60}\0?", data[: 1 << 16]))
    if not uids:
        return byte_flip(data, rng)
    found = rng.choice(uids)
    hostile = (b"../" * 30, b"/etc/passwd\0" * 6, b"..\\" * 30, b"a\0b" * 30, b"\n\r" * 40)
    return data[: found.start()] + rng.choice(hostile)[: len(found[0])] + data[found.end() :]


def with_own_uids(data: bytes, number: int) -> bytes:
    """A DICOM file as an instance and a series of its own, so that it is decoded and no conflict with its like.

    UIDs that were mutated beyond recognition stay as they are.
    """
    changed = bytearray(data)
    for tag in (b"\x08\x00\x18\x00", b"\x20\x00\x0e\x00", b"\x00\x08\x00\x18", b"\x00\x20\x00\x0e"):
        found = re.search(re.escape(tag) + rb".{4}(?:1\.|2\.)[0-9.]{14,61}", data[: 1 << 16], re.DOTALL)
        if found is not None:
            changed[found.end() - 6 : found.end()] = b"%06d" % (number + 100_000)
    return bytes(changed)


def recompressed(data: bytes, ending: str, rng: random.Random) -> bytes:
    """The mutant compressed as an ending says, whole or damaged again."""
    if ending == ".gz":
        packed = gzip.compress(data, 1, mtime=0)
    elif ending == ".bz2":
        packed = bz2.compress(data, 1)
    elif ending == ".xz":
        packed = lzma.compress(data, preset=0)
    else:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(zipfile.ZipInfo("../../table.csv"), data)
        packed = buffer.getvalue()
    return (
        packed
        if rng.random() < 0.4
        else rng.choice((truncation, byte_flip, header_flip, length_bomb))(packed, rng)
    )


def deflated_again(data: bytes, rng: random.Random) -> bytes:
    """A DICOM file whose data set is deflated, then damaged."""
    place = data.find(b"1.2.840.10008.1.2.1")
    meta_end = data.find(b"\x08\x00", 132 + 12)
    if place < 0 or meta_end < 0:
        return byte_flip(data, rng)
    deflate = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    body = deflate.compress(data[meta_end:]) + deflate.flush()
    head = data[:meta_end].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99\0\0"[:20])
    return head + rng.choice((lambda b, _: b, truncation, byte_flip))(body, rng)


BINARY: tuple[Mutator, ...] = (
    byte_flip,
    header_flip,
    truncation,
    beginning_cut_off,
    span_removed,
    span_repeated,
    noise_inserted,
    nul_run,
    length_bomb,
)
TEXT: tuple[Mutator, ...] = (
    byte_flip,
    truncation,
    beginning_cut_off,
    span_removed,
    span_repeated,
    odd_bytes_inserted,
    nul_run,
    line_glued,
    quote_inserted,
    huge_field,
    number_made_absurd,
)
DICOM: tuple[Mutator, ...] = (
    *BINARY,
    dicom_element_length,
    dicom_vr,
    dicom_dimension,
    dicom_dimension,
    dicom_pixels,
    dicom_pixels,
    dicom_pixels,
    uid_as_path,
    deflated_again,
)
