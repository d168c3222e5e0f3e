"""FHIR R4 DocumentReference and DiagnosticReport as NDJSON."""

import base64
import gzip
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pandas as pd
import pytest
from hypothesis import given, settings

from clinical_mm.ingest.delivery import Delivery
from clinical_mm.ingest.fhir import read_notes_fhir
from clinical_mm.ingest.ledger import Ledger
from clinical_mm.study.sources import NotesFhirSource
from ingest_support import checked_notes


def _read(folder: Path, lines: list[Any], timezone: str | None = None) -> tuple[pd.DataFrame, Ledger]:
    written = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path = folder / "n.ndjson"
    path.write_bytes(b"\n".join(written) + b"\n")
    return _read_file(path, timezone)


def _read_file(path: Path, timezone: str | None = None) -> tuple[pd.DataFrame, Ledger]:
    source = NotesFhirSource.model_validate(
        {"kind": "notes_fhir", "path": "*.ndjson", "time": {"timezone": timezone}}
    )
    ledger = Ledger("s", "d", "resource")
    frame = read_notes_fhir("s", source, Delivery("d", path.parent), [path], ledger)
    return checked_notes(frame, ledger)


def _attachment(text: str, kind: str = "text/plain", charset: str = "utf-8") -> dict[str, Any]:
    return {"contentType": kind, "data": base64.b64encode(text.encode(charset)).decode()}


def _document(**elements: Any) -> dict[str, Any]:
    resource = {
        "resourceType": "DocumentReference",
        "id": "1",
        "status": "current",
        "subject": {"reference": "Patient/007"},
        "date": "2024-01-02T10:00:00Z",
        "content": [{"attachment": _attachment("No change.")}],
        **elements,
    }
    return {k: v for k, v in resource.items() if v is not None}


def _report(**elements: Any) -> dict[str, Any]:
    resource = {
        "resourceType": "DiagnosticReport",
        "id": "1",
        "status": "final",
        "code": {"text": "CT"},
        "subject": {"reference": "Patient/007"},
        "issued": "2024-01-02T10:00:00Z",
        "conclusion": "Unremarkable.",
        **elements,
    }
    return {k: v for k, v in resource.items() if v is not None}


def _reasons(ledger: Ledger) -> list[str]:
    return list(ledger.records()["reason_code"])


def test_a_document_is_available_at_its_date_and_tells_of_its_period(tmp_path: Path) -> None:
    document = _document(
        type={"coding": [{"code": "34108-1"}, {"code": "x", "display": "Outpatient Note"}]},
        context={"period": {"start": "2024-01-01T08:00:00+01:00", "end": "2024-01-01T09:00:00+01:00"}},
    )
    frame, ledger = _read(tmp_path, [document], "Europe/Berlin")
    row = frame.iloc[0]
    assert (row["note_id"], row["source_patient_id"]) == ("DocumentReference/1", "007")
    assert row["available_time"] == datetime(2024, 1, 2, 11)
    assert row["event_time"] == datetime(2024, 1, 1, 8)
    assert (row["text"], row["note_type"], row["status"]) == ("No change.", "Outpatient Note", "current")
    assert row["locator"] == "n.ndjson#line 1"
    assert ledger.n_accepted == 1


def test_a_report_is_available_when_issued_and_its_conclusion_is_read_once(tmp_path: Path) -> None:
    form = [_attachment("Findings: none.\nUnremarkable.")]
    reports = [
        _report(effectiveDateTime="2024-01-01T08:00:00Z"),
        _report(id="2", presentedForm=form, effectivePeriod={"start": "2024-01-01"}),
        _report(id="3", presentedForm=form, conclusion="Repeat in a year."),
    ]
    frame, _ = _read(tmp_path, reports)
    assert list(frame["text"]) == [
        "Unremarkable.",
        "Findings: none.\nUnremarkable.",
        "Findings: none.\nUnremarkable.\n\nRepeat in a year.",
    ]
    assert list(frame["event_time"])[:2] == [datetime(2024, 1, 1, 8), datetime(2024, 1, 1)]
    assert (frame["available_time"] == datetime(2024, 1, 2, 10)).all()


def test_a_document_and_a_report_may_have_the_same_id(tmp_path: Path) -> None:
    frame, ledger = _read(tmp_path, [_document(), _report()])
    assert list(frame["note_id"]) == ["DiagnosticReport/1", "DocumentReference/1"]
    assert ledger.n_accepted == 2


@pytest.mark.parametrize(
    ("resource", "reason_code"),
    [
        (b'{"resourceType": "DocumentReference", "id"', "malformed_json"),
        (b"[" * 100_000, "wrong_resource"),
        (b'{"resourceType": "DocumentReference", "id": "\xff"}', "malformed_json"),
        (b'{"resourceType": "DocumentReference", "id": "1", "x": ' + b"[" * 100_000, "malformed_json"),
        (b"[1, 2]", "wrong_resource"),
        ({"resourceType": "Observation", "status": 1}, "wrong_resource"),
        ({"resourceType": "Bundle", "entry": {"resource": _document()}}, "malformed_resource"),
        (_document(content="text"), "malformed_resource"),
        (_document(status="banana"), "unknown_code"),
        (_document(status=None), "unknown_code"),
        (_document(docStatus="signed"), "unknown_code"),
        (
            _document(relatesTo=[{"code": "supplants", "target": {"reference": "DocumentReference/2"}}]),
            "unknown_code",
        ),
        (_report(status="current"), "unknown_code"),
        (_report(status="cancelled"), "cancelled"),
        (_document(status="entered-in-error"), "entered_in_error"),
        (_document(docStatus="entered-in-error"), "entered_in_error"),
        (_document(subject=None), "missing_patient_id"),
        (_document(subject={"reference": "Group/1"}), "missing_patient_id"),
        (_document(subject={"reference": "#p1"}), "missing_patient_id"),
        (_document(subject={"display": "J. Doe"}), "missing_patient_id"),
        (_document(date=None), "missing_time"),
        (_document(date="2024-01"), "unreadable_time"),
        (_report(issued=None), "missing_time"),
        (_document(content=[]), "empty_text"),
        (_document(content=[{"attachment": _attachment(" \n")}]), "empty_text"),
        (
            _document(content=[{"attachment": {"contentType": "text/plain", "data": "not base64!"}}]),
            "malformed_attachment",
        ),
        (
            _document(content=[{"attachment": {"contentType": "text/plain", "data": "QQ"}}]),
            "malformed_attachment",
        ),
        (
            _document(content=[{"attachment": {"contentType": "text/plain", "url": "Binary/1"}}]),
            "attachment_missing",
        ),
        (
            _document(content=[{"attachment": _attachment("%PDF", "application/pdf")}]),
            "unsupported_content_type",
        ),
        (
            _document(content=[{"attachment": _attachment(r"{\rtf1 cut {\b off", "text/rtf")}]),
            "truncated_file",
        ),
        (
            _document(content=[{"attachment": _attachment("no RTF", "application/rtf")}]),
            "malformed_rtf",
        ),
        (
            _document(content=[{"attachment": _attachment("x", "text/plain; charset=klingon")}]),
            "unknown_encoding",
        ),
        (
            _document(content=[{"attachment": _attachment("Größe", "text/plain; charset=utf-8", "latin-1")}]),
            "unknown_encoding",
        ),
    ],
)
def test_a_resource_that_cannot_be_used_is_quarantined_by_its_reason(
    tmp_path: Path, resource: Any, reason_code: str
) -> None:
    frame, ledger = _read(tmp_path, [_document(id="good"), resource])
    assert _reasons(ledger) == [reason_code]
    assert list(ledger.records()["locator"]) == ["n.ndjson#line 2"]
    assert list(frame.loc[frame["text"] != "", "note_id"]) == ["DocumentReference/good"]


@pytest.mark.parametrize(
    ("attachments", "text"),
    [
        ([_attachment("Größe", "text/plain; charset=ISO-8859-1", "latin-1")], "Größe"),
        ([_attachment("Größe", 'TEXT/PLAIN; charset="windows-1252"', "cp1252")], "Größe"),
        ([_attachment("\ufeffBOM", "text/plain")], "BOM"),
        ([_attachment("<p>a</p><p>b<br/>c</p>", "text/html")], "a\n\nb\nc"),
        (
            [_attachment('<meta charset="latin-1"><p>Größe</p>', "text/html", "latin-1")],
            "Größe",
        ),
        ([_attachment("<p>marked up</p>", "text/html"), _attachment("plain")], "plain"),
        ([_attachment("%PDF", "application/pdf"), _attachment("plain")], "plain"),
        ([_attachment("one"), _attachment("one"), _attachment("two")], "one\n\ntwo"),
        ([_attachment(""), _attachment("<p>x</p>", "application/xhtml+xml")], "x"),
        ([_attachment(r"{\rtf1\ansi Gr\'f6\'dfe\par T\u8322?}", "text/rtf")], "Größe\nT₂"),
        ([_attachment(r"{\rtf1\ansi Gr\'f6\'dfe}", "application/rtf; charset=utf-8")], "Größe"),
        ([_attachment(r"{\rtf1 one}", "text/rtf"), _attachment("<p>two</p>", "text/html")], "two"),
    ],
)
def test_text_is_taken_in_its_character_set_plain_before_html(
    tmp_path: Path, attachments: list[dict[str, Any]], text: str
) -> None:
    frame, _ = _read(tmp_path, [_document(content=[{"attachment": a} for a in attachments])])
    assert list(frame["text"]) == [text]


def test_base64_may_be_broken_into_lines(tmp_path: Path) -> None:
    data = base64.encodebytes(b"word " * 60).decode()
    assert "\n" in data.strip()
    attachment = {"contentType": "text/plain", "data": data}
    frame, _ = _read(tmp_path, [_document(content=[{"attachment": attachment}])])
    assert frame["text"][0] == "word " * 60


@pytest.mark.parametrize(
    ("subject", "patient"),
    [
        ({"reference": "Patient/007"}, "007"),
        ({"reference": "https://fhir.example.org/r4/Patient/007/_history/3"}, "007"),
        ({"reference": "urn:uuid:2be9b668-847a"}, "2be9b668-847a"),
        ({"identifier": {"system": "urn:mrn", "value": "007"}}, "007"),
    ],
)
def test_the_patient_is_the_id_that_the_subject_refers_to(
    tmp_path: Path, subject: dict[str, Any], patient: str
) -> None:
    frame, _ = _read(tmp_path, [_document(subject=subject)])
    assert list(frame["source_patient_id"]) == [patient]


def test_an_amended_document_stands_and_the_earlier_one_is_superseded(tmp_path: Path) -> None:
    changed = [{"attachment": _attachment("Changed.")}]
    frame, ledger = _read(
        tmp_path,
        [
            _document(docStatus="amended", content=changed),
            _document(docStatus="final"),
            _document(docStatus="final"),
        ],
    )
    assert list(frame["text"]) == ["Changed."]
    assert list(ledger.records()["disposition"]) == ["duplicate", "superseded"]


def test_of_versions_of_the_same_time_the_one_updated_last_stands(tmp_path: Path) -> None:
    changed = [{"attachment": _attachment("Changed.")}]
    newer = _document(content=changed, meta={"lastUpdated": "2024-03-01T00:00:00Z"})
    older = _document(meta={"lastUpdated": "2024-02-01T00:00:00Z"})
    frame, ledger = _read(tmp_path, [newer, older])
    assert list(frame["text"]) == ["Changed."]
    assert _reasons(ledger) == ["newer_version"]


def _replacing(target: str, **elements: Any) -> dict[str, Any]:
    return _document(
        relatesTo=[{"code": "replaces", "target": {"reference": f"DocumentReference/{target}"}}], **elements
    )


def test_a_document_that_is_replaced_is_superseded_along_a_chain(tmp_path: Path) -> None:
    frame, ledger = _read(tmp_path, [_document(id="a"), _replacing("a", id="b"), _replacing("b", id="c")])
    assert list(frame.loc[frame["text"] != "", "note_id"]) == ["DocumentReference/c"]
    assert _reasons(ledger) == ["replaced", "replaced"]
    assert set(frame.loc[frame["text"] == "", "status"]) == {"superseded"}


def test_a_replaced_document_of_an_earlier_delivery_is_named_for_it(tmp_path: Path) -> None:
    frame, ledger = _read(tmp_path, [_replacing("old", id="new")])
    assert frame[["note_id", "status", "text"]].to_numpy().tolist() == [
        ["DocumentReference/new", "current", "No change."],
        ["DocumentReference/old", "superseded", ""],
    ]
    assert ledger.n_accepted == 1


def test_documents_that_replace_each_other_are_quarantined(tmp_path: Path) -> None:
    frame, ledger = _read(
        tmp_path, [_replacing("b", id="a"), _replacing("a", id="b"), _replacing("c", id="c")]
    )
    assert list(frame["note_id"]) == ["DocumentReference/c"]
    assert _reasons(ledger) == ["conflicting_records"] * 2


def test_a_document_of_another_patient_is_not_replaced(tmp_path: Path) -> None:
    frame, ledger = _read(
        tmp_path, [_document(id="a", subject={"reference": "Patient/008"}), _replacing("a", id="b")]
    )
    assert len(frame) == 2
    assert ledger.n_accepted == 2


def test_an_event_that_names_no_day_is_put_on_record_and_left_out(tmp_path: Path) -> None:
    frame, ledger = _read(tmp_path, [_report(effectiveDateTime="2015-02")])
    assert frame["event_time"].isna().all()
    assert list(ledger.records()["locator"]) == ["n.ndjson#line 1 event"]
    assert ledger.n_accepted == 1


def test_blank_lines_are_no_records_and_compressed_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "n.ndjson.gz"
    line = json.dumps(_document()).encode()
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + line + b"\r\n\n  \n"))
    frame, ledger = _read_file(path)
    assert len(frame) == ledger.n_found == 1
    path.write_bytes(gzip.compress(line * 50)[:-10])
    frame, ledger = _read_file(path)
    assert frame.empty
    assert _reasons(ledger) == ["truncated_file"]


def test_no_sentence_holds_text_names_or_ids(tmp_path: Path) -> None:
    secret = "zebrafish"
    lines = [
        _document(id=secret, status=secret),
        _document(id=secret, date=secret),
        _document(id=secret, subject={"reference": f"Group/{secret}", "display": secret}),
        _document(id=secret, content=[{"attachment": {"contentType": secret, "data": secret}}]),
        _document(id=secret, content=[{"attachment": _attachment(secret)}]),
        _document(id=secret, content=[{"attachment": _attachment(secret + " again")}]),
        _document(id=secret, content=secret),
        b"{" + secret.encode(),
    ]
    _, ledger = _read(tmp_path, lines)
    assert len(ledger.records()) == 8
    assert secret not in ledger.records().to_csv()


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from([_document(), _report()]), st.data())
@settings(max_examples=200, deadline=None)
def test_any_element_may_be_anything_and_every_line_is_counted(
    tmp_path_factory: pytest.TempPathFactory, resource: dict[str, Any], data: st.DataObject
) -> None:
    element = data.draw(
        st.sampled_from(sorted({*resource, "docStatus", "context", "presentedForm", "meta", "relatesTo"}))
    )
    frame, ledger = _read(
        tmp_path_factory.mktemp("n"), [_document(id="good"), {**resource, element: data.draw(_json)}]
    )
    assert ledger.n_found == 2
    assert "DocumentReference/good" in set(frame["note_id"])


@given(st.binary(max_size=80))
@settings(max_examples=100, deadline=None)
def test_arbitrary_bytes_are_counted(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("n") / "n.ndjson"
    path.write_bytes(content)
    _, ledger = _read_file(path)
    assert ledger.n_found == sum(
        bool(line.strip()) for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    )
