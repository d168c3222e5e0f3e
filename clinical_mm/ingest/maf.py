"""Somatic mutations in MAF: the number of non-silent variants of each gene in each sequenced sample.

A record is a row, a variant. Genes without a non-silent variant in a delivery have no column: in its samples they
are zero, and the values file says so. Format: https://docs.gdc.cancer.gov/Data/File_Formats/MAF_Format/.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.delivery import Delivery, files_of_pattern
from clinical_mm.ingest.gene_symbols import Renaming
from clinical_mm.ingest.hotspots import HotspotList
from clinical_mm.ingest.ledger import Ledger
from clinical_mm.ingest.opening import UnreadableFileError
from clinical_mm.ingest.samples import GenomicTables, Samples, content_hashes, genomic_tables
from clinical_mm.ingest.sequenced import sequenced_samples
from clinical_mm.ingest.spectra import SignatureTable, spectra, substitution
from clinical_mm.ingest.tabular import Rows, read_rows
from clinical_mm.study.genomic_features import Hotspots
from clinical_mm.study.sources import GenomicsMafSource, TableFormat


def read_genomics_maf(  # noqa: PLR0917 - what all readers take, and the renaming
    name: str,
    source: GenomicsMafSource,
    delivery: Delivery,
    files: list[Path],
    ledger: Ledger,
    renaming: Renaming | None = None,
    signatures: SignatureTable | None = None,
) -> GenomicTables:
    """Read the variants of a source of kind `genomics_maf`.

    Args:
        name: of the source.
        source: its declaration.
        delivery: where the files lie.
        files: the source's files in it; lines that begin with `#` are skipped where `table.comment` names no other.
        ledger: is told the fate of each row, once.
        renaming: of genes to current symbols, default none; the variants of two symbols of one gene add up.
        signatures: to which exposures are fitted, where `source.spectrum` names them.

    Returns:
        Rows of `tables.GENOMIC_SAMPLES`, one a sample that has a variant or stands in the list of sequenced samples,
        and counts: float32, 0 where a sample has no non-silent variant of a gene.

    Raises:
        DeliveryError: a column is missing, or the declared list of sequenced samples is missing or cannot be read.
    """
    columns = {"sample": source.sample_id, "gene": source.gene, "classification": source.classification}
    if source.hotspots is not None:
        columns["change"] = source.protein_change
    if source.spectrum is not None:
        of_spectrum = {"reference": source.spectrum.reference, "alternate": source.spectrum.alternate}
        columns |= of_spectrum | ({"context": source.spectrum.context} if source.spectrum.context else {})
    rows = read_rows(name, maf_table(source), columns, delivery, files, ledger, has_digest=True)
    ids = rows.text("sample")
    rows = rows.set_aside(ids == "", ledger, "missing_sample_id", "the row names no sample")
    is_incomplete = (rows.text("gene") == "") | (rows.text("classification") == "")
    rows = rows.set_aside(
        is_incomplete, ledger, "missing_value", "the row names no gene, or no classification"
    )
    if not source.is_timeless:
        always = np.ones(len(rows), dtype=bool)
        sentence = "a MAF carries no time, and the source is not declared timeless"
        rows = rows.set_aside(always, ledger, "missing_time", sentence)
    rows = _without_duplicates(rows, ledger)
    ledger.accept(len(rows))
    sequenced = _sequenced(name, source, delivery, files) if source.is_timeless else {}
    samples = _counted(rows, sequenced, source, renaming or Renaming(), signatures)
    return genomic_tables(name, delivery.name, samples, content_hashes(samples))


def maf_table(source: GenomicsMafSource) -> TableFormat:
    """How the files of a source are written: lines that begin with `#` are skipped where it names no other sign."""
    return source.table if source.table.comment else source.table.model_copy(update={"comment": "#"})


def _without_duplicates(rows: Rows, ledger: Ledger) -> Rows:
    is_repeated = pd.Series(rows.digest, dtype=object).duplicated().to_numpy(dtype=bool)
    if not is_repeated.any():
        return rows
    for locator in rows.take(is_repeated).locators():
        ledger.duplicate(locator, "the same row stands earlier")
    return rows.take(~is_repeated)


def _sequenced(name: str, source: GenomicsMafSource, delivery: Delivery, files: list[Path]) -> dict[str, str]:
    """Where each sequenced sample was listed, by its id."""
    listed: dict[str, str] = {}
    lists = files_of_pattern(delivery, source.sequenced) if source.sequenced else []
    if source.sequenced and files and not lists:
        raise DeliveryError(
            f"source {name}: delivery {delivery.name} has variants and no list of sequenced samples "
            f"({source.sequenced!r}): without it, samples without a variant would be missing"
        )
    for path in lists:
        try:
            for sample, number in sequenced_samples(path, source.table.encoding, name, source.sample_id):
                listed.setdefault(sample, f"{delivery.relative(path)}#line {number}")
        except UnreadableFileError as error:
            raise DeliveryError(
                f"source {name}: the list of sequenced samples cannot be read ({error.sentence}): without it, "
                "samples without a variant would be missing"
            ) from None
    return listed


def _counted(
    rows: Rows,
    sequenced: dict[str, str],
    source: GenomicsMafSource,
    renaming: Renaming,
    signatures: SignatureTable | None,
) -> Samples:
    found, written = rows.text("sample"), rows.text("gene")
    genes = np.array([renaming.current(gene) for gene in written], dtype=object)
    is_counted = ~np.isin(rows.text("classification"), source.silent)
    first = pd.Series(rows.locators(), dtype=object).groupby(found, sort=False).first()
    where = dict(sequenced)
    where.update((str(sample), str(locator)) for sample, locator in first.items())
    ids = np.array(sorted(where), dtype=object)
    features = sorted(set(genes[is_counted]))
    values = np.zeros((len(ids), len(features)), dtype=np.float32)
    at_sample = pd.Index(ids).get_indexer(found[is_counted])
    at_gene = pd.Index(np.array(features, dtype=object)).get_indexer(genes[is_counted])
    np.add.at(values, (at_sample, at_gene), 1)
    if source.hotspots is not None:
        present = _hotspots(rows, ids, source.hotspots, renaming)
        features, values = [*features, *present.columns], np.concatenate([values, present.to_numpy()], axis=1)
    if source.spectrum is not None:
        substitutions = _substitutions(rows, has_context=source.spectrum.context is not None)
        counted = spectra(ids, found, substitutions, source.spectrum, signatures)
        features, values = [*features, *counted.columns], np.concatenate([values, counted.to_numpy()], axis=1)
    no_time = np.full(len(ids), np.datetime64("NaT", "us"))
    locators = np.array([where[i] for i in ids], dtype=object)
    return Samples(locators, ids, ids, no_time, features, values, absent_feature=0.0)


def _substitutions(rows: Rows, *, has_context: bool) -> list[tuple[str, str | None] | None]:
    contexts = rows.text("context") if has_context else [None] * len(rows)
    cells = zip(rows.text("reference"), rows.text("alternate"), contexts, strict=True)
    return [substitution(*variant) for variant in cells]


def _hotspots(rows: Rows, ids: np.ndarray, hotspots: Hotspots, renaming: Renaming) -> pd.DataFrame:
    """[samples, hotspots] float32: 1 where a sample has a variant of that change, else 0."""
    genes = [change.split()[0] for change in hotspots.changes]
    wanted = HotspotList(hotspots.changes, renaming.written_by_gene(genes))
    present = pd.DataFrame(np.float32(0), index=pd.Index(ids), columns=wanted.features)
    cells = zip(rows.text("sample"), rows.text("gene"), rows.text("change"), strict=True)
    for sample, gene, change in cells:
        for feature in wanted.of(gene, change):
            present.loc[sample, feature] = 1
    return present
