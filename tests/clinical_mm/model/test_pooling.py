"""A set pooled by gated attention, and by its maximum."""

import pytest
import torch

from clinical_mm.model.pooling import GatedAttentionPool, masked_maximum


@pytest.fixture
def pool() -> GatedAttentionPool:
    torch.manual_seed(0)
    return GatedAttentionPool(6, 4)


def test_the_pooled_vector_is_equation_9_of_ilse_et_al(pool: GatedAttentionPool) -> None:
    values = torch.randn(1, 3, 6)
    with torch.no_grad():
        found = pool(values, torch.ones(1, 3, dtype=torch.bool))[0]
        v, u, w = pool.content, pool.gate, pool.score
        scores = []
        for h in values[0]:
            gated = torch.tanh(v.weight @ h + v.bias) * torch.sigmoid(u.weight @ h + u.bias)
            scores.append(float((w.weight @ gated)[0] + w.bias[0]))
    raised = torch.tensor(scores).exp()
    expected = ((raised / raised.sum())[:, None] * values[0]).sum(dim=0)
    assert torch.allclose(found, expected, atol=1e-6)


def test_what_is_masked_has_no_weight_whatever_it_holds(pool: GatedAttentionPool) -> None:
    values = torch.randn(2, 4, 6)
    mask = torch.tensor([[True, True, False, False], [True, False, True, False]])
    changed = torch.where(mask[..., None], values, torch.full_like(values, 1e4))
    assert torch.equal(pool(values, mask), pool(changed, mask))


def test_the_order_of_a_set_does_not_matter(pool: GatedAttentionPool) -> None:
    values, mask = torch.randn(1, 4, 6), torch.tensor([[True, True, True, False]])
    order = torch.tensor([3, 1, 2, 0])
    assert torch.allclose(pool(values, mask), pool(values[:, order], mask[:, order]), atol=1e-6)


def test_a_set_of_one_is_that_one(pool: GatedAttentionPool) -> None:
    values, mask = torch.randn(1, 3, 6), torch.tensor([[False, True, False]])
    assert torch.allclose(pool(values, mask)[0], values[0, 1])


def test_an_empty_set_gives_zeros_and_finite_gradients(pool: GatedAttentionPool) -> None:
    values = torch.randn(2, 3, 6, requires_grad=True)
    pooled = pool(values, torch.tensor([[False, False, False], [True, True, False]]))
    pooled.sum().backward()
    assert pooled[0].tolist() == [0] * 6
    assert values.grad is not None
    assert torch.isfinite(values.grad).all()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in pool.parameters())


def test_the_maximum_is_taken_by_unit_over_what_the_mask_shows() -> None:
    values = torch.tensor([[[1.0, -3.0], [0.5, -2.0], [9.0, 9.0]], [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert masked_maximum(values, mask).tolist() == [[1.0, -2.0], [0.0, 0.0]]


def test_the_maximum_has_the_gradient_of_its_member_and_none_for_an_empty_set() -> None:
    values = torch.tensor([[[1.0], [2.0]], [[5.0], [6.0]]], requires_grad=True)
    masked_maximum(values, torch.tensor([[True, True], [False, False]])).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [[[0.0], [1.0]], [[0.0], [0.0]]]
