"""Integrated Gradients of one output over every modality of one patient, in one call, until it is complete.

Sundararajan et al., "Axiomatic Attribution for Deep Networks" (ICML 2017): the attributions along the straight path
from a baseline x' to the input x sum to f(x) − f(x'). All modalities move together, so their sums share one scale.
What the baseline is stands in `baselines`; what the attributions mean to a reader is made in `words`, `grids` and
`covariates`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from captum.attr import IntegratedGradients
from torch import Tensor, nn

from clinical_mm.errors import ModelError

DELTA_FLOOR = 0.1
"""Where |f(x) − f(x')| is smaller than this many logits, the completeness error is relative to it instead: a share of
a difference near zero says nothing, and a tenth of a logit changes odds, or a hazard, by a tenth."""


@dataclass(frozen=True)
class Completeness:
    """How far the attributions are from summing to what they explain.

    Attributes:
        score: f(x), the explained output.
        baseline_score: f(x').
        attributed: the sum of all attributions.
        error: |attributed − (score − baseline_score)| over |score − baseline_score|, or over `DELTA_FLOOR` where that
            is larger.
        tolerance: the error that was asked for.
        steps: integration steps of the attributions that were kept.
    """

    score: float
    baseline_score: float
    attributed: float
    error: float
    tolerance: float
    steps: int

    @property
    def is_reached(self) -> bool:
        """Whether the error is within the tolerance."""
        return self.error <= self.tolerance


def completeness_error(attributed: float, score: float, baseline_score: float) -> float:
    """The error as `Completeness.error` defines it.

    >>> round(completeness_error(attributed=1.9, score=1.5, baseline_score=-0.5), 3)
    0.05
    >>> round(completeness_error(attributed=0.011, score=0.01, baseline_score=0.0), 3)
    0.01
    """
    difference = score - baseline_score
    return abs(attributed - difference) / max(abs(difference), DELTA_FLOOR)


def attribute(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    baselines: Mapping[str, Tensor],
    constants: Mapping[str, Tensor],
    *,
    target: int,
    steps: int,
    max_steps: int,
    tolerance: float,
    batch_size: int,
) -> tuple[dict[str, Tensor], Completeness]:
    """Attribute one output of a model to the inputs of one patient.

    Gauss-Legendre quadrature begins with `steps` nodes; they are doubled until the completeness error is within the
    tolerance or `max_steps` is reached. The attributions with the smallest error are kept, since the error need not
    fall with every doubling. The model is put into eval mode without parameter gradients, and back.

    Args:
        model: called with keyword arguments, returns an object whose `logits` are [batch, output].
        inputs: by argument name, float tensors [1, ...] that move from baseline to input.
        baselines: the same names and shapes.
        constants: further tensors [1, ...] that stay as they are: masks, presence.
        target: the output that is explained.
        steps: quadrature nodes to begin with.
        max_steps: the most nodes to use.
        tolerance: completeness error to reach.
        batch_size: interpolated inputs in one pass.

    Returns:
        Attributions by name, of the inputs' shapes, on the CPU; and how complete they are.

    Raises:
        ModelError: nothing to attribute to, or the model's output is not finite.
    """
    names = tuple(inputs)
    if not names:
        raise ModelError("no modality of the patient is there to attribute a prediction to")

    def output(*values: Tensor) -> Tensor:
        n = values[0].shape[0]
        kept = {name: value.expand(n, *value.shape[1:]) for name, value in constants.items()}
        return cast(Tensor, model(**dict(zip(names, values, strict=True)), **kept).logits[:, target])

    at_input = tuple(inputs[n].detach() for n in names)
    at_baseline = tuple(baselines[n].detach() for n in names)
    best: tuple[dict[str, Tensor], Completeness] | None = None
    with frozen(model):
        with torch.no_grad():
            score = float(output(*at_input).item())
            baseline_score = float(output(*at_baseline).item())
        if not all(map(_is_finite, (score, baseline_score))):
            raise ModelError(
                "the model's output for a patient is not finite: train it again, or lower its rate"
            )
        for n_steps in _doubled(steps, max_steps):
            found = IntegratedGradients(output).attribute(
                at_input,
                baselines=at_baseline,
                n_steps=n_steps,
                method="gausslegendre",
                internal_batch_size=batch_size,
            )
            attributions = {name: value.detach().cpu() for name, value in zip(names, found, strict=True)}
            attributed = sum(float(value.double().sum()) for value in attributions.values())
            error = completeness_error(attributed, score, baseline_score)
            reached = Completeness(score, baseline_score, attributed, error, tolerance, n_steps)
            if best is None or error < best[1].error:
                best = attributions, reached
            if reached.is_reached:
                break
    assert best is not None
    return best


def _doubled(steps: int, max_steps: int) -> Iterator[int]:
    """32, 64, 128 … and the most itself: never more, and at least once.

    >>> list(_doubled(32, 100))
    [32, 64, 100]
    """
    n_steps = min(steps, max_steps)
    while n_steps < max_steps:
        yield n_steps
        n_steps *= 2
    yield max_steps


def _is_finite(value: float) -> bool:
    return abs(value) < float("inf")


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """A model in eval mode whose parameters need no gradients; both as they were afterwards.

    In training mode BatchNorm would take its statistics from the interpolated inputs, and keep them.
    """
    training = {name: module.training for name, module in model.named_modules()}
    wanted = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    model.eval()
    model.requires_grad_(False)
    try:
        yield
    finally:
        for name, module in model.named_modules():
            module.training = training[name]
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(wanted[name])
