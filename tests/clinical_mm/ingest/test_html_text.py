"""HTML to text."""

import doctest

import hypothesis.strategies as st
import pytest
from hypothesis import given

from clinical_mm.ingest import html_text
from clinical_mm.ingest.html_text import html_to_text


def test_the_examples_of_the_documentation_hold() -> None:
    assert doctest.testmod(html_text).failed == 0


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("no mark-up at all", "no mark-up at all"),
        ("one<br>two<br/>three<br />four", "one\ntwo\nthree\nfour"),
        ("one<br><br>two", "one\n\ntwo"),
        ("<div>one</div><div>two</div>", "one\ntwo"),
        ("<p>one</p><p>two</p>", "one\n\ntwo"),
        ("a <b>bold</b> word, b<i>o</i>ld", "a bold word, bold"),
        ("<b>a</b> <b>b</b>", "a b"),
        ("  spread \n over\t lines ", "spread over lines"),
        ("pO<sub>2</sub> &lt; 60&nbsp;mmHg &amp; falling &#956;", "pO2 < 60 mmHg & falling μ"),
        ("<head><title>T</title><style>p{}</style></head><body>x<script>var a='<p>';</script>y</body>", "xy"),
        ("<html><head><title>T</title><body><p>text</body>", "text"),
        ("<pre>a  b\n  c</pre>d", "a  b\n  c\n\nd"),
        ("<ol><li>one<li>two</ol>", "one\ntwo"),
        ("<tr><th>Hb</th><th>CRP</th></tr><tr><td>7</td><td>12</td></tr>", "Hb\tCRP\n7\t12"),
        ("a<!-- hidden -->b", "ab"),
        ("<p>unclosed <b>mark-up", "unclosed mark-up"),
        ("", ""),
    ],
)
def test_text_is_what_a_browser_would_show(html: str, text: str) -> None:
    assert html_to_text(html) == text


@given(
    st.lists(
        st.sampled_from(["<p>", "</p>", "<br>", "<td>", "<", "&", "&nbsp", "<!--", "<![", " ", "x", "<pre>"])
    )
)
def test_nothing_raises(parts: list[str]) -> None:
    html_to_text("".join(parts))


@given(st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), min_size=1, max_size=6))
def test_no_word_is_lost_or_glued_to_another(words: list[str]) -> None:
    for before, after in (
        ("<p>", "</p>"),
        ("<td>", "</td>"),
        ("<li>", ""),
        ("<div>", "</div>"),
        ("", "<br>"),
    ):
        assert html_to_text("".join(f"{before}{w}{after}" for w in words)).split() == words
