"""Hotspots: whether a protein change, as an annotator wrote it, is one that a study lists.

Changes follow HGVS (https://hgvs-nomenclature.org): `p.G12D`, `p.Gly12Asp`, `NP_004976.2:p.(Gly12Asp)`; a stop is `*`
or `Ter`. How files hold them is for `maf` and `consequences`.
"""

import re
from collections.abc import Mapping, Sequence

HOTSPOT = "hotspot:"
"""How the name of a hotspot's feature begins."""

_RESIDUES = {
    **dict(
        zip(["Ala", "Arg", "Asn", "Asp", "Cys", "Gln", "Glu", "Gly", "His", "Ile"], "ARNDCQEGHI", strict=True)
    ),
    **dict(
        zip(["Leu", "Lys", "Met", "Phe", "Pro", "Ser", "Thr", "Trp", "Tyr", "Val"], "LKMFPSTWYV", strict=True)
    ),
    **{"Sec": "U", "Ter": "*"},
}
_LONG = re.compile("|".join(_RESIDUES))
_SUBSTITUTION = re.compile(r"([A-Z]\d+)([A-Z])")


def plain_change(written: str) -> str:
    """A protein change without reference, `p.` and parentheses, residues as one letter; "" where there is none.

    >>> plain_change("NP_004976.2:p.(Gly12Asp)")
    'G12D'
    >>> plain_change("p.R213Ter")
    'R213*'
    """
    change = written.strip().rpartition(":")[2].replace("%3D", "=").removeprefix("p.")
    return _LONG.sub(lambda m: _RESIDUES[m[0]], change.strip("()"))


class HotspotList:
    """The hotspots that a study lists, looked up by gene and change."""

    def __init__(self, changes: Sequence[str], genes: Mapping[str, Sequence[str]] | None = None) -> None:
        """Take hotspots as the study writes them.

        Args:
            changes: `KRAS p.G12D`, or `BRAF p.V600` for any other residue there.
            genes: further symbols of a hotspot's gene.
        """
        self.features: list[str] = []
        self._by_gene: dict[str, dict[str, list[str]]] = {}
        for written in changes:
            gene, change = written.split(maxsplit=1)
            change = plain_change(change)
            feature = f"{HOTSPOT}{gene} p.{change}"
            if feature in self.features:
                continue
            self.features.append(feature)
            for symbol in {gene, *(genes or {}).get(gene, ())}:
                self._by_gene.setdefault(symbol, {}).setdefault(change, []).append(feature)

    @property
    def genes(self) -> frozenset[str]:
        """Every symbol under which a hotspot is looked for."""
        return frozenset(self._by_gene)

    def of(self, gene: str, written: str) -> list[str]:
        """The features that a change is: those of exactly this change, and those of its place."""
        changes = self._by_gene.get(gene)
        if not changes or not (change := plain_change(written)):
            return []
        found = list(changes.get(change, ()))
        substitution = _SUBSTITUTION.fullmatch(change)
        if substitution is not None and substitution[2] != change[0]:
            found += changes.get(substitution[1], ())
        return found
