"""The stage `evaluate` on a small study of real files, its figures computed again by scikit-learn and lifelines."""

from typing import Any

import pandas as pd
import pytest
from lifelines.utils import concordance_index
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from clinical_mm.errors import ModelError, StoreError
from clinical_mm.evaluation.evaluate import evaluate
from clinical_mm.evaluation.record import Evaluation, latest_evaluated, load_evaluation, require_evaluation
from clinical_mm.features.build import build_features
from clinical_mm.features.loaded import TaskFeatures
from clinical_mm.summary import StageSummary
from clinical_mm.training.finetune import train
from clinical_mm.training.members import open_version


@pytest.fixture(scope="module")
def summary(built: Any, trained: StageSummary) -> StageSummary:
    assert trained.path is not None
    return evaluate(built.study, built.store, "relapse", trained.path.name)


@pytest.fixture(scope="module")
def evaluation(built: Any, trained: StageSummary, summary: StageSummary) -> Evaluation:
    assert trained.path is not None
    found = load_evaluation(built.store, "relapse", trained.path.name)
    assert found is not None
    return found


def of(frame: pd.DataFrame, **values: str) -> pd.DataFrame:
    for column, value in values.items():
        frame = frame[frame[column] == value]
    return frame


def test_the_figures_are_scikit_learns_own(evaluation: Evaluation) -> None:
    metrics, predictions = evaluation.metrics(), evaluation.predictions()
    judges = {
        "auroc": lambda p: roc_auc_score(p["label"], p["score"]),
        "auprc": lambda p: average_precision_score(p["label"], p["score"]),
        "brier": lambda p: brier_score_loss(p["label"], p["probability"]),
    }
    checked = 0
    for (model, subset), rows in of(predictions, split="test").groupby(["model", "subset"]):
        for name, judge in judges.items():
            (row,) = of(metrics, model=model, subset=subset, split="test", metric=name).to_dict("records")
            assert row["value"] == pytest.approx(judge(rows))
            assert row["lower"] <= row["value"] <= row["upper"]
            assert row["n_patients"] == len(rows)
            checked += 1
    assert checked == 3 * (15 + 5)


def test_every_model_is_judged_on_the_same_patients(evaluation: Evaluation, built: Any) -> None:
    tested = of(evaluation.predictions(), split="test")
    who = {tuple(rows["patient_id"]) for _, rows in tested.groupby(["model", "subset"])}
    assert who == {tuple(built.features("relapse").patients(0, "test"))}


def test_calibration_keeps_the_order_of_the_patients(evaluation: Evaluation) -> None:
    whole = of(evaluation.predictions(), model="fusion", subset="text+image+genomics+clinical", split="test")
    ranked = whole.sort_values("score")
    assert ranked["probability"].is_monotonic_increasing
    assert whole["probability"].between(0, 1).all()


def test_the_first_line_says_how_fusion_stands_to_the_best_baseline(evaluation: Evaluation) -> None:
    metrics = of(evaluation.metrics(), split="test", metric="auroc")
    fusion = of(metrics, model="fusion", subset="text+image+genomics+clinical")["value"].item()
    best = metrics[metrics["model"] != "fusion"]["value"].max()
    assert f"{fusion:.3f} against {best:.3f}" in evaluation.first_line
    verdict = "does NOT beat" if fusion < best else "better"
    assert verdict in evaluation.first_line or "WORSE" in evaluation.first_line


def test_scikit_learns_report_stands_beside_it(evaluation: Evaluation) -> None:
    report = (evaluation.directory / "report.txt").read_text(encoding="utf-8")
    tested = of(evaluation.predictions(), model="fusion", subset="text", split="test")
    support = tested["label"].value_counts()
    lines = {line.split()[0] if line.split() else "": line.split() for line in report.splitlines()}
    assert lines["yes"][-1] == str(support[1.0])
    assert lines["weighted"][-1] == str(len(tested))


def test_an_evaluation_that_stands_is_not_made_again(
    built: Any, summary: StageSummary, evaluation: Evaluation
) -> None:
    again = evaluate(built.study, built.store, "relapse", evaluation.version)
    assert again.is_unchanged
    assert again.facts == summary.facts
    assert require_evaluation(built.store, "relapse", evaluation.version).directory == evaluation.directory


def test_each_version_keeps_its_own_evaluation(built: Any, evaluation: Evaluation) -> None:
    other = train(built.study, built.store, "relapse", seed=99)
    assert other.path is not None
    evaluate(built.study, built.store, "relapse", other.path.name)
    assert latest_evaluated(built.store, "relapse") == other.path.name
    assert require_evaluation(built.store, "relapse").version == other.path.name
    kept = require_evaluation(built.store, "relapse", evaluation.version)
    assert kept.about == evaluation.about
    pd.testing.assert_frame_equal(kept.predictions(), evaluation.predictions())


def test_a_survival_task_is_judged_by_the_c_index_at_a_horizon_that_the_report_names(built: Any) -> None:
    train(built.study, built.store, "survival")
    evaluate(built.study, built.store, "survival")
    found = require_evaluation(built.store, "survival")
    whole = of(found.predictions(), model="fusion", subset="genomics+clinical", split="test")
    (row,) = of(
        found.metrics(), model="fusion", subset="genomics+clinical", split="test", metric="c_index"
    ).to_dict("records")
    assert row["value"] == pytest.approx(
        concordance_index(whole["duration"], -whole["score"], whole["label"])
    )
    assert whole["probability"].isna().all()
    assert found.calibration.horizon is not None
    report = (found.directory / "report.txt").read_text(encoding="utf-8")
    assert f"event within {found.calibration.horizon:.3g} months" in report


def test_a_multiclass_task_has_a_line_a_class_in_the_report(built: Any) -> None:
    train(built.study, built.store, "grade")
    evaluate(built.study, built.store, "grade")
    found = require_evaluation(built.store, "grade")
    report = (found.directory / "report.txt").read_text(encoding="utf-8")
    table = [line.split()[0] for line in report.splitlines()[2:] if line.split()]
    assert table[1:4] == ["low", "intermediate", "high"]
    by_patient = of(found.predictions(), model="fusion", subset="genomics+clinical", split="test")
    assert by_patient.groupby("patient_id")["probability"].sum().to_numpy() == pytest.approx(1.0)


def test_without_an_evaluation_the_error_names_the_stage_to_run(built: Any) -> None:
    with pytest.raises(StoreError, match="clinical-mm evaluate"):
        require_evaluation(built.store, "folds", "0123456789ab")
    with pytest.raises(ModelError, match="no model"):
        evaluate(built.study, built.store, "relapse", "0123456789ab")


def test_a_model_refuses_features_of_another_form(built: Any, trained: StageSummary) -> None:
    assert trained.path is not None
    changed = built.changed("relapse", modalities={"image": {"size": (8, 8, 10), "spatial_dims": 3}})
    build_features(changed, built.store, "relapse")
    try:
        features = TaskFeatures.load(changed, built.store, "relapse")
        with pytest.raises(ModelError, match="another form of image than"):
            open_version(built.store, "relapse", trained.path.name, features)
    finally:
        build_features(built.study, built.store, "relapse")
