"""From a task to a model with the weights that training begins with."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

from clinical_mm.errors import EncoderError, ModelError
from clinical_mm.model.building import (
    frozen_share,
    fusion_config,
    load_encoder_weights,
    read_encoder_config,
    start_model,
)
from clinical_mm.model.text import TextEncoder
from clinical_mm.study.tasks import Task


def task(outcome: dict[str, Any] | None = None, **modalities: dict[str, Any]) -> Task:
    return Task.model_validate(
        {
            "question": "Does it come back?",
            "outcome": outcome or {"kind": "binary", "variable": "relapse"},
            "modalities": modalities,
            "model": {
                "fusion": "cross_attention",
                "hidden": 16,
                "heads": 2,
                "layers": 1,
                "modality_dropout": 0.3,
            },
        }
    )


IMAGE = {
    "size": [16, 16, 16],
    "arguments": {"init_features": 4, "growth_rate": 4, "block_config": [1, 1]},
}


@pytest.fixture
def encoder(bert: dict[str, Any], tmp_path: Path) -> Path:
    """A directory with a small BERT as transformers saves it, pooler included."""
    torch.manual_seed(5)
    config = BertConfig(**{k: v for k, v in bert.items() if k != "model_type"})
    BertModel(config).save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


def test_a_task_becomes_the_configuration_that_it_describes(encoder: Path) -> None:
    chosen = task(
        {"kind": "multiclass", "variable": "grade", "classes": ["G1", "G2", "G3"]},
        text={"fine_tune": "last_k", "last_k": 1},
        image=IMAGE,
        clinical={"hidden": [7], "dropout": 0.2, "feature_dropout": 0.3},
    )
    config = fusion_config(
        chosen,
        encoder=read_encoder_config(str(encoder)),
        in_channels=1,
        n_clinical=9,
        class_weights=[1.0, 2.0, 3.0],
    )
    assert (config.outcome, config.n_outputs, config.class_weights) == ("multiclass", 3, [1.0, 2.0, 3.0])
    assert config.modalities == ["text", "image", "clinical"]
    assert config.genomics is None
    assert config.clinical == {"n_features": 9, "hidden": [7], "dropout": 0.2, "feature_dropout": 0.3}
    assert config.text is not None
    assert (config.text["fine_tune"], config.text["last_k"]) == ("last_k", 1)
    assert (config.text["encoder"]["model_type"], config.text["encoder"]["hidden_size"]) == ("bert", 16)
    assert config.image is not None
    assert (config.image["network"], config.image["spatial_dims"], config.image["size"]) == (
        "DenseNet121",
        3,
        [16, 16, 16],
    )
    assert (config.fusion, config.hidden, config.heads, config.layers, config.modality_dropout) == (
        *("cross_attention", 16, 2, 1),
        0.3,
    )


def test_survival_and_binary_tasks_have_one_output() -> None:
    survival = {"kind": "survival", "duration": "months", "event": "status"}
    for outcome in (survival, {"kind": "binary", "variable": "relapse"}):
        config = fusion_config(task(outcome, clinical={}), n_clinical=2)
        assert (config.outcome, config.n_outputs) == (outcome["kind"], 1)


@pytest.mark.parametrize("n_genomics", [None, 0])
def test_a_modality_without_any_feature_is_an_error_that_names_it(n_genomics: int | None) -> None:
    with pytest.raises(ModelError, match="no usable feature of genomics: drop the modality"):
        fusion_config(task(genomics={}, clinical={}), n_genomics=n_genomics, n_clinical=2)


def test_a_model_starts_with_the_encoders_weights_and_the_rest_by_the_seed(encoder: Path) -> None:
    config = fusion_config(
        task(text={}, clinical={}), encoder=read_encoder_config(str(encoder)), n_clinical=2
    )
    torch.manual_seed(1)
    model, report = start_model(config, str(encoder))
    assert report is None
    text = model.encoders["text"]
    assert isinstance(text, TextEncoder)
    on_disk = load_file(encoder / "model.safetensors")
    loaded = text.encoder.state_dict()
    assert set(on_disk) - set(loaded) == {"pooler.dense.weight", "pooler.dense.bias"}
    assert all(torch.equal(loaded[name], on_disk[name]) for name in loaded)
    torch.manual_seed(1)
    again, _ = start_model(config, str(encoder))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    torch.manual_seed(2)
    other, _ = start_model(config, str(encoder))
    assert not torch.equal(model.absent, other.absent)


def test_weights_that_lack_a_tensor_are_refused(encoder: Path) -> None:
    weights = load_file(encoder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, encoder / "model.safetensors", {"format": "pt"})
    config = fusion_config(task(text={}), encoder=read_encoder_config(str(encoder)))
    with pytest.raises(
        EncoderError, match=r"lack 1 tensors of BertModel, and 0 .*\(encoder.layer.1.output.dense.weight\)"
    ):
        start_model(config, str(encoder))


def test_weights_of_another_shape_are_refused(bert: dict[str, Any], encoder: Path, tmp_path: Path) -> None:
    wider = TextEncoder(bert | {"intermediate_size": 48}, "full", 1, 12)
    weights = load_file(encoder / "model.safetensors")
    weights["encoder.layer.0.intermediate.dense.bias"] = torch.zeros(48)
    save_file(weights, encoder / "model.safetensors", {"format": "pt"})
    with pytest.raises(EncoderError, match=r"encoder"):
        load_encoder_weights(wider, str(encoder))


def test_a_directory_without_weights_is_an_error_that_says_what_is_missing(encoder: Path) -> None:
    config = fusion_config(task(text={}), encoder=read_encoder_config(str(encoder)))
    (encoder / "model.safetensors").unlink()
    with pytest.raises(EncoderError, match=r"the directory needs a model\.safetensors"):
        start_model(config, str(encoder))


@pytest.mark.parametrize("content", [None, "{", "{}", '{"model_type": "brt"}'])
def test_an_encoder_without_a_usable_configuration_is_an_error(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(EncoderError, match=r"configuration of the encoder .* cannot be read"):
        read_encoder_config(str(tmp_path))


def test_an_encoder_with_code_of_its_own_is_refused_and_its_code_not_run(
    encoder: Path, tmp_path: Path
) -> None:
    (encoder / "config.json").write_text(
        '{"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}}'
    )
    (encoder / "own.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w').close()\nclass OwnConfig: ...\n")
    with pytest.raises(EncoderError, match="which is never run"):
        read_encoder_config(str(encoder))
    assert not (tmp_path / "run").exists()


def test_image_weights_are_loaded_and_reported(tmp_path: Path) -> None:
    config = fusion_config(task(image=IMAGE), in_channels=1)
    torch.manual_seed(7)
    first, _ = start_model(config)
    network = first.encoders["image"].network
    assert isinstance(network, torch.nn.Module)
    weights = {n: t.clone() for n, t in network.state_dict().items() if "class_layers.out" not in n}
    path = tmp_path / "w.safetensors"
    save_file(weights, path)
    torch.manual_seed(8)
    model, report = start_model(config, image_weights=path)
    assert report is not None
    assert report.n_loaded == len(weights)
    assert report.fresh == ("class_layers.out.bias", "class_layers.out.weight")
    loaded = model.encoders["image"].network
    assert isinstance(loaded, torch.nn.Module)
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in weights.items())


def test_an_image_too_small_for_the_network_stops_before_training() -> None:
    config = fusion_config(task(image={"size": [8, 8, 8]}), in_channels=1)
    with pytest.raises(ModelError, match=r"fails on one image of \[8, 8, 8\] voxels"):
        start_model(config)


def test_the_share_that_learns_is_counted(encoder: Path) -> None:
    config = read_encoder_config(str(encoder))
    full, _ = start_model(fusion_config(task(text={}), encoder=config))
    frozen, _ = start_model(fusion_config(task(text={"fine_tune": "frozen"}), encoder=config))
    n_encoder = sum(
        t.numel() for n, t in load_file(encoder / "model.safetensors").items() if not n.startswith("pooler")
    )
    assert frozen_share(full) == (n_all := sum(p.numel() for p in full.parameters()), n_all)
    assert frozen_share(frozen) == (n_all - n_encoder, n_all)
