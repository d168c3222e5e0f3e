"""Who is champion: MLflow for real, on SQLite, with models of a small study of real files."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from clinical_mm import registry, tables
from clinical_mm.errors import CheckFailedError, ModelError, StoreError
from clinical_mm.evaluation.contest import against_champion
from clinical_mm.evaluation.evaluate import evaluate
from clinical_mm.evaluation.record import require_evaluation
from clinical_mm.evaluation.score import score
from clinical_mm.features.build import build_features
from clinical_mm.features.loaded import TaskFeatures
from clinical_mm.store import Store
from clinical_mm.study.root import Study
from clinical_mm.study.tasks import PromotionSettings
from clinical_mm.training.finetune import train

TASK = "folds"
"""Cross-validated on tables alone, so that a model takes a second."""


@pytest.fixture(scope="module")
def two_models(built: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Store, str, str]:
    """A copy of the study with two evaluated models of a task, and nothing registered."""
    directory = tmp_path_factory.mktemp("registry") / "demo"
    shutil.copytree(built.path.parent, directory, ignore=shutil.ignore_patterns("mlflow*", "landing"))
    study = built.study.placed_in(directory)
    store = Store(study.store_path)
    build_features(study, store, TASK)
    versions = []
    for seed in (1, 2):
        made = train(study, store, TASK, seed=seed)
        assert made.path is not None
        versions.append(made.path.name)
        evaluate(study, store, TASK)
    return study, store, versions[0], versions[1]


@pytest.fixture(scope="module")
def empty_registry(
    two_models: tuple[Study, Store, str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """MLflow's database with its tables and nothing in them: making them takes seconds."""
    study, store, _, _ = two_models
    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    assert registry.champion(tracked(study, f"sqlite:///{path}"), store, TASK) is None
    return path


@pytest.fixture
def models(
    two_models: tuple[Study, Store, str, str], empty_registry: Path, tmp_path: Path
) -> tuple[Study, Store, str, str]:
    """The same, each test with a registry of its own and a rule that lets everything pass."""
    study, store, first, second = two_models
    task = study.tasks[TASK].model_copy(
        update={"promotion": PromotionSettings(margin=0.49, beat_baseline=False)}
    )
    shutil.copy(empty_registry, tmp_path / "mlflow.db")
    changed = study.model_copy(update={"tasks": dict(study.tasks) | {TASK: task}})
    changed = tracked(changed.placed_in(study.directory), f"sqlite:///{tmp_path / 'mlflow.db'}")
    return changed, store, first, second


def tracked(study: Study, uri: str) -> Study:
    tracking = study.tracking.model_copy(update={"uri": uri})
    return study.model_copy(update={"tracking": tracking}).placed_in(study.directory)


def with_rule(study: Study, **rule: object) -> Study:
    task = study.tasks[TASK].model_copy(update={"promotion": PromotionSettings(**rule)})
    return study.model_copy(update={"tasks": dict(study.tasks) | {TASK: task}}).placed_in(study.directory)


def test_the_first_model_becomes_champion_and_then_nothing_changes(
    models: tuple[Study, Store, str, str],
) -> None:
    study, store, _, second = models
    assert registry.champion(study, store, TASK) is None
    summary = registry.consider(study, store, TASK)
    assert summary.facts["champion"] == second
    assert registry.champion(study, store, TASK) == second
    assert registry.consider(study, store, TASK).is_unchanged
    assert len(registry.history(study, store, TASK)) == 1


def test_mlflow_itself_shows_the_versions_their_aliases_and_their_metrics(
    models: tuple[Study, Store, str, str],
) -> None:
    study, store, first, second = models
    registry.promote(study, store, TASK, first)
    registry.consider(study, store, TASK)
    client = MlflowClient(study.tracking.uri, study.tracking.uri)
    name = f"{study.study}-{TASK}"
    champion = client.get_model_version_by_alias(name, "champion")
    assert champion.tags["clinical_mm.version"] == second
    assert {v.tags["clinical_mm.version"] for v in client.search_model_versions(f"name = '{name}'")} == {
        first,
        second,
    }
    run = client.get_run(champion.run_id)
    metrics = require_evaluation(store, TASK, second).metrics()
    whole = metrics[(metrics["model"] == "fusion") & (metrics["subset"] == "genomics+clinical")]
    (auroc,) = whole[(whole["split"] == "test") & (whole["metric"] == "auroc")]["value"]
    assert run.data.metrics["fusion/genomics-clinical/auroc"] == pytest.approx(auroc)
    assert run.data.params["training.epochs"] == "2"


def test_a_challenger_that_may_be_worse_by_more_than_the_margin_does_not_take_the_place(
    models: tuple[Study, Store, str, str],
) -> None:
    study, store, first, second = models
    registry.promote(study, store, TASK, first)
    strict = with_rule(study, margin=0.0, beat_baseline=False)
    contest, _ = against_champion(strict, store, TASK, require_evaluation(store, TASK, second), first)
    assert contest is not None
    assert contest.lower <= 0  # two seeds of one small model: their difference is not above nothing for sure
    summary = registry.consider(strict, store, TASK)
    assert registry.champion(strict, store, TASK) == first
    assert registry.challenger(strict, store, TASK) == second
    (check,) = summary.checks
    assert not check.is_passed
    assert "may be worse than the champion" in check.sentence
    with pytest.raises(CheckFailedError, match="--force"):
        registry.promote(strict, store, TASK)
    registry.promote(strict, store, TASK, force=True)
    assert registry.champion(strict, store, TASK) == second
    assert [e.kind for e in registry.history(strict, store, TASK)] == ["promoted", "forced"]


def test_a_model_that_loses_to_the_best_baseline_is_not_promoted(
    models: tuple[Study, Store, str, str],
) -> None:
    study, store, first, second = models
    asked = with_rule(study, margin=0.49, beat_baseline=True)
    for version in (first, second):
        difference = require_evaluation(store, TASK, version).about["against_baseline"]["difference"]
        if difference >= 0:
            registry.promote(asked, store, TASK, version)
            assert registry.champion(asked, store, TASK) == version
        else:
            with pytest.raises(CheckFailedError, match="worse than the best classical baseline"):
                registry.promote(asked, store, TASK, version)


def test_the_champion_is_compared_on_what_it_says_today_about_patients_held_out_from_both(
    models: tuple[Study, Store, str, str],
) -> None:
    study, store, first, second = models
    contest, note = against_champion(study, store, TASK, require_evaluation(store, TASK, second), first)
    back, _ = against_champion(study, store, TASK, require_evaluation(store, TASK, first), second)
    assert note is None
    assert contest is not None
    assert back is not None
    assert contest.difference == pytest.approx(-back.difference)
    assert contest.n_patients == TaskFeatures.load(study, store, TASK).splits["patient_id"].nunique()


def test_every_promotion_can_be_undone_one_after_the_other(models: tuple[Study, Store, str, str]) -> None:
    study, store, first, second = models
    for version in (first, second, first):
        registry.promote(study, store, TASK, version, force=True)
    assert registry.champion(study, store, TASK) == first
    registry.rollback(study, store, TASK)
    assert registry.champion(study, store, TASK) == second
    registry.rollback(study, store, TASK)
    assert registry.champion(study, store, TASK) == first
    with pytest.raises(ModelError, match="nothing to go back to"):
        registry.rollback(study, store, TASK)
    assert [e.kind for e in registry.history(study, store, TASK)][-2:] == ["rolled_back", "rolled_back"]


def test_a_registry_that_cannot_be_reached_is_one_sentence(
    models: tuple[Study, Store, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, store, _, _ = models
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ModelError, match="tracking") as caught:
        registry.champion(tracked(study, "http://127.0.0.1:9"), store, TASK)
    assert "\n" not in str(caught.value)


def test_without_a_champion_scoring_says_so_and_does_not_fail(models: tuple[Study, Store, str, str]) -> None:
    study, store, _, _ = models
    summary = score(study, store, TASK, None)
    assert summary.facts["patients scored"] == 0
    assert not summary.failed_checks
    assert "no champion" in summary.checks[0].sentence


def test_the_champion_scores_exactly_the_patients_whose_outcome_is_not_known(
    models: tuple[Study, Store, str, str],
) -> None:
    study, store, first, _ = models
    summary = score(study, store, TASK, first)
    assert summary.path is not None
    scores = tables.read_table(tables.SCORES, summary.path)
    features = TaskFeatures.load(study, store, TASK)
    waiting = features.cohort.index[features.cohort["label"].isna()]
    usable = [p for p in waiting if features.present(p).any()]
    assert list(scores["patient_id"]) == sorted(usable)
    assert len(usable) > 0
    assert (scores["lower"] <= scores["risk"]).all()
    assert (scores["risk"] <= scores["upper"]).all()
    assert set(scores["version"]) == {first}
    assert score(study, store, TASK, first).is_unchanged


def test_nothing_is_considered_before_an_evaluation(built: Any, tmp_path: Path) -> None:
    study = built.study.placed_in(tmp_path)
    with pytest.raises(StoreError, match="clinical-mm evaluate"):
        registry.consider(study, Store(study.store_path), TASK)
