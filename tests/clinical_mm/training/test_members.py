"""Opening trained models: what is missing or damaged is named."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from clinical_mm.errors import ModelError
from clinical_mm.features.dataset import PatientDataset, collate
from clinical_mm.summary import StageSummary
from clinical_mm.training.members import about_version, load_member, load_members


@pytest.fixture
def member(trained: StageSummary, tmp_path: Path) -> Path:
    assert trained.path is not None
    return Path(shutil.copytree(trained.path / "fold_0", tmp_path / "fold_0"))


def test_a_member_gives_the_same_logits_whenever_it_is_opened(trained: StageSummary, built: Any) -> None:
    assert trained.path is not None
    features = built.features("relapse")
    ids = features.patients(0, "test")
    logits = []
    for _ in range(2):
        (opened,) = load_members(trained.path)
        assert not opened.model.training
        dataset = PatientDataset(features, opened.statistics, ids)
        with torch.no_grad():
            logits.append(opened.model(**collate([dataset[i] for i in range(len(ids))])).logits)
    assert logits[0].shape == (len(ids), 1)
    assert torch.equal(*logits)
    assert len(torch.unique(logits[0])) > 1


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(member: Path, name: str) -> None:
    (member / name).unlink()
    with pytest.raises(ModelError, match=f"lacks {name}"):
        load_member(member)


def test_a_directory_of_another_model_is_refused(member: Path) -> None:
    (member / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ModelError, match="no fusion model"):
        load_member(member)


def test_weights_of_another_configuration_are_refused(member: Path) -> None:
    config = json.loads((member / "config.json").read_text())
    config["hidden"] = 12
    (member / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="do not fit their configuration") as raised:
        load_member(member)
    assert "\n" not in str(raised.value)


def test_truncated_weights_are_refused(member: Path) -> None:
    weights = member / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="do not fit"):
        load_member(member)


def test_a_version_says_what_it_was_made_from(trained: StageSummary, built: Any) -> None:
    assert trained.path is not None
    about = about_version(trained.path)
    assert about["task"] == "relapse"
    assert about["version"] == trained.path.name
    assert about["folds"] == [0]
    assert about["modalities"] == ["text", "image", "genomics", "clinical"]
    assert about["libraries"]["torch"] == torch.__version__
