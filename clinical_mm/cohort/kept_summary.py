"""A stage's summary beside what it made, so that a run that changes nothing still says what stands."""

import json
from pathlib import Path

import pandas as pd

from clinical_mm.store import read_json, write_json
from clinical_mm.summary import Check, StageSummary

_NAME = "summary.json"


def keep_summary(directory: Path, summary: StageSummary) -> None:
    """Write facts, tables and checks as JSON into a snapshot."""
    kept = {
        "stage": summary.stage,
        "facts": list(summary.facts.items()),  # a list: their order is kept
        "tables": [
            [title, json.loads(frame.to_json(orient="split"))] for title, frame in summary.tables.items()
        ],
        "checks": [[c.name, c.is_passed, c.sentence, c.is_blocking] for c in summary.checks],
    }
    write_json(directory / _NAME, kept)


def unchanged_summary(directory: Path) -> StageSummary:
    """The summary kept in a snapshot, of a run that found nothing to do.

    Raises:
        StoreError: it is missing or damaged.
    """
    kept = read_json(directory / _NAME)
    return StageSummary(
        stage=kept["stage"],
        facts=dict(kept["facts"]),
        tables={title: pd.DataFrame(t["data"], columns=t["columns"]) for title, t in kept["tables"]},
        checks=tuple(Check(*values) for values in kept["checks"]),
        path=directory,
        is_unchanged=True,
    )
