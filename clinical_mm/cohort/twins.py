"""Twins: the same note text, or the same image, of patients in two splits.

A copy of a training patient's content in the test makes a model look better than it is. It need not be a fault (a
standing phrase is one text in many patients), so it is a warning. Texts are compared by the hash of their words
without case and spacing; images by their voxels. Hashes are kept by content, so only what is new is read.
"""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clinical_mm import tables
from clinical_mm.cohort.candidates import series_item_id
from clinical_mm.cohort.current import current_rows, snapshots
from clinical_mm.errors import TableError
from clinical_mm.progress import track
from clinical_mm.store import (
    Store,
    content_hash,
    current_about,
    file_hash,
    read_json,
    write_file,
    write_json,
)
from clinical_mm.summary import Check

VERSION = 1
_BATCH_ROWS = 10_000


def text_hash(text: str) -> bytes:
    """BLAKE2b of the text, its case folded and its spacing made single; 16 bytes."""
    return hashlib.blake2b(" ".join(text.casefold().split()).encode(), digest_size=16).digest()


def check_texts(store: Store, items: pd.DataFrame, splits: pd.DataFrame) -> Check:
    """Whether a used note's text is in two splits."""
    notes = pa.Table.from_pandas(_used(items, "text", splits), preserve_index=False)
    found = []
    for delivery, path in snapshots(store, "notes").items():
        own = notes.filter(pc.equal(notes.column("delivery"), delivery))
        hashes = _text_hashes(store, delivery, path)
        found.append(own.join(hashes, keys=["source", "item_id"], join_type="inner").select(_FOUND))
    return _check("no note text in two splits", "note texts", pa.concat_tables(found) if found else None, "")


def check_images(store: Store, items: pd.DataFrame, splits: pd.DataFrame) -> Check:
    """Whether a used volume's voxels are in two splits.

    One slice in the middle is compared first: only volumes that share it are read whole.
    """
    rows = current_rows(
        store, tables.SERIES, "imaging", ["source", "series_instance_uid", "stack", "delivery", "volume"]
    )
    rows["item_id"] = series_item_id(rows)
    images = _used(items, "image", splits).merge(
        rows[["delivery", "source", "item_id", "volume"]], on=["delivery", "source", "item_id"], how="left"
    )
    images["content"] = images["volume"].map(_middle_hashes(store, images["volume"].unique().tolist()))
    n_missing = int(images["content"].isna().sum())
    suspects = images[images.groupby("content")["assignment"].transform("nunique") > 1]
    whole = {str(v): file_hash(store.root / str(v)) for v in suspects["volume"].unique()}
    suspects = suspects.assign(content=suspects["volume"].map(whole).astype(object))
    note = f"; {n_missing} volumes are not in the store and were not compared" if n_missing else ""
    found = pa.Table.from_pandas(suspects[_FOUND], preserve_index=False) if len(suspects) else None
    return _check("no image in two splits", "images", found, note)


_FOUND = ["patient_id", "assignment", "content"]


def _used(items: pd.DataFrame, modality: str, splits: pd.DataFrame) -> pd.DataFrame:
    """Used items of split patients; `assignment` is a number for the splits that a patient has over the folds."""
    place = splits["split"].map({"train": 0, "validation": 1, "test": 2}).astype("int64")
    assignment = (place * 3 ** splits["fold"].astype("int64")).groupby(splits["patient_id"]).sum()
    own = items[(items["modality"] == modality) & items["is_used"]]
    own = own.assign(assignment=own["patient_id"].map(assignment))
    own = own.loc[own["assignment"].notna(), ["patient_id", "source", "delivery", "item_id", "assignment"]]
    return own.astype({"assignment": "int64"}).reset_index(drop=True)


def _check(name: str, what: str, found: pa.Table | None, note: str) -> Check:
    """The warning, of the contents (`_FOUND`) of used items."""
    n_shared = n_patients = 0
    if found is not None:
        counted = found.group_by("content").aggregate([("assignment", "count_distinct")])
        shared = counted.filter(pc.greater(counted.column("assignment_count_distinct"), 1)).column("content")
        n_shared = len(shared)
        is_shared = pc.is_in(found.column("content"), value_set=shared)
        n_patients = len(pc.unique(found.column("patient_id").filter(is_shared)))
    said = f"{n_shared} {what} are the same in patients of two splits ({n_patients} patients)"
    return Check(
        name,
        is_passed=n_shared == 0,
        sentence=(said if n_shared else f"no two splits share {what}") + note,
        is_blocking=False,
    )


def _text_hashes(store: Store, delivery: str, snapshot: Path) -> pa.Table:
    """Source, item id and content (the hash of the text) of the notes of a delivery; cached."""
    about = current_about(store.delivery(delivery, "notes"))
    if about is None:
        raise TableError(f"the notes of delivery {delivery} are missing in the store: ingest it again")
    kept = (
        store.cache("note_hashes") / f"{content_hash(VERSION, delivery, about['fingerprint'])[:32]}.parquet"
    )
    if not kept.is_file():
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_batches(_hashed_batches(snapshot), _HASHES), buffer, compression="zstd")
        write_file(kept, buffer.getvalue())
    return pq.read_table(kept)


_HASHES = pa.schema([("source", pa.string()), ("item_id", pa.string()), ("content", pa.binary(16))])


def _hashed_batches(snapshot: Path) -> Iterator[pa.RecordBatch]:
    """Texts are read a batch at a time: a study's notes need not fit in memory."""
    with pq.ParquetFile(snapshot / f"{tables.NOTES.name}.parquet") as file:
        batches = file.iter_batches(_BATCH_ROWS, columns=["source", "note_id", "text"])
        n_batches = -(-file.metadata.num_rows // _BATCH_ROWS)
        for batch in track(batches, "comparing note texts", total=n_batches):
            hashes = pa.array([text_hash(text) for text in batch.column("text").to_pylist()], pa.binary(16))
            yield pa.record_batch([batch.column("source"), batch.column("note_id"), hashes], schema=_HASHES)


def _middle_hashes(store: Store, volumes: list[str]) -> dict[str, str]:
    """Hash of the shape, type and middle slice of each volume that the store holds; cached by the volume's name."""
    kept = store.cache("middle_hashes") / f"version_{VERSION}.json"
    known: dict[str, str] = read_json(kept) if kept.is_file() else {}
    new = {}
    for volume in track([v for v in volumes if v not in known], "comparing images"):
        path = store.root / volume
        if path.is_file():
            voxels = np.load(path, mmap_mode="r", allow_pickle=False)
            middle = np.ascontiguousarray(voxels[voxels.shape[0] // 2])
            new[volume] = content_hash(list(voxels.shape), str(voxels.dtype), middle.tobytes())
    if new:
        known = {**known, **new}
        write_json(kept, known)
    return {v: known[v] for v in volumes if v in known}
