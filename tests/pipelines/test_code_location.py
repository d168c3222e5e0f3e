import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from assets.resources import StudyResource

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def definitions(study_directory: Path) -> dg.Definitions:
    from pipelines.definitions import defs

    found = defs()
    assert isinstance(found, dg.Definitions)
    return found


def test_importing_the_definitions_imports_no_heavy_library(study_directory: Path) -> None:
    script = (
        "import sys, pipelines.definitions as d; d.defs()\n"
        "print([m for m in ('torch', 'transformers', 'monai', 'captum', 'mlflow', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
        cwd=study_directory,
    )
    assert done.stdout.strip() == "[]"


def test_assets_and_pipelines_are_this_projects() -> None:
    script = "import assets, pipelines, clinical_mm; print(assets.__file__, pipelines.__file__, clinical_mm.__file__)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd="/")
    assert [Path(p).parent.parent for p in done.stdout.split()] == [REPOSITORY] * 3


def test_the_stages_are_assets_in_groups(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    groups = {key.to_user_string(): graph.get(key).group_name for key in graph.get_all_asset_keys()}
    assert {
        groups[n] for n in ("delivery", "notes", "series", "genomic_samples", "clinical", "outcomes")
    } == {"ingest"}
    assert {
        n: groups[n] for n in ("cohort", "features", "model", "evaluation", "attributions", "reports")
    } == {
        "cohort": "cohort",
        "features": "features",
        "model": "training",
        "evaluation": "evaluation",
        "attributions": "explain",
        "reports": "reports",
    }


def test_ingest_is_blocked_by_conservation_and_cohorts_by_their_leaks(definitions: dg.Definitions) -> None:
    checks = [k for a in definitions.resolve_asset_graph().asset_check_keys for k in [a]]
    names = {(k.asset_key.to_user_string(), k.name) for k in checks}
    assert {
        (a, "conservation") for a in ("notes", "series", "genomic_samples", "clinical", "outcomes")
    } <= names
    assert ("cohort", "no_patient_in_two_splits") in names
    assert ("cohort", "nothing_later_than_the_index_time") in names


def test_retraining_goes_from_the_cohort_to_the_reports(definitions: dg.Definitions) -> None:
    job = definitions.resolve_job_def("retrain")
    steps = {node.name for node in job.nodes}
    assert {
        "links",
        "cohort",
        "text_encoder",
        "features",
        "model",
        "evaluation",
        "champion",
        "reports",
    } <= steps
    assert "scores" not in steps


def test_schedules_run_every_task_at_the_studys_times(definitions: dg.Definitions) -> None:
    schedules = {s.name: s for s in definitions.schedules or []}
    assert isinstance(schedules["nightly"], dg.ScheduleDefinition)
    assert (schedules["nightly"].cron_schedule, schedules["weekly"].cron_schedule) == (
        "0 2 * * *",
        "0 4 * * 0",
    )
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(
            instance=instance,
            scheduled_execution_time=datetime(2026, 1, 11, 4, tzinfo=UTC),
            repository_def=definitions.get_repository_def(),
        )
        requests = schedules["weekly"].evaluate_tick(context).run_requests
    assert [r.partition_key for r in requests or []] == ["relapse"]


def test_the_sensor_asks_once_for_a_delivery_that_is_complete(
    study_directory: Path, definitions: dg.Definitions
) -> None:
    from pipelines.sensors import landing

    for name, is_complete in (("2026-01-05", True), ("2026-02-02", False)):
        folder = study_directory / "landing" / name
        folder.mkdir()
        (folder / "notes.csv").touch()
        if is_complete:
            (folder / "_SUCCESS").touch()
    resources = {"study": StudyResource(path=str(study_directory / "study.yaml"))}
    with dg.DagsterInstance.ephemeral() as instance:
        with dg.build_sensor_context(
            instance=instance, definitions=definitions, resources=resources
        ) as context:
            tick = landing(context)
        assert isinstance(tick, dg.SensorResult)
        assert [r.partition_key for r in tick.run_requests or []] == ["2026-01-05"]
        instance.add_dynamic_partitions("deliveries", ["2026-01-05"])
        with dg.build_sensor_context(
            instance=instance, definitions=definitions, resources=resources
        ) as context:
            assert isinstance(landing(context), dg.SkipReason)
