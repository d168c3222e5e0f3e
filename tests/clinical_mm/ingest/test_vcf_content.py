"""Whether a VCF is whole: records are counted without a VCF library, and a file that was cut off is told."""

import gzip
import struct
from pathlib import Path

import pytest

from clinical_mm.ingest.opening import UnreadableFileError
from clinical_mm.ingest.vcf_content import BGZF_END, inspect_content

TEXT = b"##fileformat=VCFv4.2\n##a=b\n#CHROM\tPOS\n1\t2\n1\t3\n"
HEADER = ("##fileformat=VCFv4.2", "##a=b", "")


def _bgzf(data: bytes) -> bytes:
    """One BGZF block (SAM specification, section 4.1): gzip with the extra field BC, the size of the block."""
    compressor = gzip.compress(data)
    body = compressor[10:]
    size = 12 + 6 + len(body) - 1
    return b"\x1f\x8b\x08\x04" + bytes(6) + struct.pack("<H2sHH", 6, b"BC", 2, size) + body


def _bcf(n_records: int) -> bytes:
    header = b"##fileformat=VCFv4.2\n##a=b\n#CHROM\tPOS\n\x00"
    record = struct.pack("<II", 3, 2) + b"abcde"
    return b"BCF\x02\x02" + struct.pack("<I", len(header)) + header + record * n_records


@pytest.mark.parametrize(
    ("content", "n_records"),
    [
        (TEXT, 2),
        (TEXT.replace(b"\n", b"\r\n"), 2),
        (gzip.compress(TEXT), 2),
        (gzip.compress(TEXT[:-1]), 2),  # the stream is whole: nothing was cut off on the way
        (_bgzf(TEXT) + BGZF_END, 2),
        (_bgzf(TEXT) + _bgzf(b"2\t4\n") + BGZF_END, 3),
        (_bgzf(_bcf(3)) + BGZF_END, 3),
        (_bcf(0), 0),
        (TEXT[: TEXT.index(b"1\t2")], 0),
    ],
)
def test_records_and_header_are_counted_in_every_form(tmp_path: Path, content: bytes, n_records: int) -> None:
    path = tmp_path / "any-name"
    path.write_bytes(content)
    found = inspect_content(path)
    assert found.n_records == n_records
    assert [line for line in found.header if line] == [line for line in HEADER if line]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "unreadable_file"),
        (b"PK\x03\x04", "unreadable_file"),
        (TEXT[:-1], "truncated_file"),
        (gzip.compress(TEXT)[:-9], "truncated_file"),
        (_bgzf(TEXT), "truncated_file"),
        (_bgzf(TEXT)[:-4], "truncated_file"),
        (_bcf(2)[:-1], "truncated_file"),
        (_bcf(2) + b"\x01", "truncated_file"),
        (b"BCF\x02\x02\xff\xff\xff\xff", "unreadable_file"),
        (gzip.compress(TEXT) + b"garbage", "unreadable_file"),
        (gzip.compress(TEXT)[:20] + b"\xff\xff\xff" + gzip.compress(TEXT)[23:], "unreadable_file"),
    ],
)
def test_a_file_that_was_cut_off_or_damaged_is_refused_with_its_reason(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "f.vcf"
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError) as refused:
        inspect_content(path)
    assert refused.value.reason_code == reason
