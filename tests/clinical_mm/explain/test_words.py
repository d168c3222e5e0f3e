import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinical_mm.explain.words import PieceAttributions, attribute_words, word_spans


def window(pieces: list[tuple[int, int, float]], item_id: str = "n1") -> PieceAttributions:
    starts, ends, values = zip(*pieces, strict=True)
    return PieceAttributions(
        "notes", item_id, np.array(starts), np.array(ends), np.array(values, dtype=float)
    )


def by_text(text: str, windows: list[PieceAttributions]) -> dict[str, float]:
    words, _ = attribute_words([("notes", "n1", text)], windows)
    return {word.text: word.attribution for word in words}


def test_the_pieces_of_a_word_add_up_at_its_place_in_the_note() -> None:
    text = "No necrosis seen"
    words, remainder = attribute_words(
        [("notes", "n1", text)],
        [window([(-1, -1, 0.0), (0, 2, 1.0), (3, 7, 2.0), (7, 11, 3.0), (12, 16, -1.0), (-1, -1, 0.0)])],
    )
    assert [(w.text, w.start, w.end, w.attribution) for w in words] == [
        ("No", 0, 2, 1.0),
        ("necrosis", 3, 11, 5.0),
        ("seen", 12, 16, -1.0),
    ]
    assert remainder == 0.0


def test_windows_that_overlap_add_up_over_the_characters_they_share() -> None:
    text = "alpha beta gamma"
    first = window([(0, 5, 1.0), (6, 10, 2.0)])
    second = window([(6, 10, 0.5), (11, 16, 4.0)])
    assert by_text(text, [first, second]) == {"alpha": 1.0, "beta": 2.5, "gamma": 4.0}


def test_a_word_that_no_window_reads_is_not_attributed() -> None:
    assert by_text("read unread", [window([(0, 4, 1.0)])]) == {"read": 1.0}


def test_a_piece_with_its_leading_space_belongs_to_the_word_alone() -> None:
    assert by_text("a tumour", [window([(0, 1, 1.0), (1, 8, 3.0)])]) == {"a": 1.0, "tumour": 3.0}


def test_a_piece_over_two_words_is_shared_by_their_characters() -> None:
    assert by_text("ab cdef", [window([(0, 7, 6.0)])]) == {"ab": 2.0, "cdef": 4.0}


def test_what_falls_on_no_word_is_not_lost() -> None:
    _, remainder = attribute_words(
        [("notes", "n1", "a  b")], [window([(-1, -1, 0.25), (1, 3, 0.5), (0, 1, 1.0)])]
    )
    assert remainder == pytest.approx(0.75)


def test_each_note_keeps_its_own_words() -> None:
    words, _ = attribute_words(
        [("notes", "n1", "same"), ("notes", "n2", "same")],
        [window([(0, 4, 1.0)], "n1"), window([(0, 4, 2.0)], "n2")],
    )
    assert [(w.item_id, w.attribution) for w in words] == [("n1", 1.0), ("n2", 2.0)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ki-67 3.5%", ["Ki-67", "3.5", "%"]),
        ("pT2N0 (R0).", ["pT2N0", "(", "R0", ")."]),
        ("cafe\u0301 naïve", ["cafe\u0301", "naïve"]),
        ("🩺✅ ok", ["🩺✅", "ok"]),
        ("\u202eRTL\u202c", ["\u202e", "RTL", "\u202c"]),
        ("", []),
    ],
)
def test_words_are_what_a_reader_takes_for_words(text: str, expected: list[str]) -> None:
    assert [text[a:b] for a, b in word_spans(text)] == expected


@given(st.text(max_size=80), st.data())
def test_words_and_remainder_sum_to_the_pieces(text: str, data: st.DataObject) -> None:
    def piece(edges: list[int]) -> tuple[int, int]:
        return min(edges), max(edges)

    place = st.lists(st.integers(0, len(text)), min_size=2, max_size=2).map(piece)
    values = st.floats(-3, 3)
    pieces = data.draw(
        st.lists(st.tuples(place, values).map(lambda p: (*p[0], p[1])), min_size=1, max_size=12)
    )
    words, remainder = attribute_words([("notes", "n1", text)], [window(pieces)])
    assert sum(w.attribution for w in words) + remainder == pytest.approx(sum(p[2] for p in pieces), abs=1e-9)
    for word in words:
        assert text[word.start : word.end] == word.text
        assert not any(c.isspace() for c in word.text)
