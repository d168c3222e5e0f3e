"""The tables NOTE and PERSON of OMOP CDM 5.4, and a row of NOTE."""

from datetime import date, datetime
from typing import Any

import sqlalchemy as sa


def omop_tables(schema: str | None = None) -> sa.MetaData:
    """NOTE and PERSON by the data definition of CDM 5.4, less what no note is read by."""
    metadata = sa.MetaData(schema=schema)
    sa.Table(
        "note",
        metadata,
        sa.Column("note_id", sa.BigInteger, primary_key=True),
        sa.Column("person_id", sa.BigInteger),
        sa.Column("note_date", sa.Date),
        sa.Column("note_datetime", sa.DateTime),
        sa.Column("note_type_concept_id", sa.Integer),
        sa.Column("note_class_concept_id", sa.Integer),
        sa.Column("note_title", sa.String(250)),
        sa.Column("note_text", sa.Text),
    )
    sa.Table(
        "person",
        metadata,
        sa.Column("person_id", sa.BigInteger, primary_key=True),
        sa.Column("year_of_birth", sa.Integer),
        sa.Column("person_source_value", sa.String(50)),
    )
    return metadata


def omop_note(note_id: int = 1, **cells: Any) -> dict[str, Any]:
    """A row of NOTE with everything that is read, but for the cells that are given."""
    return {
        "note_id": note_id,
        "person_id": 7,
        "note_date": date(2024, 1, 2),
        "note_datetime": datetime(2024, 1, 2, 10),
        "note_type_concept_id": 32831,
        "note_class_concept_id": 0,
        "note_title": "Discharge summary",
        "note_text": "No change.",
        **cells,
    }
