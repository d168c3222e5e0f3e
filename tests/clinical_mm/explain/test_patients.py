"""Explaining patients with the real network and dataset, on features held in memory."""

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from clinical_mm.errors import ModelError
from clinical_mm.explain.averaging import ENSEMBLE
from clinical_mm.explain.baselines import NeutralText
from clinical_mm.explain.explain import held_out_patients
from clinical_mm.explain.explanation import Explanation
from clinical_mm.explain.patients import explain_patients, target_name, unseen_members
from clinical_mm.features.image import ImageTensor
from clinical_mm.features.statistics import FeatureStatistics, Statistics
from clinical_mm.features.text import Note, TextWindow
from clinical_mm.model.config import FusionConfig
from clinical_mm.model.network import FusionModel
from clinical_mm.study.tasks import BinaryOutcome, ExplainSettings, MulticlassOutcome, SurvivalOutcome
from clinical_mm.training.members import Member

TEXT = "No necrosis. Tumour invades."
NEUTRAL = NeutralText(4, (0, 2, 3))
SETTINGS = ExplainSettings(steps=16, max_steps=128)
GENES = ["TP53", "EGFR", "VHL"]
CLINICAL = ["age", "sex=female", "sex=male"]


class Features:
    """What `TaskFeatures` gives, for a: everything, b: genomics alone, c: nothing, and u: not labelled."""

    modalities = ("text", "image", "genomics", "clinical")
    pad_token_id = 0
    clinical_categories = frozenset({"sex=female", "sex=male"})

    def __init__(self) -> None:
        self.task = SimpleNamespace(
            outcome=BinaryOutcome(kind="binary", variable="relapse", positive="yes"),
            modalities=SimpleNamespace(image=SimpleNamespace(size=(8, 8, 8), augment=False, spatial_dims=3)),
        )
        self.cohort = pd.DataFrame(index=pd.Index(["a", "b", "c", "u"], name="patient_id"))
        rows = [
            ("a", 0, "test"),
            ("a", 1, "train"),
            ("b", 0, "train"),
            ("b", 1, "test"),
            ("c", 0, "test"),
            ("c", 1, "train"),
        ]
        self.splits = pd.DataFrame(rows, columns=["patient_id", "fold", "split"])

    def present(self, patient_id: str) -> np.ndarray:
        return {
            "a": np.ones(4, bool),
            "b": np.array([False, False, True, False]),
            "c": np.zeros(4, bool),
            "u": np.array([True, False, True, True]),
        }[patient_id].copy()

    def labels(self, ids: list[str]) -> np.ndarray:
        return np.full(len(ids), np.nan)

    durations = labels

    def notes(self, patient_id: str) -> list[Note]:
        return [Note("notes", "n1", "path", None, TEXT)] if self.present(patient_id)[0] else []

    def windows(self, patient_id: str) -> list[TextWindow]:
        if not self.present(patient_id)[0]:
            return []
        # "No necro" and "necro sis ." overlap: the piece "necro" is read twice.
        first = [(2, -1, -1), (11, 0, 2), (12, 3, 8), (3, -1, -1)]
        second = [(2, -1, -1), (12, 3, 8), (13, 8, 11), (14, 11, 12), (15, 13, 19), (3, -1, -1)]
        return [
            TextWindow("notes", "n1", *(np.array(column) for column in zip(*pieces, strict=True)))
            for pieces in (first, second)
        ]

    def window_ids(self, patient_id: str) -> list[np.ndarray]:
        return [window.input_ids for window in self.windows(patient_id)]

    def image_tensors(self, patient_id: str) -> list[np.ndarray]:
        return [image.tensor for image in self.images(patient_id)]

    def images(self, patient_id: str) -> list[ImageTensor]:
        if not self.present(patient_id)[1]:
            return []
        tensor = np.random.default_rng(0).random((1, 8, 8, 8)).astype(np.float32)
        return [
            ImageTensor("ct", "1.2#0", tensor, np.eye(4), np.diag([3.0, 1, 1, 1]), pd.Series(dtype=object))
        ]

    def genomics(self) -> pd.DataFrame:
        values = [[2.0, np.nan, 5.0], [0.0, 1.0, 4.0], [1.0, 1.0, 9.0]]
        return pd.DataFrame(values, index=["a", "b", "u"], columns=GENES, dtype=np.float32)

    def clinical(self) -> pd.DataFrame:
        values = [[70.0, 0.0, 1.0], [40.0, 1.0, 0.0]]
        return pd.DataFrame(values, index=["a", "u"], columns=CLINICAL, dtype=np.float32)


def member(fold: int, features: tuple[str, ...] = tuple(GENES)) -> Member:
    torch.manual_seed(fold)
    bert = {
        "model_type": "bert",
        "vocab_size": 20,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 16,
    }
    config = FusionConfig(
        outcome="binary",
        modalities=["text", "image", "genomics", "clinical"],
        text={"encoder": bert, "fine_tune": "full", "last_k": 1},
        image={
            "network": "DenseNet121",
            "arguments": {"init_features": 4, "growth_rate": 4, "block_config": [1]},
            "spatial_dims": 3,
            "size": [8, 8, 8],
            "in_channels": 1,
        },
        genomics={"n_features": len(features), "hidden": [8], "dropout": 0.1, "feature_dropout": 0.0},
        clinical={"n_features": 3, "hidden": [4], "dropout": 0.1, "feature_dropout": 0.0},
        hidden=8,
        heads=4,
    )
    k = len(features)
    statistics = Statistics(
        FeatureStatistics(features, (1.0,) * k, (2.0,) * k),
        FeatureStatistics(tuple(CLINICAL), (60.0, 0.0, 0.0), (10.0, 1.0, 1.0)),
    )
    return Member(FusionModel(config).eval(), statistics, fold)


@pytest.fixture(scope="module")
def members() -> list[Member]:
    return [member(0), member(1, ("TP53", "VHL"))]


def explained(members: list[Member], features: Features, ids: list[str]) -> Iterator[Explanation]:
    return explain_patients(members, features, ids, SETTINGS, NEUTRAL, splits=features.splits)


def test_all_modalities_of_a_patient_add_up_to_the_models_output(members: list[Member]) -> None:
    (found,) = explained(members, Features(), ["a"])
    assert found.fold == 0
    assert found.completeness.is_reached
    assert found.target_name == "relapse = yes"
    by_modality = {c.modality: c.integrated_gradients for c in found.contributions}
    parts = {
        "text": sum(w.attribution for w in found.words) + found.text_remainder,
        "image": sum(i.total for i in found.images),
        "genomics": sum(f.attribution for f in found.features if f.modality == "genomics"),
        "clinical": sum(f.attribution for f in found.features if f.modality == "clinical"),
    }
    assert by_modality == pytest.approx(parts, abs=1e-5)
    assert sum(parts.values()) == pytest.approx(found.completeness.attributed, abs=1e-5)
    assert found.logits == pytest.approx((found.completeness.score,), abs=1e-5)


def test_words_stand_at_their_places_and_unread_ones_are_left_out(members: list[Member]) -> None:
    (found,) = explained(members, Features(), ["a"])
    assert [(w.text, w.start) for w in found.words] == [("No", 0), ("necrosis", 3), (".", 11), ("Tumour", 13)]
    assert all(w.attribution != 0 for w in found.words)
    assert found.text_remainder == pytest.approx(0, abs=1e-9)


def test_features_stand_with_the_patients_own_values(members: list[Member]) -> None:
    (found,) = explained(members, Features(), ["a"])
    genes = {f.feature: f for f in found.features if f.modality == "genomics"}
    assert (genes["TP53"].value, genes["TP53"].deviation) == (2.0, 0.5)
    assert not genes["EGFR"].is_observed
    assert genes["EGFR"].attribution == 0
    clinical = {f.feature: f for f in found.features if f.modality == "clinical"}
    assert set(clinical) == {"age", "sex"}
    assert (clinical["age"].value, clinical["age"].deviation) == (70.0, 1.0)
    assert clinical["sex"].level == "male"


def test_an_image_keeps_its_grid_and_its_way_back(members: list[Member]) -> None:
    (found,) = explained(members, Features(), ["a"])
    peak = found.image_peak()
    assert peak is not None
    assert found.images[0].values.shape == (8, 8, 8)
    assert peak.position_mm == (3.0 * peak.voxel[0], peak.voxel[1], peak.voxel[2])


def test_absent_modalities_are_not_passed_and_contribute_nothing(members: list[Member]) -> None:
    (found,) = explained(members, Features(), ["b"])
    assert found.fold == 1
    assert found.present == ("genomics",)
    assert (found.words, found.images) == ((), ())
    assert [c.shapley for c in found.contributions if not c.is_present] == [0.0, 0.0, 0.0]
    assert {f.feature for f in found.features} == {"TP53", "VHL"}


def test_a_patient_whom_no_fold_knows_is_explained_by_the_mean_of_all_members(members: list[Member]) -> None:
    features = Features()
    (mean,) = explained(members, features, ["u"])
    single = [next(explained([m], features, ["u"])) for m in members]
    assert mean.fold == ENSEMBLE
    assert mean.completeness.score == pytest.approx(np.mean([s.completeness.score for s in single]), abs=1e-5)
    egfr = next(f for f in mean.features if f.feature == "EGFR")
    of_first = next(f for f in single[0].features if f.feature == "EGFR")
    assert egfr.attribution == pytest.approx(of_first.attribution / 2, abs=1e-6)


def test_a_patient_of_the_training_is_never_explained_as_held_out(members: list[Member]) -> None:
    features = Features()
    assert [m.fold for m in unseen_members(members, features.splits, "a")] == [0]
    with pytest.raises(ModelError, match="trained on"):
        unseen_members(members[:1], features.splits, "b")


def test_held_out_patients_without_anything_to_read_are_counted(members: list[Member]) -> None:
    features = Features()
    assert held_out_patients(members, features, features.splits, 7, None) == (["a", "b"], 1)
    few, _ = held_out_patients(members, features, features.splits, 7, 1)
    assert len(few) == 1
    assert few == held_out_patients(members, features, features.splits, 7, 1)[0]


def test_targets_are_named_by_the_outcome() -> None:
    classes = MulticlassOutcome(kind="multiclass", variable="grade", classes=("low", "middle", "high"))
    survival = SurvivalOutcome(kind="survival", duration="months", event="death")
    assert target_name(classes, 2) == "high"
    assert target_name(survival, 0) == "hazard of death"
