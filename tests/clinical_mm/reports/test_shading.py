from hypothesis import given
from hypothesis import strategies as st

from clinical_mm.explain.words import Word, word_spans
from clinical_mm.reports.shading import LEVELS, segments, visible


def test_words_are_shaded_by_sign_and_size_and_unread_text_is_marked() -> None:
    text = "necrosis seen, margins free, later text"
    words = [
        Word("s", "n", 0, 8, "necrosis", 1.0),
        Word("s", "n", 9, 13, "seen", 0.01),
        Word("s", "n", 15, 22, "margins", -0.5),
    ]
    found = segments(text, words, [(0, 20), (18, 27)], strongest=1.0)
    assert [(s.text, s.level, s.is_read) for s in found] == [
        ("necrosis", LEVELS, True),
        (" seen, ", 0, True),
        ("margins", -3, True),
        (" free", 0, True),
        (", later text", 0, False),
    ]
    assert found[2].amount == "−0.500"


def test_a_long_unread_stretch_is_cut_and_says_so() -> None:
    (segment,) = segments("x" * 10_000, [], [], strongest=0.0)
    assert not segment.is_read
    assert segment.text.endswith("6,000 more characters that were not read")


spans = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda p: (min(p), max(p))), max_size=6
)


@given(
    st.text(st.characters(exclude_characters="\r", codec="utf-8"), max_size=60),
    spans,
    st.randoms(use_true_random=False),
)
def test_segments_join_to_the_note(text: str, read: list[tuple[int, int]], random: object) -> None:
    read = [(a, min(b, len(text))) for a, b in read if a < len(text)]
    words = [Word("s", "n", a, b, text[a:b], random.uniform(-1, 1)) for a, b in word_spans(text)]  # type: ignore[attr-defined]
    joined = "".join(s.text for s in segments(text, words, read, strongest=1.0))
    assert joined == visible(text)
