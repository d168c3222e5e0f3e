"""The current rows: what stands, of all that any delivery said, once later deliveries have corrected earlier ones.

The delivery with the later name wins for a key. A row that it replaces was its duplicate (same content) or is
superseded (other content); a note that the winning row declares entered in error is retracted, and stands no more.
Who a row belongs to, and whether a task may use it, does not belong here.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clinical_mm import tables
from clinical_mm.errors import TableError
from clinical_mm.store import Store, current, current_about
from clinical_mm.study.sources import STAGES
from clinical_mm.tables import Table

TABLE_OF_STAGE = {
    "notes": tables.NOTES,
    "imaging": tables.SERIES,
    "genomics": tables.GENOMIC_SAMPLES,
    "clinical": tables.CLINICAL,
    "outcomes": tables.OUTCOMES,
}
"""The table that an ingest stage makes."""

RETRACTED_STATUS = "entered-in-error"
"""HL7 FHIR R4, CompositionStatus: the note was never true of this patient."""

_NOT_CONTENT = {
    *("delivery", "locator", "slice_locators"),  # where it was found, not what it says
    *("text", "volume"),  # `content_hash` speaks for them
}


def current_rows(store: Store, table: Table, stage: str, columns: list[str] | None = None) -> pd.DataFrame:
    """The rows of a table that stand, over all deliveries.

    Args:
        store: where the deliveries were ingested to.
        table: the table.
        stage: the ingest stage that makes it.
        columns: those to read; default all.

    Returns:
        Those columns, in the order of deliveries and, within one, of its table; a key stands once.
    """
    wanted = table.columns if columns is None else columns
    rows = _all_rows(store, table, stage, _with_key(table, wanted))
    stands, _ = _standing(table, rows)
    return tables.to_pandas(rows.select(wanted).filter(pa.array(stands)))


def revisions(store: Store, table: Table, stage: str) -> pd.DataFrame:
    """How many rows of each source stand, and what became of the others.

    Returns:
        Columns source, rows, current, duplicate, superseded, retracted; rows is the sum of the others.
    """
    rows = _all_rows(store, table, stage, _with_key(table, ["source"]))
    stands, winner = _standing(table, rows)
    is_replaced = winner != np.arange(len(winner))
    is_same = np.zeros(len(winner), dtype=bool)
    if is_replaced.any():
        content = [c for c in table.columns if c not in _NOT_CONTENT]
        whole = _all_rows(store, table, stage, content)
        replaced = np.flatnonzero(is_replaced)
        is_same[replaced] = _hashes(whole.take(replaced)) == _hashes(whole.take(winner[replaced]))
    fates = pd.DataFrame(
        {
            "source": rows.column("source").to_pandas(),
            "rows": 1,
            "current": stands,
            "duplicate": is_replaced & is_same,
            "superseded": is_replaced & ~is_same,
            "retracted": ~is_replaced & ~stands,
        }
    )
    return fates.groupby("source", sort=True).sum().astype("int64").reset_index()


def genomic_values(store: Store, samples: pd.DataFrame, source: str) -> pd.DataFrame:
    """The features of genomic samples.

    Args:
        store: where the deliveries were ingested to.
        samples: rows of `tables.GENOMIC_SAMPLES` of one source: `delivery` and `sample_id`.
        source: the source.

    Returns:
        [sample, feature] float32, index `sample_id` in the order of `samples`; NaN where it was not measured.
        Deliveries may measure different features: the columns are the union, in order of first appearance.

    Raises:
        TableError: the values of a delivery, or of a sample, are missing in the store.
    """
    parts = []
    for delivery, ids in samples.groupby("delivery", sort=True)["sample_id"]:
        snapshot = current(store.delivery(str(delivery), "genomics"))
        path = None if snapshot is None else snapshot / f"genomics_{source}.parquet"
        if path is None or not path.is_file():
            raise TableError(
                f"the values of source {source} are missing in the store for delivery {delivery}: ingest it again"
            )
        arrow = pq.read_table(path, filters=pc.field("sample_id").isin(ids.to_list()))
        part = arrow.drop_columns(["sample_id"]).to_pandas().astype("float32")
        part.index = pd.Index(arrow.column("sample_id").to_pandas(), name="sample_id")
        if len(part) != len(ids) or not part.index.is_unique:
            raise TableError(
                f"source {source} of delivery {delivery} has values for {len(part)} of {len(ids)} samples: "
                "ingest it again"
            )
        parts.append(part)
    index = pd.Index(samples["sample_id"], name="sample_id")
    features = list(dict.fromkeys(feature for part in parts for feature in part.columns))
    values = np.full((len(index), len(features)), np.nan, dtype=np.float32)
    frame = pd.DataFrame(values, index=index, columns=pd.Index(features, dtype=object), copy=False)
    place_of_row, place_of_column = index.get_indexer, frame.columns.get_indexer
    for part in parts:
        values[np.ix_(place_of_row(part.index), place_of_column(part.columns))] = part.to_numpy()
    return frame


def counts(store: Store) -> pd.DataFrame:
    """`tables.COUNTS` of all deliveries and stages."""
    return _concatenated(store, tables.COUNTS)


def records(store: Store) -> pd.DataFrame:
    """`tables.RECORDS` of all deliveries and stages: every record that was not accepted."""
    return _concatenated(store, tables.RECORDS)


def ingest_fingerprints(store: Store) -> dict[str, str]:
    """Fingerprint of every ingested delivery and stage, by `<delivery>/<stage>`."""
    found = {}
    for delivery in store.delivery_names():
        for stage in STAGES:
            about = current_about(store.delivery(delivery, stage))
            if about is not None:
                found[f"{delivery}/{stage}"] = str(about["fingerprint"])
    return found


def snapshots(store: Store, stage: str) -> dict[str, Path]:
    """The current snapshot of a stage by delivery, the earlier delivery first."""
    found = {d: current(store.delivery(d, stage)) for d in store.delivery_names()}
    return {delivery: path for delivery, path in found.items() if path is not None}


def _with_key(table: Table, columns: list[str]) -> list[str]:
    """The columns, and those that decide which row stands."""
    needed = {*table.key, *columns, *(("status",) if table is tables.NOTES else ())}
    return [c for c in table.columns if c in needed]


def _all_rows(store: Store, table: Table, stage: str, columns: list[str]) -> pa.Table:
    parts = [tables.read_arrow(table, path, columns) for path in snapshots(store, stage).values()]
    schema = pa.schema([table.schema.field(c) for c in columns])
    return pa.concat_tables([p.cast(schema) for p in parts]) if parts else schema.empty_table()


def _standing(table: Table, rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """For each row [n]: whether it stands, and the place of the row that won for its key."""
    places = np.arange(rows.num_rows)
    keys = tables.to_pandas(rows.select(list(table.key)))
    is_last = ~keys.duplicated(keep="last").to_numpy()
    winner = places
    if not is_last.all():
        group = keys.groupby(list(table.key), dropna=False, sort=False).ngroup().to_numpy()
        last_of_group = np.zeros(group.max() + 1, dtype=np.int64)
        last_of_group[group[is_last]] = places[is_last]
        winner = last_of_group[group]
    stands = is_last
    if table is tables.NOTES:
        is_retracted = pc.fill_null(pc.equal(rows.column("status"), RETRACTED_STATUS), False)
        stands = stands & ~is_retracted.to_numpy()
    return stands, winner


def _hashes(rows: pa.Table) -> np.ndarray:
    frame = tables.to_pandas(rows)
    nested = [f.name for f in rows.schema if pa.types.is_list(f.type)]
    frame[nested] = frame[nested].map(str)
    return pd.util.hash_pandas_object(frame, index=False).to_numpy()


def _concatenated(store: Store, table: Table) -> pd.DataFrame:
    parts = [tables.read_arrow(table, path) for stage in STAGES for path in snapshots(store, stage).values()]
    return tables.to_pandas(pa.concat_tables(parts)) if parts else tables.empty(table)
