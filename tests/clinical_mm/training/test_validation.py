"""The criterion and the discrimination of an epoch, against numbers by hand and by scikit-learn."""

import math

import numpy as np
import pytest
from scipy.special import expit, log_softmax, softmax
from sklearn.metrics import log_loss, roc_auc_score

from clinical_mm.training.validation import CRITERION, can_choose, constant_criterion, validation_metrics

RANDOM = np.random.default_rng(5)


def test_binary_is_the_mean_log_loss_and_the_auroc() -> None:
    logits, labels = RANDOM.normal(size=(30, 1)), (RANDOM.random(30) < 0.4).astype(float)
    metrics = validation_metrics("binary", logits, labels)
    assert metrics[CRITERION] == pytest.approx(log_loss(labels, expit(logits[:, 0])), rel=1e-5)
    assert metrics["auroc"] == pytest.approx(roc_auc_score(labels, logits[:, 0]))


def test_several_classes_are_the_cross_entropy_and_the_mean_auroc_of_one_against_the_rest() -> None:
    logits, labels = RANDOM.normal(size=(40, 3)), RANDOM.integers(0, 3, 40).astype(float)
    metrics = validation_metrics("multiclass", logits, labels)
    by_hand = -log_softmax(logits, axis=1)[np.arange(40), labels.astype(int)].mean()
    assert metrics[CRITERION] == pytest.approx(by_hand, rel=1e-5)
    expected = roc_auc_score(labels, softmax(logits, axis=1), multi_class="ovr", average="macro")
    assert metrics["auroc"] == pytest.approx(expected)


def test_a_class_that_nobody_has_is_left_out_of_the_mean() -> None:
    logits = np.array([[2.0, 0, 9], [1, 0, 9], [0, 2, 9], [0, 1, 9]])
    metrics = validation_metrics("multiclass", logits, np.array([0.0, 0, 1, 1]))
    assert metrics["auroc"] == 1.0


def test_survival_is_the_partial_likelihood_an_event_and_the_c_index() -> None:
    # Events at 1 and 2, censored at 3. Risk sets {a, b, c} and {b, c}; log hazards 1, 0, -1.
    labels = np.array([[1.0, 1], [2, 1], [3, 0]])
    logits = np.array([[1.0], [0.0], [-1.0]])
    first = math.log(math.e + 1 + 1 / math.e) - 1
    second = math.log(1 + 1 / math.e) - 0
    metrics = validation_metrics("survival", logits, labels)
    assert metrics[CRITERION] == pytest.approx((first + second) / 2, rel=1e-6)
    assert metrics["c_index"] == 1.0
    assert validation_metrics("survival", -logits, labels)["c_index"] == 0.0


def test_one_class_alone_has_no_discrimination() -> None:
    assert set(validation_metrics("binary", np.zeros((3, 1)), np.ones(3))) == {CRITERION}
    assert set(validation_metrics("multiclass", np.zeros((3, 3)), np.ones(3))) == {CRITERION}
    censored = np.array([[1.0, 0], [2, 0]])
    assert set(validation_metrics("survival", np.zeros((2, 1)), censored)) == {CRITERION}


def test_logits_that_are_no_number_have_a_criterion_that_says_so_and_no_discrimination() -> None:
    metrics = validation_metrics("binary", np.array([[np.nan], [0.0]]), np.array([0.0, 1.0]))
    assert math.isnan(metrics[CRITERION])
    assert set(metrics) == {CRITERION}


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([], False),
        ([[1, 0], [2, 0]], False),  # nobody had the event
        ([[3, 1], [2, 0]], False),  # the event came when nobody else was left
        ([[2, 1], [2, 1]], False),
        ([[1, 1], [2, 0]], True),
    ],
)
def test_survival_patients_tell_epochs_apart_where_an_event_came_before_somebody(
    labels: list[list[float]], expected: bool
) -> None:
    assert can_choose("survival", np.array(labels, dtype=float).reshape(-1, 2)) is expected


def test_any_patient_of_a_class_can_tell_epochs_apart() -> None:
    assert can_choose("binary", np.array([1.0]))
    assert not can_choose("binary", np.array([]))


def test_the_constant_prediction_is_the_training_patients_prevalence() -> None:
    training, validation = np.array([0.0, 0, 0, 1]), np.array([0.0, 1])
    expected = -(math.log(0.75) + math.log(0.25)) / 2
    assert constant_criterion("binary", training, validation, 1) == pytest.approx(expected, rel=1e-5)
    classes = np.array([0.0, 0, 1, 2])
    expected = -(math.log(0.5) + math.log(0.25)) / 2
    assert constant_criterion("multiclass", classes, np.array([0.0, 2]), 3) == pytest.approx(
        expected, rel=1e-4
    )


def test_the_constant_hazard_is_the_logarithm_of_who_is_at_risk() -> None:
    labels = np.array([[1.0, 1], [2, 1], [3, 0]])
    expected = (math.log(3) + math.log(2)) / 2
    assert constant_criterion("survival", labels, labels, 1) == pytest.approx(expected, rel=1e-6)
