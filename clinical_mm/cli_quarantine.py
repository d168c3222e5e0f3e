"""The commands `clinical-mm quarantine`: what was not accepted, seen, and read again once it is mended."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from clinical_mm.cli_options import EXIT_STATUS, STUDY, StudyOption, open_study
from clinical_mm.console import console, running, show
from clinical_mm.errors import DeliveryError, StoreError, StudyError
from clinical_mm.progress import progress_bars
from clinical_mm.store import Store

IngestedOption = Annotated[
    list[str] | None, typer.Option("--delivery", "-d", help="Deliveries; default: all that were ingested.")
]

app = typer.Typer(
    help="What was not accepted: see it, mend it at its source, have it read again.",
    epilog=EXIT_STATUS,
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
def list_entries(
    study: StudyOption = STUDY,
    delivery: IngestedOption = None,
    *,
    source: Annotated[list[str] | None, typer.Option("--source", help="Sources; default: all.")] = None,
    reason: Annotated[list[str] | None, typer.Option("--reason", help="Reason codes; default: all.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Duplicates and superseded records too.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="So many entries are printed.")] = 50,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write all entries into this file.")] = None,
) -> None:
    """Count what is in quarantine by delivery, source and reason, and list it."""
    from clinical_mm.ingest.quarantine import DISPOSITIONS, listing, not_accepted, write_csv

    loaded, store = open_study(study)
    _ingested(store, delivery)
    dispositions = DISPOSITIONS if everything else ("quarantined",)
    with progress_bars():
        found = not_accepted(
            store, deliveries=delivery, sources=source, reasons=reason, dispositions=dispositions
        )
    unknown = [s for s in source or [] if s not in {*loaded.sources, *found["source"].to_pylist()}]
    if unknown:
        raise StudyError(f"no source {', '.join(unknown)}: the study has {', '.join(loaded.sources)}")
    show(listing(found, limit))
    if csv is not None:
        n_changed = write_csv(found, csv)
        told = (
            f", {n_changed} cells with a ' before them that a spreadsheet would have run" if n_changed else ""
        )
        console().print(f"all {found.num_rows} written to {csv}{told}", soft_wrap=True)


@app.command("show")
def show_entry(
    locator: Annotated[str, typer.Argument(help="As listed: a path within its delivery, then a row.")],
    study: StudyOption = STUDY,
    delivery: IngestedOption = None,
) -> None:
    """Print all that is on record of one record or file, and whether its file still stands; never its content."""
    from clinical_mm.ingest.quarantine import describe

    loaded, store = open_study(study)
    _ingested(store, delivery)
    with progress_bars():
        found = describe(loaded, store, locator, delivery)
    for summary in found:
        show(summary)


@app.command("retry")
def retry(study: StudyOption = STUDY, delivery: IngestedOption = None) -> None:
    """Read deliveries that hold quarantined records again, though nothing in them seems to have changed.

    For when a file was mended in place, or a decoder was installed. What gives the same tables leaves the store as
    it is.
    """
    from clinical_mm.ingest.delivery import find_deliveries
    from clinical_mm.ingest.quarantine import not_accepted
    from clinical_mm.ingest.retry import retry_delivery

    loaded, store = open_study(study)
    _ingested(store, delivery)
    held = set(not_accepted(store, deliveries=delivery)["delivery"].to_pylist())
    landed = {d.name: d for d in find_deliveries(loaded)}
    gone = [name for name in delivery or [] if name not in landed]
    if gone:
        raise DeliveryError(f"no longer in the landing folder {loaded.landing_path}: {', '.join(gone)}")
    if not held:
        typer.echo("nothing is in quarantine")
    for name in sorted(held - set(landed)):
        typer.echo(f"delivery {name} is no longer in the landing folder: it stays as it was read")
    with running() as do:
        for name in sorted(held & set(landed)):
            do(partial(retry_delivery, loaded, store, landed[name]))


def _ingested(store: Store, names: list[str] | None) -> None:
    """Stop where nothing was ingested yet, or a named delivery was not."""
    ingested = store.delivery_names()
    if not ingested:
        raise StoreError("nothing was ingested yet: run `clinical-mm ingest` first")
    unknown = [n for n in names or [] if n not in ingested]
    if unknown:
        raise StudyError(f"no delivery {', '.join(unknown)} was ingested: there is {', '.join(ingested)}")
