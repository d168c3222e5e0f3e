from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from clinical_mm.explain.shapley import modality_shapley, shapley_values, subsets_of


class Fusion(nn.Module):
    """Three modalities with tokens 1, 2, 4; the logit is their sum, and 10 more where 0 and 2 are both known."""

    def __init__(self) -> None:
        super().__init__()
        self.n_encoded = 0

    def encode(self, present: Tensor, **_: Tensor) -> Tensor:
        self.n_encoded += 1
        return torch.tensor([[[1.0], [2.0], [4.0]]])

    def fuse(self, tokens: Tensor, present: Tensor) -> Tensor:
        known = present.float()
        both = known[:, 0] * known[:, 2] * 10
        logit = (tokens[..., 0] * known).sum(1) + both
        return torch.stack([-logit, logit], dim=1)


def test_what_two_modalities_make_together_is_shared_by_them() -> None:
    model = Fusion()
    found = modality_shapley(model, {"present": torch.tensor([[True, True, True]])}, target=1)
    assert found == pytest.approx({0: 6.0, 1: 2.0, 2: 9.0})
    assert model.n_encoded == 1


def test_an_absent_modality_is_no_player() -> None:
    found = modality_shapley(Fusion(), {"present": torch.tensor([[True, True, False]])}, target=1)
    assert found == pytest.approx({0: 1.0, 1: 2.0})


@given(
    st.integers(1, 4).flatmap(
        lambda n: st.tuples(st.just(n), st.lists(st.floats(-5, 5), min_size=2**n, max_size=2**n))
    )
)
def test_exact_values_equal_the_mean_over_all_orders(case: tuple[int, list[float]]) -> None:
    n, numbers = case
    players = list(range(n))
    worth = dict(zip(subsets_of(players), numbers, strict=True))
    marginal = {p: [] for p in players}
    for order in permutations(players):
        for place, player in enumerate(order):
            before = frozenset(order[:place])
            marginal[player].append(worth[before | {player}] - worth[before])
    expected = {p: sum(m) / len(m) for p, m in marginal.items()}
    found = shapley_values(worth, players)
    assert found == pytest.approx(expected, abs=1e-9)
    assert sum(found.values()) == pytest.approx(worth[frozenset(players)] - worth[frozenset()], abs=1e-9)
