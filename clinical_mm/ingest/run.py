"""Ingest of a delivery, stage by stage: readers run, fates are counted, and a snapshot is written whole.

Running a stage again on what has not changed does nothing; on the same content it writes the same bytes. What a
record means belongs to the readers.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pyarrow as pa

from clinical_mm import tables
from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.catalogue import GenomicSource, catalogue_summary, feature_catalogue
from clinical_mm.ingest.clinical import read_clinical
from clinical_mm.ingest.delivery import Delivery, delivery_fingerprint, matching_files
from clinical_mm.ingest.fhir import read_notes_fhir
from clinical_mm.ingest.gene_sets import load_gene_sets
from clinical_mm.ingest.gene_symbols import SHIPPED, Renaming
from clinical_mm.ingest.genomics import read_genomics_matrix
from clinical_mm.ingest.ledger import Ledger, is_conserved
from clinical_mm.ingest.maf import read_genomics_maf
from clinical_mm.ingest.notes import read_notes_table
from clinical_mm.ingest.notes_files import read_notes_files
from clinical_mm.ingest.notes_omop import read_notes_omop
from clinical_mm.ingest.outcomes import read_outcomes
from clinical_mm.ingest.samples import GenomicTables, write_values
from clinical_mm.ingest.sites import SiteTable, load_sites
from clinical_mm.ingest.spectra import load_signatures
from clinical_mm.ingest.vcf import read_genomics_vcf
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
    ClinicalSource,
    DicomSource,
    GenomicsMafSource,
    GenomicsMatrixSource,
    GenomicsVcfSource,
    NotesFhirSource,
    NotesFilesSource,
    NotesOmopSource,
    NotesTableSource,
    OutcomesSource,
    Source,
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
_RECORD_KINDS = {
    "notes_table": "row",
    "notes_files": "file",
    "notes_fhir": "resource",
    "notes_omop": "row",
    "dicom": "file",
    "genomics_matrix": "sample",
    "genomics_maf": "variant",
    "genomics_vcf": "sample",
    "clinical": "row",
    "outcomes": "row",
}
_FATES = ("accepted", "duplicate", "superseded", "quarantined")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Read:
    """What a source brought: rows of the stage's table, values beside them and their catalogue, and the ledger."""

    rows: pd.DataFrame
    ledger: Ledger
    values: pa.Table | None = None
    features: pd.DataFrame | None = None


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
        read = {name: _read(name, study, delivery, store) for name in names}
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
    for name, source in sources.items():
        if isinstance(source, GenomicsVcfSource) and source.sites is not None:
            table = _sites(name, source, study)
            parts.append([name, table.names, [str(site) for site in table.sites]])
        if isinstance(source, GenomicSource) and source.symbols.normalise:
            parts.append([name, file_hash(_symbols_path(source, study) or SHIPPED)])
        parts += [[name, file_hash(path)] for path in _files_of_features(source, study) if path.is_file()]
    return content_hash(*parts)


def _sites(name: str, source: GenomicsVcfSource, study: Study) -> SiteTable:
    if source.sites is None:
        return SiteTable()
    return load_sites(name, source.sites, study.resolve_path(source.sites.path))


def _symbols_path(source: GenomicSource, study: Study) -> Path | None:
    return None if source.symbols.path is None else study.resolve_path(source.symbols.path)


def _files_of_features(source: Source, study: Study) -> list[Path]:
    """Files beside the study that decide a source's features: gene sets and signatures."""
    named = []
    if isinstance(source, GenomicsMatrixSource) and source.gene_sets is not None:
        named.append(source.gene_sets.path)
    if isinstance(source, GenomicsMafSource) and source.spectrum is not None and source.spectrum.signatures:
        named.append(source.spectrum.signatures)
    return [study.resolve_path(path) for path in named]


def _standing(folder: Path, fingerprint: str) -> Path | None:
    """The current snapshot where it was made of files of this fingerprint and is still there."""
    about, path = current_about(folder), current(folder)
    if about is None or path is None or not path.is_dir():
        return None
    return path if about.get("inputs", about["fingerprint"]) == fingerprint else None


def _content(folder: Path, table: tables.Table, read: dict[str, _Read]) -> str:
    """Hash of the files that would be the snapshot; they are written aside, where the next snapshot cleans up."""
    with TemporaryDirectory(prefix=".comparing-", dir=folder) as aside:
        _write(Path(aside), table, read)
        return _hash_of_files(Path(aside))


def _hash_of_files(directory: Path) -> str:
    return content_hash([[path.name, file_hash(path)] for path in sorted(directory.iterdir())])


def _read(name: str, study: Study, delivery: Delivery, store: Store) -> _Read:
    source = study.sources[name]
    ledger = Ledger(name, delivery.name, _RECORD_KINDS[source.kind])
    files = matching_files(delivery, source)
    if isinstance(source, GenomicSource):
        renaming = Renaming.of(name, source.symbols, _symbols_path(source, study))
        genomic = _read_genomic(name, source, study, delivery, files, ledger, renaming)
        features = feature_catalogue(name, source, delivery.name, genomic, renaming)
        return _Read(genomic.samples, ledger, genomic.values, features)
    return _Read(_reader(source, store)(name, source, delivery, files, ledger), ledger)


def _read_genomic(  # noqa: PLR0917
    name: str,
    source: GenomicSource,
    study: Study,
    delivery: Delivery,
    files: list[Path],
    ledger: Ledger,
    renaming: Renaming,
) -> GenomicTables:
    if isinstance(source, GenomicsMatrixSource):
        sets = None
        if source.gene_sets is not None:
            sets = load_gene_sets(name, source.gene_sets.path, study.resolve_path(source.gene_sets.path))
        return read_genomics_matrix(name, source, delivery, files, ledger, renaming, sets)
    if isinstance(source, GenomicsVcfSource):
        sites = _sites(name, source, study)
        return read_genomics_vcf(name, source, sites, delivery, files, ledger, renaming=renaming)
    signatures = None
    if source.spectrum is not None and source.spectrum.signatures is not None:
        declared = source.spectrum.signatures
        signatures = load_signatures(name, declared, study.resolve_path(declared))
    return read_genomics_maf(name, source, delivery, files, ledger, renaming, signatures)


def _reader(source: Source, store: Store) -> Callable[..., pd.DataFrame]:
    if isinstance(source, DicomSource):
        # Its decoders take a second to import, which no other stage needs.
        from clinical_mm.ingest.imaging import read_dicom  # noqa: PLC0415

        def read(
            name: str, source: DicomSource, delivery: Delivery, files: list[Path], ledger: Ledger
        ) -> pd.DataFrame:
            return read_dicom(name, source, delivery, files, ledger, store.volumes)

        return read
    readers: dict[type, Callable[..., pd.DataFrame]] = {
        NotesTableSource: read_notes_table,
        NotesFilesSource: read_notes_files,
        NotesFhirSource: read_notes_fhir,
        NotesOmopSource: read_notes_omop,
        ClinicalSource: read_clinical,
        OutcomesSource: read_outcomes,
    }
    return readers[type(source)]


def _write(directory: Path, table: tables.Table, read: dict[str, _Read]) -> None:
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
