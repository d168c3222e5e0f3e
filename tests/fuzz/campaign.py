"""A campaign: inputs made by a seed, read in processes that may die, and every problem traced to one kept input."""

import hashlib
import itertools
import json
import os
import random
import select
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz import mutators
from tests.fuzz.crafted import all_crafted
from tests.fuzz.seeds import Seed, all_seeds

REPOSITORY = Path(__file__).resolve().parents[2]
SHARES = {
    "dicom": 34,
    "genomics_vcf": 6,
    "notes_fhir": 10,
    "notes_omop": 8,
    "notes_files": 7,
    "notes_table": 8,
    "clinical": 8,
    "outcomes": 4,
    "genomics_matrix": 8,
    "genomics_maf": 7,
}
"""Of a hundred mutants, how many of each kind. A VCF costs a process of its own, and there are fewer of them."""

_COMPRESSED = ("notes_table", "clinical", "genomics_matrix", "genomics_maf", "notes_fhir", "genomics_vcf")
_SILENCE_S = 30.0
_JOB = 120


@dataclass
class Found:
    """What a campaign found."""

    n_inputs: int = 0
    n_by_kind: Counter[str] = field(default_factory=Counter)
    fates: dict[str, Counter[str]] = field(default_factory=dict)
    problems: list[dict[str, Any]] = field(default_factory=list)
    slowest: dict[str, float] = field(default_factory=dict)
    largest: dict[str, int] = field(default_factory=dict)
    largest_worker: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Input:
    """One input: the kind of source that reads it, its name, and what was done to it."""

    kind: str
    name: str
    how: str
    data: bytes


def inputs(n: int, seed: int, kinds: list[str], *, has_crafted: bool) -> Iterator[Input]:
    """So many mutants, the same for the same seed, and the crafted files."""
    if has_crafted:
        for i, (kind, name, data) in enumerate(all_crafted()):
            if kind in kinds:
                yield Input(kind, f"c{i:04}_{name}", "crafted", data)
    seeds = all_seeds()
    total = sum(SHARES[kind] for kind in kinds)
    for kind in kinds:
        for i in range(round(n * SHARES[kind] / total)):
            rng = random.Random(f"{seed}/{kind}/{i}")
            yield _mutant(seeds[kind], kind, i, rng)


def _mutant(seeds: list[Seed], kind: str, number: int, rng: random.Random) -> Input:
    of_text = [seed for seed in seeds if seed.is_text]
    # A mutant of a binary table is mostly none at all: text gets half of them.
    seed = rng.choice(of_text if of_text and rng.random() < 0.5 else seeds)
    fitting = mutators.DICOM if kind == "dicom" else mutators.TEXT if seed.is_text else mutators.BINARY
    data, how = seed.data, []
    if rng.random() < 0.1:
        other = rng.choice(seeds).data
        data = data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]
        how.append("splice")
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        mutate = rng.choice(fitting)
        data = mutate(data or b"\0", rng)
        how.append(mutate.__name__)
    if kind == "dicom":
        data = mutators.with_own_uids(data, number)
    name = seed.name
    if seed.is_text and kind in _COMPRESSED and rng.random() < 0.2:
        ending = rng.choice((".gz", ".gz", ".bz2", ".xz", ".zip") if kind != "genomics_vcf" else (".gz",))
        data = mutators.recompressed(data, ending, rng)
        name += ending
        how.append("recompressed")
    return Input(kind, f"m{number:05}_{name}", "+".join(how), data)


def run(chosen: Iterator[Input], work: Path, keep: Path, jobs: int, show: Callable[[Found], None]) -> Found:
    """Read all inputs; what goes wrong is kept, and shown as soon as it is known."""
    found = Found()
    batches: dict[str, list[Input]] = {}
    started: list[Future[tuple[str, list[dict[str, Any]]]]] = []
    numbers = itertools.count()
    with ThreadPoolExecutor(jobs) as pool:

        def start(kind: str) -> None:
            started.append(pool.submit(_read_batch, kind, batches.pop(kind), work, keep, next(numbers)))

        for one in chosen:
            batches.setdefault(one.kind, []).append(one)
            if len(batches[one.kind]) == _JOB:
                start(one.kind)
            while len(started) > 2 * jobs:
                _add(found, *started.pop(0).result())
                show(found)
        for kind in list(batches):
            start(kind)
        for future in started:
            _add(found, *future.result())
            show(found)
    return found


def _add(found: Found, kind: str, results: list[dict[str, Any]]) -> None:
    fates = found.fates.setdefault(kind, Counter())
    for result in results:
        n = len(result["files"])
        found.n_inputs += n
        found.n_by_kind[kind] += n
        fates[result["fate"]] += n
        found.slowest[kind] = max(found.slowest.get(kind, 0), result["seconds"] / n)
        found.largest[kind] = max(found.largest.get(kind, 0), result["bytes"])
        found.largest_worker[kind] = max(found.largest_worker.get(kind, 0), result["worker_bytes"])
        found.problems += [{"kind": kind, **result}] if result["problems"] else []


def _read_batch(
    kind: str, batch: list[Input], work: Path, keep: Path, number: int
) -> tuple[str, list[dict[str, Any]]]:
    home = work / f"{number:04}"
    folder = home / "delivery"
    folder.mkdir(parents=True)
    how = {one.name: one.how for one in batch}
    for one in batch:
        (folder / one.name).write_bytes(one.data)
    try:
        results = _read(kind, [one.name for one in batch], home)
        traced = []
        for result in results:
            if result["problems"] and len(result["files"]) > 1:
                # Which of them did it: each alone.
                alone = _read(kind, result["files"], home, at_once=1)
                traced += alone if any(r["problems"] for r in alone) else [result]
            else:
                traced.append(result)
        for result in traced:
            if result["problems"]:
                result["how"] = [how[name] for name in result["files"]]
                result["kept"] = [_kept(folder / name, keep, kind) for name in result["files"]]
        strays = sorted(p.name for p in home.iterdir() if p.name not in {"delivery", "volumes", "job.json"})
        strays += [p.name for p in folder.iterdir() if p.name not in {*how, "manifest.csv"}]
        strays += [p.name for p in home.glob("volumes/*") if p.suffix not in {".npy", ".json"}]
        if strays:
            traced.append(_lost(kind, [], f"written where nothing belongs: {strays[:5]}"))
        return kind, traced
    finally:
        shutil.rmtree(home)


def _kept(path: Path, keep: Path, kind: str) -> str:
    keep.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    target = keep / f"{kind}--{digest}--{path.name}"
    shutil.copyfile(path, target)
    return str(target)


def _read(kind: str, names: list[str], home: Path, at_once: int | None = None) -> list[dict[str, Any]]:
    """Results of all names; a process that dies or falls silent costs the input that it was at."""
    results: list[dict[str, Any]] = []
    left = list(names)
    while left:
        job = home / "job.json"
        job.write_text(
            json.dumps({"kind": kind, "folder": str(home / "delivery"), "files": left, "at_once": at_once})
        )
        with subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-m", "tests.fuzz.reading", "job.json"],
            cwd=home,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([*os.environ.get("FUZZ_PATH", "").split(), str(REPOSITORY)]),
                "OMP_NUM_THREADS": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            before = len(left)
            for line in _lines(process):
                result = json.loads(line)
                results.append(result)
                left = left[len(result["files"]) :]
            process.kill()
            _, errors = process.communicate()
            code = process.returncode
        if left and (code != 0 or len(left) == before):
            why = f"the process ended ({code}) or was silent for {_SILENCE_S:.0f} s: {errors[-600:]}"
            n = (at_once or 40) if kind == "dicom" else 1
            if n > 1:
                results += _read(kind, left[:n], home, at_once=1)
            else:
                results.append(_lost(kind, left[:1], why))
            left = left[n:]
    return results


def _lost(kind: str, names: list[str], why: str) -> dict[str, Any]:
    return {
        "files": names,
        "fate": "lost",
        "problems": [why],
        "seconds": 0.0,
        "bytes": 0,
        "worker_bytes": 0,
        "found": 0,
    }


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    pending = b""
    while select.select([process.stdout], [], [], _SILENCE_S)[0]:
        part = os.read(process.stdout.fileno(), 1 << 16)
        if not part:
            return
        *lines, pending = (pending + part).split(b"\n")
        yield from (line.decode() for line in lines)
