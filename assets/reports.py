"""The report asset."""

import dagster as dg

from assets.explain import attributions
from assets.partitions import TASKS
from assets.resources import StudyResource
from assets.results import materialized, sentences


@dg.asset(group_name="reports", deps=[attributions], partitions_def=TASKS, kinds={"html"})
def reports(context: dg.AssetExecutionContext, study: StudyResource) -> dg.MaterializeResult:
    """One self-contained page a patient, and an index."""
    from clinical_mm.reports.write import write_reports

    with sentences():
        return materialized(write_reports(study.study, study.store, context.partition_key), "reports")
