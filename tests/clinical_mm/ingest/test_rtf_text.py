"""RTF to text."""

import doctest
import time

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from clinical_mm.ingest import rtf_text
from clinical_mm.ingest.ledger import RecordRefusedError
from clinical_mm.ingest.rtf_text import rtf_to_text

FONTS = (
    rb"{\fonttbl{\f0\froman Times New Roman{\*\falt Times};}{\f1\fcharset204 Arial Cyr;}{\f2\fcharset2 Symbol;}"
    rb"{\f3\fcharset128 MS Mincho;}{\f4\fcharset238 Arial CE;}}"
)


def _rtf(body: bytes, head: bytes = rb"\ansi\ansicpg1252\deff0" + FONTS) -> bytes:
    return rb"{\rtf1" + head + b" " + body + b"}"


def test_the_examples_of_the_documentation_hold() -> None:
    assert doctest.testmod(rtf_text).failed == 0


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (rb"plain words", "plain words"),
        (rb"the patient\u8217?s \u946?-blocker", "the patient’s β-blocker"),
        (rb"\uc2 \u8217\'92\'92s{\uc0 \u181 g} \u181ugl", "’sµg µl"),
        (rb"\u-10179?\u-8704?", "😀"),
        (rb"f\'fcr \'80 5", "für € 5"),
        (rb"{\f1\'ef\'ee\'ea\'ee\'e9} and {\f4 \'9e}", "покой and ž"),
        (rb"{\f1\plain \'e9}", "é"),
        (b"{\\f3\\'82\n\\'a0}", "あ"),
        (rb"one\par two\par\par three\line four", "one\ntwo\n\nthree\nfour"),
        (b"one\\\ntwo", "one\ntwo"),
        (b"no\r\nbreak", "nobreak"),
        (b"end\\par\nof line", "end\nof line"),
        (rb"\trowd\cellx1 Hb\cell 7.1\cell\row\trowd CRP\cell 12\cell\row", "Hb\t7.1\nCRP\t12"),
        (rb"a\{b\}c C:\\bin\\x", r"a{b}c C:\bin\x"),
        (rb"5\~mg, ade\-noma, T\_2", "5 mg, adenoma, T‑2"),
        (rb"{\*\generator Writer;}{\info{\author A. Name}}{\header page}text", "text"),
        (rb"{\pict{\*\blipuid 00ff}\wmetafile8 0102}after C:\\bin", r"after C:\bin"),
        (rb"{\pict\bin6 }}{{\\}after", "after"),
        (rb"seen {\v hidden\u8217?\emdash}{\deleted struck}{\v0 shown}", "seen shown"),
        (rb"\v hid\plain seen", "seen"),
        (rb'{\field{\*\fldinst{HYPERLINK "http://example.org"}}{\fldrslt{the guideline}}}', "the guideline"),
        (rb"{\listtext\f2\'b7\tab}item", "•\titem"),
        (rb"{\listtext\f2\u-3913?\tab}item", "•\titem"),
        (rb"", ""),
    ],
)
def test_text_is_what_a_reader_would_see(body: bytes, text: str) -> None:
    assert rtf_to_text(_rtf(body)) == text


@pytest.mark.parametrize(
    ("head", "body", "text"),
    [
        (rb"\ansi\ansicpg1251", rb"\'ef\'ee\'ea\'ee\'e9", "покой"),
        (rb"\mac", rb"\'9f", "ü"),
        (rb"\pc", rb"\'81", "ü"),
        (rb"\ansi\ansicpg0", rb"plain", "plain"),
        (rb"", rb"\'fc", "ü"),
    ],
)
def test_bytes_are_read_in_the_code_page_of_the_document(head: bytes, body: bytes, text: str) -> None:
    assert rtf_to_text(_rtf(body, head)) == text


@pytest.mark.parametrize(
    ("data", "reason_code"),
    [
        (b"", "malformed_rtf"),
        (b"plain words", "malformed_rtf"),
        (rb"{\rtf1 words", "truncated_file"),
        (rb"{\rtf1 {\b words}", "truncated_file"),
        (b"{\\rtf1 words\\", "truncated_file"),
        (rb"{\rtf1{\pict\bin999 }}", "truncated_file"),
        (_rtf(rb"\'zz"), "malformed_rtf"),
        (_rtf(rb"\u x"), "malformed_rtf"),
        (_rtf(rb"\u1114112 x"), "malformed_rtf"),
        (_rtf(rb"\u-10179?"), "unknown_encoding"),
        (_rtf(rb"\'81"), "unknown_encoding"),
        (_rtf(rb"{\f3\'82}"), "unknown_encoding"),
        (_rtf(rb"\'fc", rb"\ansi\ansicpg4711"), "unknown_encoding"),
        (_rtf("Größe".encode()), "unknown_encoding"),
        (_rtf(rb"5 {\f2 m}g"), "unsupported_symbol_font"),
        (_rtf(rb"5 {\f2\'6d}g"), "unsupported_symbol_font"),
        (_rtf(rb"5 \u-3987?g"), "unsupported_symbol_font"),
    ],
)
def test_what_cannot_be_read_for_certain_is_refused_with_its_reason(data: bytes, reason_code: str) -> None:
    with pytest.raises(RecordRefusedError) as refusal:
        rtf_to_text(data)
    assert refusal.value.reason_code == reason_code


WHOLE = _rtf(rb"the patient\u8217?s f\'fc{\b nf}\par Hb\cell 7.1\cell\row")


@pytest.mark.parametrize("n_bytes", range(len(WHOLE)))
def test_a_document_that_is_cut_anywhere_is_refused(n_bytes: int) -> None:
    with pytest.raises(RecordRefusedError):
        rtf_to_text(WHOLE[:n_bytes])


@pytest.mark.parametrize(
    "body",
    [
        b"{" * 100_000 + b"}" * 100_000,
        rb"{\fonttbl" + rb"\f1" * 100_000 + b"}",
        rb"{\fonttbl" + rb"{\f1\fcharset0" * 10_000 + b"}" * 10_001,
        rb'{\field{\*\fldinst{ HYPERLINK "x"' * 10_000 + b"}" * 30_000,
        b"x" + b" " * 200_000 + b"y",
    ],
)
def test_a_hostile_document_takes_no_more_time_than_its_length(body: bytes) -> None:
    began_s = time.process_time()
    rtf_to_text(_rtf(body))
    assert time.process_time() - began_s < 10


PIECES = [
    *(
        b"{",
        b"}",
        b"\\",
        rb"\'fc",
        rb"\'8",
        rb"\u8217?",
        rb"\u",
        rb"\uc",
        rb"\bin3 ",
        rb"\bin",
        rb"\f1",
        rb"\f",
    ),
    *(
        rb"{\fonttbl",
        rb"\fcharset128",
        rb"\pict",
        rb"\ansicpg",
        rb"\*",
        b"\n",
        b"\0",
        b"\xff",
        b"x",
        b"-1",
        b";",
    ),
]


@given(st.lists(st.sampled_from(PIECES), max_size=40))
@settings(deadline=None)
def test_any_document_becomes_text_or_is_refused(pieces: list[bytes]) -> None:
    try:
        text = rtf_to_text(rb"{\rtf1" + b"".join(pieces) + b"}")
    except RecordRefusedError:
        return
    text.encode("utf-8")


@given(st.text(st.characters(exclude_categories=["C", "Z"], max_codepoint=0xD7FF), max_size=30))
def test_any_character_of_16_bits_survives_its_escape(text: str) -> None:
    units = [ord(c) - 0x10000 if ord(c) > 0x7FFF else ord(c) for c in text]
    assert rtf_to_text(_rtf(b"".join(b"\\u%d?" % u for u in units))) == text
