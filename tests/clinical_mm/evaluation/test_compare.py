import numpy as np
import pytest
from scipy.stats import norm

from clinical_mm.errors import ModelError
from clinical_mm.evaluation.compare import Comparison, compare, decide
from clinical_mm.evaluation.held_out import HeldOut


def held(score, label, ids=None) -> HeldOut:
    score = np.asarray(score, float)
    p = 1 / (1 + np.exp(-score))
    names = np.array(ids or [f"p{i:04d}" for i in range(len(score))], dtype=object)
    zeros = np.zeros(len(score), int)
    return HeldOut("binary", names, zeros, score[:, None], p[:, None], (p > 0.5).astype(int), label, None)


def against(first, second, **further) -> Comparison:
    options = {"n_resamples": 1000, "confidence": 0.95, "margin": 0.02, "seed": 1} | further
    return compare(first, second, ("challenger", "champion"), **options)


def comparison(difference=0.0, lower=-0.01, upper=0.01, margin=0.02) -> Comparison:
    return Comparison("a", "b", "auroc", 0.8, 0.8, difference, lower, upper, 0.95, margin, 0.0, 100, 40)


def test_a_model_compared_with_itself_differs_by_exactly_nothing():
    rng = np.random.default_rng(0)
    model = held(rng.normal(size=80), rng.integers(0, 2, 80))
    found = against(model, model)
    assert (found.difference, found.lower, found.upper, found.p_worse_than_margin) == (0, 0, 0, 0)


def test_pairing_sees_a_small_difference_that_separate_intervals_would_hide():
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], 150)
    common = rng.normal(size=300)
    better, worse = held(common + 1.1 * label, label), held(common + 0.9 * label, label)
    found = against(better, worse)
    assert found.is_better
    assert found.upper - found.lower < 0.04  # apart, each interval is about 0.11 wide


def test_the_paired_interval_agrees_with_delongs_variance():
    rng = np.random.default_rng(3)
    label = np.repeat([0, 1], 120)
    common = rng.normal(size=240)
    first = common + 0.5 * rng.normal(size=240) + 1.2 * label
    second = common + 0.5 * rng.normal(size=240) + 1.0 * label
    found = against(held(first, label), held(second, label), n_resamples=4000)

    def placements(score):
        wins = (score[label == 1][:, None] > score[label == 0][None, :]).astype(float)
        return wins.mean(axis=1), wins.mean(axis=0)

    (p1, n1), (p2, n2) = placements(first), placements(second)
    error = np.sqrt(np.var(p1 - p2, ddof=1) / 120 + np.var(n1 - n2, ddof=1) / 120)
    width = 2 * norm.ppf(0.975) * error
    assert found.upper - found.lower == pytest.approx(width, rel=0.1)


def test_a_difference_in_the_brier_score_is_signed_so_that_above_0_is_better():
    label = np.array([0, 1] * 20)
    sure, unsure = held(np.where(label, 3.0, -3.0), label), held(np.where(label, 0.5, -0.5), label)
    assert against(sure, unsure, metric="brier").difference > 0


def test_models_judged_on_different_patients_are_not_compared():
    label = np.array([0, 1, 0, 1])
    with pytest.raises(ModelError, match="different patients"):
        against(held([0, 1, 2, 3], label), held([0, 1, 2, 3], label, ids=["a", "b", "c", "d"]))


def test_patients_with_one_outcome_alone_cannot_decide():
    label = np.ones(5, int)
    with pytest.raises(ModelError, match="without two outcomes"):
        against(held(np.arange(5), label), held(np.arange(5), label))


@pytest.mark.parametrize(
    ("champion", "baseline", "beat_baseline", "is_allowed"),
    [
        (None, comparison(0.001), True, True),  # the first champion has only the baseline to be held against
        (None, comparison(-0.001), True, False),
        (None, comparison(-0.001), False, True),
        (None, None, True, False),  # asked for and not computed: not granted
        (None, None, False, True),
        (comparison(0.0, lower=-0.019), comparison(0.05), True, True),
        (comparison(0.0, lower=-0.02), comparison(0.05), True, False),  # on the margin is not above it
        (comparison(0.05, lower=0.01), comparison(-0.05), True, False),
    ],
)
def test_the_rule_of_promotion(champion, baseline, beat_baseline, is_allowed):
    decision = decide(champion, baseline, beat_baseline)
    assert decision.is_allowed is is_allowed
    assert decision.sentence
