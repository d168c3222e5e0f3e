"""What FHIR R4 resources say of notes: DocumentReference and DiagnosticReport.

DocumentReference: available at `date`, event at `context.period`; DiagnosticReport: available at `issued`, event at
`effective[x]`. Codes with a required binding are checked here. Where the content of an attachment is, is for
`attached`; which version of a document stands is for `note_versions`.
"""

import re
from collections.abc import Callable

import msgspec
import numpy as np

from clinical_mm.ingest.attached import MISSING, AttachedContent, AttachedFiles
from clinical_mm.ingest.attachments import text_of
from clinical_mm.ingest.fhir_files import MALFORMED_JSON, FoundResource
from clinical_mm.ingest.ledger import RecordRefusedError
from clinical_mm.ingest.note_text import checked_text
from clinical_mm.ingest.note_versions import RETRACTED, NoteRecord, own_id
from clinical_mm.ingest.resources import Attachment, DiagnosticReport, DocumentReference
from clinical_mm.ingest.times import TimeReader, is_missing_time

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
NoteResource = DocumentReference | DiagnosticReport
_DECODERS: dict[str, msgspec.json.Decoder[NoteResource]] = {
    "DocumentReference": msgspec.json.Decoder(DocumentReference),
    "DiagnosticReport": msgspec.json.Decoder(DiagnosticReport),
}
KINDS = tuple(_DECODERS)
"""The types of resources that are notes."""

_ONLY_FORMAT = frozenset({"unsupported_content_type", MISSING})
"""A report in such a form alone still has its conclusion."""

_DELETED_NOTE = re.compile(r"(?:^|/)((?:DocumentReference|DiagnosticReport)/[A-Za-z0-9.-]{1,64})$")
_URN = re.compile("urn:(?:uuid|oid):")


def deletion(found: FoundResource) -> NoteRecord:
    """A note that its server deleted: nobody knows whose it was, and it stands no more.

    Raises:
        RecordRefusedError: it was no note, or is not named by its id.
    """
    named = _DELETED_NOTE.search(found.deleted or "")
    if named is None:
        raise RecordRefusedError(
            "unsupported_deletion",
            "what was deleted is no DocumentReference or DiagnosticReport named by its id",
        )
    return NoteRecord(
        locator=found.locator,
        source_patient_id="",
        note_id=named.group(1),
        note_type=None,
        status=RETRACTED,
        available_time=None,
        event_time=None,
        text="",
    )


def note_record(
    found: FoundResource, resource: NoteResource, reader: TimeReader, attached: AttachedFiles
) -> NoteRecord:
    """A version of a note.

    Raises:
        RecordRefusedError: it names no patient, has an unknown status, no time or no text that can be read.
    """
    kind = found.kind
    status = _status(resource, kind)
    if resource.subject is None:
        raise RecordRefusedError("missing_patient_id", "the resource names no subject")
    patient = resource.subject.target_of("Patient")
    if not patient:
        raise RecordRefusedError("missing_patient_id", "the subject is no reference to a Patient")
    available = _time(resource.available, reader)
    own = resource.id or _id_in_bundle(found)
    record = NoteRecord(
        locator=found.locator,
        source_patient_id=patient,
        note_id=f"{kind}/{own}" if own else "",
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

    def content_of(attachment: Attachment) -> AttachedContent:
        return attached.content_of(attachment, resource.contained)

    record = record.with_text(_text(resource, content_of))
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


def _id_in_bundle(found: FoundResource) -> str | None:
    """The id of a resource that has none yet: references within its Bundle are to this one."""
    return _URN.sub("", found.full_url) if found.full_url and _URN.match(found.full_url) else None


def decoded(found: FoundResource) -> NoteResource:
    """The elements that are read.

    Raises:
        RecordRefusedError: it is a resource of another type, or malformed.
    """
    if found.kind not in _DECODERS:
        raise RecordRefusedError(
            "wrong_resource", "the resource is neither DocumentReference nor DiagnosticReport"
        )
    try:
        return _DECODERS[found.kind].decode(found.content)
    except MALFORMED_JSON as error:
        if not isinstance(error, msgspec.ValidationError):
            raise RecordRefusedError("malformed_json", "there is no JSON") from None
        raise RecordRefusedError(
            "malformed_resource", f"an element is not of the type that {found.kind} declares"
        ) from None


def _status(resource: NoteResource, kind: str) -> str:
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


def _replaced(resource: NoteResource) -> tuple[str, ...]:
    if isinstance(resource, DiagnosticReport):
        return ()
    targets = [r.target.target_of("DocumentReference") for r in resource.relatesTo if r.code == "replaces"]
    return tuple(f"DocumentReference/{t}" for t in targets if t)


def _text(resource: NoteResource, content_of: Callable[[Attachment], AttachedContent]) -> str:
    """The document; of a report, also its conclusion where the document does not hold it."""
    conclusion = (resource.conclusion or "") if isinstance(resource, DiagnosticReport) else ""
    try:
        text = text_of(resource.attachments, content_of)
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
