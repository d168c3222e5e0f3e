"""The study's own text encoder, pretrained on its notes: an asset only where the study declares `pretrain_text`."""

import dagster as dg

from assets.cohort import cohort
from assets.resources import StudyResource, declared_study
from assets.results import materialized, sentences


@dg.asset(group_name="training", deps=[cohort], pool="gpu", kinds={"huggingface"})
def text_encoder(study: StudyResource) -> dg.MaterializeResult:
    """A BERT pretrained by masked language modelling on the notes of patients who are not held out."""
    from clinical_mm.training.pretrain import pretrain_text

    with sentences():
        return materialized(pretrain_text(study.study, study.store), "text_encoder")


IS_DECLARED = declared_study().pretrain_text is not None
"""Whether the study pretrains an encoder of its own."""
