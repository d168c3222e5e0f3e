"""The index of many DICOM files: ours in worker processes, against pydicom's `dcmread` of each in one process."""

from pathlib import Path
from typing import Any

from benchmarks import _index_files as index
from benchmarks.harness import Benchmark, Side
from clinical_mm.ingest.decode_pool import DecoderPool

N_FILES, SIZE = 20_000, 128


def _prepare(folder: Path, scale: float) -> None:
    index.write_files(folder / "files", max(100, round(N_FILES * scale)), SIZE)


def _ours(folder: Path) -> list[Any]:
    with DecoderPool() as pool:
        return index.fingerprint(index.our_row(header) for header in pool.read_headers(index.files(folder)))


def _pydicom(folder: Path) -> list[Any]:
    return index.fingerprint(index.pydicom_row(path) for path in index.files(folder))


BENCHMARK = Benchmark(
    what="index 20,000 DICOM files (128 × 128, 16 bits), workers started and shut in within the time",
    bar="8×",
    prepare=_prepare,
    ours=Side("header walk in worker processes", _ours),
    other=Side("pydicom.dcmread(stop_before_pixels, specific_tags) of each in one process", _pydicom),
    agree=index.agree,
    note="Ours checks besides that the pixel data are whole. Of the workers' memory only the largest is counted.",
)
