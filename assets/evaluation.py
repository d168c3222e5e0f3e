"""Evaluation assets: the model judged on held-out patients, the champion chosen, and new patients scored by it."""

import dagster as dg

from assets.cohort import cohort
from assets.partitions import TASKS
from assets.resources import StudyResource
from assets.results import materialized, sentences
from assets.training import model


@dg.asset(group_name="evaluation", deps=[model], partitions_def=TASKS, pool="gpu", kinds={"scikitlearn"})
def evaluation(context: dg.AssetExecutionContext, study: StudyResource) -> dg.MaterializeResult:
    """Metrics with intervals over patients: fusion, every subset of modalities, the classical baselines."""
    from clinical_mm.evaluation.evaluate import evaluate

    with sentences():
        return materialized(evaluate(study.study, study.store, context.partition_key), "evaluation")


@dg.asset(group_name="evaluation", deps=[evaluation], partitions_def=TASKS, kinds={"mlflow"})
def champion(context: dg.AssetExecutionContext, study: StudyResource) -> dg.MaterializeResult:
    """The newest model registered as challenger, and promoted where it is measurably no worse."""
    from clinical_mm import registry

    with sentences():
        return materialized(registry.consider(study.study, study.store, context.partition_key), "champion")


@dg.asset(group_name="evaluation", deps=[cohort], partitions_def=TASKS, pool="gpu", kinds={"parquet"})
def scores(context: dg.AssetExecutionContext, study: StudyResource) -> dg.MaterializeResult:
    """The champion's predictions for patients whose outcome is not yet known."""
    from clinical_mm import registry
    from clinical_mm.evaluation.score import score

    loaded, store, task = study.study, study.store, context.partition_key
    with sentences():
        return materialized(score(loaded, store, task, registry.champion(loaded, store, task)), "scores")
