"""The code location's definitions: `dagster dev -w workspace.yaml` loads them from here."""

import dagster as dg

import assets
from assets import text_encoder
from assets.ingest import delivery
from pipelines.jobs import JOBS
from pipelines.resources import resources
from pipelines.schedules import SCHEDULES
from pipelines.sensors import SENSORS


@dg.definitions
def defs() -> dg.Definitions:
    """All assets of the stages, and what starts them."""
    found = dg.load_assets_from_package_module(assets)
    if not text_encoder.IS_DECLARED:
        found = [a for a in found if a is not text_encoder.text_encoder]
    return dg.Definitions(
        assets=[delivery, *found],
        jobs=JOBS,
        schedules=SCHEDULES,
        sensors=SENSORS,
        resources=resources(),
        executor=dg.in_process_executor,
    )
