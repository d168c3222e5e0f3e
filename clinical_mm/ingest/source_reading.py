"""A source of a delivery, read: by the reader of its kind, with the files beside the study that decide its features.

What becomes of what was read is for `run`; what a record means belongs to the readers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from clinical_mm.ingest.catalogue import GenomicSource, feature_catalogue
from clinical_mm.ingest.clinical import read_clinical
from clinical_mm.ingest.delivery import Delivery, matching_files
from clinical_mm.ingest.fhir import read_notes_fhir
from clinical_mm.ingest.gene_sets import load_gene_sets
from clinical_mm.ingest.gene_symbols import SHIPPED, Renaming
from clinical_mm.ingest.genomics import read_genomics_matrix
from clinical_mm.ingest.ledger import Ledger
from clinical_mm.ingest.maf import read_genomics_maf
from clinical_mm.ingest.notes import read_notes_table
from clinical_mm.ingest.notes_files import read_notes_files
from clinical_mm.ingest.notes_omop import read_notes_omop
from clinical_mm.ingest.outcomes import read_outcomes
from clinical_mm.ingest.samples import GenomicTables
from clinical_mm.ingest.sites import SiteTable, load_sites
from clinical_mm.ingest.spectra import load_signatures
from clinical_mm.ingest.vcf import read_genomics_vcf
from clinical_mm.store import (
    Store,
    file_hash,
)
from clinical_mm.study.root import Study
from clinical_mm.study.sources import (
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


@dataclass(frozen=True)
class SourceRead:
    """What a source brought: rows of the stage's table, values beside them and their catalogue, and the ledger."""

    rows: pd.DataFrame
    ledger: Ledger
    values: pa.Table | None = None
    features: pd.DataFrame | None = None


def beside_the_study(name: str, source: Source, study: Study) -> list[object]:
    """What decides a source's features and lies beside the study file: JSON values, others where a file is another.

    Raises:
        DeliveryError: a table of sites cannot be read.
    """
    parts: list[object] = []
    if isinstance(source, GenomicsVcfSource) and source.sites is not None:
        table = _sites(name, source, study)
        parts.append([table.names, [str(site) for site in table.sites]])
    if isinstance(source, GenomicSource) and source.symbols.normalise:
        parts.append(file_hash(_symbols_path(source, study) or SHIPPED))
    return [*parts, *(file_hash(path) for path in _files_of_features(source, study) if path.is_file())]


def read_source(name: str, study: Study, delivery: Delivery, store: Store) -> SourceRead:
    """Read the files of a source in a delivery.

    Raises:
        DeliveryError: the delivery does not fit what the study declares.
    """
    source = study.sources[name]
    ledger = Ledger(name, delivery.name, _RECORD_KINDS[source.kind])
    files = matching_files(delivery, source)
    if isinstance(source, GenomicSource):
        renaming = Renaming.of(name, source.symbols, _symbols_path(source, study))
        genomic = _read_genomic(name, source, study, delivery, files, ledger, renaming)
        features = feature_catalogue(name, source, delivery.name, genomic, renaming)
        return SourceRead(genomic.samples, ledger, genomic.values, features)
    return SourceRead(_reader(source, store)(name, source, delivery, files, ledger), ledger)


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
