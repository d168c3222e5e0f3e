"""A small study of real files up to its features, with networks so small that an epoch takes tenths of a second."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from clinical_mm.cohort.build import build_cohort
from clinical_mm.cohort.linkage import link
from clinical_mm.features.build import build_features
from clinical_mm.features.loaded import TaskFeatures
from clinical_mm.ingest.delivery import find_deliveries
from clinical_mm.ingest.run import ingest_delivery
from clinical_mm.store import Store
from clinical_mm.study.file import load_study
from clinical_mm.study.root import Study
from clinical_mm.summary import StageSummary
from clinical_mm.synthetic.cohort import generate_cohort
from clinical_mm.training.finetune import train, weight_sources
from clinical_mm.training.fold import Sources
from clinical_mm.training.pretrain import pretrain_text

TRAINING = {"epochs": 2, "batch_size": 4, "learning_rate": 0.003, "threads": 1}
TABLES = {"genomics": {"hidden": [8]}, "clinical": {"hidden": [4]}}
PRETRAINING = {
    "vocabulary": 300,
    "hidden": 16,
    "layers": 1,
    "heads": 2,
    "window_tokens": 64,
    "epochs": 1,
    "batch_size": 16,
    "learning_rate": 0.003,
}


@dataclass(frozen=True)
class Built:
    """A study on disk whose features are made.

    Tasks: `relapse` (binary, all modalities), `survival`, `grade` (three classes) and `folds` (3 folds) of tables.
    """

    path: Path
    study: Study
    store: Store

    def changed(self, task: str, **sections: dict[str, Any]) -> Study:
        """The study with other settings in sections of a task (`training`, `model` …)."""
        settings = self.study.tasks[task]
        parts = {
            name: type(getattr(settings, name)).model_validate(getattr(settings, name).model_dump() | values)
            for name, values in sections.items()
        }
        tasks = dict(self.study.tasks) | {task: settings.model_copy(update=parts)}
        return self.study.model_copy(update={"tasks": tasks}).placed_in(self.study.directory)

    def features(self, task: str, study: Study | None = None) -> TaskFeatures:
        return TaskFeatures.load(study or self.study, self.store, task)

    def sources(self, task: str) -> Sources:
        return weight_sources(self.study, self.store, self.study.tasks[task])


def _make_tiny(study: dict[str, Any]) -> None:
    relapse, survival = study["tasks"]["relapse"], study["tasks"]["survival"]
    relapse["modalities"]["text"] |= {"window_tokens": 64, "max_windows": 2}
    relapse["modalities"]["image"] |= {
        "size": [8, 8, 8],
        "spacing_mm": [24, 24, 24],
        "arguments": {"init_features": 4, "growth_rate": 4, "block_config": [1, 1]},
    }
    tabular = {"min_modalities": 1, "modalities": TABLES, "model": {"hidden": 8}, "training": TRAINING}
    relapse |= {"training": TRAINING, "model": {"fusion": "gated", "hidden": 8}}
    grade = {"kind": "multiclass", "variable": "grade", "classes": ["low", "intermediate", "high"]}
    study["pretrain_text"] = PRETRAINING
    study["tasks"] = {
        "relapse": relapse,
        "survival": survival | tabular | {"training": TRAINING | {"batch_size": 16}},
        "grade": {"question": "Which grade?", "outcome": grade} | tabular,
        "folds": {"question": "?", "outcome": relapse["outcome"], "split": {"method": "kfold", "folds": 3}}
        | tabular,
    }


def _load(directory: Path) -> Built:
    study = load_study(directory / "study.yaml")
    return Built(directory / "study.yaml", study, Store(study.store_path))


@pytest.fixture(scope="session")
def one_thread() -> Iterator[None]:
    """Torch on one thread, so that numbers repeat; as it was afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def ingested(
    tmp_path_factory: pytest.TempPathFactory, study_file: Callable[..., Path], one_thread: None
) -> Built:
    """The study, ingested and linked, with its cohorts: what pretraining reads."""
    directory = tmp_path_factory.mktemp("training") / "demo"
    generate_cohort(directory, seed=11, n_patients=44)
    study_file(directory / "study.yaml", directory / "study.yaml", _make_tiny)
    built = _load(directory)
    for delivery in find_deliveries(built.study):
        ingest_delivery(built.study, built.store, delivery)
    link(built.study, built.store)
    for task in built.study.tasks:
        build_cohort(built.study, built.store, task)
    return built


@pytest.fixture(scope="session")
def pretrained(ingested: Built) -> StageSummary:
    """The outcome of pretraining the study's own text encoder."""
    return pretrain_text(ingested.study, ingested.store)


@pytest.fixture(scope="session")
def built(ingested: Built, pretrained: StageSummary) -> Built:
    """The study with the features of every task."""
    for task in ingested.study.tasks:
        build_features(ingested.study, ingested.store, task)
    return ingested


@pytest.fixture(scope="session")
def trained(built: Built) -> StageSummary:
    """The outcome of training `relapse` once."""
    return train(built.study, built.store, "relapse")
