"""What genomic sources may become, in options that several of their kinds share: symbols, hotspots, spectra, gene sets.

Which file holds what is in `sources`. All paths here are relative to the study file, not to a delivery: what the
features are is the study's choice, and the same for every delivery.
"""

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from clinical_mm.study.base import Column, Pattern, Settings

_CHANGE = re.compile(r"\S+\s+(?:p\.)?\(?(?:[A-Z]|[A-Z][a-z]{2})\d+\S*")
"""A gene, and a protein change that begins with a residue and its place."""


class GeneSymbols(Settings):
    """Whether gene symbols become those that are current, by HGNC's table."""

    normalise: bool = Field(
        True,
        description="previous symbols, and aliases of one gene alone, become the current symbol; ambiguous and unknown "
        "ones stay and are listed",
    )
    path: str | None = Field(
        None,
        min_length=1,
        description="TSV (.gz) with columns symbol, previous and alias, lists divided by |; default: the table that is "
        "shipped (HGNC, no newer than 2024-07-23)",
    )
    gene: Pattern = Field(
        "^(.+)$",
        description="regular expression whose first group is the symbol in a feature's name: `^(.+?)(?:_cnv)?$`; a "
        "name that it does not match is no gene's",
    )

    @model_validator(mode="after")
    def _has_a_group(self) -> "GeneSymbols":
        if re.compile(self.gene).groups < 1:
            raise ValueError("gene has no group: put the symbol into parentheses")
        return self


class Hotspots(Settings):
    """Protein changes whose presence is a feature, 1 or 0: `hotspot:KRAS p.G12D`."""

    changes: tuple[str, ...] = Field(
        min_length=1,
        description="`KRAS p.G12D`, `TP53 p.R213*` (stop), or `BRAF p.V600` for any other residue in that place",
    )

    @field_validator("changes")
    @classmethod
    def _are_changes(cls, changes: tuple[str, ...]) -> tuple[str, ...]:
        for change in changes:
            if not _CHANGE.fullmatch(change.strip()):
                raise ValueError(
                    f"{change!r} is no hotspot: expected a gene and a change, as in `KRAS p.G12D`"
                )
        return changes


class VcfHotspots(Hotspots):
    """The same of a VCF, whose annotation must hold protein changes (HGVSp of VEP, HGVS.p of SnpEff)."""

    annotation: Literal["CSQ", "ANN"] = Field(description="INFO field: CSQ of VEP, ANN of SnpEff")


class Spectrum(Settings):
    """Single-base substitutions of a MAF by class (`spectrum:C>T`), silent ones included."""

    reference: Column = "Reference_Allele"
    alternate: Column = "Tumor_Seq_Allele2"
    context: Column | None = Field(
        None,
        description="column of the bases around a variant, an odd number with its reference in the middle (CONTEXT, "
        "Ref_Tri): the 96 types are counted, too",
    )
    signatures: str | None = Field(
        None,
        min_length=1,
        description="TSV of COSMIC's form (Type, then one column a signature), relative to the study file: exposures "
        "by non-negative least squares, `signature:SBS1`; needs context",
    )

    @model_validator(mode="after")
    def _signatures_need_contexts(self) -> "Spectrum":
        if self.signatures is not None and self.context is None:
            raise ValueError("signatures are of the 96 types: name the column of the context")
        return self


class GeneSets(Settings):
    """Scores of gene sets within each sample (`gene_set:NAME`), the same for a patient alone as in a cohort."""

    path: str = Field(min_length=1, description="GMT file, relative to the study file")
    minimum: int = Field(5, ge=1, description="genes of a set that a sample must have measured")
