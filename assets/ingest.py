"""Ingest assets: one a table family, partitioned by delivery, each with the blocking check of conservation."""

import dagster as dg

from assets.partitions import DELIVERIES
from assets.resources import StudyResource
from assets.results import check_specs, materialized, sentences

_CHECKS = ("conservation",)
_ASSETS = {
    "notes": ("notes", "Clinical notes of a delivery, from tables and FHIR."),
    "series": ("imaging", "DICOM series of a delivery, sorted by geometry and decoded."),
    "genomic_samples": ("genomics", "Genomic samples of a delivery and their feature matrices."),
    "clinical": ("clinical", "Structured covariates of a delivery."),
    "outcomes": ("outcomes", "Outcomes and index times of a delivery."),
}

delivery = dg.AssetSpec(
    "delivery",
    group_name="ingest",
    partitions_def=DELIVERIES,
    description="A delivery in the landing folder. Nobody here makes it: the sensor reports it when it is complete.",
)


def _ingest_asset(name: str, stage: str, description: str) -> dg.AssetsDefinition:
    @dg.asset(
        name=name,
        group_name="ingest",
        partitions_def=DELIVERIES,
        deps=[delivery],
        description=description,
        check_specs=check_specs(name, *_CHECKS),
        kinds={"parquet"},
    )
    def ingest(context: dg.AssetExecutionContext, study: StudyResource) -> dg.MaterializeResult:
        from clinical_mm.ingest.delivery import find_delivery
        from clinical_mm.ingest.run import ingest_stage

        with sentences():
            found = find_delivery(study.study, context.partition_key)
            summary = ingest_stage(study.study, study.store, found, stage)
        return materialized(summary, name, _CHECKS)

    return ingest


notes, series, genomic_samples, clinical, outcomes = (
    _ingest_asset(name, stage, description) for name, (stage, description) in _ASSETS.items()
)
