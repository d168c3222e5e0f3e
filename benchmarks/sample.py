"""One sample of one side, in a process of its own: the last line of its output is the sample as JSON."""

import dataclasses
import importlib
import json
import sys
from pathlib import Path

from benchmarks.harness import Benchmark, measure


def load(name: str) -> Benchmark:
    """The benchmark of a module of this folder."""
    benchmark = importlib.import_module(f"benchmarks.{name}").BENCHMARK
    assert isinstance(benchmark, Benchmark)
    return benchmark


def main() -> None:
    name, which, folder = sys.argv[1:]
    benchmark = load(name)
    side = {"ours": benchmark.ours, "other": benchmark.other}[which]
    print(json.dumps(dataclasses.asdict(measure(side, Path(folder)))))


if __name__ == "__main__":
    main()
