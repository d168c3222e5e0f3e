"""From the attributions of word pieces to those of words, at their exact places in the original notes.

A piece belongs to the words whose characters it covers. Where windows overlap, a character is read several times and
its attributions add up, so that the words of all notes sum to the contribution of the text. How a page shades them
does not belong here.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_LETTERS = r"[\w\u0300-\u036f]"  # combining accents belong to the letter that they stand on
_WORD = re.compile(rf"{_LETTERS}+(?:[-.'’]{_LETTERS}+)*|[^\w\s]+")


@dataclass(frozen=True)
class Word:
    """A word of a note and what it contributed.

    Attributes:
        source: the source of the note.
        item_id: the note.
        start: first character in the note's text.
        end: one past its last character.
        text: the word as written.
        attribution: in units of the explained output.
    """

    source: str
    item_id: str
    start: int
    end: int
    text: str
    attribution: float


@dataclass(frozen=True)
class PieceAttributions:
    """Attributions of the pieces of one window of a note.

    Attributes:
        source: the source of the note.
        item_id: the note.
        starts: [pieces] first character of each piece, −1 for special tokens.
        ends: [pieces] one past its last character.
        attributions: [pieces]
    """

    source: str
    item_id: str
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    attributions: npt.NDArray[np.float64]


def word_spans(text: str) -> list[tuple[int, int]]:
    """Places of the words of a text: letters and digits with inner hyphens and points, or runs of other signs.

    >>> note = "Ki-67 was 3.5 %, T2."
    >>> [note[a:b] for a, b in word_spans(note)]
    ['Ki-67', 'was', '3.5', '%,', 'T2', '.']
    """
    return [match.span() for match in _WORD.finditer(text)]


def attribute_words(
    notes: Iterable[tuple[str, str, str]], windows: Sequence[PieceAttributions]
) -> tuple[tuple[Word, ...], float]:
    """Words of the notes with their attributions.

    Args:
        notes: (source, item_id, text) of every note that was read.
        windows: of these notes.

    Returns:
        The words that a window covers, in reading order; and what fell on no word: special tokens and white space.
        Both together sum to the attributions of the pieces.
    """
    by_note: dict[tuple[str, str], list[PieceAttributions]] = {}
    for window in windows:
        by_note.setdefault((window.source, window.item_id), []).append(window)
    words: list[Word] = []
    total = float(sum(window.attributions.sum() for window in windows))
    for source, item_id, text in notes:
        spans = word_spans(text)
        sums, is_read = _spread(spans, by_note.get((source, item_id), []))
        words += [
            Word(source, item_id, start, end, text[start:end], float(value))
            for (start, end), value, read in zip(spans, sums, is_read, strict=True)
            if read
        ]
    return tuple(words), total - sum(word.attribution for word in words)


def _spread(
    spans: Sequence[tuple[int, int]], windows: Sequence[PieceAttributions]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Sum per word, and whether any piece covers it; a piece over several words is shared by its characters."""
    sums = np.zeros(len(spans))
    is_read = np.zeros(len(spans), dtype=bool)
    starts = np.array([a for a, _ in spans], dtype=np.int64)
    ends = np.array([b for _, b in spans], dtype=np.int64)
    for window in windows:
        first = np.searchsorted(ends, window.starts, side="right")
        last = np.searchsorted(starts, window.ends, side="left")
        for piece in np.flatnonzero(window.starts >= 0):
            covered = slice(first[piece], last[piece])
            overlap = np.minimum(ends[covered], window.ends[piece]) - np.maximum(
                starts[covered], window.starts[piece]
            )
            overlap = np.maximum(overlap, 0)
            if overlap.sum() == 0:
                continue
            sums[covered] += window.attributions[piece] * overlap / overlap.sum()
            is_read[covered] |= overlap > 0
    return sums, is_read
