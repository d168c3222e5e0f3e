"""Two ways of doing the same, side by side: interleaved samples, medians, spread, peak memory, and a canary.

Every sample runs in a process of its own, so that neither caches nor memory of one side serve the other. A fixed piece
of work, the *canary*, runs before and after it on all cores: where it was slow, somebody else had a core, and the
sample is thrown out and counted. What is compared stands in the other modules of this folder, one a file.
"""

import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._memory import largest_child_bytes, peak_bytes, peak_from_here

CANARY_BYTES = 96 << 20
"""Hashed by each core: about a tenth of a second with SHA instructions, a third without."""

CANARY_TOLERANCE = 1.15
"""A canary that took longer than so many times the fastest of the run says that the machine was not ours."""

MAX_TRIES = 4
"""So many times the asked-for samples are taken at most; what is missing then is said."""


@dataclass(frozen=True)
class Side:
    """One way of doing it.

    Attributes:
        name: as printed.
        run: does it, given the folder that `Benchmark.prepare` filled; returns what can be compared: text or numbers.
        before: what has to stand before it begins, outside the time; given the same folder.
    """

    name: str
    run: Callable[[Path], Any]
    before: Callable[[Path], None] | None = None


@dataclass(frozen=True)
class Benchmark:
    """Ours against another way.

    Attributes:
        what: the piece of work in words.
        bar: the ratio that was asked for, in words.
        prepare: writes the input into an empty folder; takes the folder and the scale, 1 being the stated size.
        ours: the first side.
        other: the second.
        agree: whether what both returned is the same; says so by raising AssertionError.
        note: what a reader must know of the two sides.
        needs_own_processes: libraries of the two sides do not stand each other in one process.
    """

    what: str
    bar: str
    prepare: Callable[[Path, float], None]
    ours: Side
    other: Side
    agree: Callable[[Any, Any], None]
    note: str = ""
    needs_own_processes: bool = False


@dataclass(frozen=True)
class Sample:
    """One run of a side: seconds, peak memory beyond what stood before, and the slower of its two canaries."""

    seconds: float
    peak_bytes: int
    canary_s: float
    value: Any


@dataclass(frozen=True)
class Outcome:
    """The samples that count, and how many did not."""

    ours: tuple[Sample, ...]
    other: tuple[Sample, ...]
    n_thrown_out: int

    @property
    def speed(self) -> float:
        """How many times faster ours is: the ratio of the medians."""
        return _median(s.seconds for s in self.other) / _median(s.seconds for s in self.ours)

    @property
    def memory(self) -> float:
        """Our peak as a share of the other's: the ratio of the medians."""
        return _median(s.peak_bytes for s in self.ours) / max(_median(s.peak_bytes for s in self.other), 1)


def canary() -> float:
    """Seconds of the fixed piece of work, on all cores at once."""
    data = bytes(CANARY_BYTES)
    begin = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing leaves the interpreter's lock
        list(pool.map(lambda _: hashlib.sha256(data).digest(), range(os.cpu_count() or 1)))
    return time.perf_counter() - begin


def measure(side: Side, folder: Path) -> Sample:
    """Take one sample in this process."""
    if side.before is not None:
        side.before(folder)
    first = canary()
    before_bytes, children_bytes = peak_from_here(), largest_child_bytes()
    begin = time.perf_counter()
    value = side.run(folder)
    seconds = time.perf_counter() - begin
    taken_bytes = peak_bytes() - before_bytes
    # Of worker processes only the largest is known; readers that use several say so in their note.
    if largest_child_bytes() > children_bytes:
        taken_bytes += largest_child_bytes()
    return Sample(seconds, taken_bytes, max(first, canary()), value)


def compare(name: str, benchmark: Benchmark, folder: Path, n_samples: int) -> Outcome:
    """Take samples of both sides by turns, until so many of each were taken on a machine that was ours alone."""
    taken: dict[str, list[Sample]] = {"ours": [], "other": []}
    for _ in range(n_samples * MAX_TRIES):
        for which, samples in taken.items():
            samples.append(in_a_process(name, which, folder))
        benchmark.agree(taken["ours"][-1].value, taken["other"][-1].value)
        fastest = min(s.canary_s for samples in taken.values() for s in samples)
        kept = {k: [s for s in v if s.canary_s <= fastest * CANARY_TOLERANCE] for k, v in taken.items()}
        if all(len(v) >= n_samples for v in kept.values()):
            break
    n_out = sum(len(v) for v in taken.values()) - sum(len(v) for v in kept.values())
    return Outcome(tuple(kept["ours"]), tuple(kept["other"]), n_out)


def described(benchmark: Benchmark, outcome: Outcome, n_samples: int) -> list[str]:
    """The outcome as the cells of a row: what, against, bar, speed, memory, seconds of both, thrown out."""
    if not outcome.ours or not outcome.other:
        return [benchmark.what, benchmark.other.name, benchmark.bar, "no quiet sample", "", "", "", ""]
    few = min(len(outcome.ours), len(outcome.other)) < n_samples
    return [
        benchmark.what,
        benchmark.other.name,
        benchmark.bar,
        f"{outcome.speed:.1f}×" + (" (too few quiet samples)" if few else ""),
        f"{outcome.memory:.2f}",
        _spread(outcome.ours),
        _spread(outcome.other),
        str(outcome.n_thrown_out),
    ]


def _spread(samples: tuple[Sample, ...]) -> str:
    seconds = [s.seconds for s in samples]
    peak = _median(s.peak_bytes for s in samples) / (1 << 20)
    return f"{_median(seconds):.3g} s ({min(seconds):.3g}–{max(seconds):.3g}), {peak:.0f} MiB"


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


def in_a_process(name: str, which: str, folder: Path) -> Sample:
    command = [sys.executable, "-m", "benchmarks.sample", name, which, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"benchmark {name}, {which}, ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return Sample(**json.loads(done.stdout.splitlines()[-1]))
