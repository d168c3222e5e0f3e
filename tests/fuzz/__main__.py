"""Fuzz everything that reads a delivery: `python -m tests.fuzz [--n 10000] [--seed 3] [--kinds dicom …] [--jobs 2]`.

Leaves with 1 where anything went wrong: every input that did it is kept, and how to read it again is printed.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.campaign import SHARES, Found, Input, inputs, run
from tests.fuzz.reading import LARGEST_BYTES, LONGEST_S


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--n", type=int, default=10_000, help="mutants")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", choices=SHARES, default=list(SHARES))
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument("--without-crafted", action="store_true", help="mutants alone")
    parser.add_argument(
        "--keep", type=Path, default=Path("build/fuzz"), help="where inputs that fail are kept"
    )
    parser.add_argument(
        "--replay", nargs="+", type=Path, metavar="FILE", help="read kept inputs again, nothing else"
    )
    options = parser.parse_args()
    begin = time.perf_counter()
    shown = 0

    def show(found: Found) -> None:
        nonlocal shown
        for problem in found.problems[shown:]:
            print(f"{problem['kind']}: {problem['problems']} ({', '.join(problem.get('how', []))})")
            for kept in problem.get("kept", [])[:1]:
                print(f"  python -m tests.fuzz --replay {kept}", flush=True)
        shown = len(found.problems)

    with tempfile.TemporaryDirectory(prefix="fuzz-") as work:
        if options.replay:
            chosen = iter(
                [
                    Input(p.name.split("--")[0], p.name.split("--")[-1], "replayed", p.read_bytes())
                    for p in options.replay
                ]
            )
        else:
            chosen = inputs(options.n, options.seed, options.kinds, has_crafted=not options.without_crafted)
        found = run(chosen, Path(work), options.keep, options.jobs, show)
    for kind, fates in found.fates.items():
        print(
            f"{kind}: {found.n_by_kind[kind]} inputs, slowest {found.slowest[kind]:.2f} s, most memory "
            f"{found.largest[kind] >> 20} MiB, of a worker {found.largest_worker[kind] >> 20} MiB; "
            + json.dumps(dict(fates.most_common(12)))
        )
    print(
        f"{found.n_inputs} inputs, {len(found.problems)} problems, {time.perf_counter() - begin:.0f} s; "
        f"bounds: {LONGEST_S:.0f} s, {LARGEST_BYTES >> 20} MiB"
    )
    sys.exit(bool(found.problems) or not found.n_inputs)


if __name__ == "__main__":
    main()
