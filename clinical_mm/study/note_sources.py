"""Sources of clinical notes: a row each, a file each, FHIR R4, or OMOP CDM."""

from typing import Literal, Self

from pydantic import Field, model_validator

from clinical_mm.study.base import Column, Settings
from clinical_mm.study.source_base import BaseSource, Glob, TableSource, TimeFormat


class NoteRowsSource(TableSource):
    """A table with a row a note, which says whose the note is, and since when it could be read."""

    patient_id: Column
    note_id: Column | None = None
    available_time: Column | None = Field(
        None, description="when the note could be read (storetime, not the event)"
    )
    available_time_fallback: Column | None = Field(
        None,
        description="taken where available_time is empty, and put on record; a time without an hour counts from the "
        "end of its day (default: the row is quarantined)",
    )
    event_time: Column | None = Field(None, description="when that happened which the note tells of")
    note_type: Column | None = None
    status: Column | None = Field(None, description="final, amended, corrected, entered-in-error …")
    is_timeless: bool = Field(False, description="the notes carry no time and may be read at any index time")

    @model_validator(mode="after")
    def _time_is_declared(self) -> Self:
        if self.available_time is None and not self.is_timeless:
            raise ValueError("names no available_time: name the column, or declare is_timeless: true")
        if self.available_time_fallback is not None and self.available_time is None:
            raise ValueError("names an available_time_fallback and no available_time: name that column first")
        return self


class NotesTableSource(NoteRowsSource):
    """Clinical notes, one row each, in CSV or Parquet."""

    kind: Literal["notes_table"]
    text: Column
    note_id: Column | None = Field(None, description="default: the hash of patient, time, type and text")


class NotesFilesSource(NoteRowsSource):
    """Clinical notes, one file each (plain text, HTML, RTF), and a manifest: a table with a row a file.

    `table` and `time` say how the manifest is written. A record is a row of the manifest, or a file that `path`
    matches and no row names.
    """

    kind: Literal["notes_files"]
    manifest: Glob
    file: Column = Field(description="the file's path, relative to the delivery's folder")
    content_type: Column | None = Field(
        None, description="media type: text/plain, text/html or text/rtf; default: by the file's ending"
    )
    note_id: Column | None = Field(None, description="default: the file's path")
    encoding: str = Field(
        "utf-8", description="of the files, but for RTF and for HTML that names its own; never guessed"
    )


class NotesFhirSource(BaseSource):
    """FHIR R4 DocumentReference and DiagnosticReport resources: NDJSON, Bundles, JSON files, a bulk-export folder.

    `path` is to match the files of Binary resources too where notes are attached so. A record is a resource of any
    type, but for the Binaries that notes name.
    """

    kind: Literal["notes_fhir"]
    attachments: Glob | None = Field(
        None,
        description="files that attachments name by a relative URL, from the delivery's folder: no others are opened "
        "(default: none)",
    )
    time: TimeFormat = TimeFormat()


class OmopDatabase(Settings):
    """The database that `clinical-mm fetch` reads: its URL stands in the environment, never in a file or a log."""

    url_variable: str = Field(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="environment variable with the SQLAlchemy URL: postgresql://user:password@host/name",
    )
    db_schema: str | None = Field(
        None, min_length=1, description="schema of the tables (default: the connection's own)"
    )


class NotesOmopSource(BaseSource):
    """The NOTE table of OMOP CDM 5.4, in SQLite files or Parquet.

    `clinical-mm fetch` makes a delivery of a database: `<source>/note.parquet` with the notes, which `path` has to
    match, and `<source>/person.parquet` for a crosswalk from person_id to person_source_value.
    """

    kind: Literal["notes_omop"]
    database: OmopDatabase | None = Field(None, description="to fetch deliveries from; ingest does without")
    time: TimeFormat = TimeFormat()
