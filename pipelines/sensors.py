"""The sensor that sees a new complete delivery, adds its partition and has it ingested."""

import dagster as dg

from assets.ingest import delivery
from assets.partitions import DELIVERIES, DELIVERIES_NAME
from assets.resources import StudyResource
from assets.results import sentences
from pipelines.jobs import ingest_delivery


@dg.sensor(job=ingest_delivery, minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
def landing(context: dg.SensorEvaluationContext, study: StudyResource) -> dg.SensorResult | dg.SkipReason:
    """Watch the landing folder; each delivery is requested once, under its own name."""
    from clinical_mm.ingest.delivery import complete_deliveries

    known = set(context.instance.get_dynamic_partitions(DELIVERIES_NAME))
    with sentences():
        new = [d.name for d in complete_deliveries(study.study) if d.name not in known]
    if not new:
        return dg.SkipReason("no new complete delivery")
    return dg.SensorResult(
        dynamic_partitions_requests=[DELIVERIES.build_add_request(new)],
        asset_events=[dg.AssetMaterialization(delivery.key, partition=name) for name in new],
        run_requests=[dg.RunRequest(run_key=name, partition_key=name) for name in new],
    )


SENSORS = [landing]
