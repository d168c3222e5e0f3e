"""The encoder of standardised numbers."""

import torch

from clinical_mm.model.tabular import TabularEncoder


def encoder() -> TabularEncoder:
    torch.manual_seed(0)
    made = TabularEncoder(4, [8, 6], dropout=0.5, feature_dropout=0.5, hidden=5)
    made.eval()
    return made


def test_patients_become_one_vector_each() -> None:
    assert encoder()(torch.randn(3, 4), torch.ones(3, 4, dtype=torch.bool)).shape == (3, 5)


def test_without_hidden_layers_it_is_linear_and_normed() -> None:
    made = TabularEncoder(4, [], dropout=0.0, feature_dropout=0.0, hidden=5)
    values = torch.randn(2, 4)
    linear = made.project[0]
    raw = values @ linear.weight.T + linear.bias
    by_hand = (raw - raw.mean(1, keepdim=True)) / (raw.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
    assert torch.allclose(made(values, torch.ones(2, 4, dtype=torch.bool)), by_hand, atol=1e-5)


def test_the_value_of_what_was_not_measured_is_never_read() -> None:
    made, observed = encoder(), torch.tensor([[True, False, True, True]])
    values = torch.randn(1, 4)
    for stand_in in (1e6, float("nan")):
        changed = torch.where(observed, values, torch.tensor(stand_in))
        assert torch.equal(made(values, observed), made(changed, observed))


def test_missing_begins_at_the_training_mean_and_is_learned_only_where_something_is_missing() -> None:
    made, observed = encoder(), torch.tensor([[True, False, True, True]])
    values = torch.randn(1, 4)
    at_mean = torch.where(observed, values, torch.zeros(()))
    assert torch.equal(made(values, observed), made(at_mean, torch.ones_like(observed)))
    made(values, observed)[0, 0].backward()
    assert made.missing.grad is not None
    assert (made.missing.grad != 0).tolist() == [False, True, False, False]


def test_another_learned_value_changes_only_patients_who_lack_the_feature() -> None:
    made = encoder()
    observed = torch.tensor([[True, True, True, True], [True, False, True, True]])
    values = torch.randn(2, 4)
    with torch.no_grad():
        before = made(values, observed)
        made.missing[1] = 3.0
        after = made(values, observed)
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1])


def test_values_are_hidden_in_training_alone_and_as_if_they_were_not_measured() -> None:
    made = TabularEncoder(4, [], dropout=0.0, feature_dropout=0.5, hidden=5)
    values, observed = torch.randn(1, 4), torch.ones(1, 4, dtype=torch.bool)
    hidden = [torch.tensor([[bool(code >> i & 1) for i in range(4)]]) for code in range(16)]
    made.eval()
    possible = [made(values, ~h) for h in hidden]
    assert torch.equal(made(values, observed), possible[0])
    made.train()
    torch.manual_seed(0)
    seen = set()
    for _ in range(200):
        found = made(values, observed)
        (place,) = (i for i, expected in enumerate(possible) if torch.allclose(found, expected, atol=1e-6))
        seen.add(place)
    assert len(seen) == 16
