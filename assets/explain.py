"""The attribution asset."""

import dagster as dg

from assets.evaluation import champion
from assets.partitions import TASKS
from assets.resources import StudyResource
from assets.results import materialized, sentences


@dg.asset(group_name="explain", deps=[champion], partitions_def=TASKS, pool="gpu", kinds={"captum"})
def attributions(context: dg.AssetExecutionContext, study: StudyResource) -> dg.MaterializeResult:
    """The champion's predictions for held-out patients, attributed to words, voxels, genes and covariates.

    While no model was good enough to become champion, those of the newest one.
    """
    from clinical_mm import registry
    from clinical_mm.explain.explain import explain

    loaded, store, task = study.study, study.store, context.partition_key
    with sentences():
        return materialized(
            explain(loaded, store, task, registry.champion(loaded, store, task)), "attributions"
        )
