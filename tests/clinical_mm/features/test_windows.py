"""Tokens, their characters, and windows."""

import csv
import itertools
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from clinical_mm.errors import StudyError
from clinical_mm.features.encoder import load_tokenizer, position_limit
from clinical_mm.features.windows import Tokeniser, WindowPlan, tokenise


def plan(content: int, overlap: int) -> WindowPlan:
    return WindowPlan((2,), (3,), content, overlap, 0)


@given(st.integers(0, 500), st.integers(1, 60), st.data())
def test_windows_cover_every_token_and_overlap_by_what_is_asked(
    n: int, content: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, content - 1))
    cuts = plan(content, overlap).cut(n)
    covered = np.zeros(n, dtype=int)
    for first, length in cuts:
        assert 1 <= length <= content
        covered[first : first + length] += 1
    assert (covered >= 1).all()
    for (a, length), (b, _) in itertools.pairwise(cuts):
        assert length == content  # only the last one may be short
        assert a + length - b == overlap
    if len(cuts) > 1:
        assert cuts[-1][1] > overlap  # no window repeats only what was read


@pytest.mark.parametrize("n_words", [1, 9, 10, 11, 17, 18, 19, 40])
def test_windows_are_those_of_the_tokenizers_own_overflow(tiny_bert: Path, n_words: int) -> None:
    tokenizer = load_tokenizer(str(tiny_bert))
    text = " ".join(["tumour", "liver", "is", "large", "the"][i % 5] for i in range(n_words))
    ours = WindowPlan.of(tokenizer, 16, 4, position_limit(str(tiny_bert)))
    tokens = tokenise(tokenizer.backend_tokenizer, text)
    found = [[*ours.prefix, *tokens[a : a + n, 0].tolist(), *ours.suffix] for a, n in ours.cut(len(tokens))]
    theirs = tokenizer(text, truncation=True, max_length=16, stride=4, return_overflowing_tokens=True)
    assert found == theirs["input_ids"]


def test_a_window_longer_than_the_encoder_reads_is_refused_with_both_numbers(tiny_bert: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_bert))
    with pytest.raises(StudyError, match=r"window_tokens is 65.*at most 64"):
        WindowPlan.of(tokenizer, 65, 8, position_limit(str(tiny_bert)))


def test_offsets_of_a_known_text(tiny_bert: Path) -> None:
    backend = load_tokenizer(str(tiny_bert)).backend_tokenizer
    text = "The\u00a0TUMOURS, \n 23 LIVÉR"
    tokens = tokenise(backend, text)
    shown = [(backend.id_to_token(int(i)), text[a:b]) for i, a, b in tokens]
    # "23" is no word of this vocabulary and has no continuation ##3.
    assert shown == [
        ("the", "The"),
        ("tumour", "TUMOUR"),
        ("##s", "S"),
        (",", ","),
        ("[UNK]", "23"),
        ("liver", "LIVÉR"),
    ]


def test_a_note_that_spells_a_special_token_does_not_end_its_window(tiny_bert: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_bert))
    tokens = tokenise(tokenizer.backend_tokenizer, "large [SEP] small")
    assert not set(tokens[:, 0]) & set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=60))
def test_offsets_never_leave_the_text_and_never_go_back(text: str) -> None:
    tokens = tokenise(_backend(), text)
    starts, ends = tokens[:, 1], tokens[:, 2]
    assert (starts >= 0).all()
    assert (ends <= len(text)).all()
    assert (starts < ends).all()
    assert (starts[1:] >= ends[:-1]).all()


_KEPT: list = []


def _backend():  # type: ignore[no-untyped-def]
    assert _KEPT, "the fixture below runs first"
    return _KEPT[0]


@pytest.fixture(autouse=True)
def _keep_backend(tiny_bert: Path) -> None:
    if not _KEPT:
        _KEPT.append(load_tokenizer(str(tiny_bert)).backend_tokenizer)


def test_the_same_text_is_tokenised_once(tiny_bert: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_bert))
    first, second = Tokeniser(tokenizer, tmp_path), Tokeniser(tokenizer, tmp_path)
    a, b = first("the tumour is large"), second("the tumour is large")
    assert (a == b).all()
    assert (first.n_hits, first.n_misses, second.n_hits, second.n_misses) == (0, 1, 1, 0)
    second("the tumour is  large")  # one more space moves the characters
    assert second.n_misses == 1


def test_a_damaged_cache_entry_is_made_again(tiny_bert: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_bert))
    expected = Tokeniser(tokenizer, tmp_path)("the tumour is large")
    (entry,) = tmp_path.rglob("*.npy")
    for damaged in (b"", entry.read_bytes()[:-5], b"not an array"):
        entry.write_bytes(damaged)
        again = Tokeniser(tokenizer, tmp_path)
        assert (again("the tumour is large") == expected).all()
        assert again.n_misses == 1


def _plain(text: str) -> str:
    """As BERT's normaliser leaves it: lower case, without accents and control characters."""
    decomposed = unicodedata.normalize("NFD", text.lower())
    return "".join(c for c in decomposed if unicodedata.category(c) != "Mn" and not c.isspace())


def _real_notes(real_data: Path) -> list[str]:
    path = next(real_data.glob("tcga_reports_genomics/reports/LIVER.csv"))
    with path.open(newline="", encoding="utf-8", errors="strict") as file:
        return [max(row, key=len) for _, row in zip(range(40), csv.reader(file), strict=False) if row]


def _trained_on(texts: list[str]) -> Tokenizer:
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=600, special_tokens=["[UNK]"], show_progress=False)
    backend.train_from_iterator(texts, trainer)
    return backend


@pytest.mark.real_data
def test_offsets_of_real_reports_point_at_the_tokens_letters(real_data: Path) -> None:
    texts = _real_notes(real_data)
    backend = _trained_on(texts)
    n_tokens = 0
    for text in texts:
        tokens = tokenise(backend, text)
        read = np.zeros(len(text), dtype=bool)
        for token_id, start, end in tokens.tolist():
            token = backend.id_to_token(token_id)
            n_tokens += 1
            read[start:end] = True
            assert token == "[UNK]" or _plain(text[start:end]) == token.removeprefix("##")
        # What no token stands for is white space and control characters: no letter is lost.
        assert not _plain("".join(c for c, is_read in zip(text, read, strict=True) if not is_read))
    assert n_tokens > 5000


def test_an_encoders_own_truncation_and_padding_cut_and_add_nothing(make_tiny_bert) -> None:  # type: ignore[no-untyped-def]
    directory = make_tiny_bert()
    path = str(directory / "tokenizer.json")
    asks = Tokenizer.from_file(path)
    asks.enable_truncation(8)
    asks.enable_padding(length=8)
    asks.save(path)
    assert len(Tokenizer.from_file(path).encode("liver " * 40).ids) == 8
    backend = load_tokenizer(str(directory)).backend_tokenizer
    assert len(tokenise(backend, "liver " * 700)) == 700
    assert len(tokenise(backend, "liver")) == 1
