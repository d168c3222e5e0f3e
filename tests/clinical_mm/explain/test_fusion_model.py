"""Attribution of the real network, built small: what the hand-made modules of the other tests cannot show."""

import pytest
import torch
from torch import Tensor

from clinical_mm.explain.attribution import attribute
from clinical_mm.explain.baselines import NeutralText
from clinical_mm.explain.shapley import modality_shapley
from clinical_mm.model.config import FusionConfig
from clinical_mm.model.network import FusionModel

MASK, PAD, CLS, SEP = 4, 0, 2, 3
NEUTRAL = NeutralText(MASK, (PAD, CLS, SEP, MASK))


@pytest.fixture(scope="module")
def model() -> FusionModel:
    torch.manual_seed(0)
    bert = {
        "model_type": "bert",
        "vocab_size": 60,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 32,
    }
    config = FusionConfig(
        outcome="multiclass",
        n_outputs=3,
        modalities=["text", "image", "genomics"],
        text={"encoder": bert, "fine_tune": "full", "last_k": 1},
        image={
            "network": "DenseNet121",
            "arguments": {"init_features": 4, "growth_rate": 4, "block_config": [1, 1]},
            "spatial_dims": 3,
            "size": [16, 16, 16],
            "in_channels": 1,
        },
        genomics={"n_features": 5, "hidden": [8], "dropout": 0.1, "feature_dropout": 0.0},
        hidden=12,
        heads=4,
    )
    return FusionModel(config)


@pytest.fixture
def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 60, (1, 2, 10), generator=generator)
    ids[..., 0], ids[..., -1] = CLS, SEP
    ids[0, 1, 6:] = PAD
    return {
        "text_input_ids": ids,
        "text_attention_mask": (ids != PAD).long(),
        "text_window_mask": torch.ones(1, 2, dtype=torch.bool),
        "image": torch.rand(1, 1, 1, 16, 16, 16, generator=generator),
        "image_mask": torch.ones(1, 1, dtype=torch.bool),
        "genomics": torch.randn(1, 5, generator=generator),
        "genomics_observed": torch.tensor([[True, True, True, False, True]]),
        "present": torch.ones(1, 3, dtype=torch.bool),
    }


def test_all_modalities_are_attributed_at_once_and_completely(
    model: FusionModel, batch: dict[str, Tensor]
) -> None:
    model.eval()
    ids = batch["text_input_ids"]
    inputs = {
        "text_embeddings": model.embed_text(ids).detach(),
        "image": batch["image"],
        "genomics": batch["genomics"],
    }
    baselines = {
        "text_embeddings": model.embed_text(NEUTRAL.input_ids(ids)).detach(),
        "image": torch.zeros_like(batch["image"]),
        "genomics": torch.zeros_like(batch["genomics"]),
    }
    masks = ("text_attention_mask", "text_window_mask", "image_mask", "genomics_observed", "present")
    found, complete = attribute(
        model,
        inputs,
        baselines,
        {name: batch[name] for name in masks},
        target=1,
        steps=16,
        max_steps=256,
        tolerance=0.01,
        batch_size=8,
    )
    with torch.no_grad():
        assert complete.score == pytest.approx(float(model(**batch).logits[0, 1]), abs=1e-5)
    assert complete.is_reached
    assert {name: value.shape for name, value in found.items()} == {n: v.shape for n, v in inputs.items()}
    pieces = found["text_embeddings"].sum(-1)[0]
    is_structure = torch.isin(ids[0], torch.tensor(NEUTRAL.structural_ids))
    assert pieces[is_structure].abs().max() == 0, (
        "special tokens and padding do not move, and contribute nothing"
    )
    assert pieces[~is_structure].abs().min() > 0
    assert found["genomics"][0, 3] == 0, "what was not measured contributes nothing"
    assert all(p.requires_grad for p in model.parameters())


def test_a_modality_that_is_absent_need_not_be_passed(model: FusionModel, batch: dict[str, Tensor]) -> None:
    present = torch.tensor([[False, False, True]])
    _, complete = attribute(
        model,
        {"genomics": batch["genomics"]},
        {"genomics": torch.zeros_like(batch["genomics"])},
        {"genomics_observed": batch["genomics_observed"], "present": present},
        target=0,
        steps=8,
        max_steps=128,
        tolerance=0.01,
        batch_size=8,
    )
    assert complete.is_reached


def test_shapley_values_of_modalities_sum_to_what_is_known_over_nothing(
    model: FusionModel, batch: dict[str, Tensor]
) -> None:
    found = modality_shapley(model, batch, target=2)
    model.eval()
    with torch.no_grad():
        known = float(model(**batch).logits[0, 2])
        nothing = float(model(**{**batch, "present": torch.zeros(1, 3, dtype=torch.bool)}).logits[0, 2])
    assert set(found) == {0, 1, 2}
    assert sum(found.values()) == pytest.approx(known - nothing, abs=1e-5)


def test_the_neutral_text_keeps_structure_and_hides_every_word() -> None:
    ids = torch.tensor([[CLS, 17, 1, MASK, SEP, PAD]])
    assert NEUTRAL.input_ids(ids).tolist() == [[CLS, MASK, MASK, MASK, SEP, PAD]]
