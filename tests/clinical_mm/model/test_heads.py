"""Losses against numbers worked out by hand, and against lifelines and scikit-learn."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lifelines import CoxPHFitter
from sklearn.metrics import log_loss

from clinical_mm.model.heads import cox_loss, task_loss


def efron(log_hazards: list[float], durations: list[float], events: list[bool]) -> float:
    """Negative log partial likelihood an event, written out time by time (Efron, 1977)."""
    total, n_events = 0.0, sum(events)
    hazards = [math.exp(value) for value in log_hazards]
    for time in {d for d, seen in zip(durations, events, strict=True) if seen}:
        tied = [i for i, d in enumerate(durations) if d == time and events[i]]
        risk = sum(h for h, d in zip(hazards, durations, strict=True) if d >= time)
        of_tied = sum(hazards[i] for i in tied)
        for place, i in enumerate(tied):
            total += math.log(risk - place / len(tied) * of_tied) - log_hazards[i]
    return total / n_events


def test_the_partial_likelihood_of_three_patients_is_the_one_worked_out_by_hand() -> None:
    log_hazards = torch.log(torch.tensor([3.0, 2.0, 1.0]))
    durations = torch.tensor([1.0, 2.0, 3.0])
    events = torch.tensor([True, False, True])
    # First event: 3 of 3 + 2 + 1 at risk; the last has nobody else at risk, and costs nothing.
    assert float(cox_loss(log_hazards, durations, events)) == pytest.approx(math.log(2) / 2)


def test_tied_events_share_their_risk_set_by_efron() -> None:
    log_hazards = torch.log(torch.tensor([1.0, 2.0, 4.0]))
    durations = torch.tensor([5.0, 5.0, 7.0])
    events = torch.tensor([True, True, False])
    # Denominators 7 and 7 - 3/2; numerators 1 and 2. Breslow would have 7 twice.
    by_hand = (math.log(7) + math.log(5.5) - math.log(2)) / 2
    assert float(cox_loss(log_hazards, durations, events)) == pytest.approx(by_hand, rel=1e-6)


def test_a_patient_censored_at_the_time_of_an_event_was_at_risk() -> None:
    durations, events = torch.tensor([5.0, 5.0]), torch.tensor([True, False])
    assert float(cox_loss(torch.zeros(2), durations, events)) == pytest.approx(math.log(2))


@given(
    st.lists(
        st.tuples(st.floats(-8, 8), st.integers(1, 5), st.booleans()),
        min_size=1,
        max_size=12,
    ).filter(lambda rows: any(seen for _, _, seen in rows))
)
def test_the_likelihood_is_that_written_out_time_by_time(rows: list[tuple[float, int, bool]]) -> None:
    log_hazards, durations, events = ([*column] for column in zip(*rows, strict=True))
    found = cox_loss(
        torch.tensor(log_hazards, dtype=torch.float64), torch.tensor(durations).double(), torch.tensor(events)
    )
    assert float(found) == pytest.approx(efron(log_hazards, durations, events), rel=1e-8, abs=1e-9)


def test_the_likelihood_of_many_tied_patients_is_that_of_lifelines() -> None:
    drawn = np.random.default_rng(3)
    x = drawn.normal(size=80)
    table = pd.DataFrame({"x": x, "duration": drawn.integers(1, 9, 80), "event": drawn.random(80) < 0.6})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lifelines' own uses of pandas
        fitted = CoxPHFitter().fit(table, "duration", "event")
    log_hazards = torch.tensor(x * float(fitted.params_["x"]))
    found = cox_loss(
        log_hazards,
        torch.tensor(table["duration"].to_numpy()).double(),
        torch.tensor(table["event"].to_numpy()),
    )
    assert -float(found) * table["event"].sum() == pytest.approx(fitted.log_likelihood_, rel=1e-8)


def test_a_batch_without_events_costs_nothing_and_teaches_nothing() -> None:
    log_hazards = torch.tensor([1.0, -2.0], requires_grad=True)
    loss = cox_loss(log_hazards, torch.tensor([1.0, 2.0]), torch.tensor([False, False]))
    loss.backward()
    assert float(loss.detach()) == 0
    assert log_hazards.grad is not None
    assert log_hazards.grad.tolist() == [0, 0]


def test_extreme_hazards_stay_finite_in_value_and_gradient() -> None:
    log_hazards = torch.tensor([80.0, -80.0, 90.0, 0.0], requires_grad=True)
    labels = torch.tensor([[1.0, 1.0], [1.0, 1.0], [2.0, 1.0], [2.0, 0.0]])
    loss = task_loss("survival", log_hazards[:, None], labels)
    loss.backward()
    assert torch.isfinite(loss)
    assert log_hazards.grad is not None
    assert torch.isfinite(log_hazards.grad).all()


def test_only_differences_of_log_hazards_count() -> None:
    labels = torch.tensor([[1.0, 1.0], [2.0, 0.0], [2.0, 1.0], [4.0, 1.0]])
    logits = torch.tensor([[0.3], [-1.0], [0.7], [0.1]])
    assert float(task_loss("survival", logits + 5, labels)) == pytest.approx(
        float(task_loss("survival", logits, labels)), abs=1e-5
    )


def test_the_binary_loss_is_that_of_scikit_learn() -> None:
    logits, labels = torch.tensor([[0.4], [-1.2], [2.0], [0.1]]), torch.tensor([1.0, 0.0, 0.0, 1.0])
    shares = 1 / (1 + np.exp(-logits[:, 0].double().numpy()))
    assert float(task_loss("binary", logits, labels)) == pytest.approx(log_loss(labels, shares), rel=1e-5)


def test_the_multiclass_loss_is_that_of_scikit_learn() -> None:
    logits = torch.tensor([[0.4, 1.0, -1.0], [0.0, 0.2, 0.1], [3.0, -1.0, 0.5]])
    labels = torch.tensor([2, 0, 0])
    raised = np.exp(logits.double().numpy())
    shares = raised / raised.sum(axis=1, keepdims=True)
    assert float(task_loss("multiclass", logits, labels)) == pytest.approx(
        log_loss(labels, shares, labels=[0, 1, 2]), rel=1e-5
    )


@pytest.mark.parametrize("outcome", ["binary", "multiclass"])
def test_class_weights_are_a_weighted_mean_over_patients(outcome: str) -> None:
    log_odds, labels = torch.tensor([0.4, -1.2, 2.0]), torch.tensor([1, 0, 0])
    shares = 1 / (1 + np.exp(-log_odds.double().numpy()))
    logits = log_odds[:, None] if outcome == "binary" else torch.stack([torch.zeros(3), log_odds], dim=1)
    by_sklearn = log_loss(labels, shares, sample_weight=[3.0, 0.5, 0.5])
    given_labels = labels.float() if outcome == "binary" else labels
    found = task_loss(outcome, logits, given_labels, torch.tensor([0.5, 3.0]))
    assert float(found) == pytest.approx(by_sklearn, rel=1e-5)


def test_losses_are_computed_in_float32_also_of_half_precision_logits() -> None:
    logits = torch.tensor([[1.0], [-1.0]], dtype=torch.bfloat16)
    loss = task_loss("binary", logits, torch.tensor([1.0, 0.0]))
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(math.log1p(math.exp(-1)))
