"""The attribution asset."""

import dagster as dg

from assets.evaluation import champion
from assets.partitions import TASKS
from assets.resources import StudyResource
from assets.results import materialized, sentences


@dg.asset(group_name="explain", deps=[champion], partitions_def=TASKS, pool="gpu", kinds={"captum"})
def attributions(context: dg.AssetExecutionContext, study: StudyResource) -> dg.MaterializeResult:
    """The champion's predictions for held-out patients, attributed to words, voxels, genes and covariates."""
    from clinical_mm.explain.explain import explain

    with sentences():
        return materialized(explain(study.study, study.store, context.partition_key), "attributions")
