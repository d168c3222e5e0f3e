"""Notes from tables, and the versions of one note."""

import gzip
import logging
from datetime import datetime
from pathlib import Path

import hypothesis.strategies as st
import pandas as pd
import pytest
from hypothesis import given, settings
from pydantic import ValidationError

from clinical_mm.errors import ClinicalMMError
from clinical_mm.ingest.delivery import Delivery
from clinical_mm.ingest.ledger import Ledger, is_conserved
from clinical_mm.ingest.notes import read_notes_table
from clinical_mm.study.sources import NotesTableSource
from ingest_support import checked_notes, fates_of

SOURCE = {
    "kind": "notes_table",
    "path": "*.csv",
    "patient_id": "patient",
    "text": "text",
    "note_id": "id",
    "available_time": "stored",
    "event_time": "seen",
    "note_type": "type",
    "status": "status",
}
COLUMNS = ("patient", "id", "type", "status", "seen", "stored", "text")


def _read(
    folder: Path, rows: list[tuple[str, ...]], columns: tuple[str, ...] = COLUMNS, **options: object
) -> tuple[pd.DataFrame, Ledger]:
    pd.DataFrame(rows, columns=list(columns), dtype=object).to_csv(folder / "n.csv", index=False)
    source = NotesTableSource.model_validate(
        {k: v for k, v in {**SOURCE, **options}.items() if v is not None}
    )
    ledger = Ledger("s", "d", "row")
    frame = read_notes_table("s", source, Delivery("d", folder), [folder / "n.csv"], ledger)
    return checked_notes(frame, ledger)


def _row(
    note_id: str = "1",
    *,
    patient: str = "007",
    status: str = "final",
    seen: str = "2024-01-01",
    stored: str = "2024-01-02 10:00",
    text: str = "No change.",
) -> tuple[str, ...]:
    return (patient, note_id, "letter", status, seen, stored, text)


def test_a_note_keeps_id_times_and_text_as_they_stand(tmp_path: Path) -> None:
    frame, ledger = _read(tmp_path, [_row(text="first line\r\n  second, ü\n")])
    row = frame.iloc[0]
    assert (row["source_patient_id"], row["note_id"], row["note_type"], row["status"]) == (
        *("007", "1", "letter", "final"),
    )
    assert row["available_time"] == datetime(2024, 1, 2, 10)
    assert row["event_time"] == datetime(2024, 1, 1)
    assert row["text"] == "first line\r\n  second, ü\n"
    assert row["locator"] == "n.csv#row 1"
    assert ledger.n_accepted == 1


@pytest.mark.parametrize(
    ("row", "reason_code"),
    [
        (_row(patient=" "), "missing_patient_id"),
        (_row(text=" \n\t"), "empty_text"),
        (_row(stored=""), "missing_time"),
        (_row(stored="31/02/2024"), "unreadable_time"),
        (_row(status="Entered in Error"), "entered_in_error"),
    ],
)
def test_a_note_that_cannot_be_used_is_quarantined_by_its_reason(
    tmp_path: Path, row: tuple[str, ...], reason_code: str
) -> None:
    frame, ledger = _read(tmp_path, [_row("other"), row])
    assert fates_of(ledger, "n.csv") == {"row 2": ("quarantined", reason_code)}
    assert list(frame.loc[frame["status"] != "entered-in-error", "note_id"]) == ["other"]


def test_an_unreadable_event_time_costs_the_cell_and_not_the_note(tmp_path: Path) -> None:
    frame, ledger = _read(tmp_path, [_row(seen="last week")])
    assert frame["event_time"].isna().all()
    assert fates_of(ledger, "n.csv") == {"row 1 event_time": ("quarantined", "unreadable_time")}
    assert ledger.n_accepted == 1


def test_timeless_notes_need_no_time_and_unreadable_ones_are_still_not_guessed(tmp_path: Path) -> None:
    frame, ledger = _read(tmp_path, [_row("1", stored=""), _row("2", stored="soon")], is_timeless=True)
    assert list(frame["note_id"]) == ["1"]
    assert frame["available_time"].isna().all()
    assert fates_of(ledger, "n.csv") == {"row 2": ("quarantined", "unreadable_time")}


def test_without_an_id_the_same_patient_time_type_and_text_are_the_same_note(tmp_path: Path) -> None:
    rows = [_row(), _row(), _row(text="Other."), _row(patient="008")]
    frame, ledger = _read(tmp_path, rows, note_id=None)
    assert len(frame) == 3
    assert frame["note_id"].is_unique
    assert fates_of(ledger, "n.csv") == {"row 2": ("duplicate", "identical_record")}


def test_of_versions_the_one_available_last_stands_whatever_the_order_of_rows(tmp_path: Path) -> None:
    rows = [
        _row(stored="2024-01-03", text="second"),
        _row(stored="2024-01-02", text="first"),
        _row(stored="2024-01-04", text="third"),
        _row(stored="2024-01-02", text="first"),
    ]
    frame, ledger = _read(tmp_path, rows)
    assert list(frame["text"]) == ["third"]
    assert fates_of(ledger, "n.csv") == {
        "row 1": ("superseded", "newer_version"),
        "row 2": ("superseded", "newer_version"),
        "row 4": ("duplicate", "identical_record"),
    }


@pytest.mark.parametrize("status", ["amended", "Corrected", "appended"])
def test_at_the_same_time_an_amended_version_stands_before_a_final_one(tmp_path: Path, status: str) -> None:
    frame, ledger = _read(
        tmp_path, [_row(status=status, text="new"), _row(text="old"), _row(status="preliminary")]
    )
    assert list(frame["text"]) == ["new"]
    assert {code for _, code in fates_of(ledger, "n.csv").values()} == {"newer_version"}


def test_versions_that_nothing_orders_are_all_quarantined(tmp_path: Path) -> None:
    rows = [_row(text="drain removed"), _row(text="drain left"), _row(stored="2024-01-01", text="older")]
    frame, ledger = _read(tmp_path, rows)
    assert frame.empty
    assert set(fates_of(ledger, "n.csv").values()) == {("quarantined", "conflicting_records")}
    assert len(fates_of(ledger, "n.csv")) == 3


def test_the_same_note_id_of_two_patients_is_never_a_newer_version(tmp_path: Path) -> None:
    frame, ledger = _read(tmp_path, [_row(), _row(patient="008", stored="2024-02-01")])
    assert frame.empty
    assert set(fates_of(ledger, "n.csv").values()) == {("quarantined", "conflicting_records")}


def test_a_retraction_takes_earlier_versions_with_it_and_stands_for_earlier_deliveries(
    tmp_path: Path,
) -> None:
    rows = [
        _row("1", stored="2024-01-02"),
        _row("1", stored="2024-01-05", status="entered-in-error"),
        _row("2", stored="2024-01-02", status="entered in error"),
        _row("2", stored="2024-01-05", text="written again"),
    ]
    frame, ledger = _read(tmp_path, rows)
    assert fates_of(ledger, "n.csv") == {
        "row 1": ("superseded", "entered_in_error"),
        "row 2": ("quarantined", "entered_in_error"),
        "row 3": ("quarantined", "entered_in_error"),
    }
    assert frame[["note_id", "status", "text"]].to_numpy().tolist() == [
        ["1", "entered-in-error", ""],
        ["2", "final", "written again"],
    ]
    assert ledger.n_accepted == 1


def test_a_note_that_its_source_calls_superseded_is_not_read(tmp_path: Path) -> None:
    frame, ledger = _read(tmp_path, [_row(status="superseded")])
    assert list(frame["text"]) == [""]
    assert fates_of(ledger, "n.csv") == {"row 1": ("superseded", "declared_superseded")}


def test_no_sentence_and_no_log_holds_text_or_ids(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    rows = [
        _row("N-4711", patient="MRN-0815", text="adenocarcinoma"),
        _row("N-4711", patient="MRN-0815", text="adenocarcinoma"),
        _row("N-4711", patient="MRN-0815", text="carcinoma in situ"),
        _row("N-4712", patient="MRN-0815", stored="adenocarcinoma"),
        _row("N-4713", patient="MRN-0815", status="entered-in-error", text="adenocarcinoma"),
        _row("N-4714", patient="", text="adenocarcinoma"),
    ]
    _, ledger = _read(tmp_path, rows)
    said = " ".join(ledger.records()["sentence"]) + " ".join(ledger.records()["locator"]) + caplog.text
    for secret in ("4711", "4712", "0815", "carcinoma"):
        assert secret not in said


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["007", "008", ""]),
            st.sampled_from(["1", "2", ""]),
            st.just("letter"),
            st.sampled_from(["final", "amended", "preliminary", "entered-in-error", "superseded", ""]),
            st.sampled_from(["", "2024-01-01", "?"]),
            st.sampled_from(["", "2024-01-01", "2024-01-02", "?"]),
            st.sampled_from(["a", "b", " "]),
        ),
        max_size=10,
    ),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_every_record_has_one_fate_and_every_note_one_row(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]], is_timeless: bool
) -> None:
    folder = tmp_path_factory.mktemp("n")
    frame, ledger = _read(folder, rows, is_timeless=is_timeless)
    assert ledger.n_found == len(rows)
    withdrawn = frame["status"].isin(["entered-in-error", "superseded"])
    assert (~withdrawn).sum() == ledger.n_accepted
    assert (frame.loc[withdrawn, "text"] == "").all()
    assert ledger.records()["locator"].is_unique
    again, _ = _read(folder, rows, is_timeless=is_timeless)
    pd.testing.assert_frame_equal(frame, again)


@given(st.booleans(), st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_arbitrary_bytes_raise_only_errors_for_the_user_that_quote_nothing_of_them(
    tmp_path_factory: pytest.TempPathFactory, has_header: bool, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("n")
    header = ",".join(COLUMNS).encode() + b"\n" if has_header else b""
    (folder / "n.csv").write_bytes(header + b"zebrafish," + content)
    source = NotesTableSource.model_validate(SOURCE)
    ledger = Ledger("s", "d", "row")
    said = ""
    try:
        read_notes_table("s", source, Delivery("d", folder), [folder / "n.csv"], ledger)
    except ClinicalMMError as error:
        said = str(error)
    assert not (has_header and said)
    assert "zebrafish" not in said + ledger.records().to_csv()
    assert is_conserved(ledger.counts())


MIMIC_DISCHARGE = """note_id,subject_id,hadm_id,note_type,note_seq,charttime,storetime,text
10000032-DS-21,10000032,22595853,DS,21,2180-05-07 00:00:00,2180-05-09 15:26:00,"\x20
Name:  ___                     Unit No:   ___
\x20
Allergies:\x20
No Known Allergies / ""Adverse"" Drug Reactions
"
10000032-DS-22,10000032,22841357,DS,22,2180-06-27 00:00:00,,"Second stay,
without a time of storing
"
10000084-DS-17,10000084,23052089,DS,17,2160-11-25 00:00:00,2160-11-25 15:09:00,"Third
"
"""
MIMIC_RADIOLOGY = """note_id,subject_id,hadm_id,note_type,note_seq,charttime,storetime,text
10000032-RR-14,10000032,22595853,RR,14,2180-05-06 21:19:00,2180-05-06 23:32:00,"EXAMINATION:  CHEST (PA AND LAT)
\x20
IMPRESSION:\x20
\x20
No acute process.
"
10000032-AR-15,10000032,,AR,15,2180-05-07 09:55:00,2180-05-07 11:15:00,"Addendum
"
"""
"""In the layout of MIMIC-IV-Note 2.2: made up, and of the same columns, ids, quoting and blanks."""


def _read_mimic(folder: Path, **options: object) -> tuple[pd.DataFrame, Ledger]:
    (folder / "note").mkdir()
    files = []
    for name, content in (("discharge", MIMIC_DISCHARGE), ("radiology", MIMIC_RADIOLOGY)):
        path = folder / "note" / f"{name}.csv.gz"
        path.write_bytes(gzip.compress(content.encode()))
        files.append(path)
    declared = {
        "kind": "notes_table",
        "path": "note/*[ey].csv.gz",
        "patient_id": "subject_id",
        "note_id": "note_id",
        "text": "text",
        "available_time": "storetime",
        "event_time": "charttime",
        "note_type": "note_type",
        **options,
    }
    source = NotesTableSource.model_validate(declared)
    ledger = Ledger("s", "d", "row")
    return checked_notes(read_notes_table("s", source, Delivery("d", folder), files, ledger), ledger)


def test_mimic_iv_notes_are_available_when_stored_and_those_without_are_quarantined(tmp_path: Path) -> None:
    frame, ledger = _read_mimic(tmp_path)
    assert (ledger.n_found, ledger.n_accepted) == (5, 4)
    assert fates_of(ledger, "note/discharge.csv.gz") == {"row 2": ("quarantined", "missing_time")}
    notes = frame.set_index("note_id")
    first = notes.loc["10000032-DS-21"]
    assert (first["source_patient_id"], first["note_type"]) == ("10000032", "DS")
    assert first["available_time"] == datetime(2180, 5, 9, 15, 26)
    assert first["event_time"] == datetime(2180, 5, 7)
    assert first["text"] == (
        " \nName:  ___                     Unit No:   ___\n \nAllergies: \n"
        'No Known Allergies / "Adverse" Drug Reactions\n'
    )
    assert notes.loc["10000032-RR-14", "available_time"] == datetime(2180, 5, 6, 23, 32)
    assert set(notes["note_type"]) == {"DS", "RR", "AR"}


def test_a_declared_fallback_is_taken_from_the_end_of_its_day_and_is_on_record(tmp_path: Path) -> None:
    frame, ledger = _read_mimic(tmp_path, available_time_fallback="charttime")
    assert ledger.n_accepted == 5
    notes = frame.set_index("note_id")
    # The chart knows the day alone, and the note was written on it at the earliest.
    assert notes.loc["10000032-DS-22", "available_time"] == datetime(2180, 6, 28)
    assert notes.loc["10000032-DS-22", "event_time"] == datetime(2180, 6, 27)
    assert notes.loc["10000032-DS-21", "available_time"] == datetime(2180, 5, 9, 15, 26)
    assert fates_of(ledger, "note/discharge.csv.gz") == {
        "row 2 available_time": ("quarantined", "fallback_time")
    }


def test_a_fallback_with_an_hour_counts_from_that_hour_and_one_that_is_no_time_is_refused(
    tmp_path: Path,
) -> None:
    rows = [_row("1", stored="", seen="2024-01-01 08:30"), _row("2", stored="", seen="spring")]
    frame, ledger = _read(tmp_path, rows, available_time_fallback="seen")
    assert list(frame["available_time"]) == [datetime(2024, 1, 1, 8, 30)]
    assert fates_of(ledger, "n.csv") == {
        "row 1 available_time": ("quarantined", "fallback_time"),
        "row 2": ("quarantined", "unreadable_time"),
    }


def test_an_unreadable_time_is_not_replaced_by_the_fallback(tmp_path: Path) -> None:
    frame, ledger = _read(tmp_path, [_row(stored="soon")], available_time_fallback="seen")
    assert frame.empty
    assert fates_of(ledger, "n.csv") == {"row 1": ("quarantined", "unreadable_time")}


def test_a_fallback_of_no_time_is_a_mistake_in_the_study() -> None:
    with pytest.raises(ValidationError, match="names an available_time_fallback and no available_time"):
        NotesTableSource.model_validate(
            {**SOURCE, "available_time": None, "is_timeless": True, "available_time_fallback": "seen"}
        )


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_table_with_a_byte_order_mark_is_read_whatever_is_declared(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "n.csv"
    path.write_text("patient,stored,text\n007,2024-01-02,Größe 3 mm\n", encoding=encoding)
    source = NotesTableSource.model_validate(
        {"kind": "notes_table", "path": "*.csv", "patient_id": "patient", "text": "text"}
        | {"available_time": "stored", "table": {"encoding": "cp1252"}}
    )
    ledger = Ledger("s", "d", "row")
    frame = read_notes_table("s", source, Delivery("d", tmp_path), [path], ledger)
    assert list(frame["text"]) == ["Größe 3 mm"]


def test_a_table_in_another_encoding_is_quarantined_with_what_it_may_be(tmp_path: Path) -> None:
    text = "Größenzunahme der Läsion, Übelkeit; keine Gefäßinvasion."
    path = tmp_path / "n.csv"
    path.write_bytes(f"patient,stored,text\n007,2024-01-02,{text}\n".encode("cp1252"))
    source = NotesTableSource.model_validate(
        {"kind": "notes_table", "path": "*.csv", "patient_id": "patient", "text": "text"}
        | {"available_time": "stored"}
    )
    ledger = Ledger("s", "d", "row")
    assert read_notes_table("s", source, Delivery("d", tmp_path), [path], ledger).empty
    record = ledger.records().iloc[0]
    assert (record["locator"], record["reason_code"]) == ("n.csv", "unknown_encoding")
    assert "it may be cp1252" in record["sentence"]


def test_a_row_whose_text_was_garbled_before_is_quarantined(tmp_path: Path) -> None:
    garbled = "Größe der Läsion".encode().decode("cp1252")
    _, ledger = _read(tmp_path, [_row("1"), _row("2", text=garbled), _row("3", text="\0P\0a\0i\0n")])
    assert fates_of(ledger, "n.csv") == {
        "row 2": ("quarantined", "mojibake_suspected"),
        "row 3": ("quarantined", "control_characters"),
    }
