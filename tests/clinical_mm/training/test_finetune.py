"""The stage `train`: what a version holds, what it is named by, and that it opens alone."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from clinical_mm.errors import ModelError, StoreError, StudyError
from clinical_mm.store import Store, read_json
from clinical_mm.summary import StageSummary
from clinical_mm.training.finetune import latest_version, train, version_directory

_OPEN_ALONE = """
import json, sys
from pathlib import Path
from clinical_mm.features.encoder import load_tokenizer
from clinical_mm.training.members import load_members
directory = Path(sys.argv[1])
members = load_members(directory)
tokenizer = load_tokenizer(str(directory / "fold_0"))
print(json.dumps({
    "folds": [m.fold for m in members],
    "training": [m.model.training for m in members],
    "modalities": list(members[0].model.config.modalities),
    "n_genes": len(members[0].statistics.genomics_features),
    "vocabulary": len(tokenizer),
    "tokens": tokenizer.tokenize("the tumour"),
}))
"""


@pytest.mark.slow
def test_a_finished_version_opens_in_another_process_without_store_study_or_network(
    trained: StageSummary, tmp_path: Path
) -> None:
    assert trained.path is not None
    moved = tmp_path / "somewhere" / "else"
    moved.parent.mkdir()
    shutil.copytree(trained.path, moved)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "CLINICAL_MM_"))}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "empty"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _OPEN_ALONE, str(moved)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    opened = json.loads(done.stdout.splitlines()[-1])
    assert opened["folds"] == [0]
    assert opened["training"] == [False]
    assert opened["modalities"] == ["text", "image", "genomics", "clinical"]
    assert opened["n_genes"] > 0
    assert opened["vocabulary"] == 300
    assert "[UNK]" not in opened["tokens"]


def test_a_version_holds_weights_tokenizer_statistics_study_and_card_and_no_pickle(
    trained: StageSummary, built: Any
) -> None:
    directory = trained.path
    assert directory is not None
    files = {str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file()}
    of_member = {"model.safetensors", "config.json", "tokenizer.json", "statistics.json", "training.json"}
    assert {f"fold_0/{name}" for name in of_member} <= files
    assert {"README.md", "model.json", "study.json"} <= files
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    assert not [name for name in files if "checkpoint" in name]
    card = (directory / "README.md").read_text(encoding="utf-8")
    assert built.study.tasks["relapse"].question in card
    assert built.study.intended_use in card
    assert str(trained.facts["version"]) in card
    about = read_json(directory / "model.json")
    assert about["data_fingerprint"] == built.features("relapse").fingerprint
    assert about["seed"] == 7
    with safe_open(directory / "fold_0" / "model.safetensors", "pt") as weights:
        names = list(weights.keys())
    for modality in ("text", "image", "genomics", "clinical"):
        assert any(name.startswith(f"encoders.{modality}.") for name in names)


def test_no_file_of_a_version_names_a_patient(trained: StageSummary, built: Any) -> None:
    assert trained.path is not None
    patients = list(built.features("relapse").cohort.index)
    texts = [path for path in trained.path.rglob("*") if path.suffix in {".json", ".md"}]
    assert len(texts) > 5
    for path in texts:
        content = path.read_text(encoding="utf-8")
        # Ids are four digits: not those within a longer number.
        assert not [p for p in patients if re.search(rf"(?<![\d.]){p}(?!\d)", content)], path.name


def test_the_tensorboard_log_has_a_scalar_of_every_epoch(trained: StageSummary) -> None:
    assert trained.path is not None
    events = EventAccumulator(str(trained.path / "tensorboard" / "fold_0"))
    events.Reload()
    tags = events.Tags()["scalars"]
    assert {"train/loss", "eval/criterion", "train/learning_rate"} <= set(tags)
    assert [e.value for e in events.Scalars("train/loss")] == pytest.approx(
        trained.curves["training_loss"], rel=1e-4
    )
    assert [e.value for e in events.Scalars("eval/criterion")] == pytest.approx(
        trained.curves["validation_loss"], rel=1e-4
    )


def test_the_summary_counts_the_patients_of_the_splits(trained: StageSummary, built: Any) -> None:
    splits = built.features("relapse").splits
    row = trained.tables["members"].iloc[0]
    assert row["training patients"] == (splits["split"] == "train").sum()
    assert row["validation patients"] == (splits["split"] == "validation").sum()
    assert row["epochs"] == 2


def test_training_twice_changes_nothing(trained: StageSummary, built: Any) -> None:
    assert trained.path is not None
    before = {p: p.stat().st_mtime_ns for p in trained.path.rglob("*") if p.is_file()}
    again = train(built.study, built.store, "relapse")
    assert not trained.is_unchanged
    assert again.is_unchanged
    assert again.path == trained.path
    assert again.facts == trained.facts
    assert before == {p: p.stat().st_mtime_ns for p in trained.path.rglob("*") if p.is_file()}


def test_another_seed_or_setting_gives_another_version_beside_the_first(
    trained: StageSummary, built: Any
) -> None:
    changed = built.changed("relapse", training={"epochs": 1})
    other_setting = train(changed, built.store, "relapse")
    other_seed = train(changed, built.store, "relapse", seed=8)
    paths = [trained.path, other_setting.path, other_seed.path]
    assert len({_weights(path) for path in paths if path}) == 3
    assert latest_version(built.store, "relapse") == other_seed.facts["version"]
    assert all(path is not None and (path / "model.json").is_file() for path in paths)
    again = train(built.study, built.store, "relapse")
    assert again.is_unchanged
    assert latest_version(built.store, "relapse") == trained.facts["version"]


def test_the_same_seed_gives_bit_identical_weights(trained: StageSummary, built: Any, tmp_path: Path) -> None:
    assert trained.path is not None
    aside = tmp_path / "first"
    trained.path.rename(aside)
    again = train(built.study, built.store, "relapse")
    assert not again.is_unchanged
    assert again.path == trained.path
    assert _weights(aside) == _weights(again.path)
    assert _course(aside) == _course(again.path)


def test_a_task_without_features_names_the_stage_to_run(built: Any, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="features"):
        train(built.study, Store(tmp_path / "empty"), "relapse")
    with pytest.raises(StudyError, match="no task 'relaps'"):
        train(built.study, built.store, "relaps")


def test_a_second_run_of_the_same_task_is_refused_while_one_is_training(built: Any) -> None:
    with built.store.lock("train-relapse"), pytest.raises(StoreError, match="train-relapse"):
        train(built.study, built.store, "relapse")


def test_what_was_begun_with_other_settings_is_removed(built: Any) -> None:
    stale = built.store.task("grade", "models") / ".training-0123456789ab" / "checkpoints"
    stale.mkdir(parents=True)
    train(built.study, built.store, "grade")
    assert not stale.parent.exists()


def test_an_unknown_version_is_named_with_what_to_do(built: Any) -> None:
    with pytest.raises(ModelError, match="clinical-mm train"):
        version_directory(built.store, "relapse", "0123456789ab")
    with pytest.raises(ModelError, match="no model of task never"):
        latest_version(built.store, "never")


def _weights(version: Path) -> bytes:
    return (version / "fold_0" / "model.safetensors").read_bytes()


def _course(version: Path) -> dict[str, Any]:
    return {k: v for k, v in read_json(version / "fold_0" / "training.json").items() if k != "duration_s"}
