"""Files that are hostile from the start: bombs, absurd declarations, depth. Each is small, and asks for much.

Yields the kind of source, the name of the file and its bytes. What is a good file made bad is for `mutators`.
"""

import base64
import bz2
import gzip
import io
import json
import lzma
import random
import sqlite3
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pydicom
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

from tests.fuzz.seeds import SECRET, VCF_TEXT

Crafted = tuple[str, str, bytes]
_CT = Path(pydicom.data.__file__).parent / "test_files" / "CT_small.dcm"
_COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gz": lambda data: gzip.compress(data, 9, mtime=0),
    "bz2": lambda data: bz2.compress(data, 9),
    "xz": lambda data: lzma.compress(data, preset=1),
}
_BOMB = 1 << 30
_TABLE_HEADS = {
    "notes_table": ("csv", b"id,time,text\n"),
    "clinical": ("csv", b"id,time,age,sex\n"),
    "outcomes": ("csv", b"id,time,age,sex\n"),
    "genomics_matrix": ("csv", b"sample,A,B\n"),
    "genomics_maf": ("maf", b"Hugo_Symbol\tVariant_Classification\tTumor_Sample_Barcode\n"),
    "notes_fhir": ("ndjson", b""),
    "genomics_vcf": ("vcf", VCF_TEXT.encode()),
}
_FILLERS = {
    "one_line": b"A",
    "blank_lines": b"\n",
    "open_quote": b'"\n',
    "rows": b"x,2024-01-01,1,f\n",
    "json": b"{}\n",
}


def all_crafted() -> Iterator[Crafted]:
    """Every crafted file, in the same order every time."""
    yield from _compression_bombs()
    yield from _text()
    yield from _json()
    yield from _documents()
    yield from _dicom()
    yield from _parquet()
    yield from _sqlite()
    yield from _vcf()


def _compression_bombs() -> Iterator[Crafted]:
    for kind, (ending, head) in _TABLE_HEADS.items():
        for filler, unit in _FILLERS.items():
            block = head + unit * ((1 << 24) // len(unit))
            member = gzip.compress(block, 9, mtime=0)
            following = gzip.compress(block[len(head) :], 9, mtime=0)
            yield kind, f"{filler}.{ending}.gz", member + following * (_BOMB // len(block))
    for kind in ("notes_table", "clinical", "notes_fhir"):
        ending, head = _TABLE_HEADS[kind]
        yield (
            kind,
            f"bomb.{ending}.bz2",
            bz2.compress(head + b"A" * (1 << 26), 9) + bz2.compress(b"A" * (1 << 26)) * 16,
        )
        yield kind, f"bomb.{ending}.xz", lzma.compress(head) + lzma.compress(b"A" * (1 << 26), preset=1) * 16
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            archive.writestr("a.csv", head + b"A" * (1 << 28))
        yield kind, f"bomb.{ending}.zip", buffer.getvalue()
    yield "notes_files", "bomb.txt.gz", gzip.compress(b"A" * (1 << 24), 9, mtime=0) * 64
    yield "notes_files", "bomb.html.gz", gzip.compress(b"<b>" * (1 << 22), 9, mtime=0) * 64


def _text() -> Iterator[Crafted]:
    for kind in ("notes_table", "clinical", "outcomes", "genomics_matrix", "genomics_maf"):
        ending, head = _TABLE_HEADS[kind]
        yield kind, f"wide.{ending}", head.rstrip() + b",x" * 400_000 + b"\n"
        yield kind, f"quotes.{ending}", head + b'"\n' * 200_001
        yield kind, f"quoted.{ending}", head + b'"' + b"A" * (8 << 20) + b'",1,2,3\n'
        yield kind, f"nul.{ending}", head + b"\0" * 100_000
        yield kind, f"returns.{ending}", head + b"\r" * 400_000
        yield kind, f"empty.{ending}", b""
        yield kind, f"mark.{ending}", b"\xef\xbb\xbf"
        yield kind, f"utf16.{ending}", head.decode().encode("utf-16")
    digits = b"9" * 4_000_000
    yield "clinical", "digits.csv", b"id,time,age,sex\n1,2024-01-01," + digits + b",f\n"
    yield "genomics_matrix", "digits.csv", b"sample,A,B\n1," + digits + b",1\n"
    yield "clinical", "times.csv", b"id,time,age,sex\n1," + digits + b",1,f\n"
    many = b"".join(b"G%d\tMissense_Mutation\tS%d\n" % (i, i) for i in range(3_000))
    yield "genomics_maf", "diagonal.maf", _TABLE_HEADS["genomics_maf"][1] + many


def _json() -> Iterator[Crafted]:
    deep = 3 << 20
    head = '{"resourceType": "DocumentReference", '
    for name, line in {
        "arrays": "[" * deep,
        "objects": '{"a":' * deep,
        "deep_in_resource": head + '"content": ' + "[" * deep + "]" * deep + "}",
        "unknown_deep": head + '"x": ' + '{"a":' * 100_000 + "1" + "}" * 100_000 + "}",
        "long_number": head + '"id": ' + "9" * deep + "}",
        "long_key": '{"' + "a" * deep + '": 1}',
        "escapes": head + '"id": "' + "\\u0000" * 500_000 + '"}',
        "surrogates": head + '"id": "\\ud800"}',
        "relations": head
        + '"status": "current", "subject": {"reference": "Patient/1"}, "date": "2024-01-01", '
        '"relatesTo": ['
        + ",".join(['{"code": "replaces", "target": {"reference": "DocumentReference/1"}}'] * 30_000)
        + "]}",
    }.items():
        yield "notes_fhir", f"{name}.ndjson", line.encode() + b"\n"
    huge = base64.b64encode(b"A" * (12 << 20)).decode()
    for media in (
        "text/plain",
        "text/html",
        "text/rtf",
        "text/plain; charset=utf-7",
        "text/plain; charset=idna",
        "text/plain; charset=punycode",
        "text/plain; charset=unicode_escape",
    ):
        yield "notes_fhir", f"{media[5:].replace('; charset=', '-')}.ndjson", _resource(media, huge)
    for name, body in _bodies().items():
        media = "text/rtf" if "rtf" in name else "text/html"
        yield "notes_fhir", f"{name}.ndjson", _resource(media, base64.b64encode(body).decode())


def _resource(media: str, data: str) -> bytes:
    resource = {
        "resourceType": "DocumentReference",
        "status": "current",
        "subject": {"reference": f"Patient/{SECRET}"},
        "date": "2024-01-05T10:00:00Z",
        "content": [{"attachment": {"contentType": media, "data": data}}],
    }
    return json.dumps(resource).encode() + b"\n"


def _bodies() -> dict[str, bytes]:
    n = 1 << 19
    return {
        "rtf_groups": b"{\\rtf1" + b"{" * n + b"}" * n + b"}",
        "rtf_open_groups": b"{\\rtf1" + b"{" * n,
        "rtf_bin": b"{\\rtf1 \\bin2147483647 x}",
        "rtf_long_bin": b"{\\rtf1 \\bin" + b"9" * 5000 + b" x}",
        "rtf_unicode": b"{\\rtf1 " + b"\\u55357?" * (n // 4) + b"}",
        "rtf_skips": b"{\\rtf1 " + b"\\uc99999999\\u233 " * 50_000 + b"}",
        "rtf_words": b"{\\rtf1 " + b"\\b\\par" * (n // 4) + b"}",
        "rtf_long_word": b"{\\rtf1 \\" + b"a" * n + b"}",
        "rtf_hex": b"{\\rtf1 " + b"\\'80" * (n // 2) + b"}",
        "rtf_spaces": b"{\\rtf1" + b" " * n + b"}",
        "rtf_fonts": b"{\\rtf1{\\fonttbl" + b"{\\f1\\fcharset2 x;}" * 100_000 + b"}}",
        "html_open_tags": b"<div>" * (n // 2),
        "html_open_angle": b"<" * n,
        "html_attributes": b"<a " + b"a=b " * n,
        "html_comment": b"<!--" + b"-" * n,
        "html_comments": b"<!--" * (n // 2),
        "html_cdata": b"<![" * (n // 2),
        "html_entities": b"&" * n,
        "html_long_entity": b"&#" + b"9" * n + b";",
        "html_entity_run": b"&lt" * (n // 2),
        "html_script": b"<script>" + b"<" * n,
        "html_end_tags": b"</" * n,
        "html_declaration": b"<!DOCTYPE " + b"[" * n,
        "html_instruction": b"<?" * n,
        "html_spaces": b"<p" + b" " * n,
        "html_quotes": b"<a b='" * (n // 4),
        "html_bomb": b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;">]>&b;' * 1000,
    }


def _documents() -> Iterator[Crafted]:
    for name, body in _bodies().items():
        yield "notes_files", f"{name}.{'rtf' if 'rtf' in name else 'html'}", body
    yield "notes_files", "cr.txt", b"\r" * (4 << 20)


def _explicit(  # noqa: PLR0917 - the parts of an element
    data: bytes, group: int, element: int, vr: bytes, value: bytes, length: int | None = None
) -> bytes:
    """`data` with an explicit little-endian element put in before its first element of a later tag of group 0028."""
    place = data.index(b"\x28\x00\x02\x00US")
    long = vr in {b"OB", b"OW", b"SQ", b"UN", b"UT"}
    n = len(value) if length is None else length
    head = (
        struct.pack("<HH", group, element) + vr + (struct.pack("<HL", 0, n) if long else struct.pack("<H", n))
    )
    return data[:place] + head + value + data[place:]


def _dicom() -> Iterator[Crafted]:
    good = _CT.read_bytes()
    item, end_item, end = (
        b"\xfe\xff\x00\xe0\xff\xff\xff\xff",
        b"\xfe\xff\x0d\xe0\0\0\0\0",
        b"\xfe\xff\xdd\xe0\0\0\0\0",
    )
    nested = struct.pack("<HH", 0x0008, 0x1140) + b"SQ\0\0\xff\xff\xff\xff" + item
    for depth in (10, 500, 2_000, 20_000, 200_000):
        sequence = nested * depth + (end_item + end) * depth
        for tag in ((0x0020, 0x9222), (0x5200, 0x9229)):
            yield (
                "dicom",
                f"deep_{depth}_{tag[0]:04x}.dcm",
                _explicit(good, *tag, b"SQ", item + sequence + end_item + end, 0xFFFFFFFF),
            )
        yield (
            "dicom",
            f"deep_{depth}_open.dcm",
            _explicit(good, 0x5200, 0x9229, b"SQ", nested * depth, 0xFFFFFFFF),
        )
        yield (
            "dicom",
            f"deep_{depth}_unknown.dcm",
            _explicit(good, 0x0020, 0x9222, b"UN", item + sequence + end_item + end, 0xFFFFFFFF),
        )
    for n in (1_000, 100_000):
        yield (
            "dicom",
            f"items_{n}.dcm",
            _explicit(good, 0x5200, 0x9230, b"SQ", (item + end_item) * n + end, 0xFFFFFFFF),
        )
    yield "dicom", "multi_value.dcm", _explicit(good, 0x0020, 0x0032, b"UT", b"1\\" * (1 << 20))
    yield "dicom", "long_patient.dcm", _explicit(good, 0x0010, 0x0020, b"UT", b"A" * (4 << 20))
    for keyword, values in {
        "Rows": (0, 1, 65_535),
        "Columns": (0, 1, 65_535),
        "NumberOfFrames": (0, -1, 2**31 - 1, 10**6),
        "BitsAllocated": (0, 1, 3, 12, 24, 64, 65_528),
        "BitsStored": (0, 1, 17, 65_535),
        "HighBit": (0, 99, 65_535),
        "SamplesPerPixel": (0, 2, 3, 65_535),
        "PixelRepresentation": (2, 65_535),
        "PlanarConfiguration": (7,),
    }.items():
        for value in values:
            for name in (
                "CT_small.dcm",
                "MR_small_RLE.dcm",
                "JPEG2000.dcm",
                "SC_rgb_jpeg_dcmtk.dcm",
                "JPGExtended.dcm",
            ):
                yield from _changed(name, keyword, value)
    for slope in ("1e308", "-0", "0", "1e-320", "nan"):
        yield from _changed("CT_small.dcm", "RescaleSlope", slope)
    yield "dicom", "deflated_zeros.dcm", _deflated(bytes(1 << 24), 128)
    yield "dicom", "deflated_items.dcm", _deflated(nested * ((1 << 24) // len(nested)), 32)
    yield "dicom", "deflated_tags.dcm", _deflated(b"\x09\0\x10\0LO\0\0" * (1 << 21), 32)
    yield "dicom", "empty.dcm", b""
    yield "dicom", "preamble.dcm", bytes(128) + b"DICM"
    yield "dicom", "endless_meta.dcm", bytes(128) + b"DICM" + b"\x02\0\x10\0UI\xff\xff" + b"1" * 100


def _changed(name: str, keyword: str, value: object) -> Iterator[Crafted]:
    dataset = pydicom.dcmread(_CT.parent / name)
    with pydicom.config.disable_value_validation():
        dataset.add_new(keyword, pydicom.datadict.dictionary_VR(keyword), value)
        buffer = io.BytesIO()
        try:
            dataset.save_as(buffer, implicit_vr=None, little_endian=None)
        except (struct.error, OverflowError, ValueError):
            return  # what no writer writes, the mutators do
    yield "dicom", f"{keyword}_{value}_{name}", buffer.getvalue()


def _deflated(block: bytes, times: int) -> bytes:
    dataset = pydicom.dcmread(_CT)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    buffer = DicomBytesIO()
    write_file_meta_info(buffer, dataset.file_meta)
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    # After a full flush the compressor remembers nothing: the same block may be repeated.
    packed = deflate.compress(block) + deflate.flush(zlib.Z_FULL_FLUSH)
    return bytes(128) + b"DICM" + buffer.getvalue() + times * packed + deflate.flush()


def _parquet() -> Iterator[Crafted]:
    n = 30_000_000
    same = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()).take(pa.array([0] * n)), ["1"])
    for kind, names in (
        ("clinical", ("id", "time", "age", "sex")),
        ("notes_table", ("id", "time", "text")),
        ("genomics_matrix", ("sample", "A", "B")),
    ):
        buffer = io.BytesIO()
        pq.write_table(pa.table(dict.fromkeys(names, same)), buffer, compression="zstd")
        yield kind, "rows.parquet", buffer.getvalue()
        buffer = io.BytesIO()
        zeros = pa.nulls(n, pa.float32())
        pq.write_table(pa.table(dict.fromkeys(names, zeros)), buffer)
        yield kind, "nulls.parquet", buffer.getvalue()
        deep = pa.array([1])
        for _ in range(60):
            deep = pa.ListArray.from_arrays([0, 1], deep)
        buffer = io.BytesIO()
        pq.write_table(pa.table(dict.fromkeys(names, deep)), buffer)
        yield kind, "nested.parquet", buffer.getvalue()
    buffer = io.BytesIO()
    pq.write_table(
        pa.table({**{n: ["a"] for n in ("id", "time", "text")}, **{f"c{i}": ["x"] for i in range(5000)}}),
        buffer,
    )
    yield "notes_table", "wide.parquet", buffer.getvalue()
    buffer = io.BytesIO()
    pq.write_table(
        pa.table({"id": ["a"], "time": ["2024-01-01"], "text": ["A" * (1 << 28)]}), buffer, compression="zstd"
    )
    yield "notes_table", "long_text.parquet", buffer.getvalue()
    yield "clinical", "magic.parquet", b"PAR1" + b"\xff" * 100 + struct.pack("<L", 0xFFFFFFFF) + b"PAR1"
    yield "clinical", "footer.parquet", b"PAR1" + b"\x19" * 5000 + struct.pack("<L", 5000) + b"PAR1"


def _sqlite() -> Iterator[Crafted]:
    plain = "note_id, person_id, note_date, note_datetime, note_type_concept_id, note_title"
    harmless = "'x' || note_id"
    for name, expression in {
        "blob": "hex(zeroblob(400000000))",
        "replaced": "replace(hex(zeroblob(10000)), '0', hex(zeroblob(10000)))",
        "pattern": f"hex(zeroblob(40000)) LIKE '{'%0' * 60}1'",
        "printf": "printf('%.*c', 900000000, 'x')",
    }.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "a.sqlite")
            connection = sqlite3.connect(path)
            connection.execute(f"CREATE TABLE note ({plain}, note_text GENERATED ALWAYS AS ({harmless}))")
            rows = [(i, SECRET, "2024-01-01", None, 0, "x") for i in range(3)]
            connection.executemany(f"INSERT INTO note ({plain}) VALUES (?, ?, ?, ?, ?, ?)", rows)
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute("UPDATE sqlite_master SET sql = replace(sql, ?, ?)", (harmless, expression))
            connection.commit()
            connection.close()
            yield "notes_omop", f"{name}.sqlite", path.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.sqlite")
        connection = sqlite3.connect(path)
        connection.execute(f"CREATE VIRTUAL TABLE note USING fts5({plain}, note_text)")
        connection.execute("INSERT INTO note VALUES (1, 'a', '2024-01-01', NULL, 0, 'x', 'y')")
        connection.commit()
        connection.close()
        yield "notes_omop", "virtual.sqlite", path.read_bytes()


def _vcf() -> Iterator[Crafted]:
    head, rows = VCF_TEXT.split("#CHROM", 1)
    columns = "#CHROM" + rows.splitlines()[0]
    record = "1\t100\t.\tA\tG\t.\tPASS\t.\tGT"
    yield (
        "genomics_vcf",
        "alleles.vcf",
        f"{head}{columns}\n1\t100\t.\tA\t{','.join(['G'] * 200_000)}\t.\t.\t.\tGT\t0/1\t0/1\n".encode(),
    )
    yield (
        "genomics_vcf",
        "ploidy.vcf",
        f"{head}{columns}\n{record}\t{'/'.join(['1'] * 200_000)}\t0/1\n".encode(),
    )
    samples = "\t".join(f"S{i}" for i in range(60_000))
    yield (
        "genomics_vcf",
        "samples.vcf",
        f"{head}{columns.rsplit(chr(9), 2)[0]}\t{samples}\n{record}{chr(9) + '0/1'}\n".encode(),
    )
    yield (
        "genomics_vcf",
        "long_info.vcf",
        f"{head}{columns}\n1\t100\t.\tA\tG\t.\t.\tX={'A' * (4 << 20)}\tGT\t0/1\t0/1\n".encode(),
    )
    yield (
        "genomics_vcf",
        "headers.vcf",
        (head + '##INFO=<ID=X,Number=1,Type=Integer,Description="d">\n' * 60_000 + columns + "\n").encode(),
    )
    yield (
        "genomics_vcf",
        "contigs.vcf",
        (head + "".join(f"##contig=<ID=c{i}>\n" for i in range(100_000)) + columns + "\n").encode(),
    )
    yield (
        "genomics_vcf",
        "position.vcf",
        f"{head}{columns}\n1\t99999999999999999999\t.\tA\tG\t.\t.\t.\tGT\t0/1\t0/1\n".encode(),
    )
    for length in (0xFFFFFFFF, 0x7FFFFFFF, 0x10000000):
        yield (
            "genomics_vcf",
            f"header_{length:x}.bcf",
            b"BCF\x02\x02" + struct.pack("<L", length) + head.encode(),
        )
        body = (head + columns + "\n\0").encode()
        yield (
            "genomics_vcf",
            f"record_{length:x}.bcf",
            b"BCF\x02\x02"
            + struct.pack("<L", len(body))
            + body
            + struct.pack("<LL", length, length)
            + bytes(100),
        )
    rng = random.Random(0)
    body = (head + columns + "\n\0").encode()
    for i in range(20):
        shared = struct.pack(
            "<LLLfLL",
            0,
            99,
            1,
            0.0,
            rng.choice((0x10001, 0xFFFFFFFF, 0x7FFF0000)),
            rng.choice((2, 0x1000002, 0xFFFFFFFF)),
        )
        tail = rng.randbytes(40)
        yield (
            "genomics_vcf",
            f"fields_{i}.bcf",
            b"BCF\x02\x02"
            + struct.pack("<L", len(body))
            + body
            + struct.pack("<LL", len(shared) + 20, 20)
            + shared
            + tail,
        )
