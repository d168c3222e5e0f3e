"""The loss of a step over several batches: as if all its patients had been one batch.

A mean over patients is the batches' means, weighted by their patients. Cox's partial likelihood is no such mean: each
patient's risk set is the whole step, so a batch's loss needs the other batches' log hazards. They are computed first
without gradients; the likelihood's derivative by each log hazard is all that each batch then needs to go backwards
alone (Gao et al., 2021, "gradient cache"). Both passes draw the same random numbers, so dropout agrees.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from clinical_mm.model.heads import cox_loss


@dataclass(frozen=True)
class BatchShare:
    """What one batch contributes to the loss of its step.

    Attributes:
        random_state: of the first pass; the second begins from it.
        by_log_hazard: derivative [b] of the step's loss by the batch's log hazards.
        loss: the step's loss over the number of batches.
    """

    random_state: "RandomState"
    by_log_hazard: Tensor
    loss: Tensor

    def backward_loss(self, log_hazards: Tensor) -> Tensor:
        """A scalar with the value `loss` and the step's gradients through the log hazards [b] of the second pass."""
        surrogate = (log_hazards * self.by_log_hazard.to(log_hazards.dtype)).sum()
        return surrogate - surrogate.detach() + self.loss


@dataclass(frozen=True)
class RandomState:
    """State of torch's generators: the CPU's, and every GPU's."""

    cpu: Tensor
    cuda: tuple[Tensor, ...]

    @classmethod
    def now(cls) -> "RandomState":
        """As it is."""
        cuda = tuple(torch.cuda.get_rng_state_all()) if torch.cuda.is_available() else ()
        return cls(torch.get_rng_state(), cuda)

    def restore(self) -> None:
        """Go back to it."""
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(list(self.cuda))


def share_likelihood(
    model: nn.Module,
    batches: Sequence[dict[str, Tensor]],
    log_hazards_of: Callable[[dict[str, Tensor]], Tensor],
) -> list[BatchShare]:
    """The first pass over the batches of a step.

    Args:
        model: in training mode; its BatchNorm statistics stay as they are.
        batches: of the step, each with `labels` [b, 2]: duration, event.
        log_hazards_of: runs the model on a batch and gives [b].
    """
    states: list[RandomState] = []
    found: list[Tensor] = []
    before = RandomState.now()
    with torch.no_grad(), _statistics_kept(model):
        for batch in batches:
            states.append(RandomState.now())
            found.append(log_hazards_of(batch).float())
    before.restore()
    labels = torch.cat([batch["labels"] for batch in batches]).to(found[0].device)
    log_hazards = torch.cat(found).requires_grad_()
    with torch.enable_grad():
        loss = cox_loss(log_hazards, labels[:, 0].float(), labels[:, 1] > 0.5)
        (derivative,) = torch.autograd.grad(loss, log_hazards)
    parts = torch.split(derivative, [len(part) for part in found])
    mean = loss.detach() / len(batches)
    return [BatchShare(state, part, mean) for state, part in zip(states, parts, strict=True)]


def batch_weights(labels: Sequence[Tensor], class_weights: Sequence[float] = ()) -> list[float]:
    """What each batch's mean loss weighs in the mean over all patients of a step; they add up to 1.

    Args:
        labels: [b] of each batch: classes, or 0 and 1.
        class_weights: in the order of the classes; empty for equal ones.
    """
    if class_weights:
        by_class = torch.tensor(class_weights, dtype=torch.float64)
        sums = [float(by_class[batch.long().cpu()].sum()) for batch in labels]
    else:
        sums = [float(len(batch)) for batch in labels]
    return [value / sum(sums) for value in sums]


@contextmanager
def _statistics_kept(model: nn.Module) -> Iterator[None]:
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    kept = [{name: buffer.clone() for name, buffer in norm.named_buffers(recurse=False)} for norm in norms]
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            for name, buffer in norm.named_buffers(recurse=False):
                buffer.copy_(buffers[name])
