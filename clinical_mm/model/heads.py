"""What the logits mean and what they are trained on: binary, multiclass and survival losses.

Cox's partial likelihood compares patients with each other: its loss is over a set of patients (a batch, or all batches
of one accumulated step), never a mean over patients alone.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def task_loss(outcome: str, logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """The loss of a set of patients.

    Args:
        outcome: binary, multiclass or survival.
        logits: [b, 1], [b, classes] or [b, 1] (log hazard ratio).
        labels: float [b] of 0 and 1; long [b]; or float [b, 2]: duration, event.
        class_weights: [2] or [classes], in the order of the classes; not for survival.

    Returns:
        A scalar: the weighted mean over patients, or the negative log partial likelihood an event.
    """
    logits = logits.float()
    if outcome == "survival":
        return cox_loss(logits[:, 0], labels[:, 0].float(), labels[:, 1] > 0.5)
    if outcome == "multiclass":
        return F.cross_entropy(logits, labels.long(), weight=class_weights)
    labels = labels.float()
    losses = F.binary_cross_entropy_with_logits(logits[:, 0], labels, reduction="none")
    if class_weights is None:
        return losses.mean()
    weights = class_weights[labels.long()]
    return (weights * losses).sum() / weights.sum()


def cox_loss(log_hazards: Tensor, durations: Tensor, events: Tensor) -> Tensor:
    """Negative log partial likelihood of Cox's model an event, Efron's correction for ties (Efron, 1977).

    Args:
        log_hazards: [b].
        durations: [b], time to event or censoring.
        events: [b] bool: the event was seen; otherwise censored. A patient censored at the time of an event was still
            at risk.

    Returns:
        A scalar; 0, with zero gradients, where no event was seen.
    """
    n_events = int(events.sum())
    if n_events == 0:
        return log_hazards.sum() * 0.0
    times = durations[events]
    at_risk = durations[None, :] >= times[:, None]
    tied = (durations[None, :] == times[:, None]) & events[None, :]
    # Place of an event among those at its time (0, 1 …), over how many they are: Efron's share of them to leave out.
    same = times[None, :] == times[:, None]
    place = torch.tril(same, diagonal=-1).sum(dim=1)
    share = place.to(log_hazards.dtype) / same.sum(dim=1)
    risk = _masked_logsumexp(log_hazards, at_risk)
    of_tied = _masked_logsumexp(log_hazards, tied)
    denominator = risk + torch.log1p(-share * torch.exp(of_tied - risk))
    return (denominator - log_hazards[events]).sum() / n_events


def _masked_logsumexp(values: Tensor, mask: Tensor) -> Tensor:
    """Row-wise log-sum-exp [e] of the values [b] that each row of the mask [e, b] keeps; no row may be empty."""
    return torch.logsumexp(values[None, :].masked_fill(~mask, -torch.inf), dim=1)
