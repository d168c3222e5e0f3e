"""Annotations of a variant's consequences: which gene and class each alternate allele falls in.

Both forms are lists of entries divided by commas, with fields divided by `|`: CSQ of VEP
(https://www.ensembl.org/info/docs/tools/vep/vep_formats.html) and ANN (Variant annotations in VCF format, 1.0). How
often they are carried is counted in `vcf_reading`.
"""

from collections.abc import Mapping, Sequence

from clinical_mm.ingest.hotspots import HotspotList
from clinical_mm.ingest.opening import UnreadableFileError

_CONSEQUENCE = ("Consequence", "Annotation")
_GENE = ("SYMBOL", "Gene_Name")
_CHANGE = ("HGVSp", "HGVS.p")


class Consequences:
    """Reads the annotations of one file."""

    def __init__(
        self,
        fields: Sequence[str],
        classes: Mapping[str, Sequence[str]],
        genes: Sequence[str],
        hotspots: HotspotList | None = None,
    ) -> None:
        """Take the fields in the order in which the header describes them.

        Raises:
            ValueError: they hold no consequence, no gene, or no protein change where hotspots are looked for.
        """
        places = {field: place for place, field in reversed(list(enumerate(fields)))}
        consequence = next((places[f] for f in _CONSEQUENCE if f in places), None)
        gene = next((places[f] for f in _GENE if f in places), None)
        if consequence is None or gene is None:
            raise ValueError("the annotation has no field of consequences, or none of gene symbols")
        change = next((places[f] for f in _CHANGE if f in places), None)
        if hotspots is not None and change is None:
            raise ValueError(
                "the annotation has no field of protein changes (HGVSp, HGVS.p): annotate with them"
            )
        self._consequence, self._gene, self._change = consequence, gene, change
        self._hotspots = hotspots
        self._number, self._allele = places.get("ALLELE_NUM"), places.get("Allele")
        self._classes = {name: frozenset(terms) for name, terms in classes.items()}
        self._genes = frozenset(genes)

    def of_record(
        self, annotation: str, reference: str, alternates: Sequence[str]
    ) -> set[tuple[int, str, str]]:
        """What the entries of a record say.

        Args:
            annotation: the value of the INFO field.
            reference: REF.
            alternates: ALT; allele 1 is the first.

        Returns:
            Allele, gene and class; each once, however many transcripts say so. Of a hotspot `hotspot` and its change.

        Raises:
            UnreadableFileError: an entry that counts does not say which of several alternate alleles it describes.
        """
        found: set[tuple[int, str, str]] = set()
        for entry in annotation.split(","):
            fields = entry.split("|")
            gene = self._field(fields, self._gene)
            if self._hotspots is not None and gene in self._hotspots.genes:
                for feature in self._hotspots.of(gene, self._field(fields, self._change)):
                    kind, _, change = feature.partition(":")
                    found.add((self._described(fields, reference, alternates), kind, change))
            if not gene or (self._genes and gene not in self._genes):
                continue
            terms = set(self._field(fields, self._consequence).split("&"))
            classes = [name for name, wanted in self._classes.items() if terms & wanted]
            if classes:
                allele = self._described(fields, reference, alternates)
                found.update((allele, gene, name) for name in classes)
        return found

    def _described(self, fields: list[str], reference: str, alternates: Sequence[str]) -> int:
        if len(alternates) == 1:
            return 1
        number = self._field(fields, self._number)
        if number.isascii() and number.isdigit() and 1 <= int(number) <= len(alternates):
            return int(number)
        allele = self._field(fields, self._allele)
        for named in (list(alternates), shortened_alleles(reference, alternates)):
            if named.count(allele) == 1:
                return named.index(allele) + 1
        raise UnreadableFileError(
            "ambiguous_annotation",
            "an annotation does not say which of several alternate alleles it describes: split them into records",
        )

    @staticmethod
    def _field(fields: list[str], place: int | None) -> str:
        return fields[place].strip() if place is not None and place < len(fields) else ""


def shortened_alleles(reference: str, alternates: Sequence[str]) -> list[str]:
    """Alternate alleles as VEP names them: without the first base where all share it and one is longer or shorter.

    >>> shortened_alleles("CA", ["C", "CAT", "*"])
    ['-', 'AT', '*']
    """
    plain = [a for a in (reference, *alternates) if a != "*"]
    is_shared = len({a[:1] for a in plain}) == 1 and len({len(a) for a in plain}) > 1
    return [a if a == "*" or not is_shared else a[1:] or "-" for a in alternates]
