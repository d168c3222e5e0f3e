"""Sources of genomic features: matrices of numbers, somatic mutations, genotypes.

What several of them may become stands in `genomic_features`.
"""

from typing import Literal

from pydantic import Field, model_validator

from clinical_mm.study.base import Column, Name, Settings
from clinical_mm.study.genomic_features import GeneSets, GeneSymbols, Hotspots, Spectrum, VcfHotspots
from clinical_mm.study.source_base import BaseSource, Glob, TableFormat, TableSource


class GenomicsMatrixSource(TableSource):
    """A numeric matrix: expression, copy number, methylation, or indicators."""

    kind: Literal["genomics_matrix"]
    samples: Literal["rows", "columns", "long"] = Field(
        description="where samples lie; long: a row a sample and feature"
    )
    sample_id: Column | None = Field(
        None,
        description="samples in rows or long: the column that names the sample; in columns: that names the feature",
    )
    patient_id: Column | None = Field(
        None, description="samples in rows: the patient; default: the sample's id"
    )
    feature: Column | None = Field(None, description="long: the column that names the feature")
    value: Column | None = Field(None, description="long: the column of values")
    features: str = Field(".*", description="regular expression: the columns (or rows) that are features")
    excluded: tuple[Column, ...] = Field((), description="columns that are no features, whatever matches")
    available_time: Column | None = None
    is_timeless: bool = Field(
        True, description="measured values that hold at any index time (germline, a biopsy)"
    )
    transform: Literal["none", "log2p1"] = "none"
    measures: Literal["expression", "copy_number", "methylation", "mutation", "other"] = Field(
        "other", description="what the values are, for the feature catalogue"
    )
    unit: str | None = Field(None, description="of the values, for the feature catalogue: TPM, log2 ratio …")
    symbols: GeneSymbols = Field(
        GeneSymbols(normalise=False),
        description="default: features keep their names, since those of a matrix may be no genes; `symbols: {}` "
        "normalises",
    )
    gene_sets: GeneSets | None = None

    @model_validator(mode="after")
    def _long_names_its_columns(self) -> "GenomicsMatrixSource":
        named = (self.sample_id, self.feature, self.value)
        if self.samples == "long" and None in named:
            raise ValueError("samples: long needs the columns sample_id, feature and value")
        if self.samples != "long" and (self.feature, self.value) != (None, None):
            raise ValueError("feature and value are for samples: long")
        if self.samples == "long" and (self.available_time is not None or self.patient_id is not None):
            raise ValueError("samples: long takes no available_time and no patient_id")
        return self


class GenomicsMafSource(TableSource):
    """Somatic mutations in MAF; every gene becomes the number of its non-silent variants in a sample."""

    kind: Literal["genomics_maf"]
    sample_id: Column = "Tumor_Sample_Barcode"
    gene: Column = "Hugo_Symbol"
    classification: Column = "Variant_Classification"
    silent: tuple[str, ...] = ("Silent", "Intron", "3'UTR", "5'UTR", "3'Flank", "5'Flank", "IGR", "RNA")
    sequenced: Glob | None = Field(
        None,
        description="all sequenced sample ids, one a line, or cBioPortal's case list or matrix of gene panels: those "
        "without a variant are zero, not missing",
    )
    symbols: GeneSymbols = GeneSymbols()
    hotspots: Hotspots | None = None
    spectrum: Spectrum | None = None
    protein_change: Column = Field("HGVSp_Short", description="with hotspots: the column of protein changes")
    is_timeless: bool = True


class VcfSites(Settings):
    """The sites whose dosages are features: a table in the study's folder, the same for every delivery.

    Its columns are chrom, pos (from 1), ref, alt and name; ref and alt are bases, and name is the feature's.
    """

    path: str = Field(min_length=1, description="CSV or TSV, relative to the study file")
    table: TableFormat = TableFormat()
    absent_is_reference: bool = Field(
        False,
        description="a site without a record is homozygous reference (0), not missing: for files that were called "
        "at every site and list the variants alone",
    )


class VcfBurden(Settings):
    """The number of a sample's variants by gene and class of consequence, as features `GENE:class`."""

    annotation: Literal["CSQ", "ANN"] = Field(description="INFO field: CSQ of VEP, ANN of SnpEff")
    classes: dict[Name, tuple[str, ...]] = Field(
        min_length=1,
        description="Sequence Ontology terms of each class: {truncating: [stop_gained, frameshift_variant]}",
    )
    genes: tuple[str, ...] = Field((), description="genes to count in; default: all that are annotated")

    @model_validator(mode="after")
    def _classes_have_terms(self) -> "VcfBurden":
        for name, terms in self.classes.items():
            if not all(terms) or not terms:
                raise ValueError(f"names no term for the class {name!r}")
        if not all(self.genes):
            raise ValueError("genes holds an empty name")
        return self


class GenomicsVcfSource(BaseSource):
    """Genotypes in VCF 4.1 to 4.5 or BCF: dosages of declared sites, and variants counted by gene."""

    kind: Literal["genomics_vcf"]
    build: Literal["GRCh37", "GRCh38"] = Field(
        description="of the coordinates; a file whose contig lengths are others is quarantined"
    )
    sites: VcfSites | None = None
    burden: VcfBurden | None = None
    hotspots: VcfHotspots | None = None
    symbols: GeneSymbols = GeneSymbols()
    is_passing_only: bool = Field(
        False,
        description="records with a failed FILTER are missing at sites and count in no gene; default: they are used",
    )
    is_timeless: bool = True

    @model_validator(mode="after")
    def _has_features(self) -> "GenomicsVcfSource":
        if self.sites is None and self.burden is None and self.hotspots is None:
            raise ValueError("names no features: declare sites, burden or hotspots")
        both = (self.burden, self.hotspots)
        if len({declared.annotation for declared in both if declared is not None}) > 1:
            raise ValueError(
                "burden and hotspots name different annotations: one file is read by one of them"
            )
        return self
