"""Which pairs of patients a survival model can be right or wrong about, and how often it is (Harrell 1982)."""

import numpy as np
import numpy.typing as npt

from clinical_mm.evaluation.held_out import Floats, Integers

_BLOCK = 2048
"""Patients with an event whose pairs are held in memory at once."""


def comparable_pairs(durations: Floats, events: Integers) -> npt.NDArray[np.bool_]:
    """`[n, n]` whether patient i is known to have had the event before patient j.

    The event of i was seen, and j lived longer, or was censored at the same time. Two events at the same time are
    not comparable.
    """
    earlier = durations[:, None] < durations[None, :]
    tied = (durations[:, None] == durations[None, :]) & (events[None, :] == 0)
    return np.asarray((events[:, None] == 1) & (earlier | tied))


def resampled_c_index(score: Floats, durations: Floats, events: Integers, counts: Floats) -> Floats:
    """Harrell's c-index of resamples, without building any of them.

    Args:
        score: `[n]` the higher, the sooner the event.
        durations: `[n]`.
        events: `[n]` 1 where the event was seen.
        counts: `[r, n]` how often each patient was drawn.

    Returns:
        `[r]`; a pair with equal scores counts one half.
    """
    right = np.zeros(len(counts))
    pairs = np.zeros(len(counts))
    with_event = np.flatnonzero(events == 1)
    for begin in range(0, len(with_event), _BLOCK):
        block = with_event[begin : begin + _BLOCK]
        earlier = durations[block, None] < durations[None, :]
        comparable = earlier | ((durations[block, None] == durations[None, :]) & (events[None, :] == 0))
        credit = (score[block, None] > score[None, :]) + 0.5 * (score[block, None] == score[None, :])
        drawn = counts[:, block]
        right += np.einsum("rb,rb->r", drawn, counts @ (comparable * credit).T)
        pairs += np.einsum("rb,rb->r", drawn, counts @ comparable.astype(np.float64).T)
    return np.asarray(right / pairs)
