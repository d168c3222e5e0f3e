"""As `series_tensor`, against MONAI's Resize as it is by default: without antialiasing, which does less."""

from pathlib import Path
from typing import Any

from benchmarks.harness import Benchmark, Side
from benchmarks.series_tensor import BENCHMARK as ANTIALIASED
from benchmarks.series_tensor import monai_tensors, open_libraries


def _monai(folder: Path) -> list[Any]:
    return monai_tensors(folder, is_antialiased=False)


BENCHMARK = Benchmark(
    what=ANTIALIASED.what + "; the other side is not antialiased",
    bar="none",
    prepare=ANTIALIASED.prepare,
    ours=ANTIALIASED.ours,
    other=Side("MONAI LoadImage(ITKReader), Spacing 1 mm, Resize", _monai, before=open_libraries),
    agree=ANTIALIASED.agree,
    note=ANTIALIASED.note,
    needs_own_processes=True,
)
