"""A study for the code location: assets read it when they are first imported."""

import os
from importlib.resources import files
from pathlib import Path

import pytest

from assets.resources import STUDY_VARIABLE, declared_study


@pytest.fixture(scope="session")
def study_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the template study, declared as this code location's."""
    directory = tmp_path_factory.mktemp("code_location")
    text = files("clinical_mm").joinpath("study_template.yaml").read_text(encoding="utf-8")
    (directory / "study.yaml").write_text(text, encoding="utf-8")
    (directory / "landing").mkdir()
    os.environ[STUDY_VARIABLE] = str(directory / "study.yaml")
    declared_study.cache_clear()
    return directory
