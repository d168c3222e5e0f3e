"""The tables that pass between stages: their columns, types and meaning. This is the contract of the house.

Every stage reads and writes through `read_table` and `write_table`, which validate. Ids are text, always. Times are
timezone-naive hospital-local timestamps with microseconds. What computes a table does not belong here.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from clinical_mm.errors import TableError

_TEXT = pa.string()
_TIME = pa.timestamp("us")
_NUMBER = pa.float64()
_COUNT = pa.int64()
_FLAG = pa.bool_()


@dataclass(frozen=True)
class Table:
    """A table's name, Arrow schema and key: the columns that no two rows share."""

    name: str
    schema: pa.Schema
    key: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in order."""
        return list(self.schema.names)


def _table(
    name: str, key: tuple[str, ...], columns: dict[str, pa.DataType], optional: tuple[str, ...] = ()
) -> Table:
    unknown = [c for c in (*key, *optional) if c not in columns]
    assert not unknown, unknown
    return Table(name, pa.schema([pa.field(c, t, nullable=c in optional) for c, t in columns.items()]), key)


_ORIGIN = {"source": _TEXT, "delivery": _TEXT, "locator": _TEXT, "source_patient_id": _TEXT}
"""Where a record is from. `locator` finds it again: the path within the delivery, then `#row 7` or `#line 7`."""

NOTES = _table(
    "notes",
    ("source", "note_id"),
    {
        **_ORIGIN,
        "note_id": _TEXT,
        "note_type": _TEXT,
        "status": _TEXT,
        "available_time": _TIME,  # null: declared timeless
        "event_time": _TIME,
        "text": _TEXT,
        "content_hash": _TEXT,
    },
    optional=("note_type", "status", "available_time", "event_time"),
)

SERIES = _table(
    "series",
    ("source", "series_instance_uid", "stack"),
    {
        **_ORIGIN,
        "series_instance_uid": _TEXT,
        "stack": _COUNT,  # a series that holds several consistent stacks gives one row each
        "study_instance_uid": _TEXT,
        "modality": _TEXT,
        "body_part": _TEXT,
        "description": _TEXT,
        "manufacturer": _TEXT,
        "scanner": _TEXT,
        "available_time": _TIME,  # null: declared timeless
        "unit": _TEXT,  # HU for CT, else as the modality LUT says
        "photometric_interpretation": _TEXT,
        "is_inverted": _FLAG,  # MONOCHROME1: low values are shown bright
        "window_center": _NUMBER,  # the header's VOI window, in stored units after the modality LUT
        "window_width": _NUMBER,
        "is_volume": _FLAG,  # one orientation, distinct positions, even spacing
        "geometry": _TEXT,  # what was found or done, in words
        "shape": pa.list_(_COUNT),  # [slices, rows, columns]
        "channels": _COUNT,  # 1, or 3 for colour
        "spacing_mm": pa.list_(_NUMBER),  # [slice, row, column]; empty where the header has none
        "affine": pa.list_(
            _NUMBER
        ),  # 16 numbers, row by row: (slice, row, column, 1) to patient LPS mm; or empty
        "slice_locators": pa.list_(_TEXT),  # per slice: path of the file within the delivery
        "slice_sop_instance_uids": pa.list_(_TEXT),
        "slice_frames": pa.list_(_COUNT),  # per slice: frame of that instance, from 0
        "volume": _TEXT,  # path within the store of the .npy file: [slices, rows, columns(, 3)]
        "content_hash": _TEXT,
    },
    optional=(
        "body_part",
        "description",
        "manufacturer",
        "scanner",
        "available_time",
        "unit",
        "window_center",
        "window_width",
    ),
)

GENOMIC_SAMPLES = _table(
    "genomic_samples",
    ("source", "sample_id"),
    {
        **_ORIGIN,
        "sample_id": _TEXT,
        "available_time": _TIME,  # null: declared timeless
        "n_features": _COUNT,  # observed, of those that the source has
        "content_hash": _TEXT,
    },
    optional=("available_time",),
)
"""The values lie beside it in `genomics_<source>.parquet`: column `sample_id`, then one float32 column a feature,
null where it was not measured."""

FEATURES = _table(
    "features",
    ("source", "feature"),
    {
        "source": _TEXT,
        "delivery": _TEXT,
        "feature": _TEXT,  # as in the values file
        "kind": _TEXT,  # expression, copy_number, burden, hotspot, dosage, spectrum, signature, gene_set …
        "unit": _TEXT,  # null: the source declares none
        "transform": _TEXT,
        "written_as": pa.list_(_TEXT),  # names in the delivered files that became it
        "symbol_status": _TEXT,  # approved, previous, alias, date, ambiguous, unknown; not_looked_up
        "n_measured": _COUNT,  # samples
        "is_zero_where_absent": _FLAG,  # in deliveries whose values have no such column
    },
    optional=("unit",),
)
"""The catalogue of genomic features, beside the values."""

CLINICAL = _table(
    "clinical",
    ("source", "source_patient_id", "variable", "available_time"),
    {
        **_ORIGIN,
        "variable": _TEXT,
        "value_number": _NUMBER,  # of a number
        "value_text": _TEXT,  # of a category
        "unit": _TEXT,
        "available_time": _TIME,  # null: declared timeless
    },
    optional=("value_number", "value_text", "unit", "available_time"),
)

OUTCOMES = _table(
    "outcomes",
    ("source", "source_patient_id", "variable"),
    {
        **_ORIGIN,
        "variable": _TEXT,
        "value_number": _NUMBER,
        "value_text": _TEXT,
        "unit": _TEXT,
        "index_time": _TIME,  # null: the source names none
    },
    optional=("value_number", "value_text", "unit", "index_time"),
)
"""A row without a value says that the patient and index time are known and the outcome is not yet."""

RECORDS = _table(
    "records",
    ("source", "locator"),
    {
        "source": _TEXT,
        "delivery": _TEXT,
        "locator": _TEXT,
        "disposition": _TEXT,  # duplicate, superseded or quarantined
        "reason_code": _TEXT,  # snake_case, stable: unreadable_file, missing_time …
        "sentence": _TEXT,  # for a person; without identifiers and without content
    },
)
"""Every record that was not accepted. One that is only in part unusable (a cell) has `#row 7 column` as locator and
is not counted in `COUNTS` again."""

COUNTS = _table(
    "counts",
    ("source",),
    {
        "source": _TEXT,
        "delivery": _TEXT,
        "record_kind": _TEXT,  # file, row, resource, sample or variant
        "found": _COUNT,
        "accepted": _COUNT,
        "duplicate": _COUNT,
        "superseded": _COUNT,
        "quarantined": _COUNT,
    },
)
"""Conservation: found = accepted + duplicate + superseded + quarantined, for every source of every delivery."""

LINKS = _table(
    "links",
    ("source", "source_patient_id"),
    {
        "source": _TEXT,
        "source_patient_id": _TEXT,
        "patient_id": _TEXT,  # null where unlinked or ambiguous
        "rule": _TEXT,  # exact, pattern or crosswalk, with its place among the rules: "2 pattern"
        "status": _TEXT,  # linked, unlinked or ambiguous
        "sentence": _TEXT,  # why
        "n_records": _COUNT,
    },
    optional=("patient_id", "rule"),
)

COHORT = _table(
    "cohort",
    ("patient_id",),
    {
        "patient_id": _TEXT,
        "index_time": _TIME,  # null: every item is timeless
        "label": _NUMBER,  # binary: 0 or 1; multiclass: the class's place; survival: the event; null: not yet known
        "duration": _NUMBER,  # survival alone
        "n_text": _COUNT,  # usable items of each modality; 0: absent
        "n_image": _COUNT,
        "n_genomics": _COUNT,
        "n_clinical": _COUNT,
        "modality_pattern": _TEXT,  # "text+genomics"
    },
    optional=("index_time", "label", "duration"),
)
"""Patients whose label is not yet known are in the cohort, to be scored, and in no split."""

ITEMS = _table(
    "items",
    ("patient_id", "modality", "source", "item_id"),
    {
        "patient_id": _TEXT,
        "modality": _TEXT,  # text, image, genomics or clinical
        "source": _TEXT,
        "delivery": _TEXT,
        "item_id": _TEXT,  # note_id; series_instance_uid#stack; sample_id; variable@locator
        "available_time": _TIME,
        "is_used": _FLAG,
        "rank": _COUNT,  # order in which the model reads the used items of a modality, from 0; -1 where unused
        "reason_code": _TEXT,  # why it is not used; "used" where it is
    },
    optional=("available_time",),
)

SPLITS = _table(
    "splits",
    ("patient_id", "fold"),
    {
        "patient_id": _TEXT,
        "fold": _COUNT,
        "split": _TEXT,
    },  # train, validation or test; holdout has fold 0 alone
)

FLOW = _table(
    "flow",
    ("step",),
    {"step": _COUNT, "name": _TEXT, "n_in": _COUNT, "n_out": _COUNT, "reason": _TEXT},
)
"""CONSORT-style: from source records to analysed patients."""

PREDICTIONS = _table(
    "predictions",
    ("model", "subset", "fold", "patient_id", "output"),
    {
        "model": _TEXT,  # fusion, or baseline_<name>
        "subset": _TEXT,  # the modalities that it was allowed to see: "text+image+genomics"
        "fold": _COUNT,
        "patient_id": _TEXT,
        "split": _TEXT,  # as in SPLITS
        "output": _COUNT,  # 0 for binary and survival; the class's place for multiclass
        "score": _NUMBER,  # log odds, logit of the class, or log hazard ratio
        "probability": _NUMBER,  # calibrated for fusion, the model's own for baselines; null for survival
        "label": _NUMBER,  # as in COHORT
        "duration": _NUMBER,
    },
    optional=("probability", "label", "duration"),
)

SCORES = _table(
    "scores",
    ("patient_id", "output"),
    {
        "patient_id": _TEXT,
        "version": _TEXT,  # of the model
        "output": _COUNT,  # as in PREDICTIONS
        "score": _NUMBER,  # mean over the version's members
        "risk": _NUMBER,  # calibrated; survival: of the event by the evaluation's horizon
        "lower": _NUMBER,  # interval of the calibration
        "upper": _NUMBER,
    },
    optional=("risk", "lower", "upper"),
)
"""Patients whose outcome is not yet known, scored by the champion."""

METRICS = _table(
    "metrics",
    ("model", "subset", "split", "metric"),
    {
        "model": _TEXT,
        "subset": _TEXT,
        "split": _TEXT,
        "metric": _TEXT,  # auroc, auprc, brier, c_index, balanced_accuracy …
        "value": _NUMBER,
        "lower": _NUMBER,  # bootstrap interval over patients
        "upper": _NUMBER,
        "n_patients": _COUNT,
        "n_events": _COUNT,  # positives, or events
    },
    optional=("value", "lower", "upper"),
)


def to_arrow(table: Table, frame: pd.DataFrame | pa.Table) -> pa.Table:
    """A frame as the table's Arrow type, columns in the schema's order.

    Raises:
        TableError: a column is missing or unknown, a type does not convert, a required value is null, or a key is
            there twice. The message names columns and counts, never values.
    """
    names = list(frame.column_names) if isinstance(frame, pa.Table) else list(frame.columns)
    missing = [c for c in table.columns if c not in names]
    unknown = [c for c in names if c not in table.columns]
    if missing or unknown:
        raise TableError(
            f"table {table.name}: columns missing {missing}, unknown {unknown}; it has {table.columns}"
        )
    # Nulls are let in first, so that the columns which must not hold any can be named.
    nullable = pa.schema([field.with_nullable(True) for field in table.schema])
    try:
        if isinstance(frame, pa.Table):
            arrow = frame.select(table.columns).cast(nullable)
        else:
            arrow = pa.Table.from_pandas(frame[table.columns], schema=nullable, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, ValueError) as error:
        kind = type(error).__name__
        raise TableError(
            f"table {table.name}: a column does not convert to its declared type ({kind})"
        ) from None
    nulls = [f.name for f in table.schema if not f.nullable and arrow.column(f.name).null_count]
    if nulls:
        raise TableError(f"table {table.name}: required columns hold nulls: {nulls}")
    arrow = arrow.cast(table.schema)
    distinct = arrow.select(list(table.key)).group_by(list(table.key)).aggregate([])
    if distinct.num_rows != arrow.num_rows:
        extra = arrow.num_rows - distinct.num_rows
        raise TableError(f"table {table.name}: {extra} rows repeat the key {table.key}")
    return arrow


def empty(table: Table) -> pd.DataFrame:
    """The table without a row, columns typed."""
    return to_pandas(table.schema.empty_table())


def to_pandas(arrow: pa.Table) -> pd.DataFrame:
    """An Arrow table as pandas: text as `object` with None, times as datetime64[us]."""
    return arrow.to_pandas(date_as_object=False)


def write_table(table: Table, frame: pd.DataFrame | pa.Table, directory: Path) -> Path:
    """Validate and write `<directory>/<name>.parquet`; the same content gives the same bytes."""
    path = directory / f"{table.name}.parquet"
    pq.write_table(to_arrow(table, frame), path, compression="zstd")
    return path


def read_table(table: Table, directory: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Read and validate `<directory>/<name>.parquet`.

    Raises:
        TableError: the file is missing or does not have the schema.
    """
    return to_pandas(read_arrow(table, directory, columns))


def read_arrow(table: Table, directory: Path, columns: list[str] | None = None) -> pa.Table:
    """As `read_table`, left in Arrow: for tables that are filtered before they become Python objects."""
    path = directory / f"{table.name}.parquet"
    if not path.is_file():
        raise TableError(f"table {table.name} is missing in the store: run the stage that makes it")
    arrow = pq.read_table(path, columns=columns)
    wanted = table.schema if columns is None else pa.schema([table.schema.field(c) for c in columns])
    if not arrow.schema.remove_metadata().equals(wanted, check_metadata=False):
        raise TableError(
            f"table {table.name} in the store has another schema: it was made by another version"
        )
    return arrow
