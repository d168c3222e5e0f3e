"""The path of a second delivery, by the ticks of a real daemon: sensor, ingest, nightly, weekly."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from clinical_mm.cohort.build import load_cohort
from clinical_mm.store import Store, current, current_about
from clinical_mm.study.file import load_study
from clinical_mm.study.root import Study
from clinical_mm.synthetic.cohort import add_second_delivery, generate_cohort
from clinical_mm.training.members import latest_version

pytestmark = [pytest.mark.long, pytest.mark.service, pytest.mark.timeout(900)]

REPOSITORY = Path(__file__).resolve().parents[2]
FIRST, SECOND = "2026-01-05", "2026-02-02"
TASK = "relapse"
_DAGSTER_YAML = """\
telemetry: {enabled: false}
concurrency: {runs: {max_concurrent_runs: 1}}
"""


def _make_small(study: dict[str, Any]) -> None:
    study["tasks"] = {TASK: study["tasks"][TASK]}
    task = study["tasks"][TASK]
    task["training"] |= {"epochs": 2}
    task["evaluation"] = {"bootstrap": 100}
    task["explain"] = {"patients": 2, "steps": 8, "max_steps": 8}
    task["promotion"] = {"margin": 0.49, "beat_baseline": False}
    study["pretrain_text"] |= {"epochs": 1}
    study["schedules"] = {"nightly": "* * * * *", "weekly": "* * * * *"}


@pytest.fixture
def demo(tmp_path: Path, study_file: Callable[..., Path]) -> Path:
    """A small cohort whose schedules come every minute and whose model is trained for two epochs."""
    directory = tmp_path / "demo"
    generate_cohort(directory, seed=11, n_patients=60)
    study_file(directory / "study.yaml", directory / "study.yaml", _make_small)
    home = directory / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text(_DAGSTER_YAML, encoding="utf-8")
    return directory


@pytest.fixture
def daemon(demo: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The Dagster daemon with this project's workspace, ended with the test."""
    environment = os.environ | {
        "DAGSTER_HOME": str(demo / "dagster"),
        "CLINICAL_MM_STUDY": str(demo / "study.yaml"),
    }
    command = [Path(sys.executable).with_name("dagster-daemon"), "run", "-w", "workspace.yaml"]
    # Its databases are made by one process: two at once may stamp them twice, and then neither opens them.
    with dg.DagsterInstance.from_config(str(demo / "dagster")):
        pass
    with (demo / "daemon.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        yield process
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def test_a_second_delivery_goes_from_the_landing_folder_to_the_champions_reports(
    demo: Path, daemon: subprocess.Popen[bytes]
) -> None:
    study = load_study(demo / "study.yaml")
    store = Store(study.store_path)
    with dg.DagsterInstance.from_config(str(demo / "dagster")) as instance:

        def wait_for(what: str, is_there: Callable[[], bool], limit_s: float = 240.0) -> None:
            deadline = time.monotonic() + limit_s
            while not is_there():
                assert daemon.poll() is None, (demo / "daemon.log").read_text(encoding="utf-8")[-3000:]
                failed = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
                assert not failed, _why(instance, failed[0].run_id)
                assert time.monotonic() < deadline, f"{what}: not within {limit_s:.0f} s"
                time.sleep(1)

        wait_for("first ingest", lambda: _is_ingested(instance, FIRST))
        wait_for("first champion's reports", lambda: _reported(study, store) is not None)
        first = latest_version(store, TASK)
        n_first = len(load_cohort(store, TASK).cohort)
        encoder = current(store.text_encoder)
        reported = _reported(study, store)

        add_second_delivery(demo)
        wait_for("second ingest", lambda: _is_ingested(instance, SECOND))
        wait_for("retraining", lambda: latest_version(store, TASK) != first)
        wait_for("second champion's reports", lambda: _reported(study, store) != reported)

        assert len(load_cohort(store, TASK).cohort) > n_first
        # Patients whose outcome came with the second delivery are tested now: none of them was read in pretraining, so
        # the encoder stays, and the champion still reads its tokens.
        assert current(store.text_encoder) == encoder
        wait_for("scores", lambda: current_about(store.task(TASK, "scores")) is not None)
        ingests = instance.get_runs(dg.RunsFilter(job_name="ingest_delivery"))
        assert sorted(r.tags["dagster/partition"] for r in ingests) == [FIRST, SECOND]


def _is_ingested(instance: dg.DagsterInstance, name: str) -> bool:
    done = instance.get_materialized_partitions(dg.AssetKey("notes"))
    runs = instance.get_runs(
        dg.RunsFilter(
            job_name="ingest_delivery",
            tags={"dagster/partition": name},
            statuses=[dg.DagsterRunStatus.SUCCESS],
        )
    )
    return name in done and bool(runs)


def _reported(study: Study, store: Store) -> str | None:
    about = current_about(store.task(TASK, "reports"))
    return None if about is None else str(about["fingerprint"])


def _why(instance: dg.DagsterInstance, run_id: str) -> str:
    messages = [e.dagster_event.message for e in instance.all_logs(run_id) if e.dagster_event is not None]
    return "\n".join(m for m in messages if m)[-3000:]
