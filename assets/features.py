"""Feature assets: token windows, image tensors and matrices, computed once for each content and setting."""

import dagster as dg

from assets.cohort import cohort
from assets.partitions import TASKS
from assets.resources import StudyResource
from assets.results import materialized, sentences
from assets.text_encoder import IS_DECLARED, text_encoder

_DEPENDENCIES = [cohort, text_encoder] if IS_DECLARED else [cohort]


@dg.asset(group_name="features", deps=_DEPENDENCIES, partitions_def=TASKS, kinds={"parquet"})
def features(context: dg.AssetExecutionContext, study: StudyResource) -> dg.MaterializeResult:
    """What the model reads of every patient of the cohort."""
    from clinical_mm.features.build import build_features

    with sentences():
        return materialized(build_features(study.study, study.store, context.partition_key), "features")
