"""What a person sees of the stages in a terminal: each one's summary as it ends, and an overview of all.

Nothing is computed here, and no command is declared.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table

from clinical_mm.errors import CheckFailedError
from clinical_mm.progress import progress_bars
from clinical_mm.summary import StageSummary

Stage = Callable[[], StageSummary | list[StageSummary]]
Runner = Callable[[Stage], list[StageSummary]]


@contextmanager
def running() -> Iterator[Runner]:
    """Run stages one after another with bars, print each, stop at a blocking check, and sum up at the end."""
    done: list[tuple[StageSummary, float]] = []

    def run(stage: Stage) -> list[StageSummary]:
        begun = time.perf_counter()
        with progress_bars():
            outcome = stage()
        summaries = outcome if isinstance(outcome, list) else [outcome]
        share = (time.perf_counter() - begun) / max(len(summaries), 1)
        for summary in summaries:
            done.append((summary, share))
            show(summary)
        failed = [c for s in summaries for c in s.failed_checks]
        if failed:
            raise CheckFailedError("; ".join(f"{c.name}: {c.sentence}" for c in failed))
        return summaries

    try:
        yield run
    finally:
        if len(done) > 1:
            _show_overview(done)


def console() -> Console:
    """Standard output, as it stands: nothing that is printed is taken for markup."""
    return Console(highlight=False, markup=False)


def error_console() -> Console:
    """Standard error, likewise."""
    return Console(stderr=True, highlight=False, markup=False)


def show(summary: StageSummary) -> None:
    """Print a stage's facts, tables, checks, and where its result lies."""
    out = console()
    out.rule(f"{summary.stage} (unchanged)" if summary.is_unchanged else summary.stage, align="left")
    if summary.facts:
        facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        facts.add_column()
        facts.add_column(overflow="fold")  # a path that is cut short cannot be opened
        for name, value in summary.facts.items():
            facts.add_row(name, _text(value))
        out.print(facts)
    for title, frame in summary.tables.items():
        shown = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
        for column in frame.columns:
            shown.add_column(str(column), overflow="fold")
        for row in frame.itertuples(index=False):
            shown.add_row(*(_text(value) for value in row))
        out.print(shown)
    for c in summary.checks:
        mark = "passed" if c.is_passed else "FAILED" if c.is_blocking else "WARNING"
        out.print(f"{mark}  {c.name}: {c.sentence}")
    if summary.path is not None:
        out.print(f"written to {summary.path}", soft_wrap=True)


def _show_overview(done: list[tuple[StageSummary, float]]) -> None:
    overview = Table(
        title="summary", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0)
    )
    for column in ("stage", "outcome", "seconds", "checks"):
        overview.add_column(column, justify="right" if column == "seconds" else "left")
    for summary, seconds in done:
        n_failed = sum(not c.is_passed for c in summary.checks)
        checks = f"{len(summary.checks) - n_failed} of {len(summary.checks)} passed" if summary.checks else ""
        outcome = "failed" if summary.failed_checks else "unchanged" if summary.is_unchanged else "done"
        overview.add_row(summary.stage, outcome, f"{seconds:.1f}", checks)
    console().print(overview)


def _text(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}" if abs(value) < 1e5 else f"{value:,.0f}"
    return "" if value is None else str(value)
