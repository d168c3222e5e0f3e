"""A WordPiece vocabulary learned from notes, as a fast Hugging Face tokenizer.

A word counts once for each patient who has it, however often it stands in their notes: what is peculiar to one
patient, a name above all, gets no entry of its own. What the tokens are used for does not belong here.
"""

from collections.abc import Iterable, Iterator

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from clinical_mm.errors import TrainingError

PAD, UNKNOWN, CLS, SEP, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MIN_PATIENTS = 3
"""A piece of more than one character stands in the notes of so many patients."""


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
    tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary,
        min_frequency=MIN_PATIENTS,
        special_tokens=list(SPECIAL_TOKENS),
        continuing_subword_prefix="##",
        show_progress=False,
    )
    # A list, not the generator: training holds the tokenizer, and the generator would wait for it for ever.
    tokenizer.train_from_iterator(list(_distinct_words(notes_by_patient, tokenizer)), trainer)
    if tokenizer.get_vocab_size() <= len(SPECIAL_TOKENS):
        raise TrainingError(
            "the notes hold no word to learn a vocabulary from: see the notes that were ingested"
        )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{CLS} $A {SEP}",
        pair=f"{CLS} $A {SEP} $B:1 {SEP}:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (CLS, SEP)],
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        cls_token=CLS,
        sep_token=SEP,
        mask_token=MASK,
        model_max_length=window_tokens,
    )


def _distinct_words(notes_by_patient: Iterable[Iterable[str]], tokenizer: Tokenizer) -> Iterator[str]:
    """One line a patient: their words, each once, in alphabetical order."""
    for notes in notes_by_patient:
        words: set[str] = set()
        for text in notes:
            normalized = tokenizer.normalizer.normalize_str(text)
            words.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normalized))
        yield " ".join(sorted(words))
