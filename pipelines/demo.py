"""`make demo`: a synthetic cohort as real files, then the whole pipeline as Dagster assets, in one process.

What it runs are the jobs of this code location, on a Dagster instance that `make ui` opens afterwards.
"""

import argparse
import logging
import os
import sys
import time
from pathlib import Path

import dagster as dg

from assets.resources import STUDY_VARIABLE

_DAGSTER_YAML = """\
telemetry: {enabled: false}
nux: {enabled: false}
"""


def main() -> int:
    """Make the demo and say where its reports are."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("directory", type=Path, help="folder to make")
    parser.add_argument("--patients", type=int, default=240, help="patients of the first delivery")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    begun = time.perf_counter()
    directory = arguments.directory.resolve()
    prepare(directory, arguments.patients, arguments.seed)
    is_done = run_everything(directory)
    if not is_done:
        print("the demo did not finish: the lines above say which step failed", file=sys.stderr)
        return 1
    print(f"\ndone in {time.perf_counter() - begun:.0f} s")
    for index in report_indices(directory):
        print(f"reports:     {index}")
    print("Dagster UI:  make ui   (then http://127.0.0.1:3000)")
    return 0


def prepare(directory: Path, n_patients: int, seed: int) -> None:
    """Write the cohort where it is not there yet, and point Dagster and the assets at it."""
    from clinical_mm.progress import progress_bars
    from clinical_mm.synthetic.cohort import generate_cohort

    if not (directory / "study.yaml").exists():
        print(f"writing {n_patients} synthetic patients to {directory}", flush=True)
        with progress_bars():
            generate_cohort(directory, seed=seed, n_patients=n_patients)
    home = directory / "dagster"
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text(_DAGSTER_YAML, encoding="utf-8")
    os.environ["DAGSTER_HOME"] = str(home)
    os.environ[STUDY_VARIABLE] = str(directory / "study.yaml")
    logging.getLogger("dagster").setLevel(logging.WARNING)


def run_everything(directory: Path) -> bool:
    """Ingest every complete delivery and retrain every task; True where all runs succeeded."""
    from assets.partitions import DELIVERIES_NAME, TASKS
    from clinical_mm.ingest.delivery import complete_deliveries
    from clinical_mm.study.file import load_study
    from pipelines.definitions import defs

    definitions = defs()
    study = load_study(directory / "study.yaml")
    with dg.DagsterInstance.get() as instance:
        deliveries = [d.name for d in complete_deliveries(study)]
        instance.add_dynamic_partitions(DELIVERIES_NAME, deliveries)
        for name in deliveries:
            instance.report_runless_asset_event(dg.AssetMaterialization("delivery", partition=name))
        runs = [("ingest_delivery", name) for name in deliveries]
        runs += [("retrain", task) for task in TASKS.get_partition_keys()]
        return all(_run(definitions, instance, job, partition) for job, partition in runs)


def _run(definitions: dg.Definitions, instance: dg.DagsterInstance, job: str, partition: str) -> bool:
    from clinical_mm.progress import progress_bars

    begun = time.perf_counter()
    quiet = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
    with progress_bars():
        outcome = definitions.resolve_job_def(job).execute_in_process(
            instance=instance, partition_key=partition, run_config=quiet, raise_on_error=False
        )
    steps = len(outcome.get_asset_materialization_events())
    word = "succeeded" if outcome.success else "FAILED"
    print(f"{job} {partition}: {word}, {steps} assets in {time.perf_counter() - begun:.0f} s", flush=True)
    return outcome.success


def report_indices(directory: Path) -> list[Path]:
    """The index pages of the reports, one a task."""
    from clinical_mm.store import Store, current
    from clinical_mm.study.file import load_study

    study = load_study(directory / "study.yaml")
    store = Store(study.store_path)
    folders = [current(store.task(task, "reports")) for task in study.tasks]
    return [folder / "index.html" for folder in folders if folder is not None]


if __name__ == "__main__":
    sys.exit(main())
