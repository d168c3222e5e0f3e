"""Predictions against the network asked directly, one patient at a time."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit

from clinical_mm.evaluation.predict import all_subsets, member_scores, predict
from clinical_mm.features.dataset import PatientDataset, collate
from clinical_mm.summary import StageSummary
from clinical_mm.training.finetune import train
from clinical_mm.training.members import TrainedVersion, open_version


@pytest.fixture(scope="module")
def opened(built: Any, trained: StageSummary) -> TrainedVersion:
    assert trained.path is not None
    return open_version(built.store, "relapse", trained.path.name, built.features("relapse"))


def test_subsets_are_all_that_are_not_empty_the_whole_first() -> None:
    assert all_subsets(["text", "image", "genomics"]) == [
        ("text", "image", "genomics"),
        ("text", "image"),
        ("text", "genomics"),
        ("image", "genomics"),
        ("text",),
        ("image",),
        ("genomics",),
    ]


def test_a_score_is_what_the_network_says_when_the_other_modalities_are_hidden(
    built: Any, opened: TrainedVersion
) -> None:
    features, member = built.features("relapse"), opened.members[0]
    ids = features.patients(0, "test")
    subsets = all_subsets(features.modalities)
    scores = member_scores(member, features, ids, subsets)
    dataset = PatientDataset(features, member.statistics, ids)
    for row in (0, len(ids) - 1):
        batch = collate([dataset[row]])
        inputs = {k: v for k, v in batch.items() if k not in {"labels", "patient_index", "present"}}
        for subset in subsets:
            shown = batch["present"] & torch.tensor([m in subset for m in features.modalities])
            with torch.inference_mode():
                alone = member.model(**inputs, present=shown).logits
            assert scores[subset][row] == pytest.approx(alone[0].numpy(), abs=1e-5)


def test_a_holdout_model_predicts_its_validation_and_test_patients_and_no_other(
    built: Any, opened: TrainedVersion
) -> None:
    features = built.features("relapse")
    found = predict(opened.members, features, opened.splits, [features.modalities])
    assert set(found["split"]) == {"validation", "test"}
    for split in ("validation", "test"):
        of_split = found[found["split"] == split]
        assert list(of_split["patient_id"]) == features.patients(0, split)
        assert list(of_split["label"]) == list(features.labels(features.patients(0, split)))
    assert np.allclose(found["probability"], expit(found["score"]))


def test_in_cross_validation_every_patient_is_tested_once_by_the_member_that_never_saw_them(
    built: Any,
) -> None:
    features = built.features("folds")
    made = train(built.study, built.store, "folds")
    assert made.path is not None
    opened = open_version(built.store, "folds", made.path.name, features)
    found = predict(opened.members, features, opened.splits, [features.modalities], ("test",))
    assert sorted(found["patient_id"]) == sorted(features.splits["patient_id"].unique())
    trained_on = opened.splits[opened.splits["split"] == "train"]
    seen = set(zip(trained_on["patient_id"], trained_on["fold"], strict=True))
    assert not seen & set(zip(found["patient_id"], found["fold"], strict=True))


def test_a_patient_who_was_learned_from_is_never_tested_whatever_the_splits_say_later(
    built: Any, opened: TrainedVersion
) -> None:
    from clinical_mm.training.members import splits_of_version

    now = built.features("relapse").splits.assign(split="test")
    late = pd.DataFrame({"patient_id": ["late", "later"], "fold": [0, 0], "split": ["test", "train"]})
    found = splits_of_version(built.store, "relapse", opened.version, pd.concat([now, late]))
    by_patient = found.set_index("patient_id")["split"]
    recorded = opened.splits.set_index("patient_id")["split"]
    assert by_patient["late"] == "test"
    assert "later" not in by_patient
    assert (by_patient[recorded.index] == recorded).all()
