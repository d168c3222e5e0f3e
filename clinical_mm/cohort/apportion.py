"""Apportionment: whole numbers that come nearest to shares. Who is dealt out is for `splits`."""

import numpy as np

_EPSILON = 1e-9  # 3 × (1/3) patients are one patient


def apportion(
    n_new: int, shares: np.ndarray, already: np.ndarray, carry: np.ndarray, at_least: int
) -> tuple[np.ndarray, np.ndarray]:
    """How many of `n_new` go to each part, so that with those already there the shares are met best.

    Largest remainders: no part gets more or less than its exact number rounded up or down. Which way is decided with
    what rounding left over in earlier calls, so that it does not add up.

    Args:
        n_new: how many to deal out.
        shares: [part], adding up to 1.
        already: [part] how many are there.
        carry: [part] what earlier calls gave too little (positive) or too much; within ±1.
        at_least: how many every part must hold in the end, where there are enough.

    Returns:
        [part] whole numbers that add up to `n_new`; and the new carry.
    """
    ideal = (n_new + already.sum()) * shares
    quotas = _largest_remainders(n_new, np.clip(ideal - already, 0, None), shares, carry)
    while n_new and ((already + quotas) < at_least).any():
        spare = np.where((quotas > 0) & (already + quotas > at_least), already + quotas - ideal, -np.inf)
        giver = int(np.argmax(spare))
        if not np.isfinite(spare[giver]):
            break
        quotas[giver] -= 1
        quotas[int(np.argmin(already + quotas))] += 1
    return quotas, np.clip(carry + ideal - already - quotas, -1, 1)


def apportion_within(n_new: int, shares: np.ndarray, already: np.ndarray, left: np.ndarray) -> np.ndarray:
    """How many of `n_new`, a part of a whole of which `left` are still to be dealt out, go to each part.

    Args:
        n_new: how many to deal out; at most the sum of `left`.
        shares: [part], adding up to 1.
        already: [part] how many of the same kind are there.
        left: [part] the most that may go to each.

    Returns:
        [part] whole numbers that add up to `n_new`, none above `left`.
    """
    wanted = np.clip((n_new + already.sum()) * shares - already, 0, None)
    quotas = np.minimum(_largest_remainders(n_new, wanted, shares), left)
    while quotas.sum() < n_new:
        room = left - quotas
        more = _largest_remainders(n_new - int(quotas.sum()), room.astype(float), shares)
        quotas = quotas + np.minimum(more, room)
    return quotas


def _largest_remainders(
    n: int, wanted: np.ndarray, shares: np.ndarray, carry: np.ndarray | float = 0.0
) -> np.ndarray:
    """Whole numbers in proportion to `wanted` (to `shares` where nothing is) that add up to `n`."""
    weights = wanted if wanted.sum() > 0 else shares
    exact = weights * (n / weights.sum())
    quotas = np.floor(exact + _EPSILON).astype(np.int64)
    remainder = exact - quotas
    # Whole shares are whole: a part without a remainder gets none of what is left over.
    by_remainder = np.lexsort((np.arange(len(weights)), -(remainder + carry), remainder <= _EPSILON))
    quotas[by_remainder[: n - int(quotas.sum())]] += 1
    return quotas
