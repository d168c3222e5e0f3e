"""Ingest of a delivery, stage by stage: readers run, fates are counted, and a snapshot is written whole.

Running a stage again on what has not changed does nothing; on the same content it writes the same bytes. What a
record means belongs to the readers.
"""

import logging
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pyarrow as pa

from clinical_mm import tables
from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.catalogue import catalogue_summary
from clinical_mm.ingest.delivery import Delivery, delivery_fingerprint
from clinical_mm.ingest.ledger import is_conserved
from clinical_mm.ingest.samples import write_values
from clinical_mm.ingest.source_reading import SourceRead, beside_the_study, read_source
from clinical_mm.store import (
    Store,
    content_hash,
    current,
    current_about,
    file_hash,
    require_current,
    snapshot,
)
from clinical_mm.study.root import Study
from clinical_mm.study.sources import (
    STAGES,
)
from clinical_mm.summary import Check, StageSummary

VERSION = 2
"""Raised when readers make other tables of the same files: everything is then ingested anew."""

_TABLES = {
    "notes": tables.NOTES,
    "imaging": tables.SERIES,
    "genomics": tables.GENOMIC_SAMPLES,
    "clinical": tables.CLINICAL,
    "outcomes": tables.OUTCOMES,
}
_FATES = ("accepted", "duplicate", "superseded", "quarantined")

_log = logging.getLogger(__name__)


def ingest_delivery(study: Study, store: Store, delivery: Delivery) -> list[StageSummary]:
    """Ingest all stages of a delivery, in the order of `STAGES`.

    Raises:
        ClinicalMMError: as `ingest_stage`.
    """
    return [ingest_stage(study, store, delivery, stage) for stage in STAGES]


def ingest_stage(
    study: Study, store: Store, delivery: Delivery, stage: str, *, force: bool = False
) -> StageSummary:
    """Read what a delivery brings for one stage into the store.

    Args:
        study: the study.
        store: where the snapshot goes: `<table>.parquet`, `records.parquet`, `counts.parquet`, and for genomics
            `genomics_<source>.parquet` and `features.parquet`.
        delivery: the delivery.
        stage: one of `study.sources.STAGES`.
        force: read the files though neither path, size nor time of change of any is another than before: their
            content, or what decodes them, may be. Where the same tables come of it, the snapshot stays.

    Returns:
        Counts by source, what was quarantined by reason, and the check of conservation.

    Raises:
        DeliveryError: the delivery does not fit what the study declares: a column is missing, say.
        StoreError: another process ingests the same, or the store cannot be written.
    """
    if stage not in STAGES:
        raise DeliveryError(f"there is no ingest stage {stage!r}: it is one of {', '.join(STAGES)}")
    if not delivery.path.is_dir():
        raise DeliveryError(f"the delivery {delivery.name} is no longer in the landing folder")
    folder = store.delivery(delivery.name, stage)
    with store.lock(f"ingest-{delivery.name}-{stage}"):
        fingerprint = _fingerprint(study, delivery, stage)
        standing = _standing(folder, fingerprint)
        if standing is not None and not force:
            return _summary(stage, delivery, standing, is_unchanged=True)
        names = study.sources_of_stage(stage)
        read = {name: read_source(name, study, delivery, store) for name in names}
        about = {"delivery": delivery.name, "stage": stage}
        if standing is not None:
            content = _content(folder, _TABLES[stage], read)
            if content == _hash_of_files(standing):
                return _summary(stage, delivery, standing, is_unchanged=True)
            # Later stages go by the fingerprint and have to see another one; ingest itself goes by `inputs`.
            about["inputs"] = fingerprint
            fingerprint = content_hash(fingerprint, content)
        with snapshot(folder, fingerprint, about) as directory:
            _write(directory, _TABLES[stage], read)
        summary = _summary(stage, delivery, require_current(folder, "ingest"), is_unchanged=False)
    counts = summary.tables["counts"][["found", *_FATES]].sum()
    _log.info("ingested %s of delivery %s: %s", stage, delivery.name, counts.to_dict())
    return summary


def _fingerprint(study: Study, delivery: Delivery, stage: str) -> str:
    sources = {name: study.sources[name] for name in study.sources_of_stage(stage)}
    settings = {name: source.model_dump(mode="json") for name, source in sources.items()}
    beside = ("sequenced", "manifest", "attachments")
    patterns = [p for s in sources.values() for p in (s.path, *(getattr(s, b, None) for b in beside)) if p]
    parts = [stage, delivery.name, settings, delivery_fingerprint(delivery, patterns), VERSION]
    parts += [[name, *beside_the_study(name, source, study)] for name, source in sources.items()]
    return content_hash(*parts)


def _standing(folder: Path, fingerprint: str) -> Path | None:
    """The current snapshot where it was made of files of this fingerprint and is still there."""
    about, path = current_about(folder), current(folder)
    if about is None or path is None or not path.is_dir():
        return None
    return path if about.get("inputs", about["fingerprint"]) == fingerprint else None


def _content(folder: Path, table: tables.Table, read: dict[str, SourceRead]) -> str:
    """Hash of the files that would be the snapshot; they are written aside, where the next snapshot cleans up."""
    with TemporaryDirectory(prefix=".comparing-", dir=folder) as aside:
        _write(Path(aside), table, read)
        return _hash_of_files(Path(aside))


def _hash_of_files(directory: Path) -> str:
    return content_hash([[path.name, file_hash(path)] for path in sorted(directory.iterdir())])


def _write(directory: Path, table: tables.Table, read: dict[str, SourceRead]) -> None:
    tables.write_table(table, _concatenated(table, [r.rows for r in read.values()]), directory)
    records = _concatenated(tables.RECORDS, [r.ledger.records() for r in read.values()])
    tables.write_table(tables.RECORDS, records, directory)
    counts = _concatenated(tables.COUNTS, [r.ledger.counts() for r in read.values()])
    tables.write_table(tables.COUNTS, counts, directory)
    if table is tables.GENOMIC_SAMPLES:
        features = _concatenated(
            tables.FEATURES, [r.features for r in read.values() if r.features is not None]
        )
        tables.write_table(tables.FEATURES, features, directory)
    for name, each in read.items():
        if each.values is not None:
            write_values(name, each.values, directory)


def _concatenated(table: tables.Table, parts: list[pd.DataFrame]) -> pa.Table:
    """Validated one by one: parts without a row have no types to agree on."""
    return pa.concat_tables([table.schema.empty_table(), *(tables.to_arrow(table, p) for p in parts)])


def _summary(stage: str, delivery: Delivery, path: Path, *, is_unchanged: bool) -> StageSummary:
    counts = tables.read_table(tables.COUNTS, path)
    records = tables.read_table(tables.RECORDS, path)
    totals = counts[["found", *_FATES]].sum()
    quarantined = records[records["disposition"] == "quarantined"]
    reasons = quarantined.groupby(["source", "reason_code"], sort=True).size().reset_index(name="n")
    conserved = is_conserved(counts)
    accounted = int(totals[list(_FATES)].sum())
    sentence = f"{totals['found']} records found, {accounted} of known fate"
    shown = {"counts": counts, "quarantined by reason": reasons}
    if stage == "genomics":
        shown |= catalogue_summary(tables.read_table(tables.FEATURES, path))
    return StageSummary(
        stage=f"ingest {stage}",
        facts={"delivery": delivery.name, **{str(k): int(v) for k, v in totals.items()}},
        tables=shown,
        checks=(Check("conservation", conserved, sentence),),
        path=path,
        is_unchanged=is_unchanged,
    )
