import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from clinical_mm.errors import ModelError
from clinical_mm.explain.attribution import DELTA_FLOOR, attribute, completeness_error


@dataclass
class Output:
    logits: Tensor


class Linear(nn.Module):
    """logits = w·x + v·y, summed over everything; whose attributions are known without any integration."""

    def forward(self, x: Tensor, y: Tensor, scale: Tensor) -> Output:
        one = (2 * x).flatten(1).sum(1) + (-3 * y).flatten(1).sum(1)
        return Output(torch.stack([one * scale, 0 * one], dim=1))


class Product(nn.Module):
    """logit = x y: not linear, and the path integral from (0, 0) gives each half of it."""

    def forward(self, x: Tensor, y: Tensor) -> Output:
        return Output(x * y)


class Step(nn.Module):
    """A steep sigmoid in the middle of the path: a few nodes miss it."""

    def __init__(self) -> None:
        super().__init__()
        self.steepness = nn.Parameter(torch.tensor(120.0))
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Output:
        return Output(self.dropout(torch.sigmoid(self.steepness * (x - 0.47))))


OPTIONS = {"target": 0, "steps": 8, "max_steps": 256, "tolerance": 0.01, "batch_size": 16}


def test_attributions_of_a_linear_model_are_weight_times_difference() -> None:
    x, y = torch.tensor([[1.0, 2.0]]), torch.tensor([[[0.5], [4.0]]])
    found, complete = attribute(
        Linear(),
        {"x": x, "y": y},
        {"x": torch.ones_like(x), "y": torch.zeros_like(y)},
        {"scale": torch.tensor([10.0])},
        **OPTIONS,
    )
    torch.testing.assert_close(found["x"], torch.tensor([[0.0, 20.0]]))
    torch.testing.assert_close(found["y"], torch.tensor([[[-15.0], [-120.0]]]))
    assert complete.score == pytest.approx(-75.0)
    assert complete.baseline_score == pytest.approx(40.0)
    assert complete.attributed == pytest.approx(-115.0, rel=1e-5)
    assert complete.is_reached
    assert complete.steps == 8


def test_interacting_inputs_share_what_they_make_together() -> None:
    x, y = torch.tensor([[3.0]]), torch.tensor([[4.0]])
    zero = torch.zeros_like(x)
    found, _ = attribute(Product(), {"x": x, "y": y}, {"x": zero, "y": zero}, {}, **OPTIONS)
    assert found["x"].item() == pytest.approx(6.0, rel=1e-5)
    assert found["y"].item() == pytest.approx(6.0, rel=1e-5)


def test_the_path_is_cut_finer_until_the_attributions_are_complete() -> None:
    x = torch.ones(1, 1)
    _, few = attribute(Step(), {"x": x}, {"x": torch.zeros(1, 1)}, {}, **{**OPTIONS, "max_steps": 8})
    _, many = attribute(Step(), {"x": x}, {"x": torch.zeros(1, 1)}, {}, **OPTIONS)
    assert not few.is_reached
    assert few.steps == 8
    assert many.is_reached
    assert 8 < many.steps <= OPTIONS["max_steps"]
    assert many.score - many.baseline_score == pytest.approx(1.0, abs=1e-3)


class Kinks(nn.Module):
    """max(x, y), 0 until both have passed a threshold: kinks at different places of the path."""

    def forward(self, x: Tensor, y: Tensor) -> Output:
        return Output(torch.relu(torch.maximum(x - 0.3, 2 * y - 0.9)))


def test_a_kink_is_found_with_few_gradients_and_each_input_gets_its_own_part() -> None:
    x = torch.ones(1, 1)
    zero = torch.zeros_like(x)
    options = {**OPTIONS, "steps": 32, "tolerance": 0.0005}
    found, complete = attribute(Kinks(), {"x": x, "y": x}, {"x": zero, "y": zero}, {}, **options)
    assert complete.is_reached
    # Until 0.6 of the path x is the larger and alone counts (from 0.3 on), then y alone, at twice the slope.
    assert found["x"].item() == pytest.approx(0.3, abs=1e-3)
    assert found["y"].item() == pytest.approx(0.8, abs=1e-3)
    # One quadrature over the whole path needs far more for the same.
    from captum.attr import IntegratedGradients

    whole = IntegratedGradients(lambda x, y: Kinks()(x, y).logits[:, 0]).attribute(
        (x, x), (zero, zero), n_steps=complete.steps, method="gausslegendre"
    )
    ours = abs(found["x"].item() - 0.3) + abs(found["y"].item() - 0.8)
    assert ours < abs(whole[0].item() - 0.3) + abs(whole[1].item() - 0.8)


def test_no_more_gradients_are_computed_than_allowed() -> None:
    x = torch.ones(1, 1)
    for most in (8, 24, 40, 100):
        options = {**OPTIONS, "max_steps": most, "tolerance": 1e-7}
        _, complete = attribute(Step(), {"x": x}, {"x": torch.zeros(1, 1)}, {}, **options)
        assert complete.steps <= most


def test_the_model_is_left_as_it_was() -> None:
    model = Step().train()
    attribute(model, {"x": torch.ones(1, 1)}, {"x": torch.zeros(1, 1)}, {}, **OPTIONS)
    assert model.training
    assert model.dropout.training
    assert model.steepness.requires_grad
    assert model.steepness.grad is None


def test_a_small_difference_is_judged_by_the_floor() -> None:
    assert completeness_error(0.002, 0.001, 0.0) == pytest.approx(0.001 / DELTA_FLOOR)
    assert completeness_error(2.2, 2.0, 0.0) == pytest.approx(0.1)


def test_nothing_to_attribute_to_is_an_error() -> None:
    with pytest.raises(ModelError, match="no modality"):
        attribute(Product(), {}, {}, {}, **OPTIONS)


def test_an_output_that_is_not_finite_is_an_error() -> None:
    x = torch.tensor([[math.inf]])
    with pytest.raises(ModelError, match="not finite"):
        attribute(Product(), {"x": x, "y": x}, {"x": x, "y": x}, {}, **OPTIONS)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 9))
def test_any_batch_size_gives_the_same_attributions(seed: int, batch_size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))
    x = torch.randn(1, 4, generator=generator)

    class Wrapped(nn.Module):
        def forward(self, x: Tensor) -> Output:
            return Output(model(x))

    def run(size: int) -> Tensor:
        options = {**OPTIONS, "batch_size": size}
        return attribute(Wrapped(), {"x": x}, {"x": torch.zeros_like(x)}, {}, **options)[0]["x"]

    torch.testing.assert_close(run(batch_size), run(256), rtol=1e-4, atol=1e-6)
