"""Versions of a note within a delivery: which one stands, which are repeated, older, retracted or contradictory.

A note is known by its id. Of its versions the one that became available last stands; at the same time an amended one
stands before a final, and that before a preliminary one. A version that was entered in error takes with it all that
are not newer. How a note is written in a file does not belong here.
"""

from collections import defaultdict
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from clinical_mm import tables
from clinical_mm.ingest.ledger import Ledger
from clinical_mm.store import content_hash

RETRACTED = "entered-in-error"
SUPERSEDED = "superseded"
_RANKS = {"registered": -2, "partial": -1, "preliminary": -1, "amended": 1, "corrected": 1, "appended": 1}
_BEGINNING = np.datetime64(-(2**62), "us")


@dataclass(frozen=True)
class NoteRecord:
    """A record that holds a version of a note.

    Attributes:
        locator: where it stands.
        source_patient_id: the patient, as the source names it; "" where a retraction names none.
        note_id: the note's id; "" where a retraction names none.
        note_type: as the source says.
        status: as HL7 FHIR spells it, or the source's own word.
        available_time: when the version could be read; None: timeless or, of a retraction, unknown.
        event_time: when that happened which it tells of.
        text: the note.
        updated: when the record was last changed; decides between versions of the same time.
        replaces: ids of other notes that it stands for.
        problems: parts that cannot be used: name, reason code and sentence.
    """

    locator: str
    source_patient_id: str
    note_id: str
    note_type: str | None
    status: str | None
    available_time: np.datetime64 | None
    event_time: np.datetime64 | None
    text: str
    updated: np.datetime64 | None = None
    replaces: tuple[str, ...] = ()
    problems: tuple[tuple[str, str, str], ...] = field(default=())

    @property
    def is_retraction(self) -> bool:
        """Whether it says that the note was never true of this patient."""
        return self.status == RETRACTED

    @property
    def is_declared_superseded(self) -> bool:
        """Whether the source itself says that a newer note stands for it."""
        return self.status == SUPERSEDED

    @property
    def order(self) -> tuple[np.datetime64, int, np.datetime64]:
        """The version with the greatest stands."""
        available = _BEGINNING if self.available_time is None else self.available_time
        updated = _BEGINNING if self.updated is None else self.updated
        return available, _RANKS.get(self.status or "", 0), updated

    @property
    def content(self) -> tuple[object, ...]:
        """What two records say alike when one is a duplicate of the other."""
        return (
            *(self.source_patient_id, self.note_type, self.status),
            *(self.available_time, self.event_time, self.text),
        )

    def with_id(self, note_id: str) -> "NoteRecord":
        """The same under another id."""
        return replace(self, note_id=note_id)

    def with_text(self, text: str) -> "NoteRecord":
        """The same with a text."""
        return replace(self, text=text)

    def with_available_time(self, moment: np.datetime64) -> "NoteRecord":
        """The same, since when it could be read."""
        return replace(self, available_time=moment)

    def with_problem(self, part: str, reason_code: str, sentence: str) -> "NoteRecord":
        """The same with a part that cannot be used."""
        return replace(self, problems=(*self.problems, (part, reason_code, sentence)))


def own_id(record: NoteRecord) -> str:
    """The id of a note that has none: the same patient, time, type and text give the same."""
    time = None if record.available_time is None else str(record.available_time)
    return content_hash(record.source_patient_id, time, record.note_type, record.text)[:32]


def settle(records: list[NoteRecord], ledger: Ledger) -> list[NoteRecord]:
    """Decide which records stand, and tell the ledger the fate of every one.

    Returns:
        The records that stand, and, as records without text, the notes that must not stand from earlier deliveries
        either: retracted, declared superseded, or replaced by another note.
    """
    by_id: dict[str, list[NoteRecord]] = defaultdict(list)
    gone: dict[str, NoteRecord] = {}
    for record in records:
        if record.is_retraction:
            ledger.quarantine(
                record.locator, "entered_in_error", "the source says that it was entered in error"
            )
        elif record.is_declared_superseded:
            ledger.supersede(
                record.locator, "the source says that a newer note stands for it", "declared_superseded"
            )
        by_id[record.note_id].append(record)
    standing: dict[str, NoteRecord] = {}
    for note_id, versions in by_id.items():
        withdrawn = [v for v in versions if v.is_retraction or v.is_declared_superseded]
        stands = _newest(versions, withdrawn, ledger)
        if stands is not None:
            standing[note_id] = stands
        elif withdrawn and note_id:
            gone[note_id] = max(withdrawn, key=lambda v: v.order)
    replaced = _replaced(standing, gone, ledger)
    accepted = [r for note_id, r in standing.items() if note_id not in replaced]
    ledger.accept(len(accepted))
    for record in accepted:
        for part, reason_code, sentence in record.problems:
            ledger.quarantine_cell(f"{record.locator} {part}", reason_code, sentence)
    return [*accepted, *(replace(r, text="", event_time=None, problems=()) for r in gone.values())]


def _newest(versions: list[NoteRecord], withdrawn: list[NoteRecord], ledger: Ledger) -> NoteRecord | None:
    """The version of a note that stands, if one does; the ledger is told of the others that are not withdrawn."""
    usable = [v for v in versions if not (v.is_retraction or v.is_declared_superseded)]
    if len({v.source_patient_id for v in versions if v.source_patient_id}) > 1:
        for version in usable:
            ledger.quarantine(
                version.locator,
                "conflicting_records",
                "records with the same note id name different patients",
            )
        return None
    if any(v.is_retraction for v in withdrawn):
        last = max((v for v in withdrawn if v.is_retraction), key=lambda v: v.order)
        for version in list(usable):
            is_newer = last.available_time is not None and version.order[0] > last.order[0]
            if not is_newer:
                sentence = "another record says that the note was entered in error"
                ledger.supersede(version.locator, sentence, "entered_in_error")
                usable.remove(version)
    distinct: dict[tuple[object, ...], NoteRecord] = {}
    for version in usable:
        if version.content in distinct:
            ledger.duplicate(version.locator, "the same note stands in another record")
        else:
            distinct[version.content] = version
    ordered = sorted(distinct.values(), key=lambda v: v.order)
    if len(ordered) > 1 and ordered[-1].order == ordered[-2].order:
        for version in ordered:
            sentence = "records with the same note id differ, and no time or status says which is newer"
            ledger.quarantine(version.locator, "conflicting_records", sentence)
        return None
    for version in ordered[:-1]:
        ledger.supersede(version.locator, "a newer version of the note stands in this delivery")
    return ordered[-1] if ordered else None


def _replaced(standing: dict[str, NoteRecord], gone: dict[str, NoteRecord], ledger: Ledger) -> set[str]:
    """Ids of standing notes that others replace; `gone` gets those that this delivery does not hold."""
    replaces: dict[str, list[str]] = {}
    for note_id, record in standing.items():
        targets = [t for t in dict.fromkeys(record.replaces) if t != note_id]
        if targets:
            replaces[note_id] = targets
    if not replaces:
        return set()
    for note_id, targets in replaces.items():
        for target in targets:
            if target not in standing:
                gone.setdefault(target, replace(standing[note_id], note_id=target, status=SUPERSEDED))
    same_patient = {
        note_id: [
            t
            for t in targets
            if t in standing and standing[t].source_patient_id == standing[note_id].source_patient_id
        ]
        for note_id, targets in replaces.items()
    }
    all_targets = {t for targets in same_patient.values() for t in targets}
    reached: set[str] = set()
    frontier = [note_id for note_id in same_patient if note_id not in all_targets]
    while frontier:
        for target in same_patient.get(frontier.pop(), ()):
            if target not in reached:
                reached.add(target)
                frontier.append(target)
    for note_id in all_targets:
        if note_id in reached:
            sentence = "another note of this delivery says that it replaces it"
            ledger.supersede(standing[note_id].locator, sentence, "replaced")
            gone[note_id] = replace(standing[note_id], status=SUPERSEDED)
        else:
            sentence = "notes say of each other that they replace them"
            ledger.quarantine(standing[note_id].locator, "conflicting_records", sentence)
    return all_targets


def note_rows(source: str, delivery: str, records: list[NoteRecord]) -> pd.DataFrame:
    """Records as rows of `tables.NOTES`, in the order of their ids."""
    records = sorted(records, key=lambda r: r.note_id)
    frame = pd.DataFrame(
        {
            "source": source,
            "delivery": delivery,
            "locator": [r.locator for r in records],
            "source_patient_id": [r.source_patient_id for r in records],
            "note_id": [r.note_id for r in records],
            "note_type": [r.note_type for r in records],
            "status": [r.status for r in records],
            "available_time": np.array([_time(r.available_time) for r in records], dtype="datetime64[us]"),
            "event_time": np.array([_time(r.event_time) for r in records], dtype="datetime64[us]"),
            "text": [r.text for r in records],
            "content_hash": [content_hash(r.text) for r in records],
        },
        columns=tables.NOTES.columns,
    )
    return frame if records else tables.empty(tables.NOTES)


def _time(value: np.datetime64 | None) -> np.datetime64:
    return np.datetime64("NaT", "us") if value is None else value
