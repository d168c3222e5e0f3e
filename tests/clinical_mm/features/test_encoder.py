"""Finding the encoder, and refusing what is not it."""

import json
import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest
from tokenizers import Tokenizer, models

from clinical_mm.errors import EncoderError
from clinical_mm.features.encoder import (
    load_tokenizer,
    position_limit,
    resolve_encoder,
    special_ids,
    tokenizer_hash,
)
from clinical_mm.store import Store, snapshot
from clinical_mm.study.tasks import TextModality


def test_a_directory_is_relative_to_the_study_file(tmp_path, study_of, make_tiny_bert) -> None:  # type: ignore[no-untyped-def]
    directory = make_tiny_bert()
    study = study_of({"text": {}})
    found = resolve_encoder(study, Store(tmp_path / "store"), TextModality(encoder=directory.name))
    assert found == str(directory)


def test_pretrained_is_the_studys_own_encoder(tmp_path, study_of, tiny_bert) -> None:  # type: ignore[no-untyped-def]
    study, store = study_of({"text": {}}), Store(tmp_path / "store")
    with pytest.raises(EncoderError, match="clinical-mm pretrain-text"):
        resolve_encoder(study, store, TextModality(encoder="pretrained"))
    with snapshot(store.text_encoder, "f") as directory:
        shutil.copytree(tiny_bert, directory, dirs_exist_ok=True)
    found = resolve_encoder(study, store, TextModality(encoder="pretrained"))
    assert len(load_tokenizer(found)) == json.loads((tiny_bert / "config.json").read_text())["vocab_size"]


def test_a_missing_directory_is_named(tmp_path, study_of) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(EncoderError, match="no encoder directory"):
        resolve_encoder(study_of({"text": {}}), Store(tmp_path / "s"), TextModality(encoder="./nowhere"))


def test_a_hub_model_that_cannot_be_reached_is_one_sentence(tmp_path, study_of, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    settings = TextModality(encoder="nobody/has-this-model")
    with pytest.raises(EncoderError, match=r"nobody/has-this-model cannot be read.*offline") as caught:
        resolve_encoder(study_of({"text": {}}), Store(tmp_path / "s"), settings)
    assert "\n" not in str(caught.value)


def test_a_vocabulary_that_is_not_the_encoders_is_refused(make_tiny_bert) -> None:  # type: ignore[no-untyped-def]
    # Five special tokens in place of thousands of words: what BertTokenizerFast(vocab_file=…) silently makes.
    directory = make_tiny_bert(vocab_size=28996)
    with pytest.raises(EncoderError, match=r"has \d+ entries, its config.json says 28996"):
        load_tokenizer(str(directory))


def test_token_ids_beyond_the_embeddings_are_refused(make_tiny_bert) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(EncoderError, match="do not belong together"):
        load_tokenizer(str(make_tiny_bert(vocab_size=20)))


def test_a_directory_without_a_tokenizer_is_refused(make_tiny_bert) -> None:  # type: ignore[no-untyped-def]
    directory = make_tiny_bert()
    for path in directory.iterdir():
        if path.name != "config.json":
            path.unlink()
    with pytest.raises(EncoderError, match="tokenizer"):
        load_tokenizer(str(directory))


def test_a_fold_of_a_trained_model_has_a_tokenizer_too(make_tiny_bert) -> None:  # type: ignore[no-untyped-def]
    directory = make_tiny_bert()
    (directory / "config.json").write_text(json.dumps({"model_type": "clinical_mm_fusion"}))
    assert load_tokenizer(str(directory)).mask_token == "[MASK]"


def test_roberta_reads_two_tokens_fewer_than_it_has_positions(tmp_path: Path) -> None:
    # RoBERTa's padding id is 1 and its first position 2: of 514 positions 512 are of use.
    config = {"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert position_limit(str(tmp_path)) == 512


def test_an_encoder_without_absolute_positions_has_no_limit(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5", "max_position_embeddings": None}))
    assert position_limit(str(tmp_path)) is None


def test_special_tokens_are_read_off_the_tokenizer(tiny_bert: Path) -> None:
    assert special_ids(load_tokenizer(str(tiny_bert))) == ((2,), (3,))


def test_the_hash_of_a_tokenizer_changes_with_its_vocabulary(tiny_bert: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_bert))
    before = tokenizer_hash(tokenizer)
    assert before == tokenizer_hash(load_tokenizer(str(tiny_bert)))
    tokenizer.backend_tokenizer.model = Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]")).model
    assert tokenizer_hash(tokenizer) != before
