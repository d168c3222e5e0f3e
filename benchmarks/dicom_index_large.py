"""The index of DICOM files of half a MB: as `dicom_index`, with fewer and larger files."""

from pathlib import Path

from benchmarks import _index_files as index
from benchmarks.dicom_index import BENCHMARK as SMALL
from benchmarks.harness import Benchmark

N_FILES, SIZE = 4_000, 512


def _prepare(folder: Path, scale: float) -> None:
    index.write_files(folder / "files", max(40, round(N_FILES * scale)), SIZE)


BENCHMARK = Benchmark(
    what="index 4,000 DICOM files (512 × 512, 16 bits: 2 GB), workers started and shut in within the time",
    bar="none",
    prepare=_prepare,
    ours=SMALL.ours,
    other=SMALL.other,
    agree=index.agree,
    note=SMALL.note,
)
