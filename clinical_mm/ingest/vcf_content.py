"""Whether a VCF or BCF file is whole: its header and the number of its records, counted without a VCF library.

htslib takes a file that was cut at the end of a block, and a last genotype that was cut in two, for what they seem to
be. Here such a file is refused, and the count is compared with what the library returned. What records mean does not
belong here.
"""

import gzip
import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from clinical_mm.ingest.opening import UnreadableFileError, bounded

BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
"""The empty block with which every BGZF file ends (SAM specification, section 4.1.2)."""

_GZIP = b"\x1f\x8b"
_BCF = b"BCF\x02"
_LONGEST_HEADER = 1 << 28
_PIECE = 1 << 20
_MAX_UNFOLDING = 200  # thousands of samples that are all homozygous reference


@dataclass(frozen=True)
class VcfContent:
    """The meta-information lines of a file, and how many records follow them."""

    header: tuple[str, ...]
    n_records: int


def inspect_content(path: Path) -> VcfContent:
    """Read a file to its end.

    Args:
        path: VCF as text, gzip or BGZF, or BCF (VCF specification, section 6); its name says nothing.

    Raises:
        UnreadableFileError: `truncated_file` where it ends too early, `too_large` where it is a bomb, else
            `unreadable_file`.
    """
    try:
        is_compressed = _has_whole_blocks(path)
        with (
            path.open("rb") as file,
            bounded(cast(IO[bytes], gzip.open(file, "rb")), file, times=_MAX_UNFOLDING)
            if is_compressed
            else io.BufferedReader(cast(io.RawIOBase, file), _PIECE) as stream,
        ):
            begin = stream.peek(len(_BCF))[: len(_BCF)]
            if begin == _BCF:
                return _bcf(stream)
            if begin[:1] == b"#":
                return _text(stream, is_compressed)
    except EOFError:
        raise UnreadableFileError("truncated_file", "the file ends too early") from None
    except (gzip.BadGzipFile, zlib.error):
        raise UnreadableFileError("unreadable_file", "the compressed file is damaged") from None
    raise UnreadableFileError(
        "unreadable_file", "the file is empty" if not begin else "the file is neither VCF nor BCF"
    )


def _has_whole_blocks(path: Path) -> bool:
    """Whether a file is compressed; where its blocks are BGZF, the last is there."""
    with path.open("rb") as file:
        begin = file.read(18)
        if begin[:2] != _GZIP:
            return False
        if len(begin) == 18 and begin[3] & 4 and begin[12:14] == b"BC":
            file.seek(0, io.SEEK_END)
            file.seek(max(0, file.tell() - len(BGZF_END)))
            if file.read() != BGZF_END:
                raise UnreadableFileError("truncated_file", "the compressed file has no final block")
    return True


def _text(stream: BinaryIO, is_compressed: bool) -> VcfContent:
    header: list[bytes] = []
    n_records = 0
    line = b""
    for line in stream:
        if line == b"\n":
            continue
        if line.startswith(b"##"):
            header.append(line)
        elif not line.startswith(b"#") and line.strip():
            n_records += 1
    if not line.endswith(b"\n") and not is_compressed:
        # Section 1.6: the last line should end. Half of 1/1 is a genotype too.
        raise UnreadableFileError("truncated_file", "the last line does not end: it may have been cut off")
    return VcfContent(_lines(b"".join(header)), n_records)


def _bcf(stream: BinaryIO) -> VcfContent:
    _exactly(stream, len(_BCF) + 1)
    length = int.from_bytes(_exactly(stream, 4), "little")
    if length > _LONGEST_HEADER:
        raise UnreadableFileError("unreadable_file", "the header is longer than any can be")
    header = _exactly(stream, length).rstrip(b"\x00")
    n_records = 0
    while begin := stream.read(8):
        if len(begin) < 8:
            raise EOFError
        rest = int.from_bytes(begin[:4], "little") + int.from_bytes(begin[4:], "little")
        while rest:
            rest -= len(_exactly(stream, min(rest, _PIECE)))
        n_records += 1
    return VcfContent(tuple(line for line in _lines(header) if line.startswith("##")), n_records)


def _exactly(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError
    return data


def _lines(data: bytes) -> tuple[str, ...]:
    return tuple(data.decode("utf-8", "replace").replace("\r\n", "\n").split("\n"))
