"""Notes from files, and the manifest that says whose they are."""

import gzip
import logging
from datetime import datetime
from pathlib import Path

import hypothesis.strategies as st
import pandas as pd
import pytest
from hypothesis import given, settings
from pydantic import ValidationError

from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.delivery import Delivery, matching_files
from clinical_mm.ingest.ledger import Ledger
from clinical_mm.ingest.notes_files import read_notes_files
from clinical_mm.study.sources import NotesFilesSource
from ingest_support import checked_notes, fates_of

SOURCE = {
    "kind": "notes_files",
    "path": "notes/*",
    "manifest": "manifest.csv",
    "file": "path",
    "patient_id": "patient",
    "available_time": "stored",
    "event_time": "seen",
    "note_type": "type",
    "status": "status",
}
COLUMNS = ("path", "patient", "id", "type", "status", "seen", "stored", "media")
RTF = rb"{\rtf1\ansi\ansicpg1252 38\u8201?\'b0C}"


def _row(
    path: str = "notes/1.txt",
    *,
    patient: str = "007",
    note_id: str = "",
    status: str = "final",
    stored: str = "2024-01-02 10:00",
    media: str = "",
) -> tuple[str, ...]:
    return (path, patient, note_id, "letter", status, "2024-01-01", stored, media)


def _read(
    folder: Path, files: dict[str, bytes], rows: list[tuple[str, ...]], **options: object
) -> tuple[pd.DataFrame, Ledger]:
    for path, content in files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(content)
    pd.DataFrame(rows, columns=list(COLUMNS), dtype=object).to_csv(folder / "manifest.csv", index=False)
    return _read_delivery(folder, **options)


def _read_delivery(folder: Path, **options: object) -> tuple[pd.DataFrame, Ledger]:
    declared = {k: v for k, v in {**SOURCE, **options}.items() if v is not None}
    source = NotesFilesSource.model_validate(declared)
    delivery = Delivery("d", folder)
    ledger = Ledger("s", "d", "file")
    frame = read_notes_files("s", source, delivery, matching_files(delivery, source), ledger)
    return checked_notes(frame, ledger)


def test_a_file_is_the_text_of_the_row_that_names_it(tmp_path: Path) -> None:
    frame, ledger = _read(tmp_path, {"notes/1.txt": "first\r\n  second, ü\n".encode()}, [_row()])
    row = frame.iloc[0]
    assert (row["source_patient_id"], row["note_id"], row["note_type"], row["status"]) == (
        *("007", "notes/1.txt", "letter", "final"),
    )
    assert (row["available_time"], row["event_time"]) == (datetime(2024, 1, 2, 10), datetime(2024, 1, 1))
    assert row["text"] == "first\r\n  second, ü\n"
    assert row["locator"] == "manifest.csv#row 1"
    assert (ledger.n_found, ledger.n_accepted) == (1, 1)


@pytest.mark.parametrize(
    ("path", "content", "media", "text"),
    [
        ("notes/a.TXT", b"plain", "", "plain"),
        ("notes/a.rtf", RTF, "", "38\u2009°C"),
        ("notes/a.html", b"<p>5&nbsp;mg<br>daily</p>", "", "5 mg\ndaily"),
        ("notes/a.xhtml", b"<html><body><p>x</p></body></html>", "", "x"),
        ("notes/a.htm", '<meta charset="cp1252"><p>Größe'.encode("cp1252"), "", "Größe"),
        ("notes/a.txt.gz", gzip.compress(b"packed"), "", "packed"),
        ("notes/a.rtf.gz", gzip.compress(RTF), "", "38\u2009°C"),
        ("notes/a.dat", RTF, "application/rtf", "38\u2009°C"),
        ("notes/4711", b"<b>x</b>", "Text/HTML; charset=utf-8", "x"),
        ("notes/a.txt", b"\xef\xbb\xbfmarked", "", "marked"),
        ("notes/./a.txt", b"around", "", "around"),
    ],
)
def test_the_format_is_that_of_the_media_type_or_of_the_ending(
    tmp_path: Path, path: str, content: bytes, media: str, text: str
) -> None:
    frame, _ = _read(tmp_path, {path: content}, [_row(path, media=media)], content_type="media")
    assert list(frame["text"]) == [text]


def test_files_are_read_in_the_declared_encoding_and_never_in_another(tmp_path: Path) -> None:
    files = {"notes/1.txt": "Größe".encode("cp1252"), "notes/2.txt": "Größe".encode()}
    rows = [_row(), _row("notes/2.txt")]
    frame, ledger = _read(tmp_path, files, rows)
    assert list(frame["text"]) == ["Größe"]
    assert fates_of(ledger, "manifest.csv") == {"row 1": ("quarantined", "unknown_encoding")}
    frame, ledger = _read(tmp_path, {"notes/2.txt": b"plain"}, rows, encoding="cp1252")
    assert list(frame["text"]) == ["Größe", "plain"]
    with pytest.raises(DeliveryError, match="'utf-9' is no encoding that Python knows"):
        _read_delivery(tmp_path, encoding="utf-9")


@pytest.mark.parametrize(
    ("content", "row", "reason_code"),
    [
        (b"x", _row(patient=""), "missing_patient_id"),
        (b"x", _row(stored=""), "missing_time"),
        (b"x", _row(stored="soon"), "unreadable_time"),
        (b" \n", _row(), "empty_text"),
        (b"x", _row(status="Entered in error"), "entered_in_error"),
        (b"x", _row(media="application/pdf"), "unsupported_content_type"),
        (b"x", _row(media="text/rtf"), "malformed_rtf"),
        (RTF[:-1], _row(media="text/rtf"), "truncated_file"),
    ],
)
def test_a_row_that_cannot_be_used_is_quarantined_by_its_reason(
    tmp_path: Path, content: bytes, row: tuple[str, ...], reason_code: str
) -> None:
    _, ledger = _read(tmp_path, {"notes/1.txt": content}, [row], content_type="media")
    assert fates_of(ledger, "manifest.csv") == {"row 1": ("quarantined", reason_code)}
    assert ledger.n_found == 1


def test_rows_without_a_file_and_files_without_a_row_are_records_of_their_own(tmp_path: Path) -> None:
    files = {"notes/1.txt": b"x", "notes/2.txt": b"x", "notes/b.pdf": b"%PDF", "other/3.txt": b"x"}
    rows = [_row(), _row("notes/4.txt"), _row(""), _row("other/3.txt"), _row("notes")]
    frame, ledger = _read(tmp_path, files, rows)
    assert list(frame["note_id"]) == ["notes/1.txt"]
    assert fates_of(ledger, "manifest.csv") == {
        "notes/2.txt": ("quarantined", "not_in_manifest"),
        "notes/b.pdf": ("quarantined", "not_in_manifest"),
        "row 2": ("quarantined", "missing_file"),
        "row 3": ("quarantined", "missing_path"),
        "row 4": ("quarantined", "missing_file"),  # there, but the source's path does not match it
        "row 5": ("quarantined", "missing_file"),
    }
    assert (ledger.n_found, ledger.n_accepted) == (7, 1)


@pytest.mark.parametrize(
    "path",
    [
        *("../secret.txt", "notes/../../secret.txt", "..", "/etc/hostname", "//server/x.txt", "link.txt"),
        *("folder/secret.txt", "C:\\secret.txt", "C:secret.txt", "\\\\server\\x.txt", "..\\secret.txt"),
    ],
)
def test_a_path_that_leads_out_of_the_delivery_is_never_opened(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(opened: Path) -> None:
        raise AssertionError(f"{opened} was opened")

    monkeypatch.setattr("clinical_mm.ingest.notes_files.open_bytes", refuse)
    (tmp_path / "secret.txt").write_text("secret")
    delivery = tmp_path / "d"
    delivery.mkdir()
    (delivery / "link.txt").symlink_to(tmp_path / "secret.txt")
    (delivery / "folder").symlink_to(tmp_path)
    frame, ledger = _read(delivery, {}, [_row(path)])
    assert frame.empty
    assert fates_of(ledger, "manifest.csv") == {"row 1": ("quarantined", "outside_delivery")}


def test_a_matching_link_out_of_the_delivery_refuses_the_delivery_as_for_every_source(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "d" / "notes").mkdir(parents=True)
    (tmp_path / "d" / "notes" / "1.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(DeliveryError, match="lead out of the delivery"):
        _read(tmp_path / "d", {}, [_row()])


def test_a_file_that_rows_give_to_different_patients_is_no_ones(tmp_path: Path) -> None:
    rows = [_row(note_id="1"), _row("./notes/1.txt", note_id="2", patient="008")]
    frame, ledger = _read(tmp_path, {"notes/1.txt": b"x"}, rows, note_id="id")
    assert frame.empty
    assert set(fates_of(ledger, "manifest.csv").values()) == {("quarantined", "conflicting_records")}
    rows[1] = _row(note_id="2", patient="008", status="entered-in-error")
    frame, ledger = _read(tmp_path, {}, rows, note_id="id")
    assert frame[["note_id", "text"]].to_numpy().tolist() == [["1", "x"], ["2", ""]]
    assert fates_of(ledger, "manifest.csv") == {"row 2": ("quarantined", "entered_in_error")}


def test_versions_are_settled_by_note_id_as_in_tables(tmp_path: Path) -> None:
    files = {"notes/1.txt": b"first", "notes/2.txt": b"second"}
    rows = [
        _row("notes/1.txt", note_id="A"),
        _row("notes/2.txt", note_id="A", stored="2024-01-03"),
        _row("notes/2.txt", note_id="A", stored="2024-01-03"),
    ]
    frame, ledger = _read(tmp_path, files, rows, note_id="id")
    assert list(frame["text"]) == ["second"]
    assert fates_of(ledger, "manifest.csv") == {
        "row 1": ("superseded", "newer_version"),
        "row 3": ("duplicate", "identical_record"),
    }


def test_a_withdrawn_note_needs_no_file(tmp_path: Path) -> None:
    frame, ledger = _read(tmp_path, {}, [_row("notes/gone.txt", status="superseded")])
    assert frame[["note_id", "text"]].to_numpy().tolist() == [["notes/gone.txt", ""]]
    assert fates_of(ledger, "manifest.csv") == {"row 1": ("superseded", "declared_superseded")}


def test_a_note_is_withdrawn_by_its_id_alone(tmp_path: Path) -> None:
    rows = [_row("", note_id="A", status="entered-in-error"), _row("", status="entered-in-error")]
    frame, ledger = _read(tmp_path, {}, rows, note_id="id")
    assert frame[["note_id", "text"]].to_numpy().tolist() == [["A", ""]]
    assert fates_of(ledger, "manifest.csv") == {
        "row 1": ("quarantined", "entered_in_error"),
        "row 2": ("quarantined", "missing_path"),
    }


def test_without_a_manifest_every_file_is_on_record(tmp_path: Path) -> None:
    _, ledger = _read(tmp_path, {"notes/1.txt": b"x"}, [])
    assert fates_of(ledger, "manifest.csv") == {"notes/1.txt": ("quarantined", "not_in_manifest")}
    (tmp_path / "manifest.csv").unlink()
    _, ledger = _read_delivery(tmp_path)
    assert fates_of(ledger, "manifest.csv") == {"notes/1.txt": ("quarantined", "not_in_manifest")}


def test_the_manifest_itself_is_no_note(tmp_path: Path) -> None:
    frame, ledger = _read(tmp_path, {"notes/1.txt": b"x"}, [_row()], path="**/*")
    assert (len(frame), ledger.n_found) == (1, 1)


def test_a_source_without_times_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="names no available_time"):
        NotesFilesSource.model_validate({k: v for k, v in SOURCE.items() if k != "available_time"})
    frame, _ = _read(tmp_path, {"notes/1.txt": b"x"}, [_row()], available_time=None, is_timeless=True)
    assert frame["available_time"].isna().all()


def test_no_sentence_and_no_log_holds_text_ids_or_paths_of_rows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    files = {"notes/1.txt": "Doe ü".encode("cp1252"), "notes/2.txt": b"Doe"}
    rows = [_row(patient="Doe"), _row("notes/Doe.txt"), _row("../Doe.txt"), _row("notes/2.txt", stored="Doe")]
    _, ledger = _read(tmp_path, files, rows)
    assert len(ledger.records()) == 4
    assert "Doe" not in ledger.records().to_csv() + caplog.text


PATHS = ["notes/1.txt", "./notes/1.txt", "notes/2.rtf", "notes/3.txt", "", "..", "/", "a\0b", "x" * 300, "ü"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(PATHS),
            st.sampled_from(["007", "008", ""]),
            st.sampled_from(["", "A"]),
            st.just("letter"),
            st.sampled_from(["final", "entered-in-error", "superseded", ""]),
            st.just(""),
            st.sampled_from(["2024-01-01", "2024-01-02", "?"]),
            st.sampled_from(["", "text/plain", "text/rtf", "x"]),
        ),
        max_size=8,
    ),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_every_row_and_every_unnamed_file_has_one_fate(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]], has_ids: bool
) -> None:
    files = {"notes/1.txt": b"one", "notes/2.rtf": RTF}
    note_id = "id" if has_ids else None
    frame, ledger = _read(
        tmp_path_factory.mktemp("n"), files, rows, note_id=note_id, content_type="media", is_timeless=True
    )
    n_unnamed = sum(not any(row[0].removeprefix("./") == path for row in rows) for path in files)
    assert ledger.n_found == len(rows) + n_unnamed
    withdrawn = frame["status"].isin(["entered-in-error", "superseded"])
    assert (~withdrawn).sum() == ledger.n_accepted
