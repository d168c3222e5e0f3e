"""Notes as the files of a delivery: two CSV dialects and FHIR R4 NDJSON, with what is wrong in real exports.

Every record that is written is entered in the tally of its source with what has to become of it. What the notes
say is in `notes`.
"""

import base64
import csv
import io
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from clinical_mm.synthetic.notes import DOCUMENTS, LETTERS, REFERRALS, Note
from clinical_mm.synthetic.truth import Tally

HOSPITAL_ZONE = ZoneInfo("Europe/Berlin")
_LETTER_COLUMNS = ("mrn", "letter_id", "type", "status", "written_at", "stored_at", "body")
_REFERRAL_COLUMNS = ("Patient", "Nummer", "Eingang", "Inhalt")
_LOINC = {"Pathology report": "11526-1", "Discharge summary": "18842-5", "Clinic letter": "51851-4"}


@dataclass
class NoteFiles:
    """The notes of one delivery, collected and then written in random order."""

    rng: np.random.Generator
    letters: list[tuple[str, ...]] = field(default_factory=list)
    referrals: list[tuple[str, ...]] = field(default_factory=list)
    resources: list[str] = field(default_factory=list)
    undecodable: list[tuple[str, ...]] = field(default_factory=list)
    tallies: dict[str, Tally] = field(
        default_factory=lambda: {LETTERS: Tally("row"), REFERRALS: Tally("row"), DOCUMENTS: Tally("resource")}
    )

    def add(self, note: Note, fate: str = "accepted") -> None:
        """Add a note; `fate` is accepted, duplicate, superseded, or the reason for which it is quarantined."""
        if note.source == LETTERS:
            self.letters.append(_letter_row(note))
        elif note.source == REFERRALS:
            self.referrals.append(_referral_row(note))
        else:
            self.resources.append(json.dumps(_resource(note, self.rng), ensure_ascii=False))
        self._enter(note.source, fate)

    def repeat(self, note: Note) -> None:
        """Add the record of a note that was added before once more, byte for byte."""
        by_source: dict[str, list[Any]] = {
            LETTERS: self.letters,
            REFERRALS: self.referrals,
            DOCUMENTS: self.resources,
        }
        records = by_source[note.source]
        mark = f'"id": "{note.note_id}"' if note.source == DOCUMENTS else note.note_id
        records.append(next(r for r in records if mark in r))
        self._enter(note.source, "duplicate")

    def add_unusable(self, like: list[Note]) -> None:
        """Add records of every kind that cannot be used, made after letters and documents that can."""
        letters = [n for n in like if n.source == LETTERS]
        documents = [n for n in like if n.source == DOCUMENTS]
        for i, note in enumerate(letters[:3]):
            self._spoiled_letter(
                replace(note, note_id=f"{note.note_id}-t{i}"), "stored_at", "", "missing_time"
            )
        self._spoiled_letter(
            replace(letters[0], note_id="L90001"), "stored_at", "31/02/2024", "unreadable_time"
        )
        for i, note in enumerate(letters[:2]):
            self._spoiled_letter(
                replace(note, note_id=f"{note.note_id}-e{i}"), "body", "  \n" * i, "empty_text"
            )
        self._spoiled_letter(replace(letters[1], note_id="L90002"), "mrn", "", "missing_patient_id")
        for text in ("Seen on the ward, no change.", "Seen on the ward, drain removed."):
            self.add(replace(letters[2], note_id="L90003", text=text), "conflicting_records")
        for i, note in enumerate(letters[:2]):  # a whole file that is not in the encoding of its source
            self.undecodable.append(
                _letter_row(replace(note, note_id=f"L9100{i}", text="Größe unverändert."))
            )
        self._enter(LETTERS, "unknown_encoding")
        self._spoiled_resource(json.dumps(_resource(documents[0], self.rng))[:200], "malformed_json")
        observation = {
            "resourceType": "Observation",
            "id": "obs-1",
            "status": "final",
            "code": {"text": "CRP"},
        }
        self._spoiled_resource(json.dumps(observation), "wrong_resource")
        nobody = _resource(replace(documents[1], note_id="doc-90001"), self.rng)
        del nobody["subject"]
        self._spoiled_resource(json.dumps(nobody), "missing_patient_id")
        silent = _resource(replace(documents[2], note_id="doc-90002", text=""), self.rng)
        self._spoiled_resource(json.dumps(silent), "empty_text")

    def write(self, directory: Path) -> None:
        """Write `notes/` and `fhir/` below the folder of a delivery."""
        (directory / "notes").mkdir(parents=True)
        (directory / "fhir").mkdir()
        letters = _table(_LETTER_COLUMNS, self._shuffled(self.letters), ",")
        (directory / "notes" / "letters.csv").write_bytes(letters.encode("utf-8"))
        if self.undecodable:
            strange = _table(_LETTER_COLUMNS, self.undecodable, ",")
            (directory / "notes" / "letters_ward3.csv").write_bytes(strange.encode("latin-1"))
        if self.referrals:
            referrals = _table(_REFERRAL_COLUMNS, self._shuffled(self.referrals), ";")
            (directory / "notes" / "referrals.csv").write_bytes(referrals.encode("latin-1"))
        lines = self._shuffled(self.resources)
        is_report = ['"resourceType": "DiagnosticReport"' in line for line in lines]
        for name, wanted in (("DiagnosticReport", True), ("DocumentReference", False)):
            part = [line for line, found in zip(lines, is_report, strict=True) if found == wanted]
            path = directory / "fhir" / f"{name}.ndjson"
            path.write_bytes("".join(f"{line}\n" for line in part).encode("utf-8"))

    def _spoiled_letter(self, note: Note, column: str, value: str, reason: str) -> None:
        row = list(_letter_row(note))
        row[_LETTER_COLUMNS.index(column)] = value
        self.letters.append(tuple(row))
        self._enter(LETTERS, reason)

    def _spoiled_resource(self, line: str, reason: str) -> None:
        self.resources.append(line)
        self._enter(DOCUMENTS, reason)

    def _enter(self, source: str, fate: str) -> None:
        tally = self.tallies[source]
        if fate in ("accepted", "duplicate", "superseded"):
            setattr(tally, fate, getattr(tally, fate) + 1)
        else:
            tally.quarantined[fate] += 1

    def _shuffled(self, records: list[Any]) -> list[Any]:
        return [records[i] for i in self.rng.permutation(len(records))]


def _letter_row(note: Note) -> tuple[str, ...]:
    stored = note.available_time.isoformat(sep=" ", timespec="minutes")
    stored = stored[:10] if note.is_date_only else stored
    written = note.event_time.isoformat(sep=" ", timespec="minutes")
    return (note.patient_id, note.note_id, note.note_type, note.status, written, stored, note.text)


def _referral_row(note: Note) -> tuple[str, ...]:
    return (note.patient_id, note.note_id, note.available_time.strftime("%d.%m.%Y %H:%M"), note.text)


def _resource(note: Note, rng: np.random.Generator) -> dict[str, Any]:
    """A DocumentReference, or a DiagnosticReport where the id says so; times in UTC for half of them."""
    local = note.available_time.replace(tzinfo=HOSPITAL_ZONE)
    available = (local.astimezone(UTC) if rng.random() < 0.5 else local).isoformat()
    event = note.event_time.replace(tzinfo=HOSPITAL_ZONE).isoformat()
    kind = {
        "coding": [{"system": "http://loinc.org", "code": _LOINC[note.note_type], "display": note.note_type}],
        "text": note.note_type,
    }
    data = base64.b64encode(note.text.encode("utf-8")).decode("ascii")
    attachment = {"contentType": "text/plain; charset=utf-8", "data": data}
    subject = {"reference": f"Patient/{note.patient_id}"}
    if note.is_report:
        return {
            "resourceType": "DiagnosticReport",
            "id": note.note_id,
            "status": note.status,
            "code": kind,
            "subject": subject,
            "effectiveDateTime": event,
            "issued": available,
            "presentedForm": [attachment],
        }
    is_error = note.status == "entered-in-error"
    end = (note.event_time + timedelta(minutes=15)).replace(tzinfo=HOSPITAL_ZONE).isoformat()
    return {
        "resourceType": "DocumentReference",
        "id": note.note_id,
        "status": note.status if is_error else "current",
        "docStatus": note.status,
        "type": kind,
        "subject": subject,
        "date": available,
        "content": [{"attachment": attachment}],
        "context": {"period": {"start": event, "end": end}},
    }


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]], delimiter: str) -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()
