"""Reading a delivery again for what is in quarantine, though none of its files seems to have changed.

Ingest recognises a file by path, size and time of change: it does not see one that was mended with both kept, nor a
decoder that was installed since. What reading means belongs to `run`, and what is in quarantine to `quarantine`.
"""

from dataclasses import replace

import pandas as pd

from clinical_mm.ingest.delivery import Delivery
from clinical_mm.ingest.quarantine import not_accepted
from clinical_mm.ingest.run import ingest_stage
from clinical_mm.progress import track
from clinical_mm.store import Store
from clinical_mm.study.root import Study
from clinical_mm.study.sources import STAGES
from clinical_mm.summary import StageSummary

_Key = tuple[str, str]


def retry_delivery(study: Study, store: Store, delivery: Delivery) -> StageSummary:
    """Read those stages of a delivery again that hold anything in quarantine.

    Args:
        study: the study.
        store: where the delivery was ingested to; a stage of which the same tables come keeps its snapshot.
        delivery: the delivery.

    Returns:
        How many entries left the quarantine and how many are new in it, by source, and the checks of conservation.

    Raises:
        ClinicalMMError: as `ingest_stage`; the stages before it stand as they were read.
    """
    held = not_accepted(store, deliveries=[delivery.name])["stage"].to_pylist()
    stages = [stage for stage in STAGES if stage in set(held)]
    before = _quarantined(store, delivery, stages)
    made = [
        ingest_stage(study, store, delivery, stage, force=True)
        for stage in track(stages, "reading again", total=len(stages))
    ]
    after = _quarantined(store, delivery, stages)
    counts = [summary.tables["counts"].set_index("source")["accepted"] for summary in made]
    accepted = {str(source): int(n) for series in counts for source, n in series.items()}
    sources = sorted({source for source, _ in before | after})
    rows = [
        {
            "source": source,
            "before": _of(source, before),
            "left": _of(source, before - after),
            "new": _of(source, after - before),
            "now": _of(source, after),
            "accepted": accepted.get(source, 0),
        }
        for source in sources
    ]
    return StageSummary(
        stage="quarantine retry",
        facts={
            "delivery": delivery.name,
            "left the quarantine": len(before - after),
            "new in it": len(after - before),
            "in quarantine": len(after),
        },
        tables={"by source": pd.DataFrame(rows)} if rows else {},
        checks=tuple(
            replace(check, sentence=f"{stage}: {check.sentence}")
            for stage, summary in zip(stages, made, strict=True)
            for check in summary.checks
        ),
        is_unchanged=all(summary.is_unchanged for summary in made),
    )


def _quarantined(store: Store, delivery: Delivery, stages: list[str]) -> set[_Key]:
    entries = not_accepted(store, deliveries=[delivery.name])
    columns = (entries[name].to_pylist() for name in ("stage", "source", "locator"))
    return {(source, locator) for stage, source, locator in zip(*columns, strict=True) if stage in stages}


def _of(source: str, keys: set[_Key]) -> int:
    return sum(key[0] == source for key in keys)
