"""A training that died is carried on: the member is, bit by bit, the one that would have been."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from clinical_mm.store import read_json
from clinical_mm.study.file import load_study
from clinical_mm.study.root import Study
from clinical_mm.training import fold as fold_module
from clinical_mm.training import trainer as trainer_module
from clinical_mm.training.checkpoints import mark_whole
from clinical_mm.training.finetune import train
from clinical_mm.training.fold import Sources, train_fold
from clinical_mm.training.quiet import quiet

pytestmark = pytest.mark.slow

_TRAIN = """
import os, signal, sys
from pathlib import Path
from transformers import TrainerCallback
from clinical_mm.store import Store
from clinical_mm.study.file import load_study
from clinical_mm.training import trainer
from clinical_mm.training.finetune import train

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Die(TrainerCallback):
    def __init__(self, at):
        self.at = at
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.at:
            die()

path, how, at = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
if how == "saving":
    mark = trainer.mark_whole
    def dying(folder):
        if folder.name == f"checkpoint-{at}":
            (folder / "model.safetensors").write_bytes(b"half")
            die()
        mark(folder)
    trainer.mark_whole = dying
study = load_study(path)
train(study, Store(study.store_path), "relapse", callbacks=(Die(at),) if how == "step" else ())
"""


class Stop(Exception):
    """The process dies, as far as training can tell."""


class StopAt(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise Stop


def run(path: Path, how: str, at: int = 0) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", _TRAIN, str(path), how, str(at)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def member(version: Path) -> dict[str, Any]:
    """All that a finished member is, but for how long it took."""
    content = read_json(version / "fold_0" / "training.json")
    content.pop("duration_s")
    weights = (version / "fold_0" / "model.safetensors").read_bytes()
    return {"weights": weights, "content": content}


@pytest.fixture(scope="module")
def three_epochs(built: Any, study_file: Callable[..., Path]) -> Path:
    """A study file whose `relapse` trains for three epochs of six or seven steps, dropout and augmentation in all."""

    def change(content: dict[str, Any]) -> None:
        content["tasks"]["relapse"]["training"] |= {"epochs": 3, "patience": 5}

    return study_file(built.path, built.path.with_name("three_epochs.yaml"), change)


@pytest.fixture(scope="module")
def uninterrupted(three_epochs: Path, built: Any) -> dict[str, Any]:
    study = load_study(three_epochs)
    summary = train(study, built.store, "relapse")
    assert summary.path is not None
    made = member(summary.path)
    shutil.rmtree(summary.path)
    return made


@pytest.mark.parametrize(
    ("how", "at_epochs"),
    [("step", 0.5), ("step", 1.5), ("saving", 2.0)],
    ids=["in the first epoch", "in the second epoch", "while a checkpoint is written"],
)
def test_kill_9_and_the_same_command_again_give_the_same_member(
    three_epochs: Path,
    uninterrupted: dict[str, Any],
    built: Any,
    how: str,
    at_epochs: float,
) -> None:
    steps_per_epoch = -(-len(built.features("relapse").patients(0, "train")) // 4)
    killed = run(three_epochs, how, int(at_epochs * steps_per_epoch))
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    models = built.store.task("relapse", "models")
    (unfinished,) = models.glob(".training-*")
    assert len(list(unfinished.glob("checkpoints/fold_0/*/complete.json"))) == (at_epochs > 1)
    again = run(three_epochs, "finish")
    assert again.returncode == 0, again.stderr[-2000:]
    assert not list(models.glob(".training-*"))
    version = models / unfinished.name.removeprefix(".training-")
    made = member(version)
    shutil.rmtree(version)
    assert made["content"] == uninterrupted["content"]
    assert made["weights"] == uninterrupted["weights"]


def several_epochs(built: Any) -> Study:
    changed: Study = built.changed(
        "grade",
        training={"epochs": 30, "patience": 2, "learning_rate": 0.05},
        model={"modality_dropout": 0.3},
    )
    return changed


def fold_of(built: Any, study: Study, directory: Path, *callbacks: TrainerCallback) -> dict[str, Any]:
    with quiet(1):
        features = built.features("grade", study)
        content = train_fold(features, 0, Sources(None, None), 7, directory, callbacks=callbacks)
    return {key: value for key, value in content.items() if key != "duration_s"}


def test_early_stopping_counts_on_where_it_was(built: Any, tmp_path: Path) -> None:
    """Died in each of the epochs in turn, the one after the best among them."""
    study = several_epochs(built)
    whole = fold_of(built, study, tmp_path / "whole")
    n_steps = -(-len(built.features("grade").patients(0, "train")) // 4)
    for epoch in range(whole["n_epochs"]):
        with pytest.raises(Stop):
            fold_of(built, study, tmp_path / "died", StopAt(epoch * n_steps + 2))
    assert fold_of(built, study, tmp_path / "died") == whole
    assert _weights(tmp_path / "died") == _weights(tmp_path / "whole")


def test_a_training_that_ended_and_died_before_its_member_was_written_trains_no_further(
    built: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = several_epochs(built)
    whole = fold_of(built, study, tmp_path / "whole")

    def die(*args: Any) -> None:
        raise Stop

    with monkeypatch.context() as patched:
        patched.setattr(fold_module, "_write_member", die)
        with pytest.raises(Stop):
            fold_of(built, study, tmp_path / "died")
    assert fold_of(built, study, tmp_path / "died", StopAt(0), StopAt(1)) == whole
    assert _weights(tmp_path / "died") == _weights(tmp_path / "whole")


def test_a_half_written_checkpoint_is_ignored_and_removed(
    built: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = several_epochs(built)
    whole = fold_of(built, study, tmp_path / "whole")
    n_steps = -(-len(built.features("grade").patients(0, "train")) // 4)
    half = tmp_path / "died" / "checkpoints" / "fold_0" / f"checkpoint-{2 * n_steps}"

    def die_at_the_second(path: Path) -> None:
        if path == half:
            (half / "optimizer.pt").write_bytes(b"half")
            raise Stop
        mark_whole(path)

    with monkeypatch.context() as patched:
        patched.setattr(trainer_module, "mark_whole", die_at_the_second)
        with pytest.raises(Stop):
            fold_of(built, study, tmp_path / "died")
    assert (half / "trainer_state.json").is_file()
    assert fold_of(built, study, tmp_path / "died") == whole
    assert _weights(tmp_path / "died") == _weights(tmp_path / "whole")


def test_a_training_goes_on_where_its_store_was_moved(built: Any, tmp_path: Path) -> None:
    study = several_epochs(built)
    whole = fold_of(built, study, tmp_path / "whole")
    n_steps = -(-len(built.features("grade").patients(0, "train")) // 4)
    with pytest.raises(Stop):
        fold_of(built, study, tmp_path / "here", StopAt((whole["best_epoch"] + 1) * n_steps + 1))
    (tmp_path / "here").rename(tmp_path / "there")
    assert fold_of(built, study, tmp_path / "there") == whole
    assert _weights(tmp_path / "there") == _weights(tmp_path / "whole")


def _weights(directory: Path) -> bytes:
    return (directory / "fold_0" / "model.safetensors").read_bytes()
