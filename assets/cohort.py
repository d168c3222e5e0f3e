"""Cohort assets: who is who over all deliveries, and one row a patient for every task."""

import dagster as dg

from assets.ingest import clinical, genomic_samples, notes, outcomes, series
from assets.partitions import TASKS
from assets.resources import StudyResource
from assets.results import check_specs, materialized, sentences

COHORT_CHECKS = (
    "no patient in two splits",
    "nothing later than the index time",
    "every item belongs to a linked patient",
)


@dg.asset(group_name="cohort", deps=[notes, series, genomic_samples, clinical, outcomes], kinds={"parquet"})
def links(study: StudyResource) -> dg.MaterializeResult:
    """Which patient every id of every source stands for, and the rule that says so."""
    from clinical_mm.cohort.linkage import link

    with sentences():
        return materialized(link(study.study, study.store), "links")


@dg.asset(
    group_name="cohort",
    deps=[links],
    partitions_def=TASKS,
    check_specs=check_specs("cohort", *COHORT_CHECKS),
    kinds={"parquet"},
)
def cohort(context: dg.AssetExecutionContext, study: StudyResource) -> dg.MaterializeResult:
    """One row a patient and index time, with what each modality has, and who is held out."""
    from clinical_mm.cohort.build import build_cohort

    with sentences():
        summary = build_cohort(study.study, study.store, context.partition_key)
    return materialized(summary, "cohort", COHORT_CHECKS)
