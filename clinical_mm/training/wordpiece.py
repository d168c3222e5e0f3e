"""A WordPiece vocabulary learned from notes, as a fast Hugging Face tokenizer.

A word counts once for each patient who has it, however often it stands in their notes, and a piece that stands in the
notes of few patients is left out: what is peculiar to one, a name above all, gets no entry of its own. The same notes
give the same entries and ids, in every process. What the tokens are used for does not belong here.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from clinical_mm.errors import TrainingError

PAD, UNKNOWN, CLS, SEP, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MIN_PATIENTS = 3
"""A piece of more than one character stands in the notes of so many patients."""

_INSIDE = "##"
_LONGEST_WORD = 100
"""Characters; a longer word reads as unknown, so nothing is learned from it. WordPiece's own default."""

Words = frozenset[str]


def train_tokenizer(
    notes_by_patient: Iterable[Iterable[str]], vocabulary: int, window_tokens: int
) -> PreTrainedTokenizerFast:
    """Learn a lower-case WordPiece vocabulary.

    Args:
        notes_by_patient: the texts of one patient after the other.
        vocabulary: entries at most, special tokens included.
        window_tokens: longest input of the model that it is for.

    Raises:
        TrainingError: the notes hold no word.
    """
    tokenizer = _tokenizer([*SPECIAL_TOKENS])
    words_by_patient = [_distinct_words(notes, tokenizer) for notes in notes_by_patient]
    singles = _singles(words_by_patient, vocabulary - len(SPECIAL_TOKENS))
    if not singles:
        raise TrainingError(
            "the notes hold no word to learn a vocabulary from: see the notes that were ingested"
        )
    n_longer = vocabulary - len(SPECIAL_TOKENS) - len(singles)
    longer = _longer(words_by_patient, singles, 2 * vocabulary)  # more than asked for: some are left out
    tokenizer = _tokenizer([*SPECIAL_TOKENS, *singles, *longer[:n_longer]])
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        cls_token=CLS,
        sep_token=SEP,
        mask_token=MASK,
        model_max_length=window_tokens,
    )
    fast.backend_tokenizer.encode_special_tokens = True  # a note that says "[SEP]" does not end a window
    return fast


def _tokenizer(entries: Sequence[str]) -> Tokenizer:
    ids = {entry: place for place, entry in enumerate(entries)}
    tokenizer = Tokenizer(
        models.WordPiece(
            ids,
            unk_token=UNKNOWN,
            continuing_subword_prefix=_INSIDE,
            max_input_chars_per_word=_LONGEST_WORD,
        )
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix=_INSIDE)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{CLS} $A {SEP}",
        pair=f"{CLS} $A {SEP} $B:1 {SEP}:1",
        special_tokens=[(token, ids[token]) for token in (CLS, SEP)],
    )
    return tokenizer


def _distinct_words(notes: Iterable[str], tokenizer: Tokenizer) -> Words:
    words: set[str] = set()
    for text in notes:
        normalized = tokenizer.normalizer.normalize_str(text)
        words.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normalized))
    return frozenset(word for word in words if len(word) <= _LONGEST_WORD)


def _singles(words_by_patient: Sequence[Words], room: int) -> list[str]:
    """Pieces of one character: those of most patients, where there is no room for all."""
    n_patients: Counter[str] = Counter()
    inside: set[str] = set()
    for words in words_by_patient:
        n_patients.update(set("".join(words)))
        inside.update(character for word in words for character in word[1:])
    singles: list[str] = []
    for character in sorted(n_patients, key=lambda c: (-n_patients[c], c)):
        entries = [character, f"{_INSIDE}{character}"] if character in inside else [character]
        if len(singles) + len(entries) > room:
            break
        singles += entries
    return sorted(singles)


def _longer(words_by_patient: Sequence[Words], singles: Sequence[str], n: int) -> list[str]:
    """Pieces of several characters that enough patients have, in the order in which they were learned."""
    learner = _tokenizer([*SPECIAL_TOKENS])
    trainer = trainers.WordPieceTrainer(
        vocab_size=n,
        min_frequency=MIN_PATIENTS,
        # Given here, not found by the trainer: that would number them, and then break ties, in the order of a hash.
        special_tokens=[*SPECIAL_TOKENS, *singles],
        limit_alphabet=0,
        continuing_subword_prefix=_INSIDE,
        show_progress=False,
    )
    # A list, not a generator: training holds the tokenizer, and a generator that uses it would wait for ever.
    learner.train_from_iterator([" ".join(sorted(words)) for words in words_by_patient], trainer)
    known = {*SPECIAL_TOKENS, *singles}
    vocabulary = learner.get_vocab(with_added_tokens=False)
    learned = [piece for piece in sorted(vocabulary, key=vocabulary.__getitem__) if piece not in known]
    n_patients = _patients_of(set(learned), words_by_patient)
    return [piece for piece in learned if n_patients[piece] >= MIN_PATIENTS]


def _patients_of(pieces: set[str], words_by_patient: Sequence[Words]) -> Counter[str]:
    """How many patients have a word that each piece begins, or for those that go on, stands within."""
    longest = max((len(piece) for piece in pieces), default=0)
    within: dict[str, tuple[str, ...]] = {}
    counts: Counter[str] = Counter()
    for words in words_by_patient:
        found: set[str] = set()
        for word in words:
            if word not in within:
                within[word] = _pieces_within(word, pieces, longest)
            found.update(within[word])
        counts.update(found)
    return counts


def _pieces_within(word: str, pieces: set[str], longest: int) -> tuple[str, ...]:
    parts = (
        f"{_INSIDE if first else ''}{word[first:last]}"
        for first in range(len(word))
        for last in range(first + 2, min(first + longest, len(word)) + 1)
    )
    return tuple({part for part in parts if part in pieces})
