"""Sources: what arrives in a delivery, in which format, and which column means what.

A source reads one kind of record. All paths are glob patterns relative to the delivery's folder. What a record is
depends on the kind: a DICOM file, a row of a table, a FHIR resource, a sample of a matrix or a VCF, a variant of a
MAF.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from clinical_mm.study.base import Column, Name, Settings
from clinical_mm.study.genomic_features import GeneSets, GeneSymbols, Hotspots, Spectrum, VcfHotspots

Glob = Annotated[str, Field(min_length=1, description="glob pattern, relative to the delivery's folder")]


class TableFormat(Settings):
    """How a delimited table is written. Parquet needs none of it; compression follows the file's ending."""

    delimiter: str | None = Field(None, description="default: a tab for .tsv, .txt and .maf, else a comma")
    encoding: str = Field(
        "utf-8", description="a file that does not decode in it is quarantined, never guessed"
    )
    comment: str | None = Field(
        None, min_length=1, max_length=1, description="lines that begin with it are skipped"
    )


class TimeFormat(Settings):
    """How times are written where they are not ISO 8601, and the zone of those that name none."""

    format: str | None = Field(None, description="strptime format; default ISO 8601")
    timezone: str | None = Field(
        None, description="IANA zone of the hospital; times with an offset are converted to it (default: UTC)"
    )


class _Source(Settings):
    path: Glob
    is_required: bool = Field(
        True, description="whether `check` refuses a study to which no delivery brings a file"
    )


class _TableSource(_Source):
    table: TableFormat = TableFormat()
    time: TimeFormat = TimeFormat()


class NoteRowsSource(_TableSource):
    """A table with a row a note, which says whose the note is, and since when it could be read."""

    patient_id: Column
    note_id: Column | None = None
    available_time: Column | None = Field(
        None, description="when the note could be read (storetime, not the event)"
    )
    available_time_fallback: Column | None = Field(
        None,
        description="taken where available_time is empty, and put on record; a time without an hour counts from the "
        "end of its day (default: the row is quarantined)",
    )
    event_time: Column | None = Field(None, description="when that happened which the note tells of")
    note_type: Column | None = None
    status: Column | None = Field(None, description="final, amended, corrected, entered-in-error …")
    is_timeless: bool = Field(False, description="the notes carry no time and may be read at any index time")

    @model_validator(mode="after")
    def _time_is_declared(self) -> Self:
        if self.available_time is None and not self.is_timeless:
            raise ValueError("names no available_time: name the column, or declare is_timeless: true")
        if self.available_time_fallback is not None and self.available_time is None:
            raise ValueError("names an available_time_fallback and no available_time: name that column first")
        return self


class NotesTableSource(NoteRowsSource):
    """Clinical notes, one row each, in CSV or Parquet."""

    kind: Literal["notes_table"]
    text: Column
    note_id: Column | None = Field(None, description="default: the hash of patient, time, type and text")


class NotesFilesSource(NoteRowsSource):
    """Clinical notes, one file each (plain text, HTML, RTF), and a manifest: a table with a row a file.

    `table` and `time` say how the manifest is written. A record is a row of the manifest, or a file that `path`
    matches and no row names.
    """

    kind: Literal["notes_files"]
    manifest: Glob
    file: Column = Field(description="the file's path, relative to the delivery's folder")
    content_type: Column | None = Field(
        None, description="media type: text/plain, text/html or text/rtf; default: by the file's ending"
    )
    note_id: Column | None = Field(None, description="default: the file's path")
    encoding: str = Field(
        "utf-8", description="of the files, but for RTF and for HTML that names its own; never guessed"
    )


class NotesFhirSource(_Source):
    """FHIR R4 DocumentReference and DiagnosticReport resources: NDJSON, Bundles, JSON files, a bulk-export folder.

    `path` is to match the files of Binary resources too where notes are attached so. A record is a resource of any
    type, but for the Binaries that notes name.
    """

    kind: Literal["notes_fhir"]
    attachments: Glob | None = Field(
        None,
        description="files that attachments name by a relative URL, from the delivery's folder: no others are opened "
        "(default: none)",
    )
    time: TimeFormat = TimeFormat()


class OmopDatabase(Settings):
    """The database that `clinical-mm fetch` reads: its URL stands in the environment, never in a file or a log."""

    url_variable: str = Field(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="environment variable with the SQLAlchemy URL: postgresql://user:password@host/name",
    )
    db_schema: str | None = Field(
        None, min_length=1, description="schema of the tables (default: the connection's own)"
    )


class NotesOmopSource(_Source):
    """The NOTE table of OMOP CDM 5.4, in SQLite files or Parquet.

    `clinical-mm fetch` makes a delivery of a database: `<source>/note.parquet` with the notes, which `path` has to
    match, and `<source>/person.parquet` for a crosswalk from person_id to person_source_value.
    """

    kind: Literal["notes_omop"]
    database: OmopDatabase | None = Field(None, description="to fetch deliveries from; ingest does without")
    time: TimeFormat = TimeFormat()


class DicomSource(_Source):
    """DICOM files in a folder, in any order and under any name; `**/*` takes all below it."""

    kind: Literal["dicom"]
    path: Glob = "**/*"
    is_timeless: bool = Field(False, description="studies without a date may be read at any index time")
    modalities: tuple[str, ...] = Field((), description="(0008,0060) values to read; default: all images")


class GenomicsMatrixSource(_TableSource):
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


class GenomicsMafSource(_TableSource):
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


class GenomicsVcfSource(_Source):
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


class Conversion(Settings):
    """How a value in another unit becomes one in the variable's: value × factor + offset."""

    factor: float = Field(gt=0, allow_inf_nan=False)
    offset: float = Field(0.0, allow_inf_nan=False)


class NumberVariable(Settings):
    """A number with its unit and the range, in that unit, outside which a value cannot be true."""

    type: Literal["number"] = "number"
    column: Column | None = Field(
        None, description="default: the variable's name; in the long layout what stands in `variable_column`"
    )
    unit: str | None = Field(None, min_length=1, description="as the source writes it, such as mg/dL in UCUM")
    unit_column: Column | None = Field(
        None,
        description="wide layout: the column with the unit of each value; one that is not declared is quarantined",
    )
    conversions: dict[Column, Conversion] = Field(
        {},
        description="other units that are accepted, and how they become `unit`: {umol/L: {factor: 0.0113}}",
    )
    minimum: float | None = None
    maximum: float | None = None

    @model_validator(mode="after")
    def _unit_is_declared(self) -> Self:
        if (self.conversions or self.unit_column is not None) and self.unit is None:
            raise ValueError("converts from other units, or names a unit_column, and has no unit: declare it")
        if self.unit is not None and self.unit in self.conversions:
            raise ValueError(f"converts {self.unit!r} to itself: leave it out of conversions")
        return self


class CategoryVariable(Settings):
    """A category with its levels; a value that is none of them is quarantined."""

    type: Literal["category"]
    column: Column | None = Field(None, description="default: the variable's name")
    levels: tuple[str, ...] = Field(min_length=1)


Variable = Annotated[NumberVariable | CategoryVariable, Field(discriminator="type")]


class _VariablesSource(_TableSource):
    patient_id: Column
    variables: dict[str, Variable] = Field(min_length=1)
    missing_values: tuple[str, ...] = Field(
        ("", "NA", "NaN", "nan", "null", "None"), description="read as absent"
    )

    @model_validator(mode="before")
    @classmethod
    def _type_defaults_to_number(cls, data: object) -> object:
        if isinstance(data, dict) and isinstance(data.get("variables"), dict):
            filled = {
                name: ({"type": "number", **(v or {})} if v is None or isinstance(v, dict) else v)
                for name, v in data["variables"].items()
            }
            return {**data, "variables": filled}
        return data


class ClinicalSource(_VariablesSource):
    """Structured covariates: age, sex, laboratory values; one row a patient, or a patient and time, or a value."""

    kind: Literal["clinical"]
    layout: Literal["wide", "long"] = Field(
        "wide", description="wide: a column a variable; long: a row a value, as laboratories deliver them"
    )
    variable_column: Column | None = Field(None, description="long layout: says which variable a row is of")
    value_column: Column | None = Field(None, description="long layout: the value")
    unit_column: Column | None = Field(
        None, description="long layout: the value's unit; a number in one that is not declared is quarantined"
    )
    available_time: Column | None = None
    is_timeless: bool = Field(
        False, description="the values hold at any index time (sex, age at the index time)"
    )

    @model_validator(mode="after")
    def _time_is_declared(self) -> "ClinicalSource":
        if self.available_time is None and not self.is_timeless:
            raise ValueError("names no available_time: name the column, or declare is_timeless: true")
        return self

    @model_validator(mode="after")
    def _layout_is_declared(self) -> "ClinicalSource":
        own = [c for c in (self.variable_column, self.value_column, self.unit_column) if c is not None]
        numbers = [v for v in self.variables.values() if isinstance(v, NumberVariable)]
        if self.layout == "wide":
            if own:
                raise ValueError(
                    "names variable_column, value_column or unit_column, which are of layout: long alone; in the wide "
                    "layout a variable names its unit_column"
                )
            without = [
                name
                for name, v in self.variables.items()
                if isinstance(v, NumberVariable) and v.conversions and v.unit_column is None
            ]
            if without:
                raise ValueError(
                    f"converts units of {without[0]!r} without its unit_column: nothing says which apply"
                )
            return self
        if self.variable_column is None or self.value_column is None:
            raise ValueError("is of layout: long and names no variable_column, or no value_column")
        if any(v.unit_column is not None for v in numbers):
            raise ValueError("is of layout: long, where the source, not a variable, names the unit_column")
        if self.unit_column is None and any(v.conversions for v in numbers):
            raise ValueError("converts units without a unit_column: nothing says which apply")
        if self.unit_column is not None and any(v.unit is None for v in numbers):
            raise ValueError("names a unit_column, and a number among its variables has no unit: declare it")
        codes = [v.column or name for name, v in self.variables.items()]
        if len(set(codes)) < len(codes):
            raise ValueError("has two variables of the same code in variable_column")
        return self


class OutcomesSource(_VariablesSource):
    """What is to be predicted: one row a patient, with the index time from which it is predicted."""

    kind: Literal["outcomes"]
    index_time: Column | None = Field(None, description="the moment at which the prediction is made")


Source = Annotated[
    NotesTableSource
    | NotesFilesSource
    | NotesFhirSource
    | NotesOmopSource
    | DicomSource
    | GenomicsMatrixSource
    | GenomicsMafSource
    | GenomicsVcfSource
    | ClinicalSource
    | OutcomesSource,
    Field(discriminator="kind"),
]

STAGE_OF_KIND = {
    "notes_table": "notes",
    "notes_files": "notes",
    "notes_fhir": "notes",
    "notes_omop": "notes",
    "dicom": "imaging",
    "genomics_matrix": "genomics",
    "genomics_maf": "genomics",
    "genomics_vcf": "genomics",
    "clinical": "clinical",
    "outcomes": "outcomes",
}
"""Which ingest stage reads a kind of source."""

STAGES = ("notes", "imaging", "genomics", "clinical", "outcomes")
"""The ingest stages, each one table family of the store and one Dagster asset."""
