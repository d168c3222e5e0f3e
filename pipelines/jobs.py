"""Jobs: which assets run together."""

import dagster as dg

ingest_delivery = dg.define_asset_job(
    "ingest_delivery",
    selection=dg.AssetSelection.groups("ingest").materializable(),
    description="Read one delivery into the store.",
)

refresh_and_score = dg.define_asset_job(
    "refresh_and_score",
    selection=dg.AssetSelection.assets("links", "cohort", "scores"),
    description="Bring the cohort of a task up to date and let its champion score the patients without an outcome.",
)

retrain = dg.define_asset_job(
    "retrain",
    selection=dg.AssetSelection.groups("cohort", "features", "training", "evaluation", "explain", "reports")
    - dg.AssetSelection.assets("scores"),
    description="Train, evaluate, compare, promote, and report on the champion.",
)

JOBS = [ingest_delivery, refresh_and_score, retrain]
