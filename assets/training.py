"""The training asset: the fine-tuned fusion model of a task."""

import dagster as dg

from assets.features import features
from assets.partitions import TASKS
from assets.resources import StudyResource
from assets.results import materialized, sentences


@dg.asset(
    group_name="training", deps=[features], partitions_def=TASKS, pool="gpu", kinds={"pytorch", "huggingface"}
)
def model(context: dg.AssetExecutionContext, study: StudyResource) -> dg.MaterializeResult:
    """The fusion model fine-tuned on the training patients, one member a fold."""
    from clinical_mm.training.finetune import train

    with sentences():
        return materialized(train(study.study, study.store, context.partition_key), "model")
