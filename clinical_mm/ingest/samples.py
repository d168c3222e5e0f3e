"""Genomic samples with their values: joined over files, repeated and contradictory ones told apart, and as tables.

How they are read from a matrix or a MAF is for `genomics` and `maf`.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from clinical_mm import tables
from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.ledger import Ledger

ABSENT_FEATURE = b"clinical_mm.absent_feature"
"""Key of the metadata of a values file: the value, in this delivery's samples, of a feature that has no column."""


@dataclass(frozen=True)
class Samples:
    """Samples of a source in a delivery.

    Attributes:
        locators: [n] where each was found.
        sample_ids: [n] as the source names them.
        patient_ids: [n] as the source names them.
        times: [n] datetime64[us] when its values became available, NaT where it is timeless.
        features: [f] names.
        values: [n, f] float32, NaN where nothing was measured.
        absent_feature: the value of a feature that is not among `features`; None: not measured.
    """

    locators: np.ndarray
    sample_ids: np.ndarray
    patient_ids: np.ndarray
    times: np.ndarray
    features: list[str]
    values: np.ndarray
    absent_feature: float | None = None

    def __len__(self) -> int:
        return len(self.locators)

    def take(self, chosen: np.ndarray) -> "Samples":
        """Those samples: a mask [n], or places."""
        return Samples(
            self.locators[chosen],
            self.sample_ids[chosen],
            self.patient_ids[chosen],
            self.times[chosen],
            self.features,
            self.values[chosen],
            self.absent_feature,
        )


@dataclass(frozen=True)
class GenomicTables:
    """Rows of `tables.GENOMIC_SAMPLES`, and the values beside them."""

    samples: pd.DataFrame
    values: pa.Table


def joined(parts: list[Samples]) -> Samples:
    """The samples of all files, over the union of their features in order of first appearance."""
    if len(parts) == 1:
        return parts[0]
    features = list(dict.fromkeys(f for part in parts for f in part.features))
    place = {feature: i for i, feature in enumerate(features)}
    n = sum(len(part) for part in parts)
    values = np.full((n, len(features)), np.nan, dtype=np.float32)
    start = 0
    for part in parts:
        columns = np.array([place[f] for f in part.features], dtype=np.int64)
        values[start : start + len(part), columns] = part.values
        start += len(part)
    empty = np.array([], dtype=object)
    no_time = np.array([], dtype="datetime64[us]")
    return Samples(
        np.concatenate([empty, *(p.locators for p in parts)]),
        np.concatenate([empty, *(p.sample_ids for p in parts)]),
        np.concatenate([empty, *(p.patient_ids for p in parts)]),
        np.concatenate([no_time, *(p.times for p in parts)]),
        features,
        values,
    )


def content_hashes(samples: Samples) -> list[str]:
    """SHA-256 of each sample's patient and observed features: the same whatever else the delivery holds."""
    order = np.argsort(np.array(samples.features, dtype=object), kind="stable")
    names = np.array(samples.features, dtype=object)[order]
    values = samples.values[:, order] + np.float32(0.0)  # there is no negative zero
    observed = ~np.isnan(values)
    known: dict[bytes, bytes] = {}
    hashes = []
    for i in range(len(samples)):
        mask = observed[i].tobytes()
        if mask not in known:
            known[mask] = hashlib.sha256("\x1f".join(names[observed[i]]).encode("utf-8")).digest()
        digest = hashlib.sha256(known[mask])
        digest.update(samples.patient_ids[i].encode("utf-8") + b"\x1f")
        digest.update(values[i][observed[i]].astype("<f4").tobytes())
        hashes.append(digest.hexdigest())
    return hashes


def settle_samples(samples: Samples, ledger: Ledger) -> tuple[Samples, list[str]]:
    """Decide which records of a sample stand, and tell the ledger the fate of each.

    Returns:
        The samples that stand, in the order of their ids, and their content hashes.
    """
    hashes = content_hashes(samples)
    ids = pd.Series(samples.sample_ids, dtype=object)
    stands = np.ones(len(samples), dtype=bool)
    repeated = ids[ids.duplicated(keep=False)]
    for group in repeated.groupby(repeated, sort=False).indices.values():
        places = repeated.index.to_numpy()[np.sort(group)]
        first: dict[tuple[str, object], int] = {}
        for place in places:
            content = (hashes[place], samples.times[place].item())
            if content in first:
                ledger.duplicate(samples.locators[place], "the same sample stands in another record")
                stands[place] = False
            else:
                first[content] = place
        distinct = list(first.values())
        times = samples.times[distinct]
        if len(distinct) == 1:
            continue
        if not np.isnat(times).any() and len(set(times.tolist())) == len(times):
            for place in distinct:
                if samples.times[place] != times.max():
                    ledger.supersede(samples.locators[place], "the same sample was measured again later")
                    stands[place] = False
            continue
        for place in distinct:
            sentence = "records with the same sample id differ, and no time says which is newer"
            ledger.quarantine(samples.locators[place], "conflicting_records", sentence)
            stands[place] = False
    ledger.accept(int(stands.sum()))
    places = np.flatnonzero(stands)
    places = places[np.argsort(samples.sample_ids[places], kind="stable")]
    return samples.take(places), [hashes[p] for p in places]


def genomic_tables(source: str, delivery: str, samples: Samples, hashes: list[str]) -> GenomicTables:
    """Samples that stand as the tables of the store.

    Raises:
        DeliveryError: a feature is called `sample_id`.
    """
    if "sample_id" in samples.features:
        raise DeliveryError(f"source {source}: a feature is called 'sample_id': name it under excluded")
    n_features = (~np.isnan(samples.values)).sum(axis=1)
    if samples.absent_feature is not None:
        n_features = np.full(len(samples), len(samples.features))
    rows = pd.DataFrame(
        {
            "source": source,
            "delivery": delivery,
            "locator": samples.locators,
            "source_patient_id": samples.patient_ids,
            "sample_id": samples.sample_ids,
            "available_time": samples.times,
            "n_features": n_features,
            "content_hash": hashes,
        },
        columns=tables.GENOMIC_SAMPLES.columns,
    )
    columns = [pa.array(samples.sample_ids, type=pa.string())]
    columns += [
        pa.array(np.ascontiguousarray(samples.values[:, i]), type=pa.float32(), from_pandas=True)
        for i in range(len(samples.features))
    ]
    absent = samples.absent_feature
    metadata = None if absent is None else {ABSENT_FEATURE: repr(absent).encode()}
    values = pa.Table.from_arrays(columns, names=["sample_id", *samples.features])
    return GenomicTables(
        rows if len(rows) else tables.empty(tables.GENOMIC_SAMPLES), values.replace_schema_metadata(metadata)
    )


def write_values(source: str, values: pa.Table, directory: Path) -> Path:
    """Write `<directory>/genomics_<source>.parquet`; the same content gives the same bytes."""
    path = directory / f"genomics_{source}.parquet"
    pq.write_table(values, path, compression="zstd")
    return path
