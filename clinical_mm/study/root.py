"""The whole study: sources, linkage, tasks, and what is common to them."""

from pathlib import Path

from pydantic import Field, PrivateAttr, model_validator

from clinical_mm.study.base import Name, Settings
from clinical_mm.study.linkage import Linkage
from clinical_mm.study.problems import Location, StudyProblems
from clinical_mm.study.sources import STAGE_OF_KIND, OutcomesSource, Source
from clinical_mm.study.tasks import Task

_MODALITY_OF_STAGE = {"notes": "text", "imaging": "image", "genomics": "genomics", "clinical": "clinical"}


class Deliveries(Settings):
    """Where deliveries arrive and when one is complete."""

    landing: str = Field("landing", description="folder of deliveries, relative to the study file")
    quiet_period_s: float = Field(
        600.0, ge=0, description="complete without _SUCCESS when nothing in it changed for so long"
    )


class PretrainText(Settings):
    """Masked-language pretraining on the study's own notes (`clinical-mm pretrain-text`)."""

    start_from: str | None = Field(None, description="directory or hub id to adapt; default: from scratch")
    vocabulary: int = Field(4000, ge=100, description="from scratch: WordPiece entries")
    hidden: int = Field(128, ge=16, description="from scratch: width")
    layers: int = Field(2, ge=1, description="from scratch")
    heads: int = Field(4, ge=1, description="from scratch")
    window_tokens: int = Field(128, ge=16)
    epochs: int = Field(3, ge=1)
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(5e-4, gt=0)
    masked: float = Field(0.15, gt=0, lt=0.9)


class Schedules(Settings):
    """Cron expressions of the Dagster schedules, in the server's time zone."""

    nightly: str = Field("0 2 * * *", description="cohort and scoring by the champion")
    weekly: str = Field("0 4 * * 0", description="train, evaluate, compare, promote, report")


class Tracking(Settings):
    """MLflow, for tracking and as model registry."""

    uri: str | None = Field(None, description="tracking and registry server; default: SQLite in the store")
    experiment: str | None = Field(None, description="default: the study's name")


class Study(Settings):
    """A study file. `directory` is where it lies; relative paths are relative to it."""

    study: Name
    description: str = ""
    seed: int = Field(7, ge=0)
    store: str = Field("store", description="folder for everything that is made")
    deliveries: Deliveries = Deliveries()
    sources: dict[Name, Source] = Field(min_length=1)
    linkage: Linkage = Linkage()
    pretrain_text: PretrainText | None = None
    tasks: dict[Name, Task] = Field(min_length=1)
    schedules: Schedules = Schedules()
    tracking: Tracking = Tracking()
    intended_use: str = Field(
        "Research use only. Not a diagnosis, and not cleared as a medical device.",
        description="printed on every report",
    )

    _directory: Path = PrivateAttr(default_factory=Path.cwd)

    @model_validator(mode="after")
    def _names_are_declared(self) -> "Study":
        problems = [*self._source_problems(), *(p for name in self.tasks for p in self._task_problems(name))]
        if problems:
            raise StudyProblems(problems)
        return self

    def _source_problems(self) -> list[tuple[Location, str]]:
        problems: list[tuple[Location, str]] = []
        if not self._outcomes():
            problems.append((("sources",), "has none of kind outcomes: nothing could be learned"))
        named: list[tuple[Location, str]] = [
            (("linkage", "patients"), name) for name in self.linkage.patients
        ]
        for place, rule in enumerate(self.linkage.rules):
            named += [(("linkage", "rules", place, "sources"), name) for name in rule.sources]
        problems += [
            (where, f"names the source {name!r}, which is not declared")
            for where, name in named
            if name not in self.sources
        ]
        return problems

    def _task_problems(self, name: str) -> list[tuple[Location, str]]:
        task, outcomes = self.tasks[name], self._outcomes()
        where: Location = ("tasks", name)
        problems: list[tuple[Location, str]] = []
        declared = sorted({variable for source in outcomes.values() for variable in source.variables})
        outcome = task.outcome
        wanted = (outcome.duration, outcome.event) if outcome.kind == "survival" else (outcome.variable,)
        for variable in wanted:
            if variable not in declared:
                text = f"names the variable {variable!r}, which no outcomes source declares ({', '.join(declared)})"
                problems.append(((*where, "outcome"), text))
        for modality in task.modalities.names:
            place = (*where, "modalities", modality)
            of_modality = self.sources_of(modality)
            if not of_modality:
                problems.append((place, "has no source: none of that modality is declared"))
            for source in getattr(task.modalities, modality).sources:
                if source not in of_modality:
                    problems.append(((*place, "sources"), f"names {source!r}, which is no {modality} source"))
        text_settings = task.modalities.text
        if text_settings is not None and text_settings.encoder == "pretrained" and self.pretrain_text is None:
            place = (*where, "modalities", "text", "encoder")
            problems.append((place, "is `pretrained`, and the study has no pretrain_text"))
        if (
            task.index_time == "outcomes"
            and outcomes
            and all(s.index_time is None for s in outcomes.values())
        ):
            text = "needs index times, and no outcomes source names its index_time (or say index_time: none)"
            problems.append((where, text))
        return problems

    def _outcomes(self) -> dict[str, OutcomesSource]:
        return {name: s for name, s in self.sources.items() if isinstance(s, OutcomesSource)}

    def sources_of(self, modality: str) -> tuple[str, ...]:
        """Names of the declared sources of a modality (`text`, `image`, `genomics`, `clinical`), in file order."""
        return tuple(
            n for n, s in self.sources.items() if _MODALITY_OF_STAGE.get(STAGE_OF_KIND[s.kind]) == modality
        )

    def sources_of_stage(self, stage: str) -> tuple[str, ...]:
        """Names of the declared sources that an ingest stage reads, in file order."""
        return tuple(n for n, s in self.sources.items() if STAGE_OF_KIND[s.kind] == stage)

    @property
    def directory(self) -> Path:
        """The folder of the study file, absolute."""
        return self._directory

    @property
    def store_path(self) -> Path:
        """The store, absolute."""
        return (self._directory / self.store).resolve()

    @property
    def landing_path(self) -> Path:
        """The folder in which deliveries arrive, absolute."""
        return (self._directory / self.deliveries.landing).resolve()

    def resolve_path(self, path: str) -> Path:
        """A path that the study names, absolute: relative ones are relative to the study file."""
        return (self._directory / path).resolve()

    def placed_in(self, directory: Path) -> "Study":
        """The same study, with relative paths relative to another directory."""
        study = self.model_copy()
        study._directory = directory.resolve()
        return study
