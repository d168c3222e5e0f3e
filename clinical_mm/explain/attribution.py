"""Integrated Gradients of one output over every modality of one patient, in one call, until it is complete.

Sundararajan et al., "Axiomatic Attribution for Deep Networks" (ICML 2017): the attributions along the straight path
from a baseline x' to the input x sum to f(x) − f(x'). All modalities move together, so their sums share one scale.
What the baseline is stands in `baselines`; what the attributions mean to a reader is made in `words`, `grids` and
`covariates`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from captum.attr import IntegratedGradients
from torch import Tensor, nn

from clinical_mm.errors import ModelError

DELTA_FLOOR = 0.1
"""Where |f(x) − f(x')| is smaller than this many logits, the completeness error is relative to it instead: a share of
a difference near zero says nothing, and a tenth of a logit changes odds, or a hazard, by a tenth."""

NODES = 8
"""Quadrature nodes of a piece of the path: exact where the gradient is a polynomial of degree 15 along it."""

_ROUNDING = 1e-6


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
        steps: gradients that were computed along the path.
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

    The path is cut into pieces, each integrated by Gauss-Legendre quadrature with eight nodes. Since all pieces lie on
    one straight line their attributions add up, and each must sum to what the output changes between its two ends:
    where it does not (at a kink of the network), that piece is halved, until the sum of all is within the tolerance or
    `max_steps` is reached. The model is put into eval mode without parameter gradients, and back.

    Args:
        model: called with keyword arguments, returns an object whose `logits` are [batch, output].
        inputs: by argument name, float tensors [1, ...] that move from baseline to input.
        baselines: the same names and shapes.
        constants: further tensors [1, ...] that stay as they are: masks, presence.
        target: the output that is explained.
        steps: quadrature nodes to begin with.
        max_steps: the most gradients to compute.
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

    path = _Path(
        output,
        tuple(baselines[n].detach() for n in names),
        tuple(inputs[n].detach() for n in names),
        batch_size,
    )
    with frozen(model):
        n_pieces = max(1, min(steps, max_steps) // NODES)
        places = [i / n_pieces for i in range(n_pieces + 1)]
        outputs = path.outputs(places)
        baseline_score, score = outputs[0], outputs[-1]
        if not all(map(_is_finite, outputs)):
            raise ModelError(
                "the model's output for a patient is not finite: train it again, or lower its rate"
            )
        allowed = tolerance * max(abs(score - baseline_score), DELTA_FLOOR)
        pieces = path.integrate(list(pairwise(zip(places, outputs, strict=True))))
        n_steps = n_pieces * NODES
        settled = tuple(torch.zeros_like(value, device="cpu") for value in path.inputs)
        while True:
            attributed = _total(settled) + sum(p.total for p in pieces)
            if abs(attributed - (score - baseline_score)) <= allowed:
                break
            n_halved = (max_steps - n_steps) // (2 * NODES)
            rough: list[_Piece] = []
            smooth: list[_Piece] = []
            for piece in sorted(pieces, key=lambda p: -p.error):
                # As exact as its share of the path asks for; beyond that single precision says nothing.
                is_smooth = piece.error <= allowed * piece.length + _ROUNDING * max(abs(score), 1.0)
                (smooth if is_smooth else rough).append(piece)
            halved, waiting = rough[:n_halved], rough[n_halved:]
            if not halved:
                break
            settled = _add(settled, smooth)
            middles = [(p.start[0] + p.end[0]) / 2 for p in halved]
            centres = list(zip(middles, path.outputs(middles), strict=True))
            halves = [h for p, c in zip(halved, centres, strict=True) for h in ((p.start, c), (c, p.end))]
            pieces = waiting + path.integrate(halves)
            n_steps += len(halves) * NODES
    found = _add(settled, pieces)
    attributed = _total(found)
    error = completeness_error(attributed, score, baseline_score)
    complete = Completeness(score, baseline_score, attributed, error, tolerance, n_steps)
    return dict(zip(names, found, strict=True)), complete


_End = tuple[float, float]
"""A place on the path, 0 the baseline and 1 the input, and the model's output there."""


@dataclass(frozen=True)
class _Piece:
    """A piece of the path, and what the inputs contributed along it."""

    start: _End
    end: _End
    attributions: tuple[Tensor, ...]
    total: float

    @property
    def length(self) -> float:
        return self.end[0] - self.start[0]

    @property
    def error(self) -> float:
        return abs(self.total - (self.end[1] - self.start[1]))


class _Path:
    """The straight path from the baselines to the inputs of one patient."""

    def __init__(
        self,
        output: Callable[..., Tensor],
        baselines: tuple[Tensor, ...],
        inputs: tuple[Tensor, ...],
        batch_size: int,
    ) -> None:
        self.inputs = inputs
        self._baselines = baselines
        self._output = output
        self._gradients = IntegratedGradients(output)
        self._batch_size = batch_size

    def outputs(self, places: Sequence[float]) -> list[float]:
        """The model's output at places of the path."""
        found: list[float] = []
        with torch.no_grad():
            for first in range(0, len(places), self._batch_size):
                values = self._at(places[first : first + self._batch_size])
                found += self._output(*values).double().cpu().tolist()
        return found

    def integrate(self, ends: Sequence[tuple[_End, _End]]) -> list[_Piece]:
        """The attributions of pieces, several in one call of Captum's."""
        pieces = []
        at_once = max(1, self._batch_size // NODES)
        for first in range(0, len(ends), at_once):
            chosen = ends[first : first + at_once]
            found = self._gradients.attribute(
                self._at([end[0] for _, end in chosen]),
                baselines=self._at([start[0] for start, _ in chosen]),
                n_steps=NODES,
                method="gausslegendre",
                internal_batch_size=min(self._batch_size, NODES) if len(chosen) == 1 else None,
            )
            for place, (start, end) in enumerate(chosen):
                parts = tuple(value[place : place + 1].detach().cpu() for value in found)
                pieces.append(_Piece(start, end, parts, _total(parts)))
        return pieces

    def _at(self, places: Sequence[float]) -> tuple[Tensor, ...]:
        return tuple(
            torch.cat([torch.lerp(low, high, place) for place in places])
            for low, high in zip(self._baselines, self.inputs, strict=True)
        )


def _total(attributions: tuple[Tensor, ...]) -> float:
    return sum(float(value.double().sum()) for value in attributions)


def _add(total: tuple[Tensor, ...], pieces: Sequence[_Piece]) -> tuple[Tensor, ...]:
    return tuple(sum((p.attributions[i] for p in pieces), value) for i, value in enumerate(total))


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
