"""The text encoder: which encoders there are, what of them learns, how windows are pooled."""

from typing import Any

import pytest
import torch
from torch import Tensor

from clinical_mm.errors import EncoderError
from clinical_mm.model.text import TextEncoder, build_encoder, encoder_config, pooler_arguments

SMALL: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"pad_token_id": 1, "max_position_embeddings": 40},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "modernbert": {"pad_token_id": 0, "local_attention": 4, "global_attn_every_n_layers": 2},
    "electra": {"embedding_size": 8},
}


@pytest.fixture
def encoder(bert: dict[str, Any]) -> TextEncoder:
    torch.manual_seed(0)
    made = TextEncoder(bert, "full", 1, 12)
    made.eval()
    return made


def windows() -> tuple[Tensor, Tensor, Tensor]:
    ids = torch.randint(5, 60, (2, 2, 6), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, 1, 3:] = mask[1, 1] = 0
    return ids * mask, mask, torch.tensor([[True, True], [True, False]])


@pytest.mark.parametrize("model_type", SMALL)
def test_encoders_of_several_families_read_the_same_windows(bert: dict[str, Any], model_type: str) -> None:
    values = bert | SMALL[model_type] | {"model_type": model_type}
    torch.manual_seed(0)
    encoder = TextEncoder(values, "full", 1, 12)
    encoder.eval()
    ids, mask, window_mask = windows()
    with torch.no_grad():
        found = encoder(ids, mask, window_mask)
        alone = encoder(ids[1:, :1], mask[1:, :1], window_mask[1:, :1])
    assert found.shape == (2, 12)
    assert torch.allclose(found[1:], alone, atol=1e-5)


def test_the_encoder_is_run_on_words_alone_and_pooled_twice(encoder: TextEncoder) -> None:
    ids, mask, window_mask = windows()
    with torch.no_grad():
        pooled, detected = [], []
        for window in (ids[0, 0], ids[0, 1, :3]):
            states = encoder.encoder(input_ids=window[None]).last_hidden_state
            pooled.append(encoder.over_tokens(states, torch.ones(1, len(window), dtype=torch.bool)))
            detected.append(encoder.detectors(states)[0])
        gathered = encoder.over_windows(torch.stack(pooled, dim=1), torch.tensor([[True, True]]))
        largest = torch.cat(detected).max(dim=0, keepdim=True).values
        by_hand = encoder.project(torch.cat([gathered, largest], dim=1))
        assert torch.allclose(encoder(ids, mask, window_mask)[:1], by_hand, atol=1e-5)


def test_the_order_of_words_counts_and_that_of_windows_does_not(encoder: TextEncoder) -> None:
    ids = torch.tensor([[[2, 7, 9, 3], [2, 11, 5, 3]]])
    mask, window_mask = torch.ones_like(ids), torch.ones(1, 2, dtype=torch.bool)
    with torch.no_grad():
        found = encoder(ids, mask, window_mask)
        assert torch.allclose(found, encoder(ids.flip(1), mask, window_mask), atol=1e-5)
        assert not torch.allclose(found, encoder(ids[:, :, [0, 2, 1, 3]], mask, window_mask), atol=1e-4)


def test_a_long_history_is_read_to_its_last_window(encoder: TextEncoder) -> None:
    ids = torch.randint(5, 60, (1, 9, 6))
    mask, window_mask = torch.ones_like(ids), torch.ones(1, 9, dtype=torch.bool)
    changed = ids.clone()
    changed[0, 8, 5] = 4
    with torch.no_grad():
        assert not torch.equal(encoder(ids, mask, window_mask), encoder(changed, mask, window_mask))


def test_text_without_ids_and_embeddings_is_refused(encoder: TextEncoder) -> None:
    _, mask, window_mask = windows()
    with pytest.raises(ValueError, match="needs input_ids or embeddings"):
        encoder(None, mask, window_mask)


def test_a_frozen_encoder_has_no_gradients_and_no_dropout_in_training(bert: dict[str, Any]) -> None:
    encoder = TextEncoder(bert | {"hidden_dropout_prob": 0.5}, "frozen", 1, 12)
    encoder.train()
    assert torch.equal(encoder(*windows()), encoder(*windows()))
    encoder(*windows()).sum().backward()
    assert all(p.grad is None and not p.requires_grad for p in encoder.encoder.parameters())
    learning = (encoder.over_tokens, encoder.detectors)
    assert all(p.grad is not None for part in learning for p in part.parameters())


def test_gradients_by_embeddings_pass_through_a_frozen_encoder(bert: dict[str, Any]) -> None:
    encoder = TextEncoder(bert, "frozen", 1, 12)
    ids, mask, window_mask = windows()
    embedded = encoder.embed(ids).detach().requires_grad_()
    encoder(None, mask, window_mask, embedded)[:, 0].sum().backward()
    assert embedded.grad is not None
    assert (embedded.grad[mask.bool()].abs().sum(dim=1) > 0).all()
    assert embedded.grad[~mask.bool()].abs().sum() == 0


@pytest.mark.parametrize(("last_k", "learning"), [(1, {1}), (2, {0, 1})])
def test_the_last_layers_alone_learn(bert: dict[str, Any], last_k: int, learning: set[int]) -> None:
    encoder = TextEncoder(bert, "last_k", last_k, 12)
    encoder(*windows())[:, 0].sum().backward()
    with_gradient = {name for name, p in encoder.encoder.named_parameters() if p.grad is not None}
    assert {int(name.split(".")[2]) for name in with_gradient} == learning
    assert all(name.startswith("encoder.layer.") for name in with_gradient)


def test_more_last_layers_than_there_are_is_an_error(bert: dict[str, Any]) -> None:
    with pytest.raises(EncoderError, match="last_k is 3, and the text encoder has 2 layers: lower it"):
        TextEncoder(bert, "last_k", 3, 12)


def test_an_unknown_type_of_encoder_is_named(bert: dict[str, Any]) -> None:
    with pytest.raises(EncoderError, match="of type 'brt', which transformers does not know"):
        encoder_config(bert | {"model_type": "brt"})
    with pytest.raises(EncoderError, match="of type None"):
        encoder_config({"hidden_size": 4})


@pytest.mark.parametrize(
    "values",
    [
        {"model_type": "t5", "d_model": 16, "d_ff": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 60},
        {"model_type": "vit", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
    ],
    ids=["encoder and decoder", "images"],
)
def test_what_is_no_text_encoder_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(EncoderError, match="choose a BERT-like encoder"):
        build_encoder(encoder_config(values))


def test_no_pooler_is_built_that_nobody_reads(bert: dict[str, Any]) -> None:
    config = encoder_config(bert)
    assert pooler_arguments(config) == {"add_pooling_layer": False}
    assert not [name for name, _ in build_encoder(config).named_parameters() if "pooler" in name]
    assert pooler_arguments(encoder_config({"model_type": "distilbert"})) == {}
