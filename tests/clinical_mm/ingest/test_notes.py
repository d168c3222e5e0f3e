"""Notes from tables, and the versions of one note."""

import logging
from datetime import datetime
from pathlib import Path

import hypothesis.strategies as st
import pandas as pd
import pytest
from hypothesis import given, settings

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
