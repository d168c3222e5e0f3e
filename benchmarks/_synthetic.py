"""The features of the synthetic cohort, made by the pipeline itself: what the benchmarks of an epoch read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from clinical_mm.cohort.build import build_cohort
from clinical_mm.cohort.linkage import link
from clinical_mm.features.build import build_features
from clinical_mm.features.loaded import TaskFeatures
from clinical_mm.ingest.delivery import find_deliveries
from clinical_mm.ingest.run import ingest_stage
from clinical_mm.store import Store
from clinical_mm.study.file import load_study
from clinical_mm.synthetic.cohort import generate_cohort

TASK = "relapse"
LEAST_PATIENTS = 40


def make_features(
    folder: Path,
    n_patients: int,
    stages: list[str],
    change: Callable[[dict[str, Any]], None],
    deliver: Callable[[Path], None] | None = None,
) -> None:
    """Generate, ingest, link and make the features of one task.

    Args:
        folder: empty; becomes the study's.
        n_patients: of the cohort.
        stages: what is ingested, beside outcomes.
        change: makes of the task's `modalities` what the benchmark reads.
        deliver: changes what lies in the landing folder before it is ingested.
    """
    generate_cohort(folder, seed=7, n_patients=max(LEAST_PATIENTS, n_patients))
    if deliver is not None:
        deliver(folder)
    yaml = YAML(typ="safe")  # constructs plain values alone
    study: dict[str, Any] = yaml.load(folder / "study.yaml")
    task = study["tasks"][TASK]
    change(task["modalities"])
    study["tasks"] = {TASK: {**task, "min_modalities": 1}}
    yaml.dump(study, folder / "study.yaml")
    loaded = load_study(folder / "study.yaml")
    store = Store(loaded.store_path)
    for delivery in find_deliveries(loaded):
        for stage in [*stages, "outcomes"]:
            ingest_stage(loaded, store, delivery, stage)
    link(loaded, store)
    build_cohort(loaded, store, TASK)
    build_features(loaded, store, TASK)


def open_features(folder: Path) -> TaskFeatures:
    loaded = load_study(folder / "study.yaml")
    return TaskFeatures.load(loaded, Store(loaded.store_path), TASK)
