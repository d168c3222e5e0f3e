"""How tokens come together, and which are hidden in training."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clinical_mm.model.fusion import build_fusion, hide_modalities

KINDS = ["concat", "gated", "cross_attention"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_modalities", [1, 4])
def test_tokens_of_any_number_of_modalities_become_one_vector(kind: str, n_modalities: int) -> None:
    fusion = build_fusion(kind, n_modalities, 8, 0.1, layers=2, heads=2)
    assert fusion(torch.randn(5, n_modalities, 8)).shape == (5, 8)


@pytest.mark.parametrize("kind", KINDS)
def test_every_modality_reaches_the_fused_vector_and_no_other_patient(kind: str) -> None:
    torch.manual_seed(0)
    fusion = build_fusion(kind, 3, 8, 0.0, layers=2, heads=2)
    tokens = torch.randn(4, 3, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(fusion(tokens)[1].square().sum(), tokens)
    assert (gradient[1].abs().sum(dim=1) > 0).all()
    assert gradient[[0, 2, 3]].abs().sum() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_token_means_something_else_in_another_modalitys_place(kind: str) -> None:
    torch.manual_seed(0)
    fusion = build_fusion(kind, 2, 8, 0.0, layers=2, heads=2)
    tokens = torch.randn(1, 2, 8)
    assert not torch.allclose(fusion(tokens), fusion(tokens.flip(1)), atol=1e-4)


def test_gated_fusion_is_the_sum_of_gated_transforms() -> None:
    torch.manual_seed(0)
    fusion = build_fusion("gated", 2, 3, 0.0, layers=1, heads=1)
    tokens = torch.randn(1, 2, 3)
    gates = torch.sigmoid(fusion.gates.weight @ tokens.flatten() + fusion.gates.bias)  # type: ignore[operator]
    by_hand = torch.zeros(3)
    for i in range(2):
        linear = fusion.transforms[i][0]  # type: ignore[index]
        transformed = torch.nn.functional.gelu(linear.weight @ tokens[0, i] + linear.bias)
        by_hand = by_hand + gates[3 * i : 3 * i + 3] * transformed
    assert torch.allclose(fusion(tokens)[0], by_hand, atol=1e-6)


def test_an_unknown_fusion_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="concat, gated or cross_attention"):
        build_fusion("late", 2, 8, 0.1, layers=1, heads=2)


@given(
    st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=6),
    st.floats(0, 1),
    st.integers(0, 1000),
)
def test_hiding_never_shows_what_is_absent_nor_hides_all_that_is_present(
    rows: list[list[bool]], chance: float, seed: int
) -> None:
    torch.manual_seed(seed)
    present = torch.tensor(rows)
    left = hide_modalities(present, chance)
    assert not (left & ~present).any()
    assert torch.equal(left.any(dim=1), present.any(dim=1))


def test_modalities_are_hidden_as_often_as_the_chance_says() -> None:
    torch.manual_seed(0)
    left = hide_modalities(torch.ones(20_000, 2, dtype=torch.bool), 0.3)
    # Both hidden, .09 of the time, is mended by showing one of the two: .3 - .045 are hidden.
    assert (~left).float().mean(dim=0).tolist() == pytest.approx([0.255, 0.255], abs=0.015)


def test_without_a_chance_nothing_is_hidden_and_with_certainty_one_is_left_drawn_evenly() -> None:
    torch.manual_seed(0)
    present = torch.tensor([[True, True, False, True]]).repeat(9_000, 1)
    assert torch.equal(hide_modalities(present, 0.0), present)
    left = hide_modalities(present, 1.0)
    assert (left.sum(dim=1) == 1).all()
    assert left.float().mean(dim=0).tolist() == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3], abs=0.02)
