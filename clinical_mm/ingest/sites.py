"""The table of sites whose dosages are features, as a study declares it.

It stands in the study's folder rather than in a delivery: features are the study's choice, and the same for all.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.delimited import read_delimited
from clinical_mm.ingest.opening import UnreadableFileError
from clinical_mm.ingest.tabular import place_of
from clinical_mm.ingest.vcf_header import plain_chromosome
from clinical_mm.ingest.vcf_wire import Site
from clinical_mm.study.sources import VcfSites

COLUMNS = ("chrom", "pos", "ref", "alt", "name")
"""Columns of the table."""

_BASES = re.compile(r"[ACGTN]+")
_POSITION = re.compile(r"[1-9][0-9]{0,9}")


@dataclass(frozen=True)
class SiteTable:
    """Sites and the names of their features, in the order of the table."""

    names: tuple[str, ...] = ()
    sites: tuple[Site, ...] = ()


def load_sites(name: str, declared: VcfSites, path: Path) -> SiteTable:
    """Read the table of sites.

    Args:
        name: of the source, for errors.
        declared: how the table is written.
        path: where it lies.

    Raises:
        DeliveryError: it is not there, cannot be read, or holds a row that is no site, or a site or name twice.
    """
    where = f"source {name}: the table of sites {declared.path!r}"
    if not path.is_file():
        raise DeliveryError(f"{where} does not exist: name one, relative to the study file")
    names: dict[str, None] = {}
    sites: dict[Site, None] = {}
    try:
        records = read_delimited(path, declared.table, name)
        header = next(records).fields
        places = [place_of(column, header, name, COLUMNS) for column in COLUMNS]
        for record in records:
            row = f"{where}, row {record.number}:"
            if record.problem is not None:
                raise DeliveryError(f"{row} {record.problem}")
            chromosome, position, reference, alternate, feature = (
                record.fields[place].strip() for place in places
            )
            site = Site(
                plain_chromosome(chromosome),
                int(position) if _POSITION.fullmatch(position) else 0,
                reference.upper(),
                alternate.upper(),
            )
            if not site.chromosome or not site.position or not feature or feature == "sample_id":
                raise DeliveryError(
                    f"{row} expected a chromosome, a position from 1 and a name other than sample_id"
                )
            if not _BASES.fullmatch(site.reference) or not _BASES.fullmatch(site.alternate):
                raise DeliveryError(f"{row} ref and alt are not bases (A, C, G, T, N)")
            if site.reference == site.alternate or site in sites or feature in names:
                raise DeliveryError(
                    f"{row} the site or its name stands in an earlier row, or ref and alt are the same"
                )
            names[feature], sites[site] = None, None
    except UnreadableFileError as error:
        raise DeliveryError(f"{where} cannot be read: {error.sentence}") from None
    if not sites:
        raise DeliveryError(f"{where} holds no site")
    return SiteTable(tuple(names), tuple(sites))
