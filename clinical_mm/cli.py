"""The command `clinical-mm`: reads a study file, calls the library's stages, prints what they found.

Exit status: 0 done; 1 interrupted, or refused by the system; 2 the command line or the study file; 3 the store;
4 a delivery; 5 a table; 6 the cohort; 7 an encoder; 8 training; 9 a model; 10 a blocking check failed. What a stage
does stands in the library; nothing is computed here.
"""

import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from clinical_mm import __version__
from clinical_mm.errors import CheckFailedError, ClinicalMMError, DeliveryError, StoreError, StudyError
from clinical_mm.progress import progress_bars
from clinical_mm.store import Store
from clinical_mm.study.file import load_study
from clinical_mm.study.root import Study
from clinical_mm.summary import StageSummary

_EXIT_STATUS = (
    "Exit status: 0 done, 1 interrupted or refused by the system, 2 command line or study file, 3 store, 4 delivery, "
    "5 table, 6 cohort, 7 encoder, 8 training, 9 model, 10 a blocking check failed."
)


class _Interruptible(TyperGroup):
    """Commands whose interruption is a sentence: typer itself leaves with 130 and says nothing."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise ClinicalMMError(
                "interrupted: the store is as it was; the same command carries on"
            ) from None


app = typer.Typer(
    name="clinical-mm",
    cls=_Interruptible,
    help="Notes, DICOM and genomics of the same patients: aligned, fused, attributed and reported.",
    epilog=_EXIT_STATUS,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

StudyOption = Annotated[Path, typer.Option("--study", "-s", help="The study file.")]
TaskOption = Annotated[
    list[str] | None, typer.Option("--task", "-t", help="Tasks; default: all of the study.")
]
DeliveryOption = Annotated[
    list[str] | None, typer.Option("--delivery", "-d", help="Deliveries; default: all that are complete.")
]
IngestedOption = Annotated[
    list[str] | None, typer.Option("--delivery", "-d", help="Deliveries; default: all that were ingested.")
]
ModelOption = Annotated[str | None, typer.Option("--model", "-m", help="A model version.")]
_STUDY = Path("study.yaml")


def main() -> None:
    """Run the command; an error meant for the user becomes its sentence and its exit status, never a traceback."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        app(prog_name="clinical-mm")
    except ClinicalMMError as error:
        _errors().print(str(error), markup=False, highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        _errors().print(f"the system refused: {error.strerror}{where}", markup=False, soft_wrap=True)
        sys.exit(1)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="Folder to make; the study file is written into it.")],
) -> None:
    """Write a commented study.yaml, and the landing folder in which deliveries arrive."""
    from importlib.resources import files

    path = directory / "study.yaml"
    if path.exists():
        raise StudyError(f"{path} exists: remove it first, or name another folder")
    template = files("clinical_mm").joinpath("study_template.yaml").read_text(encoding="utf-8")
    (directory / "landing").mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9_-]", "-", directory.resolve().name)
    if not re.match("[A-Za-z]", name):
        name = f"study-{name.lstrip('-_')}".rstrip("-")
    name = name[:63]  # as a study's name has to be
    path.write_text(template.replace("study: my-study", f"study: {name}"), encoding="utf-8")
    typer.echo(
        f"wrote {path}: edit it, put deliveries into {directory / 'landing'}, then `clinical-mm check`"
    )


@app.command()
def options() -> None:
    """Print every option of the study file, with its type and default, as Markdown."""
    from clinical_mm.study.reference import reference

    typer.echo(reference())


@app.command()
def check(study: StudyOption = _STUDY) -> None:
    """Validate the study file against the actual files; lists all that is wrong at once."""
    from clinical_mm.check import check_study

    _finish(check_study(study, time.time()))


@app.command()
def ingest(study: StudyOption = _STUDY, delivery: DeliveryOption = None) -> None:
    """Read deliveries into the store: every record is accepted, duplicate, superseded or quarantined."""
    loaded, store = _open(study)
    with _stages() as run:
        _ingest(run, loaded, store, delivery)


@app.command()
def cohort(study: StudyOption = _STUDY, task: TaskOption = None) -> None:
    """Link records to patients, align them to the index time, split the patients."""
    loaded, store = _open(study)
    tasks = _tasks(loaded, task)
    with _stages() as run:
        _cohort(run, loaded, store, tasks)


@app.command("pretrain-text")
def pretrain_text(
    study: StudyOption = _STUDY,
    force: Annotated[
        bool, typer.Option("--force", help="Anew, though one stands and only notes changed.")
    ] = False,
) -> None:
    """Pretrain a text encoder on the study's notes by masked language modelling.

    From scratch, or from the encoder that `pretrain_text.start_from` names. Tasks use it as `encoder: pretrained`. One
    that stands is kept when notes arrive, since models read its tokens.
    """
    loaded, store = _open(study)
    if loaded.pretrain_text is None:
        raise StudyError(f"{study} has no pretrain_text: add it to say what to pretrain")
    with _stages() as run:
        _pretrain(run, loaded, store, force=force)


@app.command()
def train(study: StudyOption = _STUDY, task: TaskOption = None) -> None:
    """Compute the features and fine-tune the fusion model; interrupted training is carried on."""
    loaded, store = _open(study)
    with _stages() as run:
        for name in _tasks(loaded, task):
            _train(run, loaded, store, name)


@app.command()
def evaluate(study: StudyOption = _STUDY, task: TaskOption = None, model: ModelOption = None) -> None:
    """Judge a model, every subset of its modalities and the classical baselines on held-out patients.

    The model is the newest one, unless `--model` names another.
    """
    loaded, store = _open(study)
    with _stages() as run:
        for name in _tasks(loaded, task):
            _evaluate(run, loaded, store, name, model)


@app.command()
def explain(study: StudyOption = _STUDY, task: TaskOption = None, model: ModelOption = None) -> None:
    """Attribute a model's predictions for held-out patients to words, voxels, genes and covariates.

    The model is the champion, or the newest evaluated one while there is no champion, unless `--model` names another.
    """
    loaded, store = _open(study)
    with _stages() as run:
        for name in _tasks(loaded, task):
            _explain(run, loaded, store, name, model)


@app.command()
def report(study: StudyOption = _STUDY, task: TaskOption = None) -> None:
    """Write one HTML page a patient and an index."""
    loaded, store = _open(study)
    with _stages() as run:
        for name in _tasks(loaded, task):
            _report(run, loaded, store, name)


@app.command()
def score(study: StudyOption = _STUDY, task: TaskOption = None) -> None:
    """Predict with the champion for the patients whose outcome is not yet known."""
    from clinical_mm import registry
    from clinical_mm.evaluation.score import score as score_task

    loaded, store = _open(study)
    with _stages() as run:
        for name in _tasks(loaded, task):
            run(partial(score_task, loaded, store, name, registry.champion(loaded, store, name)))


@app.command()
def promote(
    study: StudyOption = _STUDY,
    task: TaskOption = None,
    model: ModelOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Promote though the rule says no; it is recorded.")
    ] = False,
) -> None:
    """Make the newest evaluated model, or the one that `--model` names, champion where it is measurably no worse."""
    from clinical_mm import registry

    loaded, store = _open(study)
    with _stages() as run:
        for name in _tasks(loaded, task):
            run(partial(registry.promote, loaded, store, name, model, force=force))


@app.command()
def rollback(study: StudyOption = _STUDY, task: TaskOption = None) -> None:
    """Make the champion before this one the champion again."""
    from clinical_mm import registry

    loaded, store = _open(study)
    with _stages() as run:
        for name in _tasks(loaded, task):
            run(partial(registry.rollback, loaded, store, name))


@app.command()
def run(study: StudyOption = _STUDY, task: TaskOption = None, delivery: DeliveryOption = None) -> None:
    """Do everything: ingest, cohort, features, training, evaluation, promotion, attributions, reports."""
    from clinical_mm import registry

    loaded, store = _open(study)
    tasks = _tasks(loaded, task)
    with _stages() as do:
        _ingest(do, loaded, store, delivery)
        _cohort(do, loaded, store, tasks)
        if loaded.pretrain_text is not None:
            _pretrain(do, loaded, store)
        for name in tasks:
            _train(do, loaded, store, name)
            _evaluate(do, loaded, store, name, None)
            do(partial(registry.consider, loaded, store, name))
            _explain(do, loaded, store, name, None)
            _report(do, loaded, store, name)


@app.command("demo-data")
def demo_data(
    directory: Annotated[Path, typer.Argument(help="Folder to make.")],
    patients: Annotated[int, typer.Option(min=40, help="Patients of the first delivery.")] = 240,
    seed: Annotated[int, typer.Option(min=0)] = 7,
) -> None:
    """Write a synthetic trimodal cohort as real files, with the mess of real data, and its study file."""
    from clinical_mm.synthetic.cohort import generate_cohort

    if (directory / "study.yaml").exists():
        raise StudyError(f"{directory / 'study.yaml'} exists: remove it first, or name another folder")
    with progress_bars():
        generate_cohort(directory, seed=seed, n_patients=patients)
    typer.echo(f"wrote {directory}: `clinical-mm run --study {directory / 'study.yaml'}`")


quarantine = typer.Typer(
    help="What was not accepted: see it, mend it at its source, have it read again.",
    epilog=_EXIT_STATUS,
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(quarantine, name="quarantine")


@quarantine.command("list")
def quarantine_list(
    study: StudyOption = _STUDY,
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

    loaded, store = _open(study)
    _ingested(store, delivery)
    dispositions = DISPOSITIONS if everything else ("quarantined",)
    with progress_bars():
        found = not_accepted(
            store, deliveries=delivery, sources=source, reasons=reason, dispositions=dispositions
        )
    unknown = [s for s in source or [] if s not in {*loaded.sources, *found["source"].to_pylist()}]
    if unknown:
        raise StudyError(f"no source {', '.join(unknown)}: the study has {', '.join(loaded.sources)}")
    _print(listing(found, limit))
    if csv is not None:
        write_csv(found, csv)
        _console().print(f"all {found.num_rows} written to {csv}", soft_wrap=True)


@quarantine.command("show")
def quarantine_show(
    locator: Annotated[str, typer.Argument(help="As listed: a path within its delivery, then a row.")],
    study: StudyOption = _STUDY,
    delivery: IngestedOption = None,
) -> None:
    """Print all that is on record of one record or file, and whether its file still stands; never its content."""
    from clinical_mm.ingest.quarantine import describe

    loaded, store = _open(study)
    _ingested(store, delivery)
    with progress_bars():
        found = describe(loaded, store, locator, delivery)
    for summary in found:
        _print(summary)


@quarantine.command("retry")
def quarantine_retry(study: StudyOption = _STUDY, delivery: IngestedOption = None) -> None:
    """Read deliveries that hold quarantined records again, though nothing in them seems to have changed.

    For when a file was mended in place, or a decoder was installed. What gives the same tables leaves the store as
    it is.
    """
    from clinical_mm.ingest.delivery import find_deliveries
    from clinical_mm.ingest.quarantine import not_accepted
    from clinical_mm.ingest.retry import retry_delivery

    loaded, store = _open(study)
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
    with _stages() as do:
        for name in sorted(held & set(landed)):
            do(partial(retry_delivery, loaded, store, landed[name]))


for _command in (*app.registered_commands, *quarantine.registered_commands):
    _command.epilog = _EXIT_STATUS


Stage = Callable[[], StageSummary | list[StageSummary]]
Runner = Callable[[Stage], list[StageSummary]]


def _ingest(run: Runner, study: Study, store: Store, names: list[str] | None) -> None:
    from clinical_mm.ingest.delivery import complete_deliveries, find_deliveries
    from clinical_mm.ingest.run import ingest_delivery

    if names:
        known = {d.name: d for d in find_deliveries(study)}
        unknown = [n for n in names if n not in known]
        if unknown:
            raise StudyError(
                f"no delivery {', '.join(unknown)} in {study.landing_path}: there is {', '.join(known) or 'none'}"
            )
        deliveries = [known[n] for n in names]
    else:
        deliveries = complete_deliveries(study)
        if not deliveries:
            quiet = study.deliveries.quiet_period_s
            raise DeliveryError(
                f"no complete delivery in {study.landing_path}: one needs _SUCCESS, or {quiet:.0f} s of quiet"
            )
    for delivery in deliveries:
        run(partial(ingest_delivery, study, store, delivery))


def _cohort(run: Runner, study: Study, store: Store, tasks: list[str]) -> None:
    from clinical_mm.cohort.build import build_cohort
    from clinical_mm.cohort.linkage import link

    run(lambda: link(study, store))
    for name in tasks:
        run(partial(build_cohort, study, store, name))


def _pretrain(run: Runner, study: Study, store: Store, *, force: bool = False) -> None:
    from clinical_mm.training.pretrain import pretrain_text

    run(lambda: pretrain_text(study, store, force=force))


def _train(run: Runner, study: Study, store: Store, task: str) -> None:
    from clinical_mm.features.build import build_features
    from clinical_mm.training.finetune import train

    run(lambda: build_features(study, store, task))
    run(lambda: train(study, store, task))


def _evaluate(run: Runner, study: Study, store: Store, task: str, version: str | None) -> None:
    from clinical_mm.evaluation.evaluate import evaluate

    run(lambda: evaluate(study, store, task, version))


def _explain(run: Runner, study: Study, store: Store, task: str, version: str | None) -> None:
    from clinical_mm import registry
    from clinical_mm.explain.explain import explain

    chosen = version or registry.champion(study, store, task)
    run(lambda: explain(study, store, task, chosen))


def _report(run: Runner, study: Study, store: Store, task: str) -> None:
    from clinical_mm.reports.write import write_reports

    run(lambda: write_reports(study, store, task))


def _open(path: Path) -> tuple[Study, Store]:
    study = load_study(path)
    return study, Store(study.store_path)


def _ingested(store: Store, names: list[str] | None) -> None:
    """Stop where nothing was ingested yet, or a named delivery was not."""
    ingested = store.delivery_names()
    if not ingested:
        raise StoreError("nothing was ingested yet: run `clinical-mm ingest` first")
    unknown = [n for n in names or [] if n not in ingested]
    if unknown:
        raise StudyError(f"no delivery {', '.join(unknown)} was ingested: there is {', '.join(ingested)}")


def _tasks(study: Study, names: list[str] | None) -> list[str]:
    unknown = [n for n in names or [] if n not in study.tasks]
    if unknown:
        raise StudyError(
            f"the study has no task {', '.join(unknown)}: its tasks are {', '.join(study.tasks)}"
        )
    return list(names or study.tasks)


@contextmanager
def _stages() -> Iterator[Runner]:
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
            _print(summary)
        failed = [c for s in summaries for c in s.failed_checks]
        if failed:
            raise CheckFailedError("; ".join(f"{c.name}: {c.sentence}" for c in failed))
        return summaries

    try:
        yield run
    finally:
        if len(done) > 1:
            _print_overview(done)


def _finish(summary: StageSummary) -> None:
    _print(replace(summary, checks=()))
    if summary.failed_checks:
        raise StudyError("\n".join(c.sentence for c in summary.failed_checks))
    if summary.facts["deliveries"]:
        typer.echo("the study fits the files")
    else:
        typer.echo("the study file is valid; no delivery has arrived yet that it could be compared with")


def _console() -> Console:
    return Console(highlight=False, markup=False)


def _errors() -> Console:
    return Console(stderr=True, highlight=False, markup=False)


def _print(summary: StageSummary) -> None:
    console = _console()
    console.rule(f"{summary.stage} (unchanged)" if summary.is_unchanged else summary.stage, align="left")
    if summary.facts:
        facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        facts.add_column()
        facts.add_column(overflow="fold")  # a path that is cut short cannot be opened
        for name, value in summary.facts.items():
            facts.add_row(name, _text(value))
        console.print(facts)
    for title, frame in summary.tables.items():
        shown = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
        for column in frame.columns:
            shown.add_column(str(column), overflow="fold")
        for row in frame.itertuples(index=False):
            shown.add_row(*(_text(value) for value in row))
        console.print(shown)
    for c in summary.checks:
        mark = "passed" if c.is_passed else "FAILED" if c.is_blocking else "WARNING"
        console.print(f"{mark}  {c.name}: {c.sentence}")
    if summary.path is not None:
        console.print(f"written to {summary.path}", soft_wrap=True)


def _print_overview(done: list[tuple[StageSummary, float]]) -> None:
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
    _console().print(overview)


def _text(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}" if abs(value) < 1e5 else f"{value:,.0f}"
    return "" if value is None else str(value)


if __name__ == "__main__":
    main()
