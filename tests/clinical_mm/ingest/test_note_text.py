"""The check that the text of every note passes: what a wrong encoding leaves is quarantined, real text is not."""

import codecs
import csv
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from clinical_mm.ingest.character_sets import likely_encoding, marked_encoding
from clinical_mm.ingest.ledger import RecordRefusedError
from clinical_mm.ingest.note_text import checked_text

SENTENCES = {
    "German": "Größenzunahme der Läsion, Übelkeit; keine Gefäßinvasion.",
    "French": "Le patient a été opéré à l’hôpital, fièvre élevée – décès écarté.",
    "Polish": "Pacjentka zgłosiła się z powodu bólu głowy, źle się czuła.",
    "Turkish": "Hastanın şikâyeti baş ağrısı, öğleden sonra geçti.",
    "Russian": "Пациент поступил с жалобами на боль в груди.",
    "Greek": "Ο ασθενής προσήλθε με πυρετό.",
    "Japanese": "患者は胸痛を訴えて来院した。",
    "symbols": "T ≤ 38 °C, SpO₂ 98 %, 5 µg × 2 → stable; “no change” …",
    "bullets": "\uf0b7 first • second ▪ third ½ tablet",
    "noise of OCR": "r^_ic1: ^¢•ricjewel: and leanar ^.¢„q,$, pre",
}


def _reason(text: str) -> str:
    with pytest.raises(RecordRefusedError) as refusal:
        checked_text(text)
    return refusal.value.reason_code


@pytest.mark.parametrize("language", SENTENCES)
def test_text_in_its_own_letters_is_left_as_it_is(language: str) -> None:
    assert checked_text(SENTENCES[language]) == SENTENCES[language]


@pytest.mark.parametrize("language", ["German", "French", "Polish", "Turkish", "symbols"])
@pytest.mark.parametrize("wrong", ["cp1252", "latin-1"])
def test_utf_8_that_was_decoded_as_a_western_encoding_is_suspected(language: str, wrong: str) -> None:
    garbled = SENTENCES[language].encode().decode(wrong, errors="ignore")
    assert _reason(garbled) == "mojibake_suspected"
    assert _reason("A long note in plain letters. " * 200 + garbled) == "mojibake_suspected"


@pytest.mark.parametrize(
    ("text", "reason_code"),
    [
        ("Ã©tat stable", "mojibake_suspected"),
        ("the patientâ€™s family", "mojibake_suspected"),
        ("Gr\ufffd\ufffde", "mojibake_suspected"),
        ("the patient\x92s family".encode("latin-1").decode("latin-1"), "mojibake_suspected"),
        ("and so on\x85", "mojibake_suspected"),
        ("\x00P\x00a\x00i\x00n", "control_characters"),
        ("\x1b$B45<T\x1b(B", "control_characters"),
        ("", "empty_text"),
        (" \n\t\x0c", "empty_text"),
    ],
)
def test_signs_of_a_wrong_encoding_have_a_reason(text: str, reason_code: str) -> None:
    assert _reason(text) == reason_code


@pytest.mark.parametrize("text", ["page one\x0cpage two", "line\x0bline", "bell\x07", "end\x1a"])
def test_control_characters_that_say_nothing_on_the_encoding_pass(text: str) -> None:
    assert checked_text(text) == text


def test_no_sentence_holds_the_text() -> None:
    for text in ("zebrafishÃ©tat", "zebrafish\x00", "zebrafish\ufffd", "zebrafish\x92"):
        with pytest.raises(RecordRefusedError) as refusal:
            checked_text(text)
        assert "zebrafish" not in refusal.value.sentence


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=300))
@settings(max_examples=100, deadline=None)
def test_printable_ascii_is_never_refused_but_where_it_is_blank(text: str) -> None:
    if text.strip():
        assert checked_text(text) == text


@given(st.text(alphabet="äöüÄÖÜßéèêçñåø", min_size=2, max_size=6), st.sampled_from(["cp1252", "latin-1"]))
@settings(max_examples=200, deadline=None)
def test_words_of_accented_letters_pass_and_their_mojibake_does_not(word: str, wrong: str) -> None:
    note = f"Befund: x{word.lower()}x, unverändert."
    assert checked_text(note) == note
    # As browsers decode it: cp1252, with the five bytes that it lacks as control characters.
    assert _reason("".join(_sloppy(byte, wrong) for byte in note.encode())) == "mojibake_suspected"


def _sloppy(byte: int, encoding: str) -> str:
    try:
        return bytes([byte]).decode(encoding)
    except UnicodeDecodeError:
        return chr(byte)


@pytest.mark.parametrize(
    ("mark", "encoding", "codec"),
    [
        (codecs.BOM_UTF8, "utf-8", "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16-le", "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16-be", "utf-16"),
        (codecs.BOM_UTF32_LE, "utf-32-le", "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32-be", "utf-32"),
    ],
)
def test_a_byte_order_mark_names_the_codec_that_reads_past_it(mark: bytes, encoding: str, codec: str) -> None:
    data = mark + "Größe".encode(encoding)
    assert marked_encoding(data) == codec
    assert data.decode(codec) == "Größe"
    assert marked_encoding("Größe".encode(encoding)) is None


@pytest.mark.parametrize(
    ("language", "encoding"), [("German", "cp1252"), ("French", "cp1252"), ("Polish", "cp1250")]
)
def test_the_hint_names_an_encoding_that_gives_the_very_letters(language: str, encoding: str) -> None:
    data = (SENTENCES[language] + " ").encode(encoding) * 3
    assert likely_encoding(data) == encoding


def test_where_nothing_is_likely_there_is_no_hint() -> None:
    assert likely_encoding(bytes(range(128, 256)) * 20) is None


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("file", "column", "n"),
    [
        ("notes/mtsamples_test500.csv", "text", 500),
        ("notes/pmc_patients_1000.csv", "patient", 1000),
        ("tcga_reports_genomics/reports/BLADDER.csv", "ocr_text", 412),
        ("tcga_reports_genomics/reports/LIVER.csv", "ocr_text", 421),
        ("medpix_ct_mr/cases.csv", "findings", 602),
    ],
)
def test_no_real_text_is_taken_for_mojibake(real_data: Path, file: str, column: str, n: int) -> None:
    csv.field_size_limit(2**31 - 1)
    with (real_data / file).open(encoding="utf-8", newline="") as stream:
        texts = [row[column] for row in csv.DictReader(stream)]
    assert len(texts) == n
    for text in texts:
        if text.strip():
            assert checked_text(text) == text
