import numpy as np
import pytest
from lifelines import CoxPHFitter, KaplanMeierFitter
from scipy.optimize import minimize
from scipy.special import expit, log_softmax
from sklearn.linear_model import LogisticRegression

from clinical_mm.evaluation.calibration import (
    Calibration,
    fit_calibration,
    median_follow_up,
    reliability,
)
from clinical_mm.evaluation.held_out import HeldOut
from clinical_mm.evaluation.recalibration import fit_hazard, fit_line, fit_temperature


def held(kind, score, label, duration=None, fold=None) -> HeldOut:
    score = np.asarray(score, float)
    n = len(score)
    ids = np.array([f"p{i:04d}" for i in range(n)], dtype=object)
    folds = np.zeros(n, int) if fold is None else np.asarray(fold)
    scores = score.reshape(n, -1)
    return HeldOut(kind, ids, folds, scores, None, None, np.asarray(label, int), duration)


def calibrate(validation, n_resamples=200, **further):
    return fit_calibration(
        validation,
        {0: 0.5} | further.pop("thresholds", {}),
        n_resamples=n_resamples,
        confidence=0.95,
        seed=1,
        **further,
    )


def test_the_line_equals_scikit_learns_on_plattss_targets():
    rng = np.random.default_rng(0)
    score = rng.normal(size=60) * 3
    label = (rng.random(60) < expit(0.5 * score - 0.7)).astype(int)
    up, down = label.sum(), 60 - label.sum()
    target = np.where(label == 1, (up + 1) / (up + 2), 1 / (down + 2))
    twice = np.r_[score, score][:, None]
    library = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    library.fit(twice, np.repeat([1, 0], 60), sample_weight=np.r_[target, 1 - target])
    found = fit_line(score, label, np.ones((1, 60)))[0]
    assert found == pytest.approx([library.intercept_[0], library.coef_[0, 0]], rel=1e-4)


def test_a_resample_by_counts_is_fitted_as_the_resample_itself():
    rng = np.random.default_rng(1)
    score, label = rng.normal(size=20), rng.integers(0, 2, 20)
    counts = rng.multinomial(20, np.full(20, 0.05))
    rows = np.repeat(np.arange(20), counts)
    by_counts = fit_line(score, label, counts[None].astype(float))
    itself = fit_line(score[rows], label[rows], np.ones((1, 20)))
    assert by_counts == pytest.approx(itself, abs=1e-6)


def test_perfectly_separated_validation_patients_do_not_give_certainty():
    calibration = calibrate(held("binary", [-2.0, -1.0, -1.5, 1.0, 1.5, 2.0], [0, 0, 0, 1, 1, 1]))
    risk, lower, upper = calibration.risk(np.array([-2.0, 2.0]))
    assert 0.05 < risk[0] < 0.25
    assert 0.75 < risk[1] < 0.95
    assert (lower <= risk).all()
    assert (risk <= upper).all()


def test_a_model_that_ranks_the_wrong_way_on_validation_gets_the_prevalence_for_everybody():
    calibration = calibrate(held("binary", np.arange(20), np.arange(20) < 10))
    risk, _, _ = calibration.risk(np.array([-5.0, 0.0, 30.0]))
    assert risk == pytest.approx([0.5, 0.5, 0.5])


def test_the_interval_of_a_risk_narrows_with_more_validation_patients():
    rng = np.random.default_rng(2)

    def width(n):
        score = rng.normal(size=n)
        _, lower, upper = calibrate(held("binary", score, rng.random(n) < expit(score))).risk(np.array([1.0]))
        return float(upper[0] - lower[0])

    assert width(2000) < width(60) / 3


def test_overconfident_log_odds_are_brought_back_to_the_truth():
    rng = np.random.default_rng(3)
    truth = rng.normal(size=4000)
    label = rng.random(4000) < expit(truth - 1)
    calibration = calibrate(held("binary", 4 * truth, label), n_resamples=20)
    risk, _, _ = calibration.risk(np.array([-4.0, 0.0, 4.0]))
    assert risk == pytest.approx(expit(np.array([-2.0, -1.0, 0.0])), abs=0.03)


def test_the_temperature_minimises_the_smoothed_loss():
    rng = np.random.default_rng(4)
    label = rng.integers(0, 3, 50)
    logits = 4 * (rng.normal(size=(50, 3)) + np.eye(3)[label])
    smoothing = 3 / 53
    target = (1 - smoothing) * np.eye(3)[label] + smoothing / 3

    def loss(beta):
        return -(target * log_softmax(beta[0] * logits, axis=1)).sum()

    expected = minimize(loss, [0.3], tol=1e-12).x[0]
    assert fit_temperature(logits, label, np.ones((1, 50)))[0, 0] == pytest.approx(expected, rel=1e-4)


def test_multiclass_risks_sum_to_one_and_keep_the_order():
    rng = np.random.default_rng(5)
    label = rng.integers(0, 4, 40)
    logits = 5 * (rng.normal(size=(40, 4)) + np.eye(4)[label])
    risk, lower, upper = calibrate(held("multiclass", logits, label)).risk(logits)
    assert risk.sum(axis=1) == pytest.approx(np.ones(40))
    assert (risk.argmax(axis=1) == logits.argmax(axis=1)).all()
    assert ((lower <= risk) & (risk <= upper)).all()


def cohort(n, rng):
    score = rng.normal(size=n)
    time = rng.exponential(1 / np.exp(0.8 * score))
    censored = rng.exponential(1.5, n)
    return score, np.minimum(time, censored), (time <= censored).astype(int)


def test_without_much_prior_the_slope_and_baseline_are_lifelines():
    score, duration, event = cohort(3000, np.random.default_rng(6))
    import pandas as pd

    frame = pd.DataFrame({"x": score, "t": duration, "e": event})
    library = CoxPHFitter().fit(frame, "t", "e")
    slope, hazard = fit_hazard(score, duration, event, np.ones((1, 3000)), horizon=1.0)[0]
    assert slope == pytest.approx(library.params_["x"], abs=0.002)
    curve = library.predict_cumulative_hazard(pd.DataFrame({"x": [0.0]}), times=[1.0])
    assert hazard == pytest.approx(curve.iloc[0, 0], rel=0.005)


def test_the_risk_of_survival_is_the_share_that_has_the_event_by_the_horizon():
    score, duration, event = cohort(4000, np.random.default_rng(7))
    calibration = calibrate(held("survival", score, event, duration), n_resamples=50, horizon=0.5)
    risk, lower, upper = calibration.risk(np.array([-1.0, 0.0, 1.0]))
    truth = 1 - np.exp(-0.5 * np.exp(0.8 * np.array([-1.0, 0.0, 1.0])))
    assert risk == pytest.approx(truth, abs=0.03)
    assert ((lower <= risk) & (risk <= upper)).all()


def test_a_constant_score_gives_the_kaplan_meier_risk():
    _, duration, event = cohort(400, np.random.default_rng(8))
    calibration = calibrate(held("survival", np.zeros(400), event, duration), horizon=0.7)
    kaplan_meier = KaplanMeierFitter().fit(duration, event).predict(0.7)
    assert calibration.risk(0.0)[0] == pytest.approx(1 - kaplan_meier, abs=0.003)


def test_validation_without_an_event_gives_no_risk_and_says_so(tmp_path):
    calibration = calibrate(held("survival", np.arange(9), np.zeros(9), np.arange(9) + 1.0), horizon=3.0)
    assert "no risk" in calibration.folds[0].note
    assert np.isnan(calibration.risk(np.array([1.0]))[0]).all()
    calibration.write(tmp_path)
    assert "NaN" not in (tmp_path / "calibration.json").read_text()
    assert np.isnan(Calibration.load(tmp_path).risk(np.array([1.0]))[0]).all()


def test_too_few_validation_patients_leave_the_models_own_probability_and_say_so():
    calibration = calibrate(held("binary", [0.0, 1.0], [0, 1]))
    assert calibration.risk(np.array([0.3]))[0] == pytest.approx(expit(0.3))
    assert "own probability" in calibration.folds[0].note


def test_a_calibration_is_read_back_as_it_was_written(tmp_path):
    rng = np.random.default_rng(9)
    validation = held("binary", rng.normal(size=40), rng.integers(0, 2, 40), fold=np.repeat([0, 1], 20))
    calibration = calibrate(validation, thresholds={1: 0.25}, meaning="risk of progression")
    calibration.write(tmp_path)
    back = Calibration.load(tmp_path)
    assert back.thresholds == {0: 0.5, 1: 0.25}
    assert back.meaning == "risk of progression"
    for one, other in zip(calibration.risk(0.4, fold=1), back.risk(0.4, fold=1), strict=True):
        assert one == pytest.approx(other, abs=1e-12)


def test_median_follow_up_is_the_reverse_kaplan_meier():
    assert median_follow_up(np.array([1.0, 2, 3, 4, 5]), np.zeros(5)) == 3.0
    # All had the event: nobody was censored, so the durations themselves are what there is.
    assert median_follow_up(np.array([1.0, 2, 3]), np.ones(3)) == 2.0


def test_reliability_sets_what_was_said_against_what_was_seen():
    risk = np.repeat([0.2, 0.8], 50)
    label = np.r_[np.repeat([1, 0], [10, 40]), np.repeat([1, 0], [40, 10])].astype(float)
    table = reliability(risk, label, None, None, n_groups=2)
    assert table["n_patients"].tolist() == [50, 50]
    assert table["mean_risk"].to_numpy() == pytest.approx([0.2, 0.8])
    assert table["observed_risk"].to_numpy() == pytest.approx([0.2, 0.8])


def test_without_a_risk_there_is_no_group() -> None:
    nothing = np.array([])
    table = reliability(nothing, nothing, nothing, 12.0)
    assert table.columns.tolist() == ["n_patients", "mean_risk", "observed_risk"]
    assert table.empty
