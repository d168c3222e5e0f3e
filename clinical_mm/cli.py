"""The command `clinical-mm`: reads a study file, calls the library's stages, prints what they found.

Exit status: 0 done; 1 interrupted, or refused by the system; 2 the command line or the study file; 3 the store;
4 a delivery; 5 a table; 6 the cohort; 7 an encoder; 8 training; 9 a model; 10 a blocking check failed. What a stage
does stands in the library; nothing is computed here.
"""

import os
import re
import sys
import time
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from clinical_mm import __version__, cli_quarantine
from clinical_mm.cli_options import EXIT_STATUS, STUDY, StudyOption, open_study
from clinical_mm.console import Runner, error_console, running, show
from clinical_mm.errors import ClinicalMMError, DeliveryError, StudyError
from clinical_mm.progress import progress_bars
from clinical_mm.store import Store
from clinical_mm.study.root import Study
from clinical_mm.summary import StageSummary


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
    epilog=EXIT_STATUS,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

TaskOption = Annotated[
    list[str] | None, typer.Option("--task", "-t", help="Tasks; default: all of the study.")
]
DeliveryOption = Annotated[
    list[str] | None, typer.Option("--delivery", "-d", help="Deliveries; default: all that are complete.")
]
ModelOption = Annotated[str | None, typer.Option("--model", "-m", help="A model version.")]


def main() -> None:
    """Run the command; an error meant for the user becomes its sentence and its exit status, never a traceback."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        app(prog_name="clinical-mm")
    except ClinicalMMError as error:
        error_console().print(str(error), markup=False, highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        error_console().print(f"the system refused: {error.strerror}{where}", markup=False, soft_wrap=True)
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
def check(study: StudyOption = STUDY) -> None:
    """Validate the study file against the actual files; lists all that is wrong at once."""
    from clinical_mm.check import check_study

    _finish(check_study(study, time.time()))


@app.command()
def ingest(study: StudyOption = STUDY, delivery: DeliveryOption = None) -> None:
    """Read deliveries into the store: every record is accepted, duplicate, superseded or quarantined."""
    loaded, store = open_study(study)
    with running() as run:
        _ingest(run, loaded, store, delivery)


@app.command()
def fetch(
    source: Annotated[str, typer.Argument(help="A source of kind notes_omop that declares a database.")],
    study: StudyOption = STUDY,
    delivery: Annotated[
        str | None, typer.Option("--delivery", "-d", help="Its name; default: the time and the source.")
    ] = None,
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Only notes of this day or later.")
    ] = None,
) -> None:
    """Write a new delivery of the notes in an OMOP database, which `ingest` then reads."""
    from clinical_mm.ingest.fetch import fetch as fetch_notes

    loaded, store = open_study(study)
    first_day = None if since is None else since.date()
    with running() as run:
        run(lambda: fetch_notes(loaded, store, source, delivery=delivery, since=first_day))


@app.command()
def cohort(study: StudyOption = STUDY, task: TaskOption = None) -> None:
    """Link records to patients, align them to the index time, split the patients."""
    loaded, store = open_study(study)
    tasks = _tasks(loaded, task)
    with running() as run:
        _cohort(run, loaded, store, tasks)


@app.command("pretrain-text")
def pretrain_text(
    study: StudyOption = STUDY,
    force: Annotated[
        bool, typer.Option("--force", help="Anew, though one stands and only notes changed.")
    ] = False,
) -> None:
    """Pretrain a text encoder on the study's notes by masked language modelling.

    From scratch, or from the encoder that `pretrain_text.start_from` names. Tasks use it as `encoder: pretrained`. One
    that stands is kept when notes arrive, since models read its tokens.
    """
    loaded, store = open_study(study)
    if loaded.pretrain_text is None:
        raise StudyError(f"{study} has no pretrain_text: add it to say what to pretrain")
    with running() as run:
        _pretrain(run, loaded, store, force=force)


@app.command()
def train(study: StudyOption = STUDY, task: TaskOption = None) -> None:
    """Compute the features and fine-tune the fusion model; interrupted training is carried on."""
    loaded, store = open_study(study)
    with running() as run:
        for name in _tasks(loaded, task):
            _train(run, loaded, store, name)


@app.command()
def evaluate(study: StudyOption = STUDY, task: TaskOption = None, model: ModelOption = None) -> None:
    """Judge a model, every subset of its modalities and the classical baselines on held-out patients.

    The model is the newest one, unless `--model` names another.
    """
    loaded, store = open_study(study)
    with running() as run:
        for name in _tasks(loaded, task):
            _evaluate(run, loaded, store, name, model)


@app.command()
def explain(study: StudyOption = STUDY, task: TaskOption = None, model: ModelOption = None) -> None:
    """Attribute a model's predictions for held-out patients to words, voxels, genes and covariates.

    The model is the champion, or the newest evaluated one while there is no champion, unless `--model` names another.
    """
    loaded, store = open_study(study)
    with running() as run:
        for name in _tasks(loaded, task):
            _explain(run, loaded, store, name, model)


@app.command()
def report(study: StudyOption = STUDY, task: TaskOption = None) -> None:
    """Write one HTML page a patient and an index."""
    loaded, store = open_study(study)
    with running() as run:
        for name in _tasks(loaded, task):
            _report(run, loaded, store, name)


@app.command()
def score(study: StudyOption = STUDY, task: TaskOption = None) -> None:
    """Predict with the champion for the patients whose outcome is not yet known."""
    from clinical_mm import registry
    from clinical_mm.evaluation.score import score as score_task

    loaded, store = open_study(study)
    with running() as run:
        for name in _tasks(loaded, task):
            run(partial(score_task, loaded, store, name, registry.champion(loaded, store, name)))


@app.command()
def promote(
    study: StudyOption = STUDY,
    task: TaskOption = None,
    model: ModelOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Promote though the rule says no; it is recorded.")
    ] = False,
) -> None:
    """Make the newest evaluated model, or the one that `--model` names, champion where it is measurably no worse."""
    from clinical_mm import registry

    loaded, store = open_study(study)
    with running() as run:
        for name in _tasks(loaded, task):
            run(partial(registry.promote, loaded, store, name, model, force=force))


@app.command()
def rollback(study: StudyOption = STUDY, task: TaskOption = None) -> None:
    """Make the champion before this one the champion again."""
    from clinical_mm import registry

    loaded, store = open_study(study)
    with running() as run:
        for name in _tasks(loaded, task):
            run(partial(registry.rollback, loaded, store, name))


@app.command()
def run(study: StudyOption = STUDY, task: TaskOption = None, delivery: DeliveryOption = None) -> None:
    """Do everything: ingest, cohort, features, training, evaluation, promotion, attributions, reports."""
    from clinical_mm import registry

    loaded, store = open_study(study)
    tasks = _tasks(loaded, task)
    with running() as do:
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


app.add_typer(cli_quarantine.app, name="quarantine")


for _command in (*app.registered_commands, *cli_quarantine.app.registered_commands):
    _command.epilog = EXIT_STATUS


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


def _tasks(study: Study, names: list[str] | None) -> list[str]:
    unknown = [n for n in names or [] if n not in study.tasks]
    if unknown:
        raise StudyError(
            f"the study has no task {', '.join(unknown)}: its tasks are {', '.join(study.tasks)}"
        )
    return list(names or study.tasks)


def _finish(summary: StageSummary) -> None:
    show(replace(summary, checks=()))
    if summary.failed_checks:
        raise StudyError("\n".join(c.sentence for c in summary.failed_checks))
    if summary.facts["deliveries"]:
        typer.echo("the study fits the files")
    else:
        typer.echo("the study file is valid; no delivery has arrived yet that it could be compared with")


if __name__ == "__main__":
    main()
