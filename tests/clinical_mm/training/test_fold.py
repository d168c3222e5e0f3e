"""One member: what it learns from, which epoch it keeps, which outcomes it learns, and when it cannot."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from clinical_mm.errors import ClinicalMMError, TrainingError
from clinical_mm.features.loaded import TaskFeatures
from clinical_mm.store import read_json
from clinical_mm.training.finetune import load_members, train
from clinical_mm.training.fold import Sources, modality_rates, train_fold
from clinical_mm.training.quiet import quiet

NOTHING = Sources(None, None)


class KeepEveryEpoch(TrainerCallback):
    """The weights after every epoch, as they were when it was validated."""

    def __init__(self) -> None:
        self.weights: list[dict[str, torch.Tensor]] = []

    def on_evaluate(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.weights.append({name: value.clone() for name, value in model.state_dict().items()})


def fold_of(
    features: TaskFeatures,
    directory: Path,
    *,
    fold: int = 0,
    seed: int = 7,
    sources: Sources = NOTHING,
    callbacks: tuple[TrainerCallback, ...] = (),
) -> dict[str, Any]:
    with quiet(1):
        return train_fold(features, fold, sources, seed, directory, callbacks=callbacks)


def weights_of(directory: Path, fold: int = 0) -> bytes:
    return (directory / f"fold_{fold}" / "model.safetensors").read_bytes()


def with_cohort(features: TaskFeatures, **columns: Any) -> TaskFeatures:
    features.cohort = features.cohort.assign(**columns)
    return features


def test_early_stopping_leaves_the_weights_of_the_best_epoch(built: Any, tmp_path: Path) -> None:
    study = built.changed("grade", training={"epochs": 30, "patience": 2, "learning_rate": 0.05})
    kept = KeepEveryEpoch()
    content = fold_of(built.features("grade", study), tmp_path, callbacks=(kept,))
    best = content["best_epoch"]
    assert content["n_epochs"] == best + 2 < 30
    validated = content["curves"]["validation_loss"]
    assert content["criterion"] == min(validated) == validated[best - 1]
    saved = load_file(tmp_path / "fold_0" / "model.safetensors")
    assert all(torch.equal(saved[name], kept.weights[best - 1][name]) for name in saved)
    assert any(not torch.equal(saved[name], kept.weights[-1][name]) for name in saved)
    assert not (tmp_path / "checkpoints" / "fold_0").exists()


def test_without_a_validation_patient_the_last_epoch_is_kept(built: Any, tmp_path: Path) -> None:
    features = built.features("grade")
    features.splits = features.splits.replace({"split": {"validation": "test"}})
    content = fold_of(features, tmp_path)
    assert content["n_validation"] == 0
    assert (content["best_epoch"], content["n_epochs"]) == (2, 2)
    assert content["criterion"] is None
    assert set(content["curves"]) == {"training_loss"}


@pytest.mark.parametrize("task", ["survival", "grade"])
def test_survival_and_several_classes_are_learned(built: Any, tmp_path: Path, task: str) -> None:
    # All patients at once: the likelihood of a batch depends on who is in it.
    settings = {"epochs": 25, "learning_rate": 0.02, "patience": 25, "batch_size": 64}
    study = built.changed(task, training=settings)
    content = fold_of(built.features(task, study), tmp_path)
    losses = content["curves"]["training_loss"]
    assert losses[-1] < 0.8 * losses[0]
    assert 0 <= content["discrimination"] <= 1
    config = read_json(tmp_path / "fold_0" / "config.json")
    assert (config["outcome"], config["n_outputs"]) == (
        ("survival", 1) if task == "survival" else ("multiclass", 3)
    )


def test_balanced_classes_weigh_each_class_alike_in_the_loss(built: Any, tmp_path: Path) -> None:
    study = built.changed("grade", training={"balance_classes": True, "epochs": 1})
    features = built.features("grade", study)
    fold_of(features, tmp_path)
    weights = read_json(tmp_path / "fold_0" / "config.json")["class_weights"]
    labels = features.labels(features.patients(0, "train"))
    shares = [weight * (labels == c).sum() for c, weight in enumerate(weights)]
    assert shares == pytest.approx([len(labels) / 3] * 3)


def test_each_fold_has_a_member_whose_statistics_are_of_its_training_patients_alone(built: Any) -> None:
    summary = train(built.study, built.store, "folds")
    features = built.features("folds")
    assert summary.path is not None
    members = load_members(summary.path)
    assert [member.fold for member in members] == [0, 1, 2]
    tested = [p for member in members for p in features.patients(member.fold, "test")]
    assert sorted(tested) == sorted(set(features.splits["patient_id"]))
    genes = features.genomics()
    for member in members:
        own = genes.loc[genes.index.intersection(features.patients(member.fold, "train"))]
        names = list(member.statistics.genomics_features)
        by_hand = own[names].astype("float64")
        np.testing.assert_allclose(member.statistics.genomics_mean, by_hand.mean(), rtol=1e-6)
        np.testing.assert_allclose(member.statistics.genomics_scale, by_hand.std(ddof=0), rtol=1e-6)
    assert len({weights_of(summary.path, fold) for fold in range(3)}) == 3
    named = {"training_loss", "validation_loss", "validation_auroc"}
    assert set(summary.curves) == {f"{name}_fold_{fold}" for name in named for fold in range(3)}


def test_nothing_of_a_test_patient_reaches_the_member_of_the_fold(built: Any, tmp_path: Path) -> None:
    fold = 1
    fold_of(built.features("folds"), tmp_path / "as it is", fold=fold)
    tested = built.features("folds").patients(fold, "test")
    fold_of(_poisoned(built.features("folds"), tested), tmp_path / "poisoned", fold=fold)
    assert weights_of(tmp_path / "poisoned", fold) == weights_of(tmp_path / "as it is", fold)
    name = f"fold_{fold}/statistics.json"
    assert (tmp_path / "poisoned" / name).read_text() == (tmp_path / "as it is" / name).read_text()
    # The poison works: in one training patient it makes another model.
    one = built.features("folds").patients(fold, "train")[:1]
    fold_of(_poisoned(built.features("folds"), one), tmp_path / "control", fold=fold)
    assert weights_of(tmp_path / "control", fold) != weights_of(tmp_path / "as it is", fold)


def test_no_note_or_image_of_a_test_patient_is_opened(
    built: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = built.features("relapse")
    opened: set[str] = set()

    def watched(read: Callable[[str], Any]) -> Callable[[str], Any]:
        def wrapper(patient_id: str) -> Any:
            opened.add(patient_id)
            return read(patient_id)

        return wrapper

    for name in ("windows", "window_ids", "images", "image_tensors"):
        monkeypatch.setattr(features, name, watched(getattr(features, name)))
    fold_of(features, tmp_path, sources=built.sources("relapse"))
    assert opened == {*features.patients(0, "train"), *features.patients(0, "validation")}


def test_the_member_of_a_finished_fold_is_not_trained_again(built: Any, tmp_path: Path) -> None:
    first = fold_of(built.features("grade"), tmp_path)
    before = (tmp_path / "fold_0" / "model.safetensors").stat().st_mtime_ns
    kept = KeepEveryEpoch()
    assert fold_of(built.features("grade"), tmp_path, callbacks=(kept,)) == first
    assert not kept.weights
    assert (tmp_path / "fold_0" / "model.safetensors").stat().st_mtime_ns == before


def test_a_task_without_an_event_cannot_be_learned(built: Any, tmp_path: Path) -> None:
    features = with_cohort(built.features("survival"), label=0.0)
    with pytest.raises(TrainingError, match="fold 0: no training patient had the event"):
        fold_of(features, tmp_path)


def test_one_class_alone_cannot_be_learned(built: Any, tmp_path: Path) -> None:
    features = with_cohort(built.features("grade"), label=1.0)
    with pytest.raises(TrainingError, match=r"all \d+ training patients have the same outcome"):
        fold_of(features, tmp_path)


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_training_patients_are_an_error(built: Any, tmp_path: Path, n: int) -> None:
    features = built.features("grade")
    kept = features.patients(0, "train")[:n]
    is_left_out = (features.splits["split"] == "train") & ~features.splits["patient_id"].isin(kept)
    features.splits = features.splits[~is_left_out]
    with pytest.raises(TrainingError, match=rf"fold 0 has {n} training patients with usable features"):
        fold_of(features, tmp_path)


def test_a_loss_that_is_no_number_ends_training_with_the_step_and_what_to_do(
    built: Any, tmp_path: Path
) -> None:
    study = built.changed("grade", training={"learning_rate": 1e38, "warmup": 0.0})
    with pytest.raises(TrainingError, match=r"finite number.*lower the learning rate") as raised:
        fold_of(built.features("grade", study), tmp_path)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "fold_0").exists()


def test_weights_that_the_last_step_ruined_are_never_a_member(built: Any, tmp_path: Path) -> None:
    """Nobody validates here, so no later loss would tell."""
    features = built.features("grade", built.changed("grade", training={"epochs": 1, "batch_size": 100}))
    features.splits = features.splits.replace({"split": {"validation": "test"}})

    class Ruin(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            with torch.no_grad():
                next(model.parameters()).fill_(torch.nan)

    with pytest.raises(TrainingError, match="lower the learning rate"):
        fold_of(features, tmp_path, callbacks=(Ruin(),))
    assert not (tmp_path / "fold_0").exists()


def test_errors_say_nothing_of_a_patient(built: Any, tmp_path: Path) -> None:
    features = with_cohort(built.features("grade"), label=1.0)
    with pytest.raises(ClinicalMMError) as raised:
        fold_of(features, tmp_path)
    assert not [p for p in features.cohort.index if p in str(raised.value)]


def test_only_modalities_with_a_rate_of_their_own_have_one(built: Any) -> None:
    assert modality_rates(built.study.tasks["relapse"]) == {"image": 0.003}
    assert modality_rates(built.study.tasks["survival"]) == {}


def _poisoned(features: TaskFeatures, patients: list[str]) -> TaskFeatures:
    """Other values and outcomes for some patients, with the same of them measured."""
    genes = features.genomics().copy()
    genes.loc[genes.index.isin(patients)] *= 1000
    clinical, categories = features.clinical().copy(), features.clinical_categories
    clinical.loc[clinical.index.isin(patients)] *= 1000
    vars(features).update(_genomics=genes, _clinical=(clinical, categories))
    label = features.cohort["label"]
    flipped = pd.Series(np.where(label.index.isin(patients), 1 - label, label), index=label.index)
    return with_cohort(features, label=flipped)
