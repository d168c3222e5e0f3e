"""The study as a Dagster resource: which file, and the store that it names."""

import os
from functools import cache
from pathlib import Path

import dagster as dg

from clinical_mm.store import Store
from clinical_mm.study.file import load_study
from clinical_mm.study.root import Study

STUDY_VARIABLE = "CLINICAL_MM_STUDY"
"""Environment variable with the study file's path; default: study.yaml in the working directory."""


def study_path() -> Path:
    """The study file that this code location is for."""
    return Path(os.environ.get(STUDY_VARIABLE, "study.yaml"))


@cache
def declared_study() -> Study:
    """The study as it stood when the code location was loaded: its tasks are the partitions."""
    return load_study(study_path())


class StudyResource(dg.ConfigurableResource):
    """The study file and its store, read anew in every run."""

    path: str

    @property
    def study(self) -> Study:
        """The study.

        Raises:
            StudyError: the file is missing or wrong.
        """
        return load_study(Path(self.path))

    @property
    def store(self) -> Store:
        """The store that the study names.

        Raises:
            StoreError: it cannot be written.
        """
        return Store(self.study.store_path)
