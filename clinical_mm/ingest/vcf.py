"""Genotypes in VCF and BCF: dosages of declared sites, and variants counted by gene and class of consequence.

A record of the ledger is a sample of a file, as in a matrix; a file that cannot be used counts as one. The variants of
a sample stand in one file: where two hold the same sample and say different things, both are quarantined. How a file
is read is in `vcf_reading`; only features leave it, never its genotypes.
"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.delivery import Delivery
from clinical_mm.ingest.gene_symbols import Renaming
from clinical_mm.ingest.hotspots import HOTSPOT
from clinical_mm.ingest.ledger import Ledger
from clinical_mm.ingest.samples import GenomicTables, Samples, genomic_tables, joined, settle_samples
from clinical_mm.ingest.sites import SiteTable
from clinical_mm.ingest.vcf_process import VcfLimits, ask_to_read
from clinical_mm.ingest.vcf_wire import Burden, Genotypes, Mismatch, ReadRequest, Refusal
from clinical_mm.progress import track
from clinical_mm.study.sources import GenomicsVcfSource


def read_genomics_vcf(  # noqa: PLR0917 - what all readers take, the sites, and the limits
    name: str,
    source: GenomicsVcfSource,
    sites: SiteTable,
    delivery: Delivery,
    files: list[Path],
    ledger: Ledger,
    limits: VcfLimits | None = None,
    renaming: Renaming | None = None,
) -> GenomicTables:
    """Read the samples of a source of kind `genomics_vcf`.

    Args:
        name: of the source.
        source: its declaration.
        sites: the table that `source.sites` names; an empty one where it names none.
        delivery: where the files lie.
        files: the source's files in it; indexes (.tbi, .csi) are passed over.
        ledger: is told the fate of each sample, once.
        limits: what a file may take in time and memory; default `VcfLimits()`.
        renaming: of genes to current symbols, default none; the variants of two symbols of one gene add up.

    Returns:
        Rows of `tables.GENOMIC_SAMPLES` and their values: dosages, NaN where one is not known, then counts of
        carried variants, 0 where a sample carries none.

    Raises:
        DeliveryError: a file lacks the declared annotation, a site bears the name of a count, or the process that
            reads files does not start.
    """
    renaming = renaming or Renaming()
    has_genes = source.burden is not None and bool(source.burden.genes)
    parts = []
    files = [path for path in files if path.suffix.lower() not in {".tbi", ".csi"}]
    for path in track(files, f"reading {name}"):
        answer = ask_to_read(path, _request(source, sites, path, renaming), limits or VcfLimits())
        place = delivery.relative(path)
        match answer:
            case Mismatch():
                raise DeliveryError(f"source {name}, delivery {delivery.name}: {answer.sentence}")
            case Refusal():
                ledger.found()
                ledger.quarantine(place, answer.reason_code, answer.sentence)
            case Genotypes():
                parts.append(
                    _samples(
                        _renamed(answer, renaming, is_listed=has_genes), sites, place, source, ledger, name
                    )
                )
    together = joined(parts)
    features = [*sites.names, *sorted(set(together.features) - set(sites.names))]
    samples, hashes = settle_samples(_arranged(together, features), ledger)
    if source.burden is not None or source.hotspots is not None:
        counts = samples.values[:, len(sites.names) :]
        counts[np.isnan(counts)] = 0  # who was sequenced and carries none, whoever else carries one
        samples = replace(samples, absent_feature=0.0)
    return genomic_tables(name, delivery.name, samples, hashes)


def _request(source: GenomicsVcfSource, sites: SiteTable, path: Path, renaming: Renaming) -> ReadRequest:
    return ReadRequest(
        os.fsencode(path.resolve()),
        source.build,
        sites.sites,
        source.sites is not None and source.sites.absent_is_reference,
        _burden(source, renaming),
        source.is_passing_only,
    )


def _burden(source: GenomicsVcfSource, renaming: Renaming) -> Burden | None:
    burden, hotspots = source.burden, source.hotspots
    declared = burden or hotspots
    if declared is None:
        return None
    changes = () if hotspots is None else hotspots.changes
    return Burden(
        declared.annotation,
        {} if burden is None else burden.classes,
        () if burden is None else renaming.all_written(burden.genes),
        changes,
        renaming.written_by_gene(change.split()[0] for change in changes),
    )


def _renamed(answer: Genotypes, renaming: Renaming, *, is_listed: bool) -> Genotypes:
    """The same with counts under current symbols; those of one gene are added; a hotspot is there or not.

    Where the study lists its genes, each was looked for under all its symbols, and those that nobody carries are none.
    """
    counts = np.frombuffer(answer.counts, dtype=np.float32).reshape(len(answer.samples), len(answer.counted))
    summed: dict[str, np.ndarray] = {}
    for place, feature in enumerate(answer.counted):
        column = counts[:, place]
        if feature.startswith(HOTSPOT):
            summed[feature] = np.minimum(column, 1)
            continue
        gene, _, group = feature.rpartition(":")
        if is_listed and not column.any() and renaming.would_become(gene) != gene:
            continue
        name = f"{renaming.current(gene)}:{group}"
        summed[name] = summed[name] + column if name in summed else column
    names = tuple(sorted(summed))
    values = np.stack([summed[n] for n in names], axis=1).tobytes() if names else b""
    return Genotypes(answer.samples, answer.dosages, names, values)


def _samples(  # noqa: PLR0917
    answer: Genotypes, sites: SiteTable, place: str, source: GenomicsVcfSource, ledger: Ledger, name: str
) -> Samples:
    n = len(answer.samples)
    ledger.found(n)
    if not set(sites.names).isdisjoint(answer.counted):
        raise DeliveryError(f"source {name}: a site bears the name of a count of burden: rename the site")
    dosages = np.frombuffer(answer.dosages, dtype=np.float32).reshape(n, len(sites.names))
    counts = np.frombuffer(answer.counts, dtype=np.float32).reshape(n, len(answer.counted))
    # A count of zero is left out of the sample's hash, which is then the same whoever is delivered beside it; the zeros
    # are put in once all files are read.
    observed = np.where(counts > 0, counts, np.float32(np.nan))
    ids = np.array([sample.strip() for sample in answer.samples], dtype=object)
    locators = np.array([f"{place}#sample {number}" for number in range(1, n + 1)], dtype=object)
    problem = None
    is_usable = ids != ""
    if not source.is_timeless:
        problem = ("missing_time", "a VCF carries no time, and the source is not declared timeless")
        is_usable[:] = False
    for locator in locators[~is_usable]:
        ledger.quarantine(locator, *(problem or ("missing_sample_id", "the column names no sample")))
    return Samples(
        locators,
        ids,
        ids,
        np.full(n, np.datetime64("NaT", "us")),
        [*sites.names, *answer.counted],
        np.concatenate([dosages, observed], axis=1),
    ).take(is_usable)


def _arranged(samples: Samples, features: list[str]) -> Samples:
    """The same samples with their features in a given order; those that no file has are missing."""
    place = {feature: i for i, feature in enumerate(samples.features)}
    values = np.full((len(samples), len(features)), np.nan, dtype=np.float32)
    for column, feature in enumerate(features):
        if feature in place:
            values[:, column] = samples.values[:, place[feature]]
    return replace(samples, features=features, values=values)
