"""What each modality contributes when it can be known or not: exact Shapley values over subsets of modalities.

A subset's value is the model's own output when the other modalities are hidden (their learned token of absence takes
their place), so nothing is invented for what is missing. With m modalities there are 2^m subsets: each modality is
encoded once and all subsets are fused in one batch. Integrated Gradients, which divide a modality's share further,
stand in `attribution`; the two answer different questions and need not agree.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import factorial
from typing import Any

import torch

from clinical_mm.explain.attribution import frozen


def subsets_of(players: Sequence[int]) -> list[frozenset[int]]:
    """All subsets, the empty one first."""
    return [frozenset(c) for size in range(len(players) + 1) for c in combinations(players, size)]


def shapley_values(worth: Mapping[frozenset[int], float], players: Sequence[int]) -> dict[int, float]:
    """Exact Shapley values (Shapley, 1953): they sum to the worth of all players over that of none.

    Args:
        worth: of every subset of the players.
        players: at most some ten: the work is 2^players.

    >>> worth = {frozenset(): 0.0, frozenset({0}): 1.0, frozenset({1}): 2.0, frozenset({0, 1}): 4.0}
    >>> shapley_values(worth, [0, 1])
    {0: 1.5, 1: 2.5}
    """
    n = len(players)
    values = {}
    for player in players:
        others = [p for p in players if p != player]
        values[player] = sum(
            factorial(len(s)) * factorial(n - len(s) - 1) / factorial(n) * (worth[s | {player}] - worth[s])
            for s in subsets_of(others)
        )
    return values


def modality_shapley(model: Any, batch: Mapping[str, torch.Tensor], target: int) -> dict[int, float]:
    """Shapley values of the modalities that a patient has, for one output.

    Args:
        model: with `encode(**batch) -> tokens [1, m, hidden]` and `fuse(tokens, present) -> logits [b, o]`.
        batch: of one patient, `present` [1, m] included.
        target: the output.

    Returns:
        By the modality's place; absent ones are not in it.
    """
    present = batch["present"][0]
    players = [int(i) for i in present.nonzero().flatten()]
    subsets = subsets_of(players)
    masks = torch.zeros((len(subsets), present.shape[0]), dtype=torch.bool, device=present.device)
    for row, subset in enumerate(subsets):
        masks[row, list(subset)] = True
    with frozen(model), torch.no_grad():
        tokens = model.encode(**batch)
        scores = model.fuse(tokens.expand(len(subsets), -1, -1), masks)[:, target].double().cpu().tolist()
    return shapley_values(dict(zip(subsets, scores, strict=True)), players)
