"""The index of many DICOM files by the walk alone, without worker processes, against pydicom's `dcmread`."""

from pathlib import Path
from typing import Any

from benchmarks import _index_files as index
from benchmarks.dicom_index import BENCHMARK as IN_WORKERS
from benchmarks.harness import Benchmark, Side
from clinical_mm.ingest.dicom_header import read_header


def _ours(folder: Path) -> list[Any]:
    return index.fingerprint(index.our_row(read_header(path)) for path in index.files(folder))


BENCHMARK = Benchmark(
    what="index 20,000 DICOM files (128 × 128, 16 bits), both in one process",
    bar="none",
    prepare=IN_WORKERS.prepare,
    ours=Side("header walk in one process", _ours),
    other=IN_WORKERS.other,
    agree=index.agree,
)
