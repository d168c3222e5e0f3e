"""A note as segments to shade: which words raised the answer, which lowered it, and what was never read.

Segments are plain text: escaping is for the template, colours are for the style sheet. Invisible characters that
reorder or hide text are spelled out, so that a page shows what was written and not what it pretends to be.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from clinical_mm.explain.words import Word
from clinical_mm.reports.wording import signed

LEVELS = 5
"""Steps of shading for either sign."""

_FAINT = 0.04  # share of the strongest word below which a word is not shaded
_MAX_UNREAD = 4000  # characters of unread text that are shown in a stretch
_HIDDEN = re.compile(
    "[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f]|[\ud800-\udfff]"
)


@dataclass(frozen=True)
class Segment:
    """A stretch of a note.

    Attributes:
        text: as written.
        level: 0: not shaded; 1 to `LEVELS`: raised the answer so much; negative: lowered it.
        amount: the word's own contribution, for its tooltip; empty where it is not shaded.
        is_read: whether the model read it.
    """

    text: str
    level: int = 0
    amount: str = ""
    is_read: bool = True


def segments(
    text: str, words: Sequence[Word], read: Iterable[tuple[int, int]], strongest: float
) -> tuple[Segment, ...]:
    """Cut a note into segments that join to its text again, hidden characters spelled out.

    Args:
        text: of the note.
        words: of this note, in reading order.
        read: stretches of the text that a window covered, in any order.
        strongest: the largest magnitude over all notes of the patient: the full shade.
    """
    found: list[Segment] = []
    stretches = _merged(read)
    place = 0
    for word in words:
        level = _level(word.attribution, strongest)
        if not level:
            continue
        found += _plain(text, place, word.start, stretches)
        found.append(Segment(visible(text[word.start : word.end]), level, signed(word.attribution, 3)))
        place = word.end
    found += _plain(text, place, len(text), stretches)
    return tuple(found)


def visible(text: str) -> str:
    r"""Text whose control and direction characters are spelled out.

    >>> visible("a\u202eb")
    'a⟨U+202E⟩b'
    """
    return _HIDDEN.sub(
        lambda match: f"⟨U+{ord(match.group()):04X}⟩", text.replace("\r\n", "\n").replace("\r", "\n")
    )


def _level(attribution: float, strongest: float) -> int:
    share = abs(attribution) / strongest if strongest > 0 else 0.0
    if share < _FAINT:
        return 0
    step = min(int(share * LEVELS) + 1, LEVELS)
    return step if attribution > 0 else -step


def _merged(stretches: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(stretches):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _plain(text: str, start: int, end: int, read: Sequence[tuple[int, int]]) -> list[Segment]:
    """Unshaded text from start to end, cut where reading begins or ends."""
    found: list[Segment] = []
    place = start
    for first, last in read:
        if last <= place or first >= end:
            continue
        if first > place:
            found += _unread(text[place:first])
            place = first
        found.append(Segment(visible(text[place : min(last, end)])))
        place = min(last, end)
    if place < end:
        found += _unread(text[place:end])
    return found


def _unread(text: str) -> list[Segment]:
    """White space between two pieces is no gap; a long unread stretch is cut short, and says so."""
    if not text.strip():
        return [Segment(visible(text))]
    if len(text) > _MAX_UNREAD:
        rest = f" … {len(text) - _MAX_UNREAD:,} more characters that were not read"
        return [Segment(visible(text[:_MAX_UNREAD]) + rest, is_read=False)]
    return [Segment(visible(text), is_read=False)]
