"""Ingest of a delivery that has not changed, against its first ingest."""

import shutil
from pathlib import Path

from benchmarks.harness import Benchmark, Side
from clinical_mm.ingest.delivery import find_deliveries
from clinical_mm.ingest.run import ingest_delivery
from clinical_mm.store import Store
from clinical_mm.study.file import load_study
from clinical_mm.synthetic.cohort import generate_cohort


def _ingest(folder: Path, store: str) -> list[list[int]]:
    study = load_study(folder / "study.yaml")
    found = []
    for delivery in find_deliveries(study):
        for summary in ingest_delivery(study, Store(folder / store), delivery):
            found.append([int(v) for v in summary.facts.values() if isinstance(v, int)])
    return found


def _again(folder: Path) -> list[list[int]]:
    return _ingest(folder, "standing")


def _first(folder: Path) -> list[list[int]]:
    return _ingest(folder, "fresh")


def _agree(ours: list[list[int]], other: list[list[int]]) -> None:
    assert ours == other, "the counts of both differ"


def _prepare(folder: Path, scale: float) -> None:
    generate_cohort(folder, seed=7, n_patients=max(40, round(240 * scale)))
    _ingest(folder, "standing")


def _without_a_store(folder: Path) -> None:
    shutil.rmtree(folder / "fresh", ignore_errors=True)


BENCHMARK = Benchmark(
    what="re-ingest of an unchanged delivery of 240 patients (notes, DICOM, genomics, clinical, outcomes)",
    bar="50×",
    prepare=_prepare,
    ours=Side("nothing changed", _again),
    other=Side("first ingest", _first, before=_without_a_store),
    agree=_agree,
)
