"""Resources of this code location: the study that the environment names."""

import os

import dagster as dg

from assets.resources import STUDY_VARIABLE, StudyResource


def resources() -> dict[str, StudyResource]:
    """The study; its path is read from the environment when a run starts, so that a run never holds another's."""
    if STUDY_VARIABLE in os.environ:
        return {"study": StudyResource(path=dg.EnvVar(STUDY_VARIABLE))}
    return {"study": StudyResource(path="study.yaml")}
