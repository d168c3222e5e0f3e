"""Which checkpoints count, and which are kept."""

import json
from pathlib import Path
from typing import Any

import pytest

from clinical_mm.errors import StoreError
from clinical_mm.training.checkpoints import keep_newest_and_best, mark_whole, whole_checkpoints


def checkpoint(
    folder: Path, step: int, best: int | None = None, *, is_marked: bool = True, **state: Any
) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    content = {
        "global_step": step,
        "max_steps": 100,
        "best_model_checkpoint": None if best is None else f"/elsewhere/checkpoint-{best}",
    }
    (path / "trainer_state.json").write_text(json.dumps(content | state))
    (path / "model.safetensors").write_bytes(b"weights")
    if is_marked:
        mark_whole(path)
    return path


def test_no_folder_and_an_empty_one_have_no_checkpoint(tmp_path: Path) -> None:
    assert whole_checkpoints(tmp_path) == whole_checkpoints(tmp_path / "none") == []


def test_whole_ones_come_by_their_steps_not_by_their_names(tmp_path: Path) -> None:
    for step in (100, 8, 20):
        checkpoint(tmp_path, step)
    assert [c.step for c in whole_checkpoints(tmp_path)] == [8, 20, 100]


def test_one_without_its_mark_is_removed_and_nothing_else_is(tmp_path: Path) -> None:
    whole = checkpoint(tmp_path, 8)
    half = checkpoint(tmp_path, 16, is_marked=False)
    other = tmp_path / "tensorboard"
    other.mkdir()
    assert [c.path for c in whole_checkpoints(tmp_path)] == [whole]
    assert not half.exists()
    assert other.is_dir()


def test_the_mark_is_made_over_an_older_one(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 8)
    mark_whole(path)
    assert [c.step for c in whole_checkpoints(tmp_path)] == [8]


def test_a_training_has_ended_by_its_steps_or_by_early_stopping(tmp_path: Path) -> None:
    stopped = {"TrainerControl": {"args": {"should_training_stop": True}, "attributes": {}}}
    checkpoint(tmp_path, 8)
    checkpoint(tmp_path, 16, stateful_callbacks=stopped)
    checkpoint(tmp_path, 100)
    assert [c.is_last for c in whole_checkpoints(tmp_path)] == [False, True, True]


def test_only_the_newest_and_the_best_that_it_names_are_kept(tmp_path: Path) -> None:
    for step, best in ((8, 8), (16, 16), (24, 16), (32, 16)):
        checkpoint(tmp_path, step, best)
    keep_newest_and_best(tmp_path)
    kept = whole_checkpoints(tmp_path)
    assert [c.step for c in kept] == [16, 32]
    assert kept[-1].best == "checkpoint-16"


def test_without_validation_only_the_newest_is_kept(tmp_path: Path) -> None:
    for step in (8, 16):
        checkpoint(tmp_path, step)
    keep_newest_and_best(tmp_path)
    assert [c.step for c in whole_checkpoints(tmp_path)] == [16]


def test_a_marked_checkpoint_with_a_damaged_state_is_an_error(tmp_path: Path) -> None:
    (checkpoint(tmp_path, 8) / "trainer_state.json").write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        whole_checkpoints(tmp_path)
