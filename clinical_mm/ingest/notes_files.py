"""Notes from files, one each, and the manifest that says whose they are.

A record is a row of the manifest, or a file that the source's pattern matches and no row names. Only files that the
pattern matches are opened: what else a manifest may name, within the delivery or out of it, is not. How a format
becomes text is for `documents`.
"""

import posixpath
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd

from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.delivery import Delivery, files_of_pattern, leads_out
from clinical_mm.ingest.documents import document_text, media_type_of_file
from clinical_mm.ingest.ledger import Ledger, RecordRefusedError
from clinical_mm.ingest.note_versions import RETRACTED, SUPERSEDED, note_rows, settle
from clinical_mm.ingest.notes import note_columns, note_records, row_statuses, with_patient
from clinical_mm.ingest.opening import UnreadableFileError, known_encoding, open_bytes
from clinical_mm.ingest.tabular import Rows, read_rows
from clinical_mm.ingest.times import TimeReader
from clinical_mm.study.sources import NotesFilesSource


def read_notes_files(
    name: str, source: NotesFilesSource, delivery: Delivery, files: list[Path], ledger: Ledger
) -> pd.DataFrame:
    """Read the notes of a source of kind `notes_files`.

    A row's locator is its place in the manifest, a file's that no row names its path.

    Args:
        name: of the source.
        source: its declaration.
        delivery: where the files lie.
        files: the notes in it.
        ledger: is told the fate of each row, and of each file that no row names, once.

    Returns:
        Rows of `tables.NOTES`, withdrawn notes without text, as `read_notes_table`.

    Raises:
        DeliveryError: the manifest lacks a column, or zone, encoding or delimiter are none.
    """
    if known_encoding(source.encoding) is None:
        raise DeliveryError(
            f"source {name}: {source.encoding!r} is no encoding that Python knows: see encoding"
        )
    reader = TimeReader(source.time, name)
    manifests = files_of_pattern(delivery, source.manifest)
    notes = {delivery.relative(path): path for path in files if path not in manifests}
    columns = {**note_columns(source), "file": source.file}
    if source.content_type is not None:
        columns["content_type"] = source.content_type
    rows = read_rows(name, source.table, columns, delivery, manifests, ledger)
    rows.cells["file"] = [posixpath.normpath(path) if path else "" for path in rows.text("file")]
    _quarantine_unnamed(notes, set(rows.cells["file"]), ledger)
    rows = with_patient(rows, ledger)
    rows = _with_file(rows, notes, delivery, ledger)
    paths = list(rows.cells["file"])
    if source.note_id is None:
        rows.cells["note_id"] = paths
    else:
        rows.cells["note_id"] = [i or p for i, p in zip(rows.text("note_id"), paths, strict=True)]
    types = rows.text("content_type") if source.content_type is not None else [""] * len(rows)

    def text_of(place: int) -> str:
        return _file_text(notes[paths[place]], types[place], source.encoding)

    records = note_records(rows, reader, ledger, text_of, is_timeless=source.is_timeless)
    return note_rows(name, delivery.name, settle(records, ledger))


def _quarantine_unnamed(notes: dict[str, Path], named: set[str], ledger: Ledger) -> None:
    for path in notes:
        if path not in named:
            ledger.found()
            ledger.quarantine(path, "not_in_manifest", "no row of the manifest names the file")


def _with_file(rows: Rows, notes: dict[str, Path], delivery: Delivery, ledger: Ledger) -> Rows:
    """The rows whose file is there and one patient's; a note that is withdrawn by its id needs none."""
    has_id = (
        rows.text("note_id") != "" if "note_id" in rows.cells.columns else np.zeros(len(rows), dtype=bool)
    )
    is_nameless = (rows.text("file") == "") & ~(has_id & ~_are_wanted(rows))
    rows = rows.set_aside(is_nameless, ledger, "missing_path", "the row names no file")
    is_outside = np.array([p not in notes and leads_out(p, delivery) for p in rows.cells["file"]], dtype=bool)
    sentence = "the path of the row leads out of the delivery, and is not followed"
    rows = rows.set_aside(is_outside, ledger, "outside_delivery", sentence)
    is_wanted = _are_wanted(rows)
    is_there = np.array([path in notes for path in rows.cells["file"]], dtype=bool)
    sentence = "no file that the source's path matches is where the row says"
    rows = rows.set_aside(is_wanted & ~is_there, ledger, "missing_file", sentence)
    is_wanted = _are_wanted(rows)
    patients: dict[str, set[str]] = defaultdict(set)
    for path, patient in zip(rows.cells["file"][is_wanted], rows.text("patient_id")[is_wanted], strict=True):
        patients[path].add(patient)
    is_shared = np.array([len(patients[path]) > 1 for path in rows.cells["file"]], dtype=bool)
    sentence = "rows of the manifest give the same file to different patients"
    return rows.set_aside(is_wanted & is_shared, ledger, "conflicting_records", sentence)


def _are_wanted(rows: Rows) -> np.ndarray:
    """Whether the note of each row [n] is not withdrawn, so that its file is to be read."""
    return np.array([s not in {RETRACTED, SUPERSEDED} for s in row_statuses(rows)], dtype=bool)


def _file_text(path: Path, declared_type: str, encoding: str) -> str:
    media_type = declared_type.partition(";")[0].strip().lower() or media_type_of_file(path)
    try:
        with open_bytes(path) as stream:
            data = stream.read()
    except UnreadableFileError as error:
        raise RecordRefusedError(error.reason_code, error.sentence) from None
    return document_text(data, media_type, default=encoding)
