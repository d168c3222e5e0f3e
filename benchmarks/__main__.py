"""Run the benchmarks and print a table in Markdown: `python -m benchmarks [NAME …] [--samples N] [--scale S]`."""

import argparse
import tempfile
from pathlib import Path

from benchmarks.harness import compare, described
from benchmarks.sample import load

_NO_BENCHMARK = {"__init__", "__main__", "harness", "sample"}
_HEAD = (
    "work",
    "against",
    "at least",
    "times as fast",
    "share of its memory",
    "ours",
    "the other",
    "thrown out",
)


def names() -> list[str]:
    """Every benchmark of this folder."""
    modules = sorted(p.stem for p in Path(__file__).parent.glob("*.py"))
    return [m for m in modules if m not in _NO_BENCHMARK and not m.startswith("_")]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(names())}")
    parser.add_argument("--samples", type=int, default=5, help="quiet samples of each side")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the stated size")
    parser.add_argument("--folder", type=Path, help="where the inputs are written; default: a temporary one")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(names()))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}: there are {', '.join(names())}")
    print("| " + " | ".join(_HEAD) + " |")
    print("|" + "---|" * len(_HEAD), flush=True)
    for name in options.names or names():
        benchmark = load(name)
        with tempfile.TemporaryDirectory(prefix=f"bench-{name}-", dir=options.folder) as folder:
            benchmark.prepare(Path(folder), options.scale)
            outcome = compare(name, benchmark, Path(folder), options.samples)
        print("| " + " | ".join(described(benchmark, outcome, options.samples)) + " |", flush=True)


if __name__ == "__main__":
    main()
