"""Schedules: the nightly refresh and the weekly retraining, at the times that the study file gives."""

from collections.abc import Iterator

import dagster as dg

from assets.partitions import TASKS
from assets.resources import declared_study
from pipelines.jobs import refresh_and_score, retrain

_TIMES = declared_study().schedules


def _for_every_task(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
    moment = context.scheduled_execution_time.isoformat()
    for task in TASKS.get_partition_keys():
        yield dg.RunRequest(run_key=f"{task} {moment}", partition_key=task)


nightly = dg.ScheduleDefinition(
    name="nightly",
    job=refresh_and_score,
    cron_schedule=_TIMES.nightly,
    execution_fn=_for_every_task,
    default_status=dg.DefaultScheduleStatus.RUNNING,
)

weekly = dg.ScheduleDefinition(
    name="weekly",
    job=retrain,
    cron_schedule=_TIMES.weekly,
    execution_fn=_for_every_task,
    default_status=dg.DefaultScheduleStatus.RUNNING,
)

SCHEDULES = [nightly, weekly]
