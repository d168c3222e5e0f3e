import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines.utils import concordance_index
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score

from clinical_mm import tables
from clinical_mm.evaluation.concordance import comparable_pairs, resampled_c_index
from clinical_mm.evaluation.held_out import HeldOut, held_out
from clinical_mm.evaluation.metrics import (
    METRICS,
    Estimate,
    estimates,
    metrics_table,
    resampled,
    resampled_auprc,
    resampled_auroc,
    value,
)
from clinical_mm.evaluation.resampling import FoldResamples, draw


def binary(score, label, fold=None, probability=None) -> HeldOut:
    score, label = np.asarray(score, float), np.asarray(label)
    p = 1 / (1 + np.exp(-score)) if probability is None else np.asarray(probability, float)
    ids = np.array([f"p{i:04d}" for i in range(len(score))], dtype=object)
    folds = np.zeros(len(score), int) if fold is None else np.asarray(fold)
    return HeldOut(
        "binary", ids, folds, score[:, None], p[:, None], (p >= 0.5).astype(int), label.astype(int), None
    )


def survival(score, duration, event, fold=None) -> HeldOut:
    n = len(score)
    ids = np.array([f"p{i:04d}" for i in range(n)], dtype=object)
    folds = np.zeros(n, int) if fold is None else np.asarray(fold)
    return HeldOut(
        "survival",
        ids,
        folds,
        np.asarray(score, float)[:, None],
        None,
        None,
        np.asarray(event, int),
        np.asarray(duration, float),
    )


def as_drawn(held: HeldOut) -> list[FoldResamples]:
    """Every patient drawn exactly once."""
    return [
        FoldResamples(int(f), rows := np.flatnonzero(held.folds == f), np.ones((1, len(rows)), np.uint16))
        for f in np.unique(held.folds)
    ]


def by_hand(drawn: np.ndarray) -> np.ndarray:
    """Places of the patients in a resample, given how often each was drawn."""
    return np.repeat(np.arange(len(drawn)), drawn)


def test_auroc_of_four_patients_is_the_share_of_pairs_in_order():
    # Positives .8 and .35, negatives .4 and .1: of four pairs three are in order.
    held = binary([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    assert value(held, "auroc", as_drawn(held)) == 0.75


def test_c_index_of_three_patients_counts_the_pairs_by_hand():
    # Comparable: (1, 2), (1, 3), (2, 3 censored later). Scores put (1, 2) and (1, 3) in order and (2, 3) not.
    held = survival([3.0, 1.0, 2.0], [1.0, 2.0, 3.0], [1, 1, 0])
    assert value(held, "c_index", as_drawn(held)) == pytest.approx(2 / 3)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_resampled_ranking_metrics_equal_scikit_learn_on_the_resample_itself(data):
    n = data.draw(st.integers(4, 25))
    score = np.array(data.draw(st.lists(st.integers(-3, 3), min_size=n, max_size=n)), float)  # many ties
    label = np.array([*data.draw(st.lists(st.booleans(), min_size=n - 2, max_size=n - 2)), True, False])
    counts = np.array([*data.draw(st.lists(st.integers(0, 3), min_size=n - 2, max_size=n - 2)), 1, 1])
    rows = by_hand(counts)
    drawn = counts[None].astype(float)
    assert resampled_auroc(score, label, drawn)[0] == pytest.approx(roc_auc_score(label[rows], score[rows]))
    expected = average_precision_score(label[rows], score[rows])
    assert resampled_auprc(score, label, drawn)[0] == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_resampled_c_index_equals_lifelines_on_the_resample_itself(data):
    n = data.draw(st.integers(3, 25))
    numbers = st.lists(st.integers(1, 6), min_size=n, max_size=n)  # many ties, in score and in time
    score, duration = (np.array(data.draw(numbers), float) for _ in range(2))
    event = np.array(data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    duration[0], event[0], duration[1] = 1.0, 1, 7.0
    counts = np.array([1, 1, *data.draw(st.lists(st.integers(0, 3), min_size=n - 2, max_size=n - 2))])
    rows = by_hand(counts)
    expected = concordance_index(duration[rows], -score[rows], event[rows])
    found = resampled_c_index(score, duration, event, counts[None].astype(float))[0]
    assert found == pytest.approx(expected)


def test_every_metric_with_every_patient_drawn_once_is_the_librarys_value():
    rng = np.random.default_rng(1)
    fold = np.repeat([0, 1, 2], 40)
    label = rng.integers(0, 2, 120)
    models = [
        binary(rng.normal(size=120) + label, label, fold),
        survival(rng.normal(size=120), rng.integers(1, 40, 120), label, fold),
        multiclass(rng, fold),
    ]
    for held in models:
        for metric in METRICS[held.kind]:
            once = resampled(held, metric, as_drawn(held))
            assert once[0] == pytest.approx(value(held, metric, as_drawn(held)), abs=1e-12), metric


def multiclass(rng, fold) -> HeldOut:
    n = len(fold)
    label = rng.integers(0, 3, n)
    logits = rng.normal(size=(n, 3)) + 1.5 * np.eye(3)[label]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    ids = np.array([f"p{i:04d}" for i in range(n)], dtype=object)
    return HeldOut("multiclass", ids, fold, logits, p, p.argmax(axis=1), label, None)


def test_multiclass_metrics_equal_scikit_learns():
    held = multiclass(np.random.default_rng(2), np.zeros(90, int))
    once = as_drawn(held)
    assert value(held, "auroc_macro", once) == pytest.approx(
        roc_auc_score(held.labels, held.probabilities, multi_class="ovr", average="macro")
    )
    assert value(held, "balanced_accuracy", once) == pytest.approx(
        balanced_accuracy_score(held.labels, held.decisions)
    )


def test_the_brier_score_of_two_patients_is_worked_out_by_hand():
    held = binary([0.0, 0.0], [0, 1], probability=[0.2, 0.7])
    assert value(held, "brier", as_drawn(held)) == pytest.approx((0.04 + 0.09) / 2)


def test_folds_are_judged_apart_since_their_scores_have_no_common_scale():
    # Within each fold the order is perfect; the second fold's scores all lie above the first's.
    held = binary([0, 1, 10, 11], [0, 1, 0, 1], fold=[0, 0, 1, 1])
    assert value(held, "auroc", as_drawn(held)) == 1.0
    assert roc_auc_score(held.labels, held.scores[:, 0]) < 1.0


def test_every_resample_has_both_classes_even_where_one_is_a_single_patient():
    held = binary(np.arange(30), np.arange(30) == 7)
    counts = draw(held, 500, seed=3)[0].counts
    assert counts.shape == (500, 30)
    assert (counts.sum(axis=1) == 30).all()
    assert (counts[:, 7] > 0).all()
    assert (counts.sum(axis=1) - counts[:, 7] > 0).all()


def test_every_resample_of_survival_has_a_comparable_pair():
    held = survival(np.arange(12), [5.0] * 11 + [9.0], [1] + [0] * 11)
    counts = draw(held, 300, seed=3)[0].counts.astype(float)
    pairs = comparable_pairs(held.durations, held.labels)
    assert (np.einsum("ri,ij,rj->r", counts, pairs, counts) > 0).all()


def test_a_fold_without_two_outcomes_is_left_out_and_not_counted():
    held = binary([0.1, 0.9, 0.4, 0.3], [0, 1, 0, 0], fold=[0, 0, 1, 1])
    found = {e.metric: e for e in estimates(held, draw(held, 100, 1), 0.95)}
    assert found["auroc"].n_patients == 2
    assert found["auroc"].value == 1.0


def test_no_fold_with_two_outcomes_gives_no_value_rather_than_a_number():
    held = binary([0.1, 0.9], [1, 1])
    assert estimates(held, draw(held, 100, 1), 0.95)[0] == Estimate("auroc", None, None, None, 2, 2)


def test_the_interval_of_the_auroc_covers_the_truth_about_as_often_as_it_says():
    # Two normals one standard deviation apart: the true AUROC is Phi(1 / sqrt(2)) = .7602.
    truth, covered, n_cohorts = 0.76025, 0, 120
    rng = np.random.default_rng(5)
    label = np.repeat([0, 1], 60)
    for _ in range(n_cohorts):
        held = binary(rng.normal(size=120) + label, label)
        auroc = estimates(held, draw(held, 400, 1), 0.9)[0]
        covered += auroc.lower <= truth <= auroc.upper
    assert 0.82 <= covered / n_cohorts <= 0.97  # 3 standard errors around .90


def test_the_same_seed_gives_the_same_interval_and_another_another():
    rng = np.random.default_rng(0)
    held = binary(rng.normal(size=50), rng.integers(0, 2, 50))
    one, again, other = (estimates(held, draw(held, 200, s), 0.95) for s in (1, 1, 2))
    assert one == again
    assert one != other


def test_a_large_set_in_blocks_gives_what_it_gives_in_one(monkeypatch):
    from clinical_mm.evaluation import concordance, metrics

    rng = np.random.default_rng(0)
    held = survival(rng.normal(size=80), rng.exponential(size=80), rng.integers(0, 2, 80))
    whole = resampled(held, "c_index", draw(held, 100, 1))
    monkeypatch.setattr(concordance, "_BLOCK", 7)
    monkeypatch.setattr(metrics, "_CELLS", 80 * 9)
    assert resampled(held, "c_index", draw(held, 100, 1)) == pytest.approx(whole)


def test_predictions_become_arrays_sorted_by_fold_and_patient_without_the_unlabelled():
    frame = pd.DataFrame(
        {
            "model": "fusion",
            "subset": "text",
            "fold": [1, 0, 0],
            "patient_id": ["a", "c", "b"],
            "split": "test",
            "output": 0,
            "score": [1.0, 2.0, 3.0],
            "probability": [0.3, 0.9, 0.2],
            "label": [1.0, np.nan, 0.0],
            "duration": np.nan,
        }
    )
    held = held_out(frame, "binary", thresholds={0: 0.1, 1: 0.4})
    assert held.patient_ids.tolist() == ["b", "a"]
    assert held.decisions.tolist() == [1, 0]


def test_the_metrics_table_has_its_declared_schema():
    held = binary([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    found = {
        ("fusion", "text", "test"): estimates(held, draw(held, 100, 1), 0.95),
        ("fusion", "image", "test"): [Estimate("auroc", None, None, None, 2, 2)],
    }
    arrow = tables.to_arrow(tables.METRICS, metrics_table(found))
    assert arrow.num_rows == 5
    assert arrow.column("value").null_count == 1
