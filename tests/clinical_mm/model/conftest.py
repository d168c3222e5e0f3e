"""Small models and made-up batches for the tests of the model."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from clinical_mm.model.config import FusionConfig
from clinical_mm.model.network import FusionModel

BERT = {
    "model_type": "bert",
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
}
PARTS: dict[str, dict[str, Any]] = {
    "text": {"encoder": BERT, "fine_tune": "full", "last_k": 1},
    "image": {
        "network": "DenseNet121",
        "arguments": {"init_features": 4, "growth_rate": 4, "block_config": [1, 1]},
        "spatial_dims": 3,
        "size": [16, 16, 16],
        "in_channels": 1,
    },
    "genomics": {"n_features": 5, "hidden": [8], "dropout": 0.1, "feature_dropout": 0.0},
    "clinical": {"n_features": 3, "hidden": [8], "dropout": 0.1, "feature_dropout": 0.0},
}

MakeConfig = Callable[..., FusionConfig]
MakeModel = Callable[..., FusionModel]
MakeBatch = Callable[..., dict[str, Tensor]]


@pytest.fixture
def bert() -> dict[str, Any]:
    """The configuration of a small BERT."""
    return dict(BERT)


@pytest.fixture
def make_config() -> MakeConfig:
    """Makes a configuration of some modalities; keywords replace a modality's part or another setting."""

    def make(*modalities: str, **settings: Any) -> FusionConfig:
        names = modalities or tuple(PARTS)
        parts = {name: PARTS[name] for name in names}
        return FusionConfig(**{"modalities": list(names), "hidden": 12, "heads": 4, **parts, **settings})

    return make


@pytest.fixture
def make_model(make_config: MakeConfig) -> MakeModel:
    """Makes a model of `make_config` with weights of a fixed seed, in eval mode."""

    def make(*modalities: str, **settings: Any) -> FusionModel:
        torch.manual_seed(0)
        model = FusionModel(make_config(*modalities, **settings))
        model.eval()
        return model

    return make


@pytest.fixture
def make_batch() -> MakeBatch:
    """Makes the inputs of all four modalities for some patients, every one of them with two windows and two series."""

    def make(n: int = 3, seed: int = 1) -> dict[str, Tensor]:
        drawn = torch.Generator().manual_seed(seed)
        ids = torch.randint(5, 60, (n, 2, 10), generator=drawn)
        return {
            "text_input_ids": ids,
            "text_attention_mask": torch.ones_like(ids),
            "text_window_mask": torch.ones(n, 2, dtype=torch.bool),
            "image": torch.rand(n, 2, 1, 16, 16, 16, generator=drawn),
            "image_mask": torch.ones(n, 2, dtype=torch.bool),
            "genomics": torch.randn(n, 5, generator=drawn),
            "genomics_observed": torch.ones(n, 5, dtype=torch.bool),
            "clinical": torch.randn(n, 3, generator=drawn),
            "clinical_observed": torch.ones(n, 3, dtype=torch.bool),
        }

    return make
