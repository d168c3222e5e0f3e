"""States of frozen encoders: the same predictions, computed once, and never out of date."""

import copy
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from clinical_mm.errors import StoreError
from clinical_mm.model.frozen_states import attach_frozen_states
from clinical_mm.model.network import FusionModel
from clinical_mm.training.members import load_member

TEXT = ("text_input_ids", "text_attention_mask", "text_window_mask")


@pytest.fixture
def frozen(make_model: Any, bert: dict[str, Any]) -> Any:
    """Makes a model with a frozen text encoder and one table, always with the same weights."""

    def make(fine_tune: str = "frozen", **settings: Any) -> FusionModel:
        text = {"encoder": bert, "fine_tune": fine_tune, "last_k": 1}
        model: FusionModel = make_model("text", "clinical", text=text, **settings)
        return model

    return make


@pytest.fixture
def batch(make_batch: Any) -> dict[str, Tensor]:
    """Four patients with windows of 10, 4 and 1 tokens, one window twice, and one patient with a single window."""
    made: dict[str, Tensor] = make_batch(4)
    for patient, window, length in ((0, 0, 4), (1, 1, 1), (2, 0, 4)):
        made["text_attention_mask"][patient, window, length:] = 0
        made["text_input_ids"][patient, window, length:] = 0
    made["text_input_ids"][3, 0] = made["text_input_ids"][0, 1]
    made["text_window_mask"][3, 1] = False
    made["text_input_ids"][3, 1] = made["text_attention_mask"][3, 1] = 0
    return {name: value for name, value in made.items() if name.startswith(("text", "clinical"))}


DISTINCT = 6
"""Windows in the batch that differ: eight places, one without a window, one window twice."""


def encoder_of(model: FusionModel) -> Any:
    return model.encoders["text"].encoder


def logits(model: FusionModel, batch: dict[str, Tensor], **more: Tensor) -> Tensor:
    with torch.inference_mode():
        found = model(**batch, **more).logits
    assert isinstance(found, Tensor)
    return found


@contextmanager
def windows_through(model: FusionModel) -> Iterator[list[tuple[int, int]]]:
    """Shapes [n, l] of what goes through the encoder within the block."""
    seen: list[tuple[int, int]] = []

    def note(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        seen.append(tuple(kwargs["inputs_embeds"].shape[:2]))

    hook = encoder_of(model).register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        hook.remove()


def files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def test_predictions_are_those_of_the_encoder_itself_the_first_time_and_later(
    frozen: Any, batch: dict[str, Tensor], tmp_path: Path
) -> None:
    model = frozen()
    expected = logits(model, batch)
    attach_frozen_states(model, tmp_path)
    first = logits(model, batch)
    assert torch.allclose(first, expected, atol=1e-6, rtol=0)
    assert torch.equal(logits(model, batch), first)


def test_every_window_goes_through_the_encoder_once_with_those_of_its_length(
    frozen: Any, batch: dict[str, Tensor], tmp_path: Path
) -> None:
    model = frozen()
    attach_frozen_states(model, tmp_path)
    with windows_through(model) as seen:
        logits(model, batch)
    assert sorted(seen) == [(1, 1), (2, 4), (3, 10)]
    with windows_through(model) as seen:
        logits(model, batch)
        logits(model, {name: value.flip(0) for name, value in batch.items()})
    assert seen == []
    assert len(files(tmp_path)) == DISTINCT


def test_only_windows_that_are_not_there_yet_are_computed(
    frozen: Any, batch: dict[str, Tensor], tmp_path: Path
) -> None:
    model = frozen()
    attach_frozen_states(model, tmp_path)
    logits(model, {name: value[:2] for name, value in batch.items()})
    with windows_through(model) as seen:
        logits(model, batch)
    assert sorted(seen) == [(1, 4), (1, 10)]


def test_another_model_with_the_same_encoder_finds_the_states(
    frozen: Any, batch: dict[str, Tensor], tmp_path: Path
) -> None:
    first = frozen()
    attach_frozen_states(first, tmp_path)
    logits(first, batch)
    other = frozen(fusion="concat", outcome="multiclass", n_outputs=3)
    encoder_of(other).load_state_dict(encoder_of(first).state_dict())
    expected = logits(other, batch)
    attach_frozen_states(other, tmp_path)
    with windows_through(other) as seen:
        assert torch.allclose(logits(other, batch), expected, atol=1e-6, rtol=0)
    assert seen == []


def test_states_of_a_window_do_not_depend_on_what_else_was_in_the_batch(
    frozen: Any, batch: dict[str, Tensor], tmp_path: Path
) -> None:
    model = frozen()
    attach_frozen_states(model, tmp_path / "together")
    logits(model, batch)
    attach_frozen_states(model, tmp_path / "alone")
    for i in range(4):
        logits(model, {name: value[i : i + 1] for name, value in batch.items()})
    together, alone = files(tmp_path / "together"), files(tmp_path / "alone")
    assert [p.name for p in together] == [p.name for p in alone]
    assert all(np.array_equal(np.load(a), np.load(b)) for a, b in zip(together, alone, strict=True))


def test_files_hold_float32_of_the_words_alone(frozen: Any, batch: dict[str, Tensor], tmp_path: Path) -> None:
    model = frozen()
    attach_frozen_states(model, tmp_path)
    logits(model, batch)
    held = [np.load(path) for path in files(tmp_path)]
    assert {a.dtype for a in held} == {np.dtype(np.float32)}
    assert sorted(a.shape for a in held) == [(1, 16), (4, 16), (4, 16), (10, 16), (10, 16), (10, 16)]
    with torch.no_grad():
        states = encoder_of(model)(input_ids=batch["text_input_ids"][1, 1, :1][None]).last_hidden_state
    assert np.allclose(min(held, key=len), states[0].numpy(), atol=1e-6)


def test_training_takes_the_same_course(frozen: Any, batch: dict[str, Tensor], tmp_path: Path) -> None:
    courses = []
    for folder in (None, tmp_path):
        model = frozen(modality_dropout=0.3)
        if folder is not None:
            attach_frozen_states(model, folder)
        before = copy.deepcopy(encoder_of(model).state_dict())
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-2)
        model.train()
        torch.manual_seed(3)
        course = []
        for _ in range(25):
            loss = model(**batch, labels=torch.tensor([1.0, 0.0, 0.0, 1.0])).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            course.append(float(loss.detach()))
        assert all(torch.equal(t, before[name]) for name, t in encoder_of(model).state_dict().items())
        courses.append(course)
    assert courses[1] == pytest.approx(courses[0], abs=1e-4)
    assert min(courses[1]) < 0.7 * courses[1][0]


def test_other_weights_never_get_the_old_states(
    frozen: Any, batch: dict[str, Tensor], tmp_path: Path
) -> None:
    model = frozen()
    attach_frozen_states(model, tmp_path)
    before = logits(model, batch)
    kept = copy.deepcopy(encoder_of(model).state_dict())
    plain = frozen()
    for changed in (model, plain):
        torch.manual_seed(9)
        with torch.no_grad():
            encoder_of(changed).encoder.layer[0].output.dense.weight.normal_()
    assert torch.allclose(logits(model, batch), logits(plain, batch), atol=1e-6, rtol=0)
    assert not torch.allclose(logits(model, batch), before, atol=1e-4)
    encoder_of(model).load_state_dict(kept)
    with windows_through(model) as seen:
        assert torch.equal(logits(model, batch), before)
    assert seen == [], "the first weights' states are still there"


def test_another_configuration_with_the_same_weights_has_other_states(
    frozen: Any, make_model: Any, bert: dict[str, Any], batch: dict[str, Tensor], tmp_path: Path
) -> None:
    first = frozen()
    attach_frozen_states(first, tmp_path)
    logits(first, batch)
    text = {"encoder": bert | {"hidden_act": "relu"}, "fine_tune": "frozen", "last_k": 1}
    other = make_model("text", "clinical", text=text)
    expected = logits(other, batch)
    attach_frozen_states(other, tmp_path)
    assert torch.allclose(logits(other, batch), expected, atol=1e-6, rtol=0)


def test_attribution_by_embeddings_goes_past_the_files(
    frozen: Any, batch: dict[str, Tensor], tmp_path: Path
) -> None:
    model = frozen()
    attach_frozen_states(model, tmp_path)
    embedded = model.embed_text(batch["text_input_ids"]).detach().requires_grad_()
    by_embeddings = {k: v for k, v in batch.items() if k != "text_input_ids"}
    found = model(**by_embeddings, text_embeddings=embedded).logits
    found.sum().backward()
    assert files(tmp_path) == []
    assert embedded.grad is not None
    assert embedded.grad.abs().sum() > 0
    assert torch.allclose(found.detach(), logits(model, batch), atol=1e-6, rtol=0)
    # The ids may be given, too: the embeddings win.
    with windows_through(model) as seen:
        both = logits(model, batch, text_embeddings=torch.zeros_like(embedded))
    assert len(seen) == 1
    assert not torch.allclose(both, found.detach(), atol=1e-4)


@pytest.mark.parametrize("fine_tune", ["full", "last_k"])
def test_an_encoder_that_learns_is_never_read_from_files(
    frozen: Any, batch: dict[str, Tensor], tmp_path: Path, fine_tune: str
) -> None:
    model = frozen(fine_tune)
    attach_frozen_states(model, tmp_path)
    model(**batch).logits.sum().backward()
    assert files(tmp_path) == []
    assert encoder_of(model).encoder.layer[1].output.dense.weight.grad.abs().sum() > 0


def test_a_model_without_text_is_left_as_it_is(
    make_model: Any, batch: dict[str, Tensor], tmp_path: Path
) -> None:
    model = make_model("clinical")
    attach_frozen_states(model, tmp_path)
    logits(model, {name: value for name, value in batch.items() if name.startswith("clinical")})
    assert files(tmp_path) == []


def test_a_patient_whose_text_is_hidden_computes_nothing(
    frozen: Any, batch: dict[str, Tensor], tmp_path: Path
) -> None:
    model = frozen()
    attach_frozen_states(model, tmp_path)
    logits(model, batch, present=torch.tensor([[False, True]] * 4))
    assert files(tmp_path) == []


def test_saved_models_hold_nothing_of_it(frozen: Any, batch: dict[str, Tensor], tmp_path: Path) -> None:
    model = frozen()
    model.save_pretrained(tmp_path / "without")
    attach_frozen_states(model, tmp_path / "states")
    logits(model, batch)
    model.save_pretrained(tmp_path / "with")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes()
    opened = load_member(tmp_path / "with")
    with windows_through(opened) as seen:
        assert torch.allclose(logits(opened, batch), logits(model, batch), atol=1e-6, rtol=0)
    assert len(seen) == 1, "it runs its own encoder until states are attached"


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])  # noqa: S301
def test_copies_and_pickles_run_their_own_encoder(
    frozen: Any, batch: dict[str, Tensor], tmp_path: Path, copied: Any
) -> None:
    model = frozen()
    attach_frozen_states(model, tmp_path)
    expected = logits(model, batch)
    other = copied(model)
    with windows_through(other) as seen:
        assert torch.allclose(logits(other, batch), expected, atol=1e-6, rtol=0)
    assert len(seen) == 1
    with windows_through(model) as seen:
        logits(model, batch)
    assert seen == [], "the model that was copied keeps them"


@pytest.mark.parametrize("damage", ["emptied", "cut short", "nonsense", "other shape", "other type"])
def test_files_that_are_gone_or_damaged_are_made_again(
    frozen: Any, batch: dict[str, Tensor], tmp_path: Path, damage: str
) -> None:
    model = frozen()
    attach_frozen_states(model, tmp_path)
    expected = logits(model, batch)
    for path in files(tmp_path):
        if damage == "emptied":
            path.unlink()
        elif damage == "cut short":
            path.write_bytes(path.read_bytes()[:-5])
        elif damage == "nonsense":
            path.write_bytes(b"nonsense")
        else:
            held = np.load(path)
            np.save(path, held[:, :-1] if damage == "other shape" else held.astype(np.float64) + 1)
    assert torch.equal(logits(model, batch), expected)
    assert len(files(tmp_path)) == DISTINCT
    with windows_through(model) as seen:
        assert torch.equal(logits(model, batch), expected)
    assert seen == []


def test_a_folder_that_cannot_be_written_is_an_error_that_says_so(
    frozen: Any, batch: dict[str, Tensor], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    model = frozen()
    attach_frozen_states(model, tmp_path / "file")
    with pytest.raises(StoreError, match=r"file cannot be read or written \(.*\): make room, or remove it"):
        logits(model, batch)


def test_states_are_float32_also_where_training_computes_in_bf16(
    frozen: Any, batch: dict[str, Tensor], tmp_path: Path
) -> None:
    model = frozen()
    attach_frozen_states(model, tmp_path / "bf16")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits(model, batch)
    attach_frozen_states(model, tmp_path / "fp32")
    logits(model, batch)
    for a, b in zip(files(tmp_path / "bf16"), files(tmp_path / "fp32"), strict=True):
        assert np.array_equal(np.load(a), np.load(b))
