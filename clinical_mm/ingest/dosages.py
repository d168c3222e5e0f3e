"""Dosages: how many copies of an asked-for allele a sample carries, where that is known.

Follows the VCF specification, section 1.6.2 (GT), 1.6.1 (ALT) and 5.5 (unspecified alleles and reference blocks).
Reading files belongs to `vcf_reading`.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np

from clinical_mm.ingest.vcf_wire import Site

MISSING_ALLELE = -1
"""An allele that was not called: a dot."""

NO_ALLELE = -2
"""Padding of genotypes with fewer alleles than others in the record."""

_PLAIN = re.compile(r"[ACGTN]+")
_BLOCK = re.compile(r"<\*>|<NON_REF>")


def dosage_of(alleles: np.ndarray, wanted: int | None, alternates: Sequence[str]) -> np.ndarray:
    """Copies of an allele in each genotype.

    Args:
        alleles: [n, ploidy] places of alleles, 0 the reference, `MISSING_ALLELE` and `NO_ALLELE`.
        wanted: the allele; None: one that the record does not list.
        alternates: ALT of the record, in capitals. `*` is an allele that is not there, and no copy of any other;
            symbolic alleles and breakends may be any.

    Returns:
        [n] float32: 0, 1 or 2; NaN where an allele is missing, may be any, or the genotype has more than two.
    """
    is_open = [False, *(not _PLAIN.fullmatch(a) and a != "*" for a in alternates)]
    unknown = [place for place, unsaid in enumerate(is_open) if unsaid]
    is_unknown = (alleles == MISSING_ALLELE) | (alleles >= len(is_open)) | np.isin(alleles, unknown)
    ploidy = (alleles != NO_ALLELE).sum(axis=1)
    is_known = ~is_unknown.any(axis=1) & (ploidy >= 1) & (ploidy <= 2)
    copies = (alleles == wanted).sum(axis=1) if wanted is not None else np.zeros(len(alleles))
    return np.where(is_known, copies, np.nan).astype(np.float32)


class SiteDosages:
    """Dosages at the sites that are asked for, as records of a file arrive.

    A record that lists the alternate allele says most; one of the same position and reference that lists others says
    that there are no copies of it; a reference block that spans the site says so least. The best kind of record
    decides alone. Records of the same kind must agree: where they do not, or one is missing, the dosage is missing.
    """

    _BLOCK_KIND, _OTHER_KIND, _OWN_KIND = 1, 2, 3

    def __init__(self, sites: Sequence[Site], n_samples: int) -> None:
        self._sites = sites
        self._places: dict[tuple[str, int], list[int]] = {}
        self._positions: dict[str, list[int]] = {}
        for place, site in enumerate(sites):
            self._places.setdefault((site.chromosome, site.position), []).append(place)
        for chromosome, position in sorted(self._places):
            self._positions.setdefault(chromosome, []).append(position)
        self._kind = np.zeros(len(sites), dtype=np.int8)
        self._values = np.full((n_samples, len(sites)), np.nan, dtype=np.float32)

    def is_wanted(self, chromosome: str, start: int, end: int) -> bool:
        """Whether a site lies in a span of positions, both from 1 and inclusive."""
        positions = self._positions.get(chromosome, [])
        return bisect_left(positions, start) < bisect_right(positions, end)

    def take(  # noqa: PLR0917 - the columns of a record
        self,
        chromosome: str,
        start: int,
        end: int,
        reference: str,
        alternates: Sequence[str],
        alleles: np.ndarray,
    ) -> None:
        """Take a record: its span of positions, REF and ALT in capitals, and its alleles [n, ploidy]."""
        for place in self._places.get((chromosome, start), ()):
            site = self._sites[place]
            if site.reference == reference:
                own = [i for i, a in enumerate(alternates, start=1) if a == site.alternate]
                kind = self._OWN_KIND if own else self._OTHER_KIND
                self._put(place, kind, dosage_of(alleles, own[0] if own else None, alternates))
        if end > start and is_block(alternates):
            positions = self._positions.get(chromosome, [])
            for position in positions[bisect_right(positions, start) : bisect_right(positions, end)]:
                for place in self._places[chromosome, position]:
                    self._put(place, self._BLOCK_KIND, dosage_of(alleles, None, alternates))

    def _put(self, place: int, kind: int, values: np.ndarray) -> None:
        if kind > self._kind[place]:
            self._kind[place] = kind
            self._values[:, place] = values
        elif kind == self._kind[place]:
            before = self._values[:, place]
            self._values[:, place] = np.where(before == values, values, np.float32(np.nan))

    def values(self, *, is_absent_reference: bool) -> np.ndarray:
        """Dosages [n, sites]; sites without a record are 0 where that is declared, else NaN."""
        if is_absent_reference:
            self._values[:, self._kind == 0] = 0
        return self._values


def is_block(alternates: Sequence[str]) -> bool:
    """Whether a record is a reference block: it lists no allele, or the unspecified one alone."""
    return all(_BLOCK.fullmatch(a) for a in alternates)
