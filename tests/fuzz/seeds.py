"""Good files of every kind that is read: made here, of pydicom's own, and real ones where they are present.

How a file is mutated is for `mutators`; what is made to be hostile from the start, for `crafted`.
"""

import base64
import io
import json
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pydicom
from cyvcf2 import VCF, Writer

from clinical_mm.ingest.omop import NOTE_COLUMNS

SECRET = "QX7SECRET"
"""Stands in every patient id, text and name that is made here: no sentence may hold it."""

_LARGEST_SEED = 300_000
_PYDICOM_FILES = Path(pydicom.data.__file__).parent / "test_files"


@dataclass(frozen=True)
class Seed:
    """A good file.

    Attributes:
        kind: of the source that reads it.
        name: of the file; its ending says how it is read.
        data: its bytes.
        is_text: which mutators fit.
    """

    kind: str
    name: str
    data: bytes
    is_text: bool


def all_seeds() -> dict[str, list[Seed]]:
    """Seeds by kind, in the same order every time."""
    seeds: dict[str, list[Seed]] = {}
    for seed in (*_tables(), *_vcfs(), *_fhir(), *_omop(), *_documents(), *_dicom()):
        if 0 < len(seed.data) <= _LARGEST_SEED:
            seeds.setdefault(seed.kind, []).append(seed)
    return seeds


def _rtf(text: str) -> bytes:
    escaped = "".join(c if c.isascii() else f"\\u{ord(c)}?" for c in text).replace("\n", "\\par\n")
    return f"{{\\rtf1\\ansi\\ansicpg1252{{\\fonttbl{{\\f0\\fcharset0 Arial;}}}}\\f0 {escaped}}}".encode()


def _real() -> Path | None:
    beside = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
    path = Path(os.environ.get("CLINICAL_MM_REAL_DATA", beside)).resolve()
    return path if path.is_dir() else None


def _files(*patterns: str) -> Iterator[Path]:
    root = _real()
    for pattern in patterns if root is not None else ():
        yield from (
            p for p in sorted(root.glob(pattern)) if p.is_file() and p.stat().st_size <= _LARGEST_SEED
        )


def _tables() -> Iterator[Seed]:
    notes = "id,time,text\n" + "".join(
        f'{SECRET}-{i:03},2024-01-{i % 28 + 1:02}T08:00,"note {i} of {SECRET},\nwith ""quotes"" and é"\n'
        for i in range(40)
    )
    labs = "id,time,age,sex\n" + "".join(
        f"{SECRET}-{i:03},2024-02-01,{30 + i},{'fm'[i % 2]}\n" for i in range(60)
    )
    matrix = "sample,A,B,C\n" + "".join(f"{SECRET}-{i},{i / 7},{i},NA\n" for i in range(40))
    maf = "#version 2.4\nHugo_Symbol\tVariant_Classification\tTumor_Sample_Barcode\n" + "".join(
        f"GENE{i % 9}\tMissense_Mutation\t{SECRET}-{i % 11}\n" for i in range(60)
    )
    yield Seed("notes_table", "n.csv", notes.encode(), True)
    yield Seed("clinical", "c.csv", labs.encode(), True)
    yield Seed("outcomes", "o.csv", labs.encode(), True)
    yield Seed("genomics_matrix", "m.csv", matrix.encode(), True)
    yield Seed("genomics_maf", "m.maf", maf.encode(), True)
    for kind, text in (("notes_table", notes), ("clinical", labs), ("genomics_matrix", matrix)):
        for codec in ("snappy", "zstd", "gzip", "none"):
            yield Seed(kind, f"{codec}.parquet", _parquet(text, codec), False)
    for path in _files("genomics/maftools/brca.maf.gz", "genomics/cbioportal_study_es_0/*.maf"):
        if path.suffix == ".maf":
            yield Seed("genomics_maf", path.name, path.read_bytes(), True)
    for path in _files("hancock/clinical.csv", "hancock/tma_cell_density.csv"):
        head = b"".join(path.read_bytes().splitlines(keepends=True)[:60]).replace(b"patient_id", b"sample", 1)
        yield Seed("genomics_matrix", path.name, head, True)


def _long_table() -> str:
    analytes = (("CREA", "1.1", "mg/dL"), ("CREA", "97", "umol/L"), ("HB", "13.5", "g/dL"))
    lines = [f"{SECRET}-{i:03},2024-02-{i % 28 + 1:02},{','.join(analytes[i % 3])}" for i in range(60)]
    return "\n".join(["id,time,code,value,unit", *lines, ""])


def _parquet(text: str, codec: str) -> bytes:
    import csv

    rows = list(csv.DictReader(io.StringIO(text)))
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer, compression=codec, row_group_size=16)
    return buffer.getvalue()


VCF_TEXT = (
    "##fileformat=VCFv4.2\n##contig=<ID=1,length=249250621>\n"
    '##FILTER=<ID=low,Description="q">\n'
    '##INFO=<ID=END,Number=1,Type=Integer,Description="e">\n'
    '##INFO=<ID=CSQ,Number=.,Type=String,Description="VEP. Format: Allele|Consequence|SYMBOL">\n'
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="g">\n'
    f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{SECRET}-1\t{SECRET}-2\n"
    + "".join(
        f"1\t{100 + i}\t.\tA\tG,T\t.\tPASS\tCSQ=G|stop_gained|TP{i % 5}\tGT\t0/1\t{i % 3}|2\n"
        for i in range(30)
    )
)


def _vcfs() -> Iterator[Seed]:
    yield Seed("genomics_vcf", "made.vcf", VCF_TEXT.encode(), True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "made.vcf")
        path.write_text(VCF_TEXT)
        for mode, name in (("wb", "made.bcf"), ("wz", "made.vcf.gz"), ("wbu", "plain.bcf")):
            reader = VCF(str(path))
            writer = Writer(f"{folder}/{name}", reader, mode)
            for variant in reader:
                writer.write_record(variant)
            writer.close()
            yield Seed("genomics_vcf", name, Path(folder, name).read_bytes(), False)
    for path in _files(
        "genomics/cyvcf2/*.vcf",
        "genomics/cyvcf2/*.vcf.gz",
        "genomics/cyvcf2/*.bcf",
        "genomics/hts_specs_vcf/*/passed/*.vcf",
        "genomics/pharmcat/*.vcf",
    ):
        yield Seed("genomics_vcf", path.name, path.read_bytes(), path.suffix == ".vcf")


def _fhir() -> Iterator[Seed]:
    lines = []
    html, rtf = f"<p>note of <b>{SECRET}</b></p>".encode(), _rtf(f"note of {SECRET}")
    for i, (kind, data) in enumerate(
        (("text/plain", SECRET.encode()), ("text/html", html), ("text/rtf", rtf)) * 4
    ):
        attachment = {"contentType": kind, "data": base64.b64encode(data).decode()}
        resource = {
            "resourceType": "DocumentReference",
            "id": str(i),
            "status": "current",
            "subject": {"reference": f"Patient/{SECRET}-{i}"},
            "date": "2024-01-05T10:00:00Z",
            "content": [{"attachment": attachment}],
        }
        lines.append(json.dumps(resource))
    yield Seed("notes_fhir", "made.ndjson", ("\n".join(lines) + "\n").encode(), True)
    for path in _files("ehr_standards/cumulus_etl_docref/*.ndjson"):
        yield Seed("notes_fhir", path.name, path.read_bytes(), True)
    examples = list(_files("ehr_standards/hl7_r4_examples/D*.json"))
    if examples:
        joined = "\n".join(json.dumps(json.loads(p.read_text(encoding="utf-8-sig"))) for p in examples)
        yield Seed("notes_fhir", "examples.ndjson", joined.encode(), True)


def _omop() -> Iterator[Seed]:
    with tempfile.TemporaryDirectory() as folder:
        for page_size, n_rows in ((512, 200), (4096, 40)):
            path = Path(folder, f"{page_size}.sqlite")
            connection = sqlite3.connect(path)
            connection.execute(f"PRAGMA page_size = {page_size}")
            connection.execute(f"CREATE TABLE note ({', '.join(NOTE_COLUMNS)})")
            rows = [
                (i, f"{SECRET}-{i}", "2024-01-05", None, 0, "letter", f"{SECRET} " * i) for i in range(n_rows)
            ]
            connection.executemany("INSERT INTO note VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            connection.commit()
            connection.close()
            yield Seed("notes_omop", path.name, path.read_bytes(), False)


def _documents() -> Iterator[Seed]:
    body = f"note of {SECRET}: 38 °C, ≥ 5 mg\n" * 20
    yield Seed("notes_files", "a.txt", body.encode(), True)
    yield Seed("notes_files", "a.rtf", _rtf(body), True)
    table = "".join(f"<tr><td>{SECRET}</td><td>{i}</td></tr>" for i in range(20))
    yield Seed(
        "notes_files", "a.html", f"<html><head><title>x</title></head><table>{table}</table>".encode(), True
    )


def _dicom() -> Iterator[Seed]:
    own = sorted(
        p for p in _PYDICOM_FILES.rglob("*") if p.suffix == ".dcm" and p.stat().st_size <= _LARGEST_SEED
    )
    for path in (*own, *_files("dicom_zoo/files/*", "phi/dicognito/*", "phi/presidio_dicom/*.dcm")):
        yield Seed("dicom", path.name, path.read_bytes(), False)
