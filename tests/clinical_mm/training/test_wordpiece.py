"""The vocabulary learned from notes: its size, its special tokens, and whose words get no entry."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from clinical_mm.errors import TrainingError
from clinical_mm.training.wordpiece import MIN_PATIENTS, SPECIAL_TOKENS, train_tokenizer

COMMON = "the liver shows a large tumour without fever and the margin is clear of cells"


def notes(n: int, *texts: str) -> list[list[str]]:
    return [[text] for text in texts for _ in range(n)]


def pieces(vocabulary: dict[str, int]) -> set[str]:
    return {p.removeprefix("##") for p in vocabulary if p not in SPECIAL_TOKENS}


def test_the_vocabulary_has_the_size_that_was_asked_for_where_the_notes_have_the_words() -> None:
    words = [a + b + c for a in string.ascii_lowercase for b in "aeiou" for c in "lmn"]
    tokenizer = train_tokenizer(notes(MIN_PATIENTS, " ".join(words)), 250, 32)
    assert len(tokenizer) == 250
    assert sorted(tokenizer.get_vocab().values()) == list(range(250))
    assert tokenizer.model_max_length == 32


def test_special_tokens_have_the_first_ids_and_stand_around_a_text_and_a_pair() -> None:
    tokenizer = train_tokenizer(notes(MIN_PATIENTS, COMMON), 200, 32)
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == [0, 1, 2, 3, 4]
    single = tokenizer("the tumour")
    assert tokenizer.convert_ids_to_tokens(single["input_ids"]) == ["[CLS]", "the", "tumour", "[SEP]"]
    pair = tokenizer("the", "tumour", return_token_type_ids=True)
    assert tokenizer.convert_ids_to_tokens(pair["input_ids"]) == ["[CLS]", "the", "[SEP]", "tumour", "[SEP]"]
    assert pair["token_type_ids"] == [0, 0, 0, 1, 1]
    assert tokenizer.decode(single["input_ids"], skip_special_tokens=True) == "the tumour"
    padded = tokenizer(["the", "the liver"], padding=True)
    assert padded["attention_mask"] == [[1, 1, 1, 0], [1, 1, 1, 1]]


def test_a_saved_tokenizer_comes_back_whole(tmp_path) -> None:  # type: ignore[no-untyped-def]
    tokenizer = train_tokenizer(notes(MIN_PATIENTS, COMMON), 200, 32)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.is_fast
    assert again.get_vocab() == tokenizer.get_vocab()
    assert again("The LIVER, large?")["input_ids"] == tokenizer("The LIVER, large?")["input_ids"]
    assert (again.mask_token, again.pad_token, again.model_max_length) == ("[MASK]", "[PAD]", 32)


def test_a_word_of_one_patient_gets_no_entry_however_often_it_stands_there() -> None:
    one = ["mustermann " * 50, "mustermann again", "see mustermann"]
    vocabulary = train_tokenizer([*notes(MIN_PATIENTS, COMMON), one], 400, 32).get_vocab()
    assert "mustermann" not in vocabulary
    vocabulary = train_tokenizer([*notes(MIN_PATIENTS, COMMON, "mustermann")], 400, 32).get_vocab()
    assert "mustermann" in vocabulary


def test_a_stem_that_only_one_patient_has_gets_no_entry_though_it_stands_in_many_words() -> None:
    one = ["kowalczyk kowalczyks kowalczyka kowalczykowa kowalczyknow kowalczykton"]
    vocabulary = train_tokenizer([*notes(MIN_PATIENTS, COMMON), one], 400, 32).get_vocab()
    peculiar = {p for p in pieces(vocabulary) if len(p) > 1 and p in one[0] and p not in COMMON}
    assert peculiar == set()


def test_a_note_that_spells_a_special_token_does_not_get_one() -> None:
    tokenizer = train_tokenizer(notes(MIN_PATIENTS, f"{COMMON} [SEP] [MASK] [ ]"), 200, 32)
    ids = tokenizer.backend_tokenizer.encode("fever [SEP] [MASK] fever", add_special_tokens=False).ids
    assert not set(ids) & {tokenizer.sep_token_id, tokenizer.mask_token_id, tokenizer.unk_token_id}


def test_the_vocabulary_is_never_larger_than_asked_for_even_with_many_characters() -> None:
    tokenizer = train_tokenizer(notes(MIN_PATIENTS, string.printable + "äöüßéèêçñøåæœ" + COMMON), 100, 32)
    assert len(tokenizer) <= 100


def test_the_order_of_patients_and_of_their_notes_does_not_matter() -> None:
    patients = [["the liver", "is large"], ["a large liver"], ["the large liver is clear"], ["is the liver"]]
    turned = [list(reversed(p)) for p in reversed(patients)]
    assert train_tokenizer(patients, 120, 32).get_vocab() == train_tokenizer(turned, 120, 32).get_vocab()


def test_notes_without_a_word_are_an_error() -> None:
    with pytest.raises(TrainingError, match="no word"):
        train_tokenizer([["", "  \n"]], 100, 32)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.text(alphabet="abcd ", max_size=20), min_size=1, max_size=3), min_size=1, max_size=6
    ).filter(lambda patients: any(text.strip() for notes_ in patients for text in notes_))
)
def test_a_piece_of_several_characters_stands_in_the_notes_of_enough_patients(
    patients: list[list[str]],
) -> None:
    vocabulary = train_tokenizer(patients, 100, 32).get_vocab()
    for piece in pieces(vocabulary):
        if len(piece) > 1:
            n_patients = sum(any(piece in text for text in texts) for texts in patients)
            assert n_patients >= MIN_PATIENTS, piece
