"""Notes as tokens, and tokens as overlapping windows, with the exact characters that every token stands for.

Which notes a patient has, and where their tokens are kept, does not belong here.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerFast

from clinical_mm.errors import EncoderError, StudyError
from clinical_mm.features.cache import cache_path, read_array, write_array
from clinical_mm.features.encoder import special_ids, tokenizer_hash
from clinical_mm.store import content_hash

VERSION = 1

Tokens = npt.NDArray[np.int32]
"""[n, 3]: token id, first character, one past the last character, in the note's own text."""


@dataclass(frozen=True)
class WindowPlan:
    """How the tokens of a note become windows.

    Attributes:
        prefix: special tokens before a window's own.
        suffix: special tokens after them.
        content_tokens: a window's own tokens, at most.
        overlap_tokens: how many of them the next window repeats.
        pad_token_id: what fills a batch.
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    content_tokens: int
    overlap_tokens: int
    pad_token_id: int

    @classmethod
    def of(
        cls, tokenizer: PreTrainedTokenizerFast, window_tokens: int, overlap_tokens: int, limit: int | None
    ) -> "WindowPlan":
        """The plan for windows of so many tokens, special ones included.

        Raises:
            StudyError: the encoder cannot read so many at once.
            EncoderError: its special tokens leave no room between overlaps.
        """
        if limit is not None and window_tokens > limit:
            raise StudyError(
                f"modalities.text.window_tokens is {window_tokens}, and the encoder reads at most {limit} tokens at "
                f"once: set window_tokens to {limit} or less"
            )
        prefix, suffix = special_ids(tokenizer)
        content = window_tokens - len(prefix) - len(suffix)
        if content <= overlap_tokens:
            raise EncoderError(
                f"the encoder sets {len(prefix) + len(suffix)} special tokens into a window of {window_tokens}: the "
                f"rest does not exceed the overlap of {overlap_tokens}"
            )
        return cls(prefix, suffix, content, overlap_tokens, int(tokenizer.pad_token_id))

    def cut(self, n_tokens: int) -> list[tuple[int, int]]:
        """First token and number of tokens of every window of a note; together they cover all of it.

        >>> WindowPlan((101,), (102,), content_tokens=6, overlap_tokens=2, pad_token_id=0).cut(13)
        [(0, 6), (4, 6), (8, 5)]
        """
        step = self.content_tokens - self.overlap_tokens
        last_start = max(n_tokens - self.overlap_tokens, 1) if n_tokens else 0
        return [(first, min(self.content_tokens, n_tokens - first)) for first in range(0, last_start, step)]


class Tokeniser:
    """Tokens of notes, from the cache where the same text was tokenised by the same tokenizer before."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
        self._backend = tokenizer.backend_tokenizer
        self._hash = tokenizer_hash(tokenizer)
        self._folder = folder
        self.n_hits = 0
        self.n_misses = 0

    def __call__(self, text: str) -> Tokens:
        """All tokens of a text, none of them special."""
        path = cache_path(self._folder, content_hash("tokens", VERSION, self._hash, text))
        cached = read_array(path)
        if cached is not None:
            self.n_hits += 1
            return np.asarray(cached, dtype=np.int32)
        self.n_misses += 1
        tokens = tokenise(self._backend, text)
        write_array(path, tokens)
        return tokens


def tokenise(backend: object, text: str) -> Tokens:
    """Token ids with their characters by a `tokenizers.Tokenizer`; nothing is truncated."""
    encoding = backend.encode(text, add_special_tokens=False)  # type: ignore[attr-defined]
    offsets = np.asarray(encoding.offsets, dtype=np.int32).reshape(-1, 2)
    return np.column_stack([np.asarray(encoding.ids, dtype=np.int32), offsets]).astype(np.int32)
