"""Notes from tables, one row each. FHIR resources are for `fhir`, versions of one note for `note_versions`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from clinical_mm.ingest.delivery import Delivery
from clinical_mm.ingest.ledger import Ledger, RecordRefusedError
from clinical_mm.ingest.note_text import checked_text
from clinical_mm.ingest.note_versions import NoteRecord, note_rows, own_id, settle
from clinical_mm.ingest.tabular import Rows, read_rows
from clinical_mm.ingest.times import TimeReader, Times, end_of_day_where_hourless
from clinical_mm.study.sources import NoteRowsSource, NotesTableSource

_ROLES = (
    *("patient_id", "note_id", "available_time", "available_time_fallback", "event_time", "note_type"),
    "status",
)


def read_notes_table(
    name: str, source: NotesTableSource, delivery: Delivery, files: list[Path], ledger: Ledger
) -> pd.DataFrame:
    """Read the notes of a source of kind `notes_table`.

    Args:
        name: of the source.
        source: its declaration.
        delivery: where the files lie.
        files: the source's files in it.
        ledger: is told the fate of each row, once.

    Returns:
        Rows of `tables.NOTES`; a note that is retracted stands there without text, so that what earlier deliveries
        said of it does not stand either.

    Raises:
        DeliveryError: a column is missing, or zone, encoding or delimiter are none.
    """
    columns = {**note_columns(source), "text": source.text}
    reader = TimeReader(source.time, name)
    rows = read_rows(name, source.table, columns, delivery, files, ledger)
    rows = with_patient(rows, ledger)
    texts = [str(cell) for cell in rows.cells["text"]]
    records = note_records(rows, reader, ledger, texts.__getitem__, is_timeless=source.is_timeless)
    return note_rows(name, delivery.name, settle(records, ledger))


def note_columns(source: NoteRowsSource) -> dict[str, str]:
    """The columns that a source declares for what tables say of notes, by role."""
    return {role: getattr(source, role) for role in _ROLES if getattr(source, role) is not None}


def with_patient(rows: Rows, ledger: Ledger) -> Rows:
    """The rows that name a patient; the others are quarantined."""
    return rows.set_aside(
        rows.text("patient_id") == "", ledger, "missing_patient_id", "the row names no patient"
    )


def note_records(
    rows: Rows, reader: TimeReader, ledger: Ledger, text_of: Callable[[int], str], *, is_timeless: bool
) -> list[NoteRecord]:
    """The records of rows that name a patient; rows that make none are quarantined.

    Args:
        rows: cells by the roles of `note_columns`.
        reader: of the source's times.
        ledger: is told of rows that cannot be used.
        text_of: the text of the note in a place [0, n); not asked for where the note is withdrawn. It may raise
            `RecordRefusedError`, by which the row is quarantined.
        is_timeless: whether a note may be without a time.
    """
    available = _times(reader, rows.cells, "available_time")
    fallback = _times(reader, rows.cells, "available_time_fallback")
    event = _times(reader, rows.cells, "event_time")
    empty = np.full(len(rows), "", dtype=object)
    patients = rows.text("patient_id")
    note_ids = rows.text("note_id") if "note_id" in rows.cells.columns else empty
    types = rows.text("note_type") if "note_type" in rows.cells.columns else empty
    statuses = row_statuses(rows)
    candidates = []
    for i, locator in enumerate(rows.locators()):
        record = NoteRecord(
            locator=locator,
            source_patient_id=patients[i],
            note_id=note_ids[i],
            note_type=types[i] or None,
            status=statuses[i] or None,
            available_time=_moment(available, i),
            event_time=_moment(event, i),
            text="",
        )
        if record.is_retraction or record.is_declared_superseded:
            candidates.append(record)
            continue
        try:
            record = record.with_text(checked_text(text_of(i)))
        except RecordRefusedError as error:
            ledger.quarantine(locator, error.reason_code, error.sentence)
            continue
        if available.is_unreadable[i]:
            ledger.quarantine(locator, "unreadable_time", "the available time is not in the declared form")
            continue
        if available.is_missing[i] and fallback.is_unreadable[i]:
            sentence = "the fallback of the available time is not in the declared form"
            ledger.quarantine(locator, "unreadable_time", sentence)
            continue
        if available.is_missing[i] and not fallback.is_missing[i]:
            record = record.with_available_time(end_of_day_where_hourless(fallback.values[i])).with_problem(
                "available_time",
                "fallback_time",
                "the available time is missing: the declared fallback was taken",
            )
        elif available.is_missing[i] and not is_timeless:
            ledger.quarantine(locator, "missing_time", "the row does not say when the note could be read")
            continue
        if event.is_unreadable[i]:
            record = record.with_problem(
                "event_time", "unreadable_time", "the event time is not in the declared form"
            )
        if not record.note_id:
            record = record.with_id(own_id(record))
        candidates.append(record)
    return candidates


def row_statuses(rows: Rows) -> list[str]:
    """The status of each row [n] as FHIR spells it; "" where there is none."""
    if "status" not in rows.cells.columns:
        return [""] * len(rows)
    return [_status(s) for s in rows.text("status")]


def _times(reader: TimeReader, cells: pd.DataFrame, role: str) -> Times:
    return reader.read(list(cells[role]) if role in cells.columns else [""] * len(cells))


def _moment(times: Times, place: int) -> np.datetime64 | None:
    value = times.values[place]
    return None if np.isnat(value) else value


def _status(text: str) -> str:
    """A status as FHIR spells it: `Entered in error` is `entered-in-error`."""
    return "-".join(text.lower().replace("_", " ").replace("-", " ").split())
