"""Notes from HL7 FHIR R4: DocumentReference and DiagnosticReport resources, one a line (NDJSON, as bulk export).

DocumentReference: available at `date`, event at `context.period`; DiagnosticReport: available at `issued`, event at
`effective[x]`. Codes with a required binding are checked here. Text is taken from inline attachments, which
`attachments` decodes; which version of a document stands is for `note_versions`.
"""

from pathlib import Path

import msgspec
import numpy as np
import pandas as pd

from clinical_mm.ingest.attachments import text_of
from clinical_mm.ingest.delivery import Delivery
from clinical_mm.ingest.ledger import Ledger, RecordRefusedError
from clinical_mm.ingest.note_text import checked_text
from clinical_mm.ingest.note_versions import NoteRecord, note_rows, own_id, settle
from clinical_mm.ingest.opening import UnreadableFileError, open_bytes
from clinical_mm.ingest.resources import DiagnosticReport, DocumentReference, ResourceHead
from clinical_mm.ingest.times import TimeReader, is_missing_time
from clinical_mm.progress import track
from clinical_mm.study.sources import NotesFhirSource

_STATUSES = {
    "DocumentReference": frozenset({"current", "superseded", "entered-in-error"}),
    "DiagnosticReport": frozenset(
        {
            *("registered", "partial", "preliminary", "final", "amended", "corrected", "appended"),
            *("cancelled", "entered-in-error", "unknown"),
        }
    ),
}
"""https://hl7.org/fhir/R4/valueset-document-reference-status.html and valueset-diagnostic-report-status.html"""

_DOC_STATUSES = frozenset({"preliminary", "final", "amended", "entered-in-error"})
_RELATIONS = frozenset({"replaces", "transforms", "signs", "appends"})
_Resource = DocumentReference | DiagnosticReport
_DECODERS: dict[str, msgspec.json.Decoder[_Resource]] = {
    "DocumentReference": msgspec.json.Decoder(DocumentReference),
    "DiagnosticReport": msgspec.json.Decoder(DiagnosticReport),
}
_ONLY_FORMAT = frozenset({"unsupported_content_type", "text_not_inline"})
"""A report in such a form alone still has its conclusion."""

_HEAD = msgspec.json.Decoder(ResourceHead)
_MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def read_notes_fhir(
    name: str, source: NotesFhirSource, delivery: Delivery, files: list[Path], ledger: Ledger
) -> pd.DataFrame:
    """Read the notes of a source of kind `notes_fhir`.

    A note's id is the resource's type and id, `DocumentReference/43`, since an id is unique within its type alone.

    Args:
        name: of the source.
        source: its declaration.
        delivery: where the files lie.
        files: NDJSON files, compressed or not.
        ledger: is told the fate of each resource, once.

    Returns:
        Rows of `tables.NOTES`; notes that are retracted, superseded or replaced stand there without text, so that what
        earlier deliveries said of them does not stand either.

    Raises:
        DeliveryError: there is no such time zone.
    """
    reader = TimeReader(source.time, name)
    records: list[NoteRecord] = []
    for path in track(files, f"reading {name}"):
        place = delivery.relative(path)
        found: list[tuple[str, bytes]] = []
        try:
            with open_bytes(path) as stream:
                for number, line in enumerate(stream, start=1):
                    content = (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).strip()
                    if content:
                        found.append((f"{place}#line {number}", content))
        except UnreadableFileError as error:
            ledger.found()
            ledger.quarantine(place, error.reason_code, error.sentence)
            continue
        ledger.found(len(found))
        for locator, content in found:
            try:
                records.append(_record(content, locator, reader))
            except RecordRefusedError as refusal:
                ledger.quarantine(locator, refusal.reason_code, refusal.sentence)
    return note_rows(name, delivery.name, settle(records, ledger))


def _record(line: bytes, locator: str, reader: TimeReader) -> NoteRecord:
    resource = _decoded(line)
    kind = type(resource).__name__
    status = _status(resource, kind)
    if resource.subject is None:
        raise RecordRefusedError("missing_patient_id", "the resource names no subject")
    patient = resource.subject.target_of("Patient")
    if not patient:
        raise RecordRefusedError("missing_patient_id", "the subject is no reference to a Patient")
    available = _time(resource.available, reader)
    record = NoteRecord(
        locator=locator,
        source_patient_id=patient,
        note_id=f"{kind}/{resource.id}" if resource.id else "",
        note_type=resource.label,
        status=status,
        available_time=available,
        event_time=_time(resource.event, reader),
        text="",
        updated=_time(resource.meta.lastUpdated if resource.meta is not None else None, reader),
        replaces=_replaced(resource),
    )
    if record.is_retraction or record.is_declared_superseded:
        return record
    record = record.with_text(_text(resource))
    if available is None:
        element = "date" if isinstance(resource, DocumentReference) else "issued"
        if is_missing_time(resource.available):
            sentence = f"the resource has no `{element}`, which says when it could be read"
            raise RecordRefusedError("missing_time", sentence)
        raise RecordRefusedError("unreadable_time", f"`{element}` is no FHIR instant")
    if record.event_time is None and not is_missing_time(resource.event):
        record = record.with_problem(
            "event", "unreadable_time", "the event's time names no day, or is no time"
        )
    return record if record.note_id else record.with_id(own_id(record))


def _decoded(line: bytes) -> _Resource:
    try:
        kind = _HEAD.decode(line).resourceType
    except msgspec.ValidationError:
        raise RecordRefusedError("wrong_resource", "the line is no FHIR resource") from None
    except _MALFORMED:
        raise RecordRefusedError("malformed_json", "the line is no JSON") from None
    if kind not in _DECODERS:
        raise RecordRefusedError(
            "wrong_resource", "the resource is neither DocumentReference nor DiagnosticReport"
        )
    try:
        return _DECODERS[kind].decode(line)
    except _MALFORMED as error:
        if not isinstance(error, msgspec.ValidationError):
            raise RecordRefusedError("malformed_json", "the line is no JSON") from None
        raise RecordRefusedError(
            "malformed_resource", f"an element is not of the type that {kind} declares"
        ) from None


def _status(resource: _Resource, kind: str) -> str:
    """The status of the note: that of the document where the reference itself is current."""
    status = resource.status
    if status is None or status not in _STATUSES[kind]:
        raise RecordRefusedError("unknown_code", f"the status is missing, or none of the codes of {kind}")
    if status == "cancelled":
        raise RecordRefusedError("cancelled", "the report was cancelled")
    if isinstance(resource, DocumentReference):
        if any(r.code not in _RELATIONS for r in resource.relatesTo):
            raise RecordRefusedError(
                "unknown_code", "a relatesTo has none of the codes of DocumentRelationshipType"
            )
        if resource.docStatus is not None and resource.docStatus not in _DOC_STATUSES:
            raise RecordRefusedError(
                "unknown_code", "the docStatus is none of the codes of CompositionStatus"
            )
        if status == "current":
            return resource.docStatus or status
    return status


def _replaced(resource: _Resource) -> tuple[str, ...]:
    if isinstance(resource, DiagnosticReport):
        return ()
    targets = [r.target.target_of("DocumentReference") for r in resource.relatesTo if r.code == "replaces"]
    return tuple(f"DocumentReference/{t}" for t in targets if t)


def _text(resource: _Resource) -> str:
    """The document; of a report, also its conclusion where the document does not hold it."""
    conclusion = (resource.conclusion or "") if isinstance(resource, DiagnosticReport) else ""
    try:
        text = text_of(resource.attachments)
    except RecordRefusedError as error:
        if not conclusion.strip() or error.reason_code not in _ONLY_FORMAT:
            raise
        text = ""
    if conclusion.strip() and conclusion.strip() not in text:
        text = f"{text}\n\n{conclusion}" if text.strip() else conclusion
    return checked_text(text)


def _time(value: str | None, reader: TimeReader) -> np.datetime64 | None:
    moment = None if is_missing_time(value) else reader.read_one(value)
    return None if moment is None else np.datetime64(moment, "us")
