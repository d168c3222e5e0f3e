"""The process in which inputs are read as a delivery is: `python -m tests.fuzz.reading JOB`, a line of JSON an input.

It is a process of its own so that whoever started it learns of a crash, an abort or a hang as of anything else. The
readers are the public ones; what they give is held to the schemas of the store, as ingest does before it writes.
"""

import errno
import json
import os
import re
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clinical_mm.ingest
from benchmarks._memory import largest_child_bytes, peak_bytes, peak_from_here
from clinical_mm import tables
from clinical_mm.errors import ClinicalMMError
from clinical_mm.ingest.clinical import read_clinical
from clinical_mm.ingest.decode_pool import DecodeLimits
from clinical_mm.ingest.delivery import Delivery
from clinical_mm.ingest.fhir import read_notes_fhir
from clinical_mm.ingest.genomics import read_genomics_matrix
from clinical_mm.ingest.imaging import read_dicom
from clinical_mm.ingest.ledger import Ledger, is_conserved
from clinical_mm.ingest.maf import read_genomics_maf
from clinical_mm.ingest.notes import read_notes_table
from clinical_mm.ingest.notes_files import read_notes_files
from clinical_mm.ingest.notes_omop import read_notes_omop
from clinical_mm.ingest.outcomes import read_outcomes
from clinical_mm.ingest.samples import GenomicTables
from clinical_mm.ingest.sites import SiteTable
from clinical_mm.ingest.vcf import read_genomics_vcf
from clinical_mm.ingest.vcf_process import VcfLimits
from clinical_mm.ingest.vcf_wire import Site
from clinical_mm.study.sources import (
    ClinicalSource,
    DicomSource,
    GenomicsMafSource,
    GenomicsMatrixSource,
    GenomicsVcfSource,
    NotesFhirSource,
    NotesFilesSource,
    NotesOmopSource,
    NotesTableSource,
    OutcomesSource,
    VcfSites,
)
from tests.fuzz.seeds import SECRET

LONGEST_S = 5.0
"""No input may take longer; they have a megabyte and a half at most, whatever they unfold to."""

LARGEST_BYTES = 1 << 30
"""No input may raise the memory of the process that reads deliveries by more, nor a worker's beyond it."""

_VARIABLES = {
    "age": {"unit": "years", "minimum": 0, "maximum": 120},
    "sex": {"type": "category", "levels": ["f", "m"]},
}
_SITES = SiteTable(("rs1", "rs2"), (Site("1", 100, "A", "G"), Site("1", 101, "A", "T")))


@dataclass(frozen=True)
class _Reader:
    declared: Any
    read: Callable[..., Any]
    table: tables.Table
    at_once: int = 1


def _read_vcf(*args: Any) -> Any:
    name, source, *rest = args
    return read_genomics_vcf(
        name, source, _SITES, *rest, VcfLimits(deadline_s=LONGEST_S, deadline_s_per_mb=0)
    )


def _read_dicom(*args: Any) -> Any:
    limits = DecodeLimits(
        header_deadline_s=LONGEST_S, decode_deadline_s=LONGEST_S, decode_deadline_s_per_mb=0.0, workers=1
    )
    return read_dicom(*args, Path("volumes"), limits=limits)


_ROWS = {"path": "*", "patient_id": "id"}
_TIMED = {**_ROWS, "available_time": "time"}
READERS = {
    "notes_table": _Reader(
        NotesTableSource(kind="notes_table", text="text", **_TIMED), read_notes_table, tables.NOTES
    ),
    "notes_files": _Reader(
        NotesFilesSource.model_validate(
            {"kind": "notes_files", "manifest": "manifest.csv", "file": "path", "is_timeless": True, **_ROWS}
        ),
        read_notes_files,
        tables.NOTES,
    ),
    "notes_fhir": _Reader(NotesFhirSource(kind="notes_fhir", path="*"), read_notes_fhir, tables.NOTES),
    "notes_omop": _Reader(NotesOmopSource(kind="notes_omop", path="*"), read_notes_omop, tables.NOTES),
    "clinical": _Reader(
        ClinicalSource.model_validate({"kind": "clinical", "variables": _VARIABLES, **_TIMED}),
        read_clinical,
        tables.CLINICAL,
    ),
    "outcomes": _Reader(
        OutcomesSource.model_validate(
            {"kind": "outcomes", "variables": _VARIABLES, "index_time": "time", **_ROWS}
        ),
        read_outcomes,
        tables.OUTCOMES,
    ),
    "genomics_matrix": _Reader(
        GenomicsMatrixSource(kind="genomics_matrix", path="*", samples="rows", sample_id="sample"),
        read_genomics_matrix,
        tables.GENOMIC_SAMPLES,
    ),
    "genomics_maf": _Reader(
        GenomicsMafSource(kind="genomics_maf", path="*"), read_genomics_maf, tables.GENOMIC_SAMPLES
    ),
    "genomics_vcf": _Reader(
        GenomicsVcfSource(kind="genomics_vcf", path="*", build="GRCh37", sites=VcfSites(path="sites.csv")),
        _read_vcf,
        tables.GENOMIC_SAMPLES,
    ),
    "dicom": _Reader(DicomSource(kind="dicom", is_timeless=True), _read_dicom, tables.SERIES, at_once=40),
}


def main() -> None:
    """Read the inputs of a job: `{"kind", "folder", "files"}`, the files lying in the folder."""
    job = json.loads(Path(sys.argv[1]).read_text())
    reader = READERS[job["kind"]]
    warnings.simplefilter("error")
    folder = Path(job["folder"])
    words = _words_of_the_readers()
    for begin in range(0, len(job["files"]), job.get("at_once") or reader.at_once):
        names = job["files"][begin : begin + (job.get("at_once") or reader.at_once)]
        print(json.dumps({"files": names, **_outcome(reader, folder, names, words)}), flush=True)


def _outcome(reader: _Reader, folder: Path, names: list[str], words: set[str]) -> dict[str, Any]:
    ledger = Ledger("s", "d", "record")
    files = [folder / name for name in names]
    if reader.table is tables.NOTES and isinstance(reader.declared, NotesFilesSource):
        (folder / "manifest.csv").write_text("path,id\n" + "".join(f"{name},{SECRET}\n" for name in names))
    problems: list[str] = []
    fate = "read"
    before, worker_before = peak_from_here(), largest_child_bytes()
    started = time.perf_counter()
    try:
        found = reader.read("s", reader.declared, Delivery("d", folder), files, ledger)
        frame = found.samples if isinstance(found, GenomicTables) else found
        tables.to_arrow(reader.table, frame)
        records = tables.to_arrow(tables.RECORDS, ledger.records())
        if not is_conserved(ledger.counts()):
            problems.append("not conserved")
        if (frame_sources := {*frame["source"], *records["source"].to_pylist()}) - {"s"}:
            problems.append(f"another source: {frame_sources}")
        sentences = set(records["sentence"].to_pylist())
        told = [" ".join(sentences & {s}) for s in sentences if _is_content(s, words)]
        problems += [f"a sentence tells what was read: {s[:200]}" for s in told]
        codes = set(records["reason_code"].to_pylist())
        late = [s for s in sentences if "deadline" in s]
        problems += [f"took longer than {LONGEST_S} s: {s}" for s in late]
        fate = ",".join(sorted(codes)) or "accepted"
        if not ledger.n_found and _is_record_a_file(reader):
            problems.append("a file left no record")
    except ClinicalMMError as error:
        fate = type(error).__name__
        is_header = _is_header_run_on(files[0], str(error))
        if (SECRET in str(error) and not is_header) or "\n" in str(error):
            problems.append(f"a refusal tells what was read: {str(error)[:300]}")
    except BaseException as error:  # noqa: BLE001 - whatever else it is, it is what is looked for
        problems.append(f"{type(error).__name__}: {str(error)[:300]}")
    seconds = time.perf_counter() - started
    grown = max(0, peak_bytes() - before)
    worker = largest_child_bytes()
    if seconds > LONGEST_S * len(names):
        problems.append(f"took {seconds:.1f} s")
    if grown > LARGEST_BYTES:
        problems.append(f"took {grown >> 20} MiB")
    if worker > max(LARGEST_BYTES, worker_before):
        problems.append(f"a worker took {worker >> 20} MiB")
    return {
        "fate": fate,
        "problems": problems,
        "seconds": round(seconds, 4),
        "bytes": grown,
        "worker_bytes": worker,
        "found": ledger.n_found,
    }


def _is_record_a_file(reader: _Reader) -> bool:
    return isinstance(reader.declared, DicomSource | NotesFilesSource)


def _words_of_the_readers() -> set[str]:
    """Every word that the readers' own source holds: what a sentence may be made of."""
    folder = Path(clinical_mm.ingest.__file__).parent
    text = " ".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    system = " ".join(os.strerror(code) for code in errno.errorcode)  # the operating system's own
    return set(re.findall(r"\w+", f"{text} {system}"))


def _is_content(sentence: str, words: set[str]) -> bool:
    """Whether a sentence holds a word that is neither the readers' own, a number, nor the name of an error."""
    foreign = [w for w in re.findall(r"\w+", sentence) if w not in words and not w.isdecimal()]
    known = re.compile(r"\w+(Error|Exception|Iteration)")
    return any(not known.fullmatch(word) for word in foreign) and "transfer syntax" not in sentence


def _is_header_run_on(path: Path, refusal: str) -> bool:
    """Whether bytes were lost between header and row, so that the header, which a refusal quotes, ends as the row does.

    Nothing tells such a field from the name of a column; whole rows are still never quoted.
    """
    return "there is no column" in refusal and refusal.count(SECRET) == 1 and path.suffix != ".parquet"


if __name__ == "__main__":
    main()
