"""The running mean of weights: its arithmetic, what it leaves alone, and its way through a checkpoint."""

from pathlib import Path

import pytest
import torch
from torch import nn

from clinical_mm.training.weight_average import WeightAverage


def model_at(value: float) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1), nn.Linear(1, 1))
    model[2].requires_grad_(False)
    set_to(model, value)
    return model


def set_to(model: nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
        model[1].running_mean.fill_(value)  # type: ignore[index,operator]


def test_the_first_weights_are_the_mean_and_later_ones_are_a_share_of_it() -> None:
    model = model_at(1.0)
    average = WeightAverage(model, span_steps=4)
    average.update()
    set_to(model, 2.0)
    for _ in range(40):  # by then the share of a step is 1 / 4, and the first weights are forgotten
        average.update()
    set_to(model, 6.0)
    average.update()
    with average.shown():
        assert model[0].weight.item() == pytest.approx(2.0 + (6.0 - 2.0) / 4, abs=1e-4)
        assert model[1].running_mean.item() == pytest.approx(3.0, abs=1e-4)
        assert model[2].weight.item() == 6.0  # frozen: its own mean
    assert model[0].weight.item() == 6.0
    assert model[1].running_mean.item() == 6.0


def test_over_one_step_or_less_the_mean_is_the_newest_weights() -> None:
    model = model_at(1.0)
    average = WeightAverage(model, span_steps=0)
    for value in (1.0, 5.0, 9.0):
        set_to(model, value)
        average.update()
    set_to(model, 0.0)
    average.apply()
    assert model[0].weight.item() == 9.0


def test_before_the_first_step_the_model_is_shown_as_it_is() -> None:
    model = model_at(3.0)
    with WeightAverage(model, 10).shown():
        assert model[0].weight.item() == 3.0


def test_weights_come_back_also_where_a_validation_fails() -> None:
    model = model_at(1.0)
    average = WeightAverage(model, 10)
    average.update()
    set_to(model, 2.0)
    with pytest.raises(RuntimeError, match="validation"), average.shown():
        raise RuntimeError("validation")
    assert model[0].weight.item() == 2.0


def test_a_mean_that_was_saved_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    model, other = model_at(0.0), model_at(0.0)
    whole, first = WeightAverage(model, 8), WeightAverage(model, 8)
    for step in range(30):
        set_to(model, float(step))
        whole.update()
        if step < 12:
            first.update()
        if step == 11:
            first.save(tmp_path)
    second = WeightAverage(other, 8)
    second.load(tmp_path)
    for step in range(12, 30):
        set_to(other, float(step))
        second.update()
    whole.apply()
    second.apply()
    assert torch.equal(model[0].weight, other[0].weight)
    assert torch.equal(model[1].running_mean, other[1].running_mean)
