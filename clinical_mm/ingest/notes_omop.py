"""Notes from the NOTE table of OMOP CDM 5.4. How a file is opened is for `omop`.

OMOP keeps one time of a note, without saying whether it could be read by then, and has those that know only the day
set it to midnight. A note without an hour is therefore available from the end of its day.
"""

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from clinical_mm.ingest.delivery import Delivery
from clinical_mm.ingest.ledger import Ledger, RecordRefusedError
from clinical_mm.ingest.note_text import checked_text
from clinical_mm.ingest.note_versions import NoteRecord, note_rows, own_id, settle
from clinical_mm.ingest.omop import NOTE_COLUMNS, note_cells, note_header
from clinical_mm.ingest.opening import UnreadableFileError
from clinical_mm.ingest.tabular import place_of
from clinical_mm.ingest.times import TimeReader, end_of_day_where_hourless, is_missing_time
from clinical_mm.progress import track
from clinical_mm.study.sources import NotesOmopSource


def read_notes_omop(
    name: str, source: NotesOmopSource, delivery: Delivery, files: list[Path], ledger: Ledger
) -> pd.DataFrame:
    """Read the notes of a source of kind `notes_omop`.

    A row's locator counts the rows in the order of their `note_id`, those of Parquet in that of the file. The note's
    type is `note_title`, or else `note_type_concept_id`.

    Args:
        name: of the source.
        source: its declaration.
        delivery: where the files lie.
        files: SQLite databases and Parquet files.
        ledger: is told the fate of each row, once; a file that cannot be read as a whole is one record.

    Returns:
        Rows of `tables.NOTES`.

    Raises:
        DeliveryError: a database has no NOTE table, or a table lacks a column; there is no such time zone.
    """
    reader = TimeReader(source.time, name)
    records: list[NoteRecord] = []
    for path in track(files, f"reading {name}"):
        place = delivery.relative(path)
        try:
            found = _found(name, path, place, reader)
        except UnreadableFileError as error:
            ledger.found()
            ledger.quarantine(place, error.reason_code, error.sentence)
            continue
        ledger.found(len(found))
        for number, record in enumerate(found, start=1):
            if isinstance(record, RecordRefusedError):
                ledger.quarantine(f"{place}#row {number}", record.reason_code, record.sentence)
            else:
                records.append(record)
    return note_rows(name, delivery.name, settle(records, ledger))


def _found(name: str, path: Path, place: str, reader: TimeReader) -> list[NoteRecord | RecordRefusedError]:
    """What every row of a database is, or why it is nothing; all or none of them."""
    header = note_header(path, name)
    for column in NOTE_COLUMNS:
        place_of(column, header, name, NOTE_COLUMNS)
    found: list[NoteRecord | RecordRefusedError] = []
    for number, cells in enumerate(note_cells(path), start=1):
        try:
            found.append(
                _record(dict(zip(NOTE_COLUMNS, cells, strict=True)), f"{place}#row {number}", reader)
            )
        except RecordRefusedError as refusal:
            found.append(refusal)
    return found


def _record(cells: dict[str, object], locator: str, reader: TimeReader) -> NoteRecord:
    if any(isinstance(cell, bytes) for cell in cells.values()):
        raise RecordRefusedError("unknown_encoding", "the row holds text that is no UTF-8, or bytes")
    patient = _identifier(cells["person_id"])
    if not patient:
        raise RecordRefusedError("missing_patient_id", "the row names no person")
    text = checked_text("" if cells["note_text"] is None else str(cells["note_text"]))
    concept = _identifier(cells["note_type_concept_id"])
    record = NoteRecord(
        locator=locator,
        source_patient_id=patient,
        note_id=_identifier(cells["note_id"]),
        note_type=_identifier(cells["note_title"]) or (concept if concept != "0" else "") or None,
        status=None,
        available_time=_available(cells, reader),
        event_time=None,
        text=text,
    )
    return record if record.note_id else record.with_id(own_id(record))


def _available(cells: dict[str, object], reader: TimeReader) -> np.datetime64:
    """When the note could be read: at `note_datetime`, or from the end of the day where no hour is known."""
    times = [cells[c] for c in ("note_datetime", "note_date") if not is_missing_time(cells[c])]
    if not times:
        raise RecordRefusedError("missing_time", "the row has neither note_datetime nor note_date")
    # A number may be seconds or a day, from one of several beginnings.
    moment = reader.read_one(times[0]) if isinstance(times[0], str | date) else None
    if moment is None:
        raise RecordRefusedError("unreadable_time", "the note's time is not in the declared form")
    return end_of_day_where_hourless(np.datetime64(moment, "us"))


def _identifier(cell: object) -> str:
    """Ids and short text as text: a whole number without the `.0` that a missing one beside it gave it."""
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()
