"""One VCF or BCF file read through cyvcf2: dosages of sites and carriers of annotated variants.

It is imported by `vcf_worker` alone: htslib prints what it reads, and may end its process. Alleles are taken from the
genotype arrays; cyvcf2's `gt_types` call an unknown genotype 2 or 3, which is no dosage.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cyvcf2 import VCF

from clinical_mm.ingest.consequences import Consequences
from clinical_mm.ingest.dosages import MISSING_ALLELE, SiteDosages, is_block
from clinical_mm.ingest.hotspots import HotspotList
from clinical_mm.ingest.opening import UnreadableFileError
from clinical_mm.ingest.vcf_content import VcfContent, inspect_content
from clinical_mm.ingest.vcf_header import (
    VERSIONS,
    annotation_fields,
    contradicted_by,
    plain_chromosome,
    version_of,
)
from clinical_mm.ingest.vcf_wire import Burden, Genotypes, Mismatch, ReadRequest


def read_vcf(path: Path, request: ReadRequest) -> Genotypes | Mismatch:
    """Read what is asked for from a file.

    Args:
        path: absolute.
        request: sites, classes and build; its path is not looked at.

    Returns:
        Dosages and counts of all samples, or that the declared annotation is not there.

    Raises:
        UnreadableFileError: `truncated_file`, `unreadable_file`, `unsupported_version`, `wrong_build`,
            `no_samples`, or as `Consequences.of_record`.
    """
    content = inspect_content(path)
    version = version_of(content.header)
    if version is None:
        raise UnreadableFileError("unreadable_file", "the file does not begin with its version")
    if version not in VERSIONS:
        raise UnreadableFileError(
            "unsupported_version", f"the file is of another version than VCF {VERSIONS[0]} to {VERSIONS[-1]}"
        )
    contradiction = contradicted_by(content.header, request.build)
    if contradiction is not None:
        raise UnreadableFileError("wrong_build", contradiction)
    try:
        reader = VCF(str(path))
    except Exception:  # noqa: BLE001 - cyvcf2 raises nothing more specific
        raise UnreadableFileError("unreadable_file", "the header cannot be read") from None
    samples = tuple(reader.samples)
    if not samples:
        raise UnreadableFileError("no_samples", "the file has no sample")
    counter: _Counter | None = None
    if request.burden is not None:
        made = _counter(request.burden, content, len(samples))
        if isinstance(made, Mismatch):
            return made
        counter = made
    sites = SiteDosages(request.sites, len(samples))
    for record in _records(reader, content.n_records):
        _take(record, len(samples), request, sites, counter)
    dosages = sites.values(is_absent_reference=request.is_absent_reference)
    names, counts = counter.counted() if counter is not None else ((), b"")
    return Genotypes(samples, dosages.tobytes(), names, counts)


def _records(reader: Any, n_expected: int) -> Iterator[Any]:
    """All records, as many as the file holds."""
    n_read = 0
    records = iter(reader)
    while True:
        try:
            record = next(records)
        except StopIteration:
            break
        except Exception:  # noqa: BLE001 - cyvcf2 raises nothing more specific
            raise UnreadableFileError("unreadable_file", f"record {n_read + 1} cannot be read") from None
        n_read += 1
        yield record
    if n_read != n_expected:
        raise UnreadableFileError(
            "unreadable_file", f"{n_read} records could be read of {n_expected} in the file"
        )


def _take(
    record: Any, n_samples: int, request: ReadRequest, sites: SiteDosages, counter: "_Counter | None"
) -> None:
    chromosome = plain_chromosome(record.CHROM)
    start = int(record.POS)
    reference, alternates = record.REF.upper(), [a.upper() for a in record.ALT]
    end = int(record.end) if is_block(alternates) else start
    has_failed = request.is_passing_only and record.FILTER is not None
    variant = None if has_failed or counter is None else counter.variant_of(record, reference, alternates)
    is_wanted = sites.is_wanted(chromosome, start, end)
    if not variant and not is_wanted:
        return
    alleles = np.full((n_samples, 1), MISSING_ALLELE) if has_failed else _alleles(record, n_samples)
    if is_wanted:
        sites.take(chromosome, start, end, reference, alternates, alleles)
    if variant and counter is not None:
        counter.add(variant, (chromosome, start, reference), alternates, alleles)


def _alleles(record: Any, n_samples: int) -> np.ndarray:
    """Alleles [n, ploidy] as `dosages.dosage_of` takes them; all missing where the record has no GT."""
    if "GT" not in (record.FORMAT or ()):
        return np.full((n_samples, 1), MISSING_ALLELE)
    return np.asarray(record.genotype.array())[:, :-1]  # the last column says whether it is phased


def _counter(burden: Burden, content: VcfContent, n_samples: int) -> "_Counter | Mismatch":
    fields = annotation_fields(content.header, burden.annotation)
    if not fields:
        return Mismatch(
            f"the header of a file describes no annotation {burden.annotation}, which burden declares: "
            "annotate the file, or declare another"
        )
    try:
        hotspots = HotspotList(burden.hotspots, burden.hotspot_genes) if burden.hotspots else None
        consequences = Consequences(fields, burden.classes, burden.genes, hotspots)
    except ValueError as error:
        return Mismatch(f"{burden.annotation} as the header of a file describes it: {error}")
    return _Counter(burden, consequences, n_samples, () if hotspots is None else hotspots.features)


class _Counter:
    """Counts, for each gene and class, the alternate alleles that each sample carries at least once."""

    def __init__(
        self, burden: Burden, consequences: Consequences, n_samples: int, hotspots: Sequence[str]
    ) -> None:
        self._annotation = burden.annotation
        self._consequences = consequences
        self._n_samples = n_samples
        self._counts = {
            f"{gene}:{name}": np.zeros(n_samples, dtype=np.float32)
            for gene in burden.genes
            for name in burden.classes
        }
        self._counts |= {feature: np.zeros(n_samples, dtype=np.float32) for feature in hotspots}
        self._taken: set[tuple[str, int, str, str]] = set()

    def variant_of(self, record: Any, reference: str, alternates: Sequence[str]) -> set[tuple[int, str, str]]:
        annotation = record.INFO.get(self._annotation)
        if not isinstance(annotation, str) or not alternates:
            return set()
        return self._consequences.of_record(annotation, reference, alternates)

    def add(
        self,
        variant: set[tuple[int, str, str]],
        place: tuple[str, int, str],
        alternates: Sequence[str],
        alleles: np.ndarray,
    ) -> None:
        known = {allele for allele, _, _ in variant if (*place, alternates[allele - 1]) in self._taken}
        for allele, gene, name in variant:
            if allele not in known:  # the same variant in a second record is the same variant
                feature = f"{gene}:{name}"
                counts = self._counts.setdefault(feature, np.zeros(self._n_samples, dtype=np.float32))
                counts += (alleles == allele).any(axis=1)
        self._taken.update((*place, alternates[allele - 1]) for allele, _, _ in variant)

    def counted(self) -> tuple[tuple[str, ...], bytes]:
        names = tuple(sorted(self._counts))
        if not names:
            return names, b""
        return names, np.stack([self._counts[n] for n in names], axis=1).tobytes()
