"""Evaluations in the store: one a model version, so that a champion keeps its own while challengers are judged.

How one is made stands in `evaluate`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from clinical_mm import tables
from clinical_mm.errors import StoreError
from clinical_mm.evaluation.calibration import Calibration
from clinical_mm.store import Store, current, current_about, read_json, safe_name, write_json

ABOUT = "evaluation.json"
REPORT = "report.txt"
_LATEST = "latest.json"


@dataclass(frozen=True)
class Evaluation:
    """What the evaluation of a version left behind.

    Attributes:
        version: of the model.
        fingerprint: of what it was made from.
        directory: the snapshot.
        about: `evaluation.json`: first_line, comparisons, reliability, counts.
        calibration: of the fusion model on all modalities.
    """

    version: str
    fingerprint: str
    directory: Path
    about: dict[str, Any]
    calibration: Calibration

    @property
    def first_line(self) -> str:
        """Whether fusion beats the best classical baseline, in a sentence."""
        return str(self.about["first_line"])

    def metrics(self) -> pd.DataFrame:
        """`tables.METRICS`."""
        return tables.read_table(tables.METRICS, self.directory)

    def predictions(self) -> pd.DataFrame:
        """`tables.PREDICTIONS`."""
        return tables.read_table(tables.PREDICTIONS, self.directory)


def evaluation_folder(store: Store, task: str, version: str) -> Path:
    """Folder of the snapshots of a version's evaluation."""
    return store.task(task, "evaluation") / safe_name(version)


def load_evaluation(store: Store, task: str, version: str) -> Evaluation | None:
    """The evaluation of a version, or None where it was never evaluated."""
    folder = evaluation_folder(store, task, version)
    directory, pointer = current(folder), current_about(folder)
    if directory is None or pointer is None:
        return None
    return Evaluation(
        version,
        str(pointer["fingerprint"]),
        directory,
        read_json(directory / ABOUT),
        Calibration.load(directory),
    )


def latest_evaluated(store: Store, task: str) -> str | None:
    """The version that was evaluated last, or None."""
    path = store.task(task, "evaluation") / _LATEST
    return str(read_json(path)["version"]) if path.is_file() else None


def require_evaluation(store: Store, task: str, version: str | None = None) -> Evaluation:
    """The evaluation of a version; default: of the one that was evaluated last.

    Raises:
        StoreError: there is none.
    """
    version = version or latest_evaluated(store, task)
    found = None if version is None else load_evaluation(store, task, version)
    if found is None:
        what = f"model {version} of task {task}" if version else f"no model of task {task}"
        raise StoreError(
            f"{what} was {'not ' if version else ''}evaluated yet: run `clinical-mm evaluate` first"
        )
    return found


def point_to(store: Store, task: str, version: str) -> None:
    """Remember which version was evaluated last."""
    write_json(store.task(task, "evaluation") / _LATEST, {"version": version})
