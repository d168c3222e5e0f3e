"""Bundles, JSON files and bulk-export folders of FHIR R4, and attachments that stand beside."""

import base64
import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pandas as pd
import pytest
from hypothesis import given, settings

from clinical_mm.ingest.delivery import Delivery, files_of_pattern
from clinical_mm.ingest.fhir import read_notes_fhir
from clinical_mm.ingest.ledger import Ledger
from clinical_mm.study.sources import NotesFhirSource
from ingest_support import checked_notes, reasons_of


def _read(folder: Path, **options: Any) -> tuple[pd.DataFrame, Ledger]:
    source = NotesFhirSource.model_validate({"kind": "notes_fhir", "path": "**/*json", **options})
    delivery, ledger = Delivery("d", folder), Ledger("s", "d", "resource")
    files = files_of_pattern(delivery, source.path)
    return checked_notes(read_notes_fhir("s", source, delivery, files, ledger), ledger)


def _document(
    note_id: str | None, attachment: dict[str, Any] | None = None, **elements: Any
) -> dict[str, Any]:
    resource = {
        "resourceType": "DocumentReference",
        "id": note_id,
        "status": "current",
        "subject": {"reference": "Patient/007"},
        "date": "2024-01-02T10:00:00Z",
        "content": [
            {"attachment": attachment or {"contentType": "text/plain", "data": _base64("No change.")}}
        ],
        **elements,
    }
    return {k: v for k, v in resource.items() if v is not None}


def _linked(url: str, kind: str | None = "text/plain", **elements: Any) -> dict[str, Any]:
    return {"url": url, **({"contentType": kind} if kind else {}), **elements}


def _base64(text: str, charset: str = "utf-8") -> str:
    return base64.b64encode(text.encode(charset)).decode()


def _binary(binary_id: str, text: str, kind: str = "text/plain") -> dict[str, Any]:
    return {"resourceType": "Binary", "id": binary_id, "contentType": kind, "data": _base64(text)}


def _bundle(*resources: dict[str, Any], kind: str = "collection") -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": [{"resource": r} for r in resources]}


def _lines(path: Path, *resources: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in resources))


def _texts(frame: pd.DataFrame) -> dict[str, str]:
    return dict(zip(frame["note_id"].str.removeprefix("DocumentReference/"), frame["text"], strict=True))


OBSERVATION = {"resourceType": "Observation", "status": "final"}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_each_entry_of_a_bundle_is_a_record(tmp_path: Path, indent: int | None, mark: str) -> None:
    bundle = _bundle(_document("a"), OBSERVATION, _document("b", status="banana"))
    bundle["entry"] += [{"fullUrl": "urn:uuid:1"}, 7]
    (tmp_path / "b.json").write_text(mark + json.dumps(bundle, indent=indent))
    frame, ledger = _read(tmp_path)
    place = "b.json#line 1 entry" if indent is None else "b.json#entry"
    assert list(frame["locator"]) == [f"{place} 1"]
    assert (ledger.n_found, ledger.n_accepted) == (5, 1)
    assert reasons_of(ledger) == {
        f"{place} 2": "wrong_resource",
        f"{place} 3": "unknown_code",
        f"{place} 4": "wrong_resource",
        f"{place} 5": "wrong_resource",
    }


def test_a_json_file_may_be_one_resource_or_lines_of_them(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps(_document("one"), indent=1))
    _lines(tmp_path / "several.json", _document("two"), _document("three"))
    (tmp_path / "cut.json").write_text(json.dumps(_document("four"), indent=1)[:-20])
    frame, ledger = _read(tmp_path)
    assert set(frame["locator"]) == {"one.json", "several.json#line 1", "several.json#line 2"}
    assert reasons_of(ledger) == {"cut.json": "malformed_json"}


def test_a_damaged_file_counts_as_one_record_and_none_of_its_resources_does(tmp_path: Path) -> None:
    content = "".join(json.dumps(_document(str(i))) + "\n" for i in range(50)).encode()
    (tmp_path / "n.ndjson.gz").write_bytes(gzip.compress(content)[:-10])
    frame, ledger = _read(tmp_path, path="*.gz")
    assert frame.empty
    assert reasons_of(ledger) == {"n.ndjson.gz": "truncated_file"}


def test_a_document_of_a_transaction_without_an_id_is_known_by_its_full_url(tmp_path: Path) -> None:
    old, new = (
        {"fullUrl": f"urn:uuid:{name}", "resource": _document(None), "request": {"method": "POST"}}
        for name in ("old", "new")
    )
    new["resource"]["relatesTo"] = [{"code": "replaces", "target": {"reference": "urn:uuid:old"}}]
    (tmp_path / "b.json").write_text(json.dumps({"resourceType": "Bundle", "entry": [old, new]}))
    frame, _ = _read(tmp_path)
    assert _texts(frame) == {"new": "No change.", "old": ""}


def test_the_folder_of_a_bulk_export_is_read_with_its_binaries(tmp_path: Path) -> None:
    _lines(
        tmp_path / "DocumentReference.000.ndjson",
        _document("a", _linked("https://fhir.example.org/r4/Binary/1")),
        _document("b", _linked("Binary/2", "text/html")),
    )
    _lines(
        tmp_path / "DocumentReference.001.ndjson", _document("c", _linked("Binary/3", None)), _document("d")
    )
    _lines(tmp_path / "Binary.000.ndjson", _binary("1", "one"), _binary("2", "<p>two</p>", "text/html"))
    _lines(tmp_path / "Binary.001.ndjson", _binary("3", "three"), _binary("4", "of no note"))
    _lines(tmp_path / "error.ndjson", {"resourceType": "OperationOutcome", "issue": []})
    manifest = {
        "transactionTime": "2024-02-01T00:00:00Z",
        "request": "https://fhir.example.org/r4/$export",
        "requiresAccessToken": True,
        "output": [
            {"type": "DocumentReference", "url": "https://fhir.example.org/1", "count": 2},
            {"type": "DocumentReference", "url": "https://fhir.example.org/2", "count": 2},
            {"type": "Binary", "url": "https://fhir.example.org/3", "count": 4},
        ],
        "error": [],
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest, indent=1))
    frame, ledger = _read(tmp_path)
    assert _texts(frame) == {"a": "one", "b": "two", "c": "three", "d": "No change."}
    assert (ledger.n_found, ledger.n_accepted) == (6, 4)
    assert reasons_of(ledger) == {
        "error.ndjson#line 1": "wrong_resource",
        "Binary.001.ndjson#line 2": "not_referenced",
    }
    (tmp_path / "DocumentReference.001.ndjson").unlink()
    _, ledger = _read(tmp_path)
    assert reasons_of(ledger)["manifest.json DocumentReference"] == "incomplete_export"


def test_what_an_export_says_was_deleted_does_not_stand_from_earlier_deliveries(tmp_path: Path) -> None:
    deleted = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {"request": {"method": "DELETE", "url": "DocumentReference/gone"}},
            {"request": {"method": "DELETE", "url": "DocumentReference/here"}},
            {"request": {"method": "DELETE", "url": "Patient/007"}},
            {"request": {"method": "DELETE", "url": "DocumentReference?identifier=7"}},
        ],
    }
    _lines(tmp_path / "deleted.ndjson", deleted)
    _lines(tmp_path / "DocumentReference.ndjson", _document("here"), _document("stays"))
    frame, ledger = _read(tmp_path)
    notes = frame.set_index(frame["note_id"].str.removeprefix("DocumentReference/"))
    assert notes[["status", "text"]].to_dict("index") == {
        "gone": {"status": "entered-in-error", "text": ""},
        "here": {"status": "entered-in-error", "text": ""},
        "stays": {"status": "current", "text": "No change."},
    }
    assert reasons_of(ledger) == {
        "deleted.ndjson#line 1 entry 1": "entered_in_error",
        "deleted.ndjson#line 1 entry 2": "entered_in_error",
        "deleted.ndjson#line 1 entry 3": "unsupported_deletion",
        "deleted.ndjson#line 1 entry 4": "unsupported_deletion",
        "DocumentReference.ndjson#line 1": "entered_in_error",
    }


def test_attachments_beside_and_contained_are_read(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a b.txt").write_text("Größe 3 mm", encoding="cp1252")
    (tmp_path / "docs" / "page.html").write_text("<p>one</p><p>two</p>")
    (tmp_path / "docs" / "nobody.txt").write_text("of no note")
    contained = _document("c", _linked("#x"), contained=[_binary("x", "inside"), {"resourceType": "Patient"}])
    _lines(
        tmp_path / "n.ndjson",
        _document("a", _linked("docs/a%20b.txt", "text/plain; charset=windows-1252")),
        _document("b", _linked("./docs/../docs/page.html", None)),
        contained,
    )
    frame, ledger = _read(tmp_path, attachments="docs/*")
    assert _texts(frame) == {"a": "Größe 3 mm", "b": "one\n\ntwo", "c": "inside"}
    assert reasons_of(ledger) == {"docs/nobody.txt": "not_referenced"}
    assert (ledger.n_found, ledger.n_accepted) == (4, 3)


@pytest.mark.parametrize(
    ("url", "reason_code"),
    [
        ("https://fhir.example.org/files/7", "attachment_missing"),
        ("http://localhost:1/secret.txt", "attachment_missing"),
        ("//host/secret.txt", "attachment_missing"),
        ("Binary/none", "attachment_missing"),
        ("docs/none.txt", "attachment_missing"),
        ("secret.txt", "attachment_missing"),  # in the delivery, and not of the pattern
        ("#none", "attachment_missing"),
        ("http://[", "attachment_missing"),
        ("../outside.txt", "outside_delivery"),
        ("docs/../../outside.txt", "outside_delivery"),
        ("%2e%2e/outside.txt", "outside_delivery"),
        ("docs/link.txt", "outside_delivery"),
        ("/etc/passwd", "outside_delivery"),
        ("file:///etc/passwd", "outside_delivery"),
        ("C:\\secret.txt", "outside_delivery"),
        ("..\\outside.txt", "outside_delivery"),
    ],
)
def test_an_attachment_that_is_not_in_the_delivery_is_not_read(
    tmp_path: Path, url: str, reason_code: str
) -> None:
    folder = tmp_path / "delivery"
    (folder / "docs").mkdir(parents=True)
    (tmp_path / "outside.txt").write_text("outside")
    (folder / "secret.txt").write_text("secret")
    (folder / "docs" / "link.txt").symlink_to(tmp_path / "outside.txt")
    _lines(folder / "n.ndjson", _document("a", _linked(url)), _document("b"))
    frame, ledger = _read(folder, attachments="docs/*.md")
    assert reasons_of(ledger) == {"n.ndjson#line 1": reason_code}
    assert "outside" not in frame["text"].str.cat()


TEXT = "Größe 3 mm"
SHA1 = hashlib.sha1(TEXT.encode()).digest()


@pytest.mark.parametrize(
    ("elements", "reason_code"),
    [
        ({"size": 12, "hash": base64.b64encode(SHA1).decode()}, None),
        ({"hash": SHA1.hex()}, None),
        ({"size": 11}, "attachment_mismatch"),
        ({"hash": base64.b64encode(hashlib.sha1(b"other").digest()).decode()}, "attachment_mismatch"),
        ({"hash": base64.b64encode(hashlib.sha256(TEXT.encode()).digest()).decode()}, "malformed_attachment"),
        ({"hash": "?"}, "malformed_attachment"),
    ],
)
@pytest.mark.parametrize("where", ["inline", "beside", "binary"])
def test_size_and_hash_are_checked_where_they_are_given(
    tmp_path: Path, elements: dict[str, Any], reason_code: str | None, where: str
) -> None:
    assert len(TEXT.encode()) == 12
    (tmp_path / "a.txt").write_text(TEXT, encoding="utf-8")
    place = {
        "inline": {"data": _base64(TEXT)},
        "beside": {"url": "a.txt"},
        "binary": {"url": "Binary/1"},
    }[where]
    _lines(tmp_path / "n.ndjson", _document("a", {"contentType": "text/plain", **place, **elements}))
    _lines(tmp_path / "b.ndjson", _binary("1", TEXT))
    frame, ledger = _read(tmp_path, attachments="*.txt")
    assert reasons_of(ledger).get("n.ndjson#line 1") == reason_code
    assert list(frame["text"]) == ([] if reason_code else [TEXT])


def test_binaries_of_one_id_that_differ_are_not_chosen_between(tmp_path: Path) -> None:
    _lines(tmp_path / "n.ndjson", _document("a", _linked("Binary/1")), _document("b", _linked("Binary/2")))
    _lines(tmp_path / "b.ndjson", _binary("1", "x"), _binary("1", "y"), _binary("2", "z"), _binary("2", "z"))
    frame, ledger = _read(tmp_path)
    assert _texts(frame) == {"b": "z"}
    assert reasons_of(ledger) == {"n.ndjson#line 1": "conflicting_records"}


def test_a_format_of_which_a_part_is_missing_is_left_for_another_that_is_whole(tmp_path: Path) -> None:
    html = {"contentType": "text/html", "data": _base64("<p>one</p><p>two</p>")}
    plain = {"contentType": "text/plain", "data": _base64("one")}
    parts = [{"attachment": a} for a in (plain, _linked("Binary/none"), html)]
    _lines(tmp_path / "n.ndjson", _document("a", content=parts), _document("b", content=parts[:2]))
    frame, ledger = _read(tmp_path)
    assert _texts(frame) == {"a": "one\n\ntwo"}
    assert reasons_of(ledger) == {"n.ndjson#line 2": "attachment_missing"}


@given(st.lists(st.integers(0, 3), max_size=12), st.sampled_from(["lines", "bundle", "bundle lines"]))
@settings(max_examples=60, deadline=None)
def test_whatever_the_packing_the_same_resources_are_found(
    tmp_path_factory: pytest.TempPathFactory, kinds: list[int], packing: str
) -> None:
    folder = tmp_path_factory.mktemp("d")
    of_kind = [
        lambda i: _document(f"d{i}"),
        lambda i: _document(f"l{i}", _linked(f"Binary/{i}")),
        lambda _: OBSERVATION,
        lambda i: _binary(str(i - 1), "beside"),
    ]
    resources = [of_kind[kind](i) for i, kind in enumerate(kinds)]
    if packing == "bundle":
        (folder / "b.json").write_text(json.dumps(_bundle(*resources), indent=1))
    elif packing == "bundle lines":
        _lines(folder / "b.ndjson", *(_bundle(r) for r in resources))
    else:
        _lines(folder / "b.ndjson", *resources)
    frame, ledger = _read(folder)
    has_text = [kind == 1 and i + 1 < len(kinds) and kinds[i + 1] == 3 for i, kind in enumerate(kinds)]
    assert ledger.n_accepted == len(frame) == kinds.count(0) + sum(has_text)
    assert ledger.n_found == len(kinds) - sum(has_text)
