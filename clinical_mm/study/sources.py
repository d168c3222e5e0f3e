"""Sources: what arrives in a delivery, in which format, and which column means what.

A source reads one kind of record. All paths are glob patterns relative to the delivery's folder. What a record is
depends on the kind: a DICOM file, a row of a table, a FHIR resource, a sample of a matrix or a VCF, a variant of a
MAF. Each kind's options stand in the module of its modality; here they come together.
"""

from typing import Annotated, Literal

from pydantic import Field

from clinical_mm.study.genomic_sources import (
    GenomicsMafSource,
    GenomicsMatrixSource,
    GenomicsVcfSource,
    VcfBurden,
    VcfSites,
)
from clinical_mm.study.note_sources import (
    NoteRowsSource,
    NotesFhirSource,
    NotesFilesSource,
    NotesOmopSource,
    NotesTableSource,
    OmopDatabase,
)
from clinical_mm.study.source_base import BaseSource, Glob, TableFormat, TimeFormat
from clinical_mm.study.variable_sources import (
    CategoryVariable,
    ClinicalSource,
    Conversion,
    NumberVariable,
    OutcomesSource,
    Variable,
)

__all__ = [
    "STAGES",
    "STAGE_OF_KIND",
    "CategoryVariable",
    "ClinicalSource",
    "Conversion",
    "DicomSource",
    "GenomicsMafSource",
    "GenomicsMatrixSource",
    "GenomicsVcfSource",
    "Glob",
    "NoteRowsSource",
    "NotesFhirSource",
    "NotesFilesSource",
    "NotesOmopSource",
    "NotesTableSource",
    "NumberVariable",
    "OmopDatabase",
    "OutcomesSource",
    "Source",
    "TableFormat",
    "TimeFormat",
    "Variable",
    "VcfBurden",
    "VcfSites",
]


class DicomSource(BaseSource):
    """DICOM files in a folder, in any order and under any name; `**/*` takes all below it."""

    kind: Literal["dicom"]
    path: Glob = "**/*"
    is_timeless: bool = Field(False, description="studies without a date may be read at any index time")
    modalities: tuple[str, ...] = Field((), description="(0008,0060) values to read; default: all images")


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
