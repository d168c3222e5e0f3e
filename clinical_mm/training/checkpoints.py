"""Checkpoints of an unfinished training: which of them are whole, and where to carry on.

A process may die while a checkpoint is written. The Trainer writes it; it counts once its mark stands in it, which is
written last. What a checkpoint holds is the Trainer's matter.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from clinical_mm.store import read_json, write_json

_MARK = "complete.json"
_STATE = "trainer_state.json"


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint.

    Attributes:
        path: its folder.
        step: optimizer steps that were made.
        best: folder name of the best checkpoint so far, or None where nothing was validated.
        is_last: training had come to its end, by its epochs or by early stopping.
    """

    path: Path
    step: int
    best: str | None
    is_last: bool


def mark_whole(path: Path) -> None:
    """Say of a checkpoint that all of it is on disk: its files are synced, then its mark is written."""
    for file in path.iterdir():
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
    write_json(path / _MARK, {"is_complete": True})


def whole_checkpoints(folder: Path) -> list[Checkpoint]:
    """The whole checkpoints of a training, oldest first; broken ones are removed."""
    if not folder.is_dir():
        return []
    found = []
    for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        if not (path / _MARK).is_file():
            shutil.rmtree(path)
            continue
        state = read_json(path / _STATE)
        control = state.get("stateful_callbacks", {}).get("TrainerControl", {}).get("args", {})
        is_stopped = bool(control.get("should_training_stop", False))
        best = state.get("best_model_checkpoint")
        found.append(
            Checkpoint(
                path=path,
                step=int(state["global_step"]),
                best=Path(best).name if best else None,
                is_last=is_stopped or int(state["global_step"]) >= int(state["max_steps"]),
            )
        )
    return sorted(found, key=lambda checkpoint: checkpoint.step)


def keep_newest_and_best(folder: Path) -> None:
    """Remove what is neither the newest whole checkpoint nor the best that it names."""
    checkpoints = whole_checkpoints(folder)
    for checkpoint in checkpoints[:-1]:
        if checkpoint.path.name != checkpoints[-1].best:
            shutil.rmtree(checkpoint.path)
