"""The card of a version: what it predicts, reads and was trained on, in words."""

from typing import Any

import pytest

from clinical_mm.training.model_card import model_card

FOLD = {
    "fold": 0,
    "n_training": 22,
    "n_validation": 5,
    "best_epoch": 3,
    "n_epochs": 8,
    "criterion": 0.61234,
    "criterion_constant": 0.7,
    "discrimination": 0.75,
}


def card(built: Any, task: str, *folds: dict[str, Any]) -> str:
    about = {
        "task": task,
        "version": "0123456789ab",
        "made": "2026-01-05T10:00:00+00:00",
        "seed": 7,
        "modalities": list(built.study.tasks[task].modalities.names),
        "study_hash": "a" * 64,
        "data_fingerprint": "b" * 64,
        "libraries": {"python": "3.11", "torch": "2.13"},
    }
    return model_card(built.study, about, list(folds) or [FOLD])


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ("relapse", "`relapse` = `yes`, yes or no"),
        ("grade", "one logit for each of low, intermediate, high, in this order"),
        ("survival", "Time to `died` = `yes` in months, right-censored"),
    ],
)
def test_it_says_what_the_output_means(built: Any, task: str, says: str) -> None:
    text = card(built, task)
    assert says in text
    assert built.study.tasks[task].question in text
    assert built.study.intended_use in text


def test_it_lists_what_is_read_with_its_settings(built: Any) -> None:
    text = card(built, "relapse")
    assert "- **text**: notes, by `pretrained` (full), windows of 64 tokens" in text
    assert "- **image**: DICOM series, by DenseNet in 3D on 8 × 8 × 8 voxels" in text
    assert "**genomics**" not in card(built, "relapse").split("## What it reads")[0]


def test_each_member_has_a_row_of_its_figures(built: Any) -> None:
    text = card(built, "folds", FOLD, FOLD | {"fold": 1, "discrimination": None})
    assert "2 members, one a fold" in text
    assert "| 0 | 22 | 5 | 3 of 8 | 0.612 | 0.700 | 0.750 |" in text
    assert "| 1 | 22 | 5 | 3 of 8 | 0.612 | 0.700 | – |" in text
    assert "AUROC" in text
    assert "c-index" in card(built, "survival")


def test_it_begins_with_metadata_that_the_hub_can_read(built: Any) -> None:
    from ruamel.yaml import YAML

    _, metadata, _ = card(built, "grade").split("---\n", 2)
    assert YAML(typ="safe").load(metadata) == {
        "library_name": "transformers",
        "tags": ["clinical", "multimodal", "multiclass"],
    }
