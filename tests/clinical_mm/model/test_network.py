"""The whole network: absence, padding, training, saving."""

import itertools
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from clinical_mm.errors import ModelError
from clinical_mm.model.network import FusionModel
from clinical_mm.training.members import load_member

FUSIONS = ["concat", "gated", "cross_attention"]
MODALITIES = ("text", "image", "genomics", "clinical")
SUBSETS = [subset for n in range(1, 5) for subset in itertools.combinations(MODALITIES, n)]
OF = {
    "text": ("text_input_ids", "text_attention_mask", "text_window_mask"),
    "image": ("image", "image_mask"),
    "genomics": ("genomics", "genomics_observed"),
    "clinical": ("clinical", "clinical_observed"),
}


def present(*names: str, n: int = 3) -> Tensor:
    return torch.tensor([name in names for name in MODALITIES]).repeat(n, 1)


def logits(model: FusionModel, batch: dict[str, Tensor], **more: Tensor) -> Tensor:
    with torch.no_grad():
        found = model(**batch, **more).logits
    assert isinstance(found, Tensor)
    return found


@pytest.mark.parametrize(
    ("outcome", "n_outputs", "labels"),
    [
        ("binary", 1, torch.tensor([1.0, 0.0, 1.0])),
        ("multiclass", 4, torch.tensor([3, 0, 1])),
        ("survival", 1, torch.tensor([[3.0, 1.0], [5.0, 0.0], [1.0, 1.0]])),
    ],
)
def test_every_outcome_has_its_logits_and_a_loss(
    make_model: Any, make_batch: Any, outcome: str, n_outputs: int, labels: Tensor
) -> None:
    model = make_model(outcome=outcome, n_outputs=n_outputs)
    output = model(**make_batch(), labels=labels)
    assert output.logits.shape == (3, n_outputs)
    assert output.loss.shape == ()
    assert model(**make_batch()).loss is None


def test_class_weights_of_the_configuration_reach_the_loss(make_model: Any, make_batch: Any) -> None:
    model = make_model("genomics", outcome="binary", class_weights=[0.5, 3.0])
    batch = {name: make_batch()[name] for name in OF["genomics"]}
    labels = torch.tensor([1.0, 0.0, 1.0])
    output = model(**batch, labels=labels)
    log_odds = output.logits[:, 0].detach().double()
    losses = torch.where(labels == 1, -torch.sigmoid(log_odds).log(), -torch.sigmoid(-log_odds).log())
    weights = torch.tensor([3.0, 0.5, 3.0])
    assert float(output.loss.detach()) == pytest.approx(
        float((weights * losses).sum() / weights.sum()), rel=1e-5
    )


@pytest.mark.parametrize("fusion", FUSIONS)
def test_what_an_absent_modality_holds_never_reaches_the_output(
    make_model: Any, make_batch: Any, fusion: str
) -> None:
    model, batch, other = make_model(fusion=fusion), make_batch(seed=1), make_batch(seed=2)
    for hidden in MODALITIES:
        shown = present(*(name for name in MODALITIES if name != hidden))
        changed = batch | {name: other[name] for name in OF[hidden]}
        assert torch.equal(logits(model, batch, present=shown), logits(model, changed, present=shown)), hidden
        assert not torch.equal(logits(model, batch), logits(model, changed)), (
            f"{hidden} is read where present"
        )


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_learned_token_stands_in_for_an_absent_modality(
    make_model: Any, make_batch: Any, fusion: str
) -> None:
    model, batch = make_model(fusion=fusion), make_batch()
    before = logits(model, batch, present=present("text", "image", "clinical"))
    whole = logits(model, batch)
    with torch.no_grad():
        model.absent[MODALITIES.index("genomics")] = torch.randn(12)
    assert not torch.allclose(before, logits(model, batch, present=present("text", "image", "clinical")))
    assert torch.equal(whole, logits(model, batch)), "nobody lacks it here"


def test_modalities_hidden_for_one_patient_are_read_for_the_others(make_model: Any, make_batch: Any) -> None:
    model, batch = make_model(), make_batch()
    shown = present(*MODALITIES)
    shown[1, 1] = False
    mixed = logits(model, batch, present=shown)
    without = logits(model, batch, present=present("text", "genomics", "clinical"))
    assert torch.allclose(mixed[[0, 2]], logits(model, batch)[[0, 2]], atol=1e-5)
    assert torch.allclose(mixed[1], without[1], atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("subset", SUBSETS, ids="+".join)
def test_every_subset_of_modalities_is_a_valid_input_given_or_hidden(
    make_model: Any, make_batch: Any, fusion: str, subset: tuple[str, ...]
) -> None:
    model, batch = make_model(fusion=fusion), make_batch()
    given = {key: batch[key] for name in subset for key in OF[name]}
    found = logits(model, given)
    assert torch.isfinite(found).all()
    assert torch.equal(found, logits(model, batch, present=present(*subset)))


def test_a_patient_without_anything_is_predicted_from_the_learned_tokens_alone(
    make_model: Any, make_batch: Any
) -> None:
    model = make_model()
    found = logits(model, make_batch(seed=1), present=present())
    assert torch.equal(found, logits(model, make_batch(seed=2), present=present()))
    assert torch.isfinite(found).all()


def test_by_default_the_masks_say_who_has_what(make_model: Any, make_batch: Any) -> None:
    model, batch = make_model(), make_batch()
    batch["image_mask"][1] = False
    batch["clinical_observed"][2] = False
    shown = present(*MODALITIES)
    shown[1, 1] = shown[2, 3] = False
    assert torch.equal(logits(model, batch), logits(model, batch, present=shown))


def test_a_modality_that_is_said_to_be_present_must_be_given(make_model: Any, make_batch: Any) -> None:
    batch = make_batch()
    del batch["image"]
    with pytest.raises(ValueError, match="image is present, and image is not given"):
        make_model()(**batch)
    with pytest.raises(ValueError, match="no modality is given"):
        make_model()()
    with pytest.raises(TypeError, match="imgae"):
        make_model().encode(**make_batch(), imgae=None)


def ragged(make_batch: Any) -> dict[str, Tensor]:
    """Patients with one or two windows of several lengths, and one or two series."""
    batch: dict[str, Tensor] = make_batch(4)
    for patient, window, length in ((0, 0, 4), (0, 1, 9), (1, 0, 7), (3, 1, 1)):
        batch["text_attention_mask"][patient, window, length:] = 0
        batch["text_input_ids"][patient, window, length:] = 0
    for key in ("text_window_mask", "image_mask"):
        batch[key][1, 1] = batch[key][2, 1] = False
    batch["text_input_ids"][1:3, 1] = batch["text_attention_mask"][1:3, 1] = 0
    batch["image"][1:3, 1] = 0
    return batch


@pytest.mark.parametrize("fine_tune", ["full", "frozen"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_patient_alone_and_among_others_is_the_same(
    make_model: Any, make_batch: Any, bert: dict[str, Any], fusion: str, fine_tune: str
) -> None:
    model = make_model(fusion=fusion, text={"encoder": bert, "fine_tune": fine_tune, "last_k": 1})
    batch = ragged(make_batch)
    together = logits(model, batch)
    for i in range(4):
        alone = {name: value[i : i + 1] for name, value in batch.items()}
        # Without the padding that only the others need.
        if not alone["text_window_mask"][0, 1]:
            alone |= {name: value[:, :1] for name, value in alone.items() if name in OF["text"] + OF["image"]}
        assert torch.allclose(together[i], logits(model, alone)[0], atol=1e-5), i


def test_what_padding_holds_changes_nothing(make_model: Any, make_batch: Any) -> None:
    model, batch = make_model(), ragged(make_batch)
    before = logits(model, batch)
    ids, mask = batch["text_input_ids"], batch["text_attention_mask"]
    batch["text_input_ids"] = torch.where(mask.bool(), ids, torch.full_like(ids, 7))
    batch["image"][1:3, 1] = 9.0
    # BERT's attention weighs padding by exp(lowest float): exactly nothing.
    assert torch.equal(before, logits(model, batch))


def test_more_padding_changes_nothing(make_model: Any, make_batch: Any) -> None:
    model, batch = make_model(), ragged(make_batch)
    before = logits(model, batch)
    for name in OF["text"][:2]:
        batch[name] = torch.nn.functional.pad(batch[name], (0, 5, 0, 2))
    batch["text_window_mask"] = torch.nn.functional.pad(batch["text_window_mask"], (0, 2))
    batch["image"] = torch.nn.functional.pad(batch["image"], (0, 0) * 4 + (0, 3))
    batch["image_mask"] = torch.nn.functional.pad(batch["image_mask"], (0, 3))
    assert torch.allclose(before, logits(model, batch), atol=1e-6)


def test_embeddings_of_the_ids_give_what_the_ids_give(make_model: Any, make_batch: Any) -> None:
    model, batch = make_model(), ragged(make_batch)
    by_embeddings = dict(batch)
    by_embeddings["text_embeddings"] = model.embed_text(by_embeddings.pop("text_input_ids")).detach()
    assert torch.equal(logits(model, batch), logits(model, by_embeddings))


def test_modality_dropout_is_for_training_alone(make_model: Any, make_batch: Any) -> None:
    model, batch = make_model("genomics", "clinical", modality_dropout=0.5, dropout=0.0), make_batch()
    given = {name: batch[name] for name in OF["genomics"] + OF["clinical"]}
    assert torch.equal(logits(model, given), logits(model, given))
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.eval()
    torch.manual_seed(0)
    drawn = torch.cat([logits(model, given) for _ in range(40)])[::3, 0]
    model.eval()
    shown = {
        s: float(logits(model, given, present=torch.tensor([s]).repeat(3, 1))[0, 0])
        for s in ((True, True), (True, False), (False, True))
    }
    nearest = {min(shown, key=lambda s: abs(shown[s] - value)) for value in drawn.tolist()}
    assert nearest == set(shown), "both, and each alone, and never neither"
    for value in drawn.tolist():
        assert min(abs(value - expected) for expected in shown.values()) < 1e-5


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_learns_what_takes_two_modalities_to_know(make_model: Any, fusion: str) -> None:
    model = make_model("genomics", "clinical", fusion=fusion, dropout=0.0, modality_dropout=0.0)
    torch.manual_seed(1)
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]).repeat(4, 1)
    batch = {
        "genomics": torch.cat([signs[:, :1], torch.randn(16, 4)], dim=1),
        "genomics_observed": torch.ones(16, 5, dtype=torch.bool),
        "clinical": torch.cat([signs[:, 1:], torch.randn(16, 2)], dim=1),
        "clinical_observed": torch.ones(16, 3, dtype=torch.bool),
        "labels": (signs.prod(dim=1) > 0).float(),
    }
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    model.train()
    losses = []
    for _ in range(150):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 0.5
    assert losses[-1] < 0.1


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_learning_parameter_gets_a_gradient(make_model: Any, make_batch: Any, fusion: str) -> None:
    model = make_model(fusion=fusion, outcome="survival")
    shown = present(*MODALITIES)
    shown[0, :2] = shown[1, 2:] = False
    batch = ragged(make_batch)
    batch = {name: value[:3] for name, value in batch.items()}
    batch["genomics_observed"][0, 2] = batch["clinical_observed"][0, 1] = False
    labels = torch.tensor([[3.0, 1.0], [5.0, 1.0], [1.0, 1.0]])
    model(**batch, present=shown, labels=labels).loss.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_saved_model_opens_without_a_network_and_predicts_the_same_bits(
    make_model: Any,
    make_batch: Any,
    fusion: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = make_model(fusion=fusion, outcome="multiclass", n_outputs=3, class_weights=[1.0, 2.0, 0.5])
    model.save_pretrained(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a saved model needs nothing but its directory")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    opened = load_member(tmp_path)
    assert not opened.training
    assert torch.equal(logits(opened, make_batch()), logits(model, make_batch()))
    by_transformers = FusionModel.from_pretrained(tmp_path)
    assert by_transformers.config.class_weights == [1.0, 2.0, 0.5]
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, by_transformers.state_dict()[name]), name
    # Its tensors lie in the mapped file, unaligned: sums round otherwise in the last bit.
    assert torch.allclose(logits(by_transformers, make_batch()), logits(model, make_batch()), atol=1e-6)
    assert {p.name for p in tmp_path.iterdir()} == {"config.json", "model.safetensors"}


@pytest.mark.parametrize("fine_tune", ["full", "last_k", "frozen"])
def test_what_learns_is_the_same_after_saving(
    make_model: Any, bert: dict[str, Any], tmp_path: Path, fine_tune: str
) -> None:
    model = make_model("text", text={"encoder": bert, "fine_tune": fine_tune, "last_k": 1})
    model.save_pretrained(tmp_path)
    learning = [name for name, p in model.named_parameters() if p.requires_grad]
    opened = FusionModel.from_pretrained(tmp_path)
    assert [name for name, p in opened.named_parameters() if p.requires_grad] == learning


def test_building_keeps_the_encoders_own_start(make_model: Any) -> None:
    """`post_init` of transformers would draw every convolution anew by its one rule."""
    weight = make_model("image").encoders["image"].network.features.conv0.weight
    # DenseNet draws by Kaiming: a deviation of sqrt(2 / (7³ × 1)); transformers would draw with .02.
    assert float(weight.detach().std()) == pytest.approx((2 / 7**3) ** 0.5, rel=0.1)


def test_a_configuration_that_contradicts_itself_is_refused(make_config: Any) -> None:
    with pytest.raises(ModelError, match=r"lists the modalities \['text'\]"):
        make_config("genomics", modalities=["text"])
    with pytest.raises(ModelError, match="has the outcome 'count'"):
        make_config("genomics", outcome="count")


def test_the_configuration_survives_json(make_config: Any, tmp_path: Path) -> None:
    config = make_config(outcome="multiclass", n_outputs=3, fusion="concat", class_weights=(1.0, 2.0, 3.0))
    config.save_pretrained(tmp_path)
    opened = type(config).from_pretrained(tmp_path)
    for name in ("outcome", "n_outputs", "modalities", *MODALITIES, "fusion", "hidden", "class_weights"):
        assert getattr(opened, name) == getattr(config, name), name
