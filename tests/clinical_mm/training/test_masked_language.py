"""The loss on held-out notes: the same wherever it is computed, and without a trace in the random state."""

import multiprocessing

import pytest
import torch

from clinical_mm.study.root import PretrainText
from clinical_mm.training.masked_language import Windows, masked_loss, small_bert
from clinical_mm.training.wordpiece import train_tokenizer

_NOTES = ("the tumour is small and solid", "no tumour is seen in the liver", "the liver is normal")


@pytest.fixture
def settings() -> PretrainText:
    return PretrainText(vocabulary=100, hidden=16, layers=1, heads=2, window_tokens=16)


def test_the_same_seed_masks_the_same_tokens_in_the_main_process_and_in_a_child(
    settings: PretrainText, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = train_tokenizer([[note] for note in _NOTES], 100, 16)
    windows = Windows(_NOTES, tokenizer, 16)
    torch.manual_seed(0)
    model = small_bert(settings, tokenizer)
    here = masked_loss(model, windows, tokenizer, 0.5, seed=3)
    other = masked_loss(model, windows, tokenizer, 0.5, seed=4)
    # As in a run of Dagster's, which is a child of its daemon.
    monkeypatch.setattr(multiprocessing.current_process(), "name", "SpawnProcess-1")
    assert masked_loss(model, windows, tokenizer, 0.5, seed=3) == here
    assert other != here


def test_measuring_the_loss_draws_nothing_from_what_training_draws_from(settings: PretrainText) -> None:
    tokenizer = train_tokenizer([[note] for note in _NOTES], 100, 16)
    model = small_bert(settings, tokenizer)
    before = torch.get_rng_state()
    masked_loss(model, Windows(_NOTES, tokenizer, 16), tokenizer, 0.5, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
