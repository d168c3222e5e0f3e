"""The tables of a features snapshot: which note, window and image belongs to which patient, and what was left out.

They are read and written through `clinical_mm.tables`; no other stage reads them but through `loaded.TaskFeatures`.
"""

import pyarrow as pa

from clinical_mm.tables import Table

_TEXT = pa.string()
_COUNT = pa.int64()


def _table(name: str, key: tuple[str, ...], columns: dict[str, pa.DataType], optional: str = "") -> Table:
    fields = [pa.field(c, t, nullable=c in optional.split()) for c, t in columns.items()]
    return Table(name, pa.schema(fields), key)


NOTES_READ = _table(
    "notes_read",
    ("patient_id", "place"),
    {
        "patient_id": _TEXT,
        "place": _COUNT,  # of the note among the patient's, in reading order, from 0
        "source": _TEXT,
        "item_id": _TEXT,
        "note_type": _TEXT,
        "available_time": pa.timestamp("us"),
        "first_byte": _COUNT,  # of its UTF-8 text in `notes.utf8`
        "n_bytes": _COUNT,
        "first_token": _COUNT,  # in `tokens.int32`: rows of token id, first character, one past the last
        "n_tokens": _COUNT,  # without special tokens
    },
    optional="note_type available_time",
)

TEXT_WINDOWS = _table(
    "text_windows",
    ("patient_id", "place"),
    {
        "patient_id": _TEXT,
        "place": _COUNT,  # of the window among the patient's, from 0
        "note_place": _COUNT,
        "first_token": _COUNT,  # in `tokens.int32`
        "n_tokens": _COUNT,  # without special tokens
    },
)

IMAGES = _table(
    "images",
    ("patient_id", "place"),
    {
        "patient_id": _TEXT,
        "place": _COUNT,  # of the image among the patient's, from 0
        "source": _TEXT,
        "item_id": _TEXT,  # series_instance_uid#stack
        "cache_key": _TEXT,
        "member": _COUNT,  # place in the cached array: 2D takes several slices of a series
        "grid_to_volume": pa.list_(pa.float64()),  # 16 numbers, row by row
    },
)

PRESENCE = _table(
    "presence",
    ("patient_id", "modality"),
    {"patient_id": _TEXT, "modality": _TEXT},
)
"""A row for every modality of which a patient has usable features."""

LEFT_OUT = _table(
    "left_out",
    ("patient_id", "modality", "reason"),
    {
        "patient_id": _TEXT,
        "modality": _TEXT,
        "reason": _TEXT,  # windows_over_max, notes_over_max, no_tokens, volume_missing, no_contrast …
        "n": _COUNT,  # windows, notes, series, slices, samples or values, as the reason says
    },
)
