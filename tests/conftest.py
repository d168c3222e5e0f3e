"""Fixtures that more than one folder of tests needs."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data, or a skip that says where it was looked for."""
    path = Path(os.environ.get("CLINICAL_MM_REAL_DATA", REPOSITORY / ".." / "shared" / "data")).resolve()
    if not path.is_dir():
        pytest.skip(f"no real data at {path}: set CLINICAL_MM_REAL_DATA")
    return path


@pytest.fixture(scope="session")
def study_file() -> Callable[[Path, Path, Callable[[dict[str, Any]], None]], Path]:
    """`study_file(path, target, change)` writes a study file with changes, in place or beside it."""

    def write(path: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
        safe = YAML(typ="safe")
        content = safe.load(path.read_text(encoding="utf-8"))
        change(content)
        with target.open("w", encoding="utf-8") as file:
            safe.dump(content, file)
        return target

    return write
