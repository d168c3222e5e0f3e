"""Accumulated batches learn as one batch of all their patients would, Cox's likelihood included."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from clinical_mm.features.dataset import collate
from clinical_mm.model.heads import cox_loss
from clinical_mm.training.accumulation import batch_weights, share_likelihood
from clinical_mm.training.fold import Sources, train_fold
from clinical_mm.training.quiet import quiet

pytestmark = pytest.mark.usefixtures("one_thread")

NO_CHANCE = {"model": {"dropout": 0.0, "modality_dropout": 0.0}}


def batches_of(n: int, sizes: list[int]) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(n, 5, generator=generator)
    durations = torch.randint(1, 6, (n,), generator=generator).float()  # with ties
    events = (torch.rand(n, generator=generator) < 0.6).float()
    labels = torch.stack([durations, events], dim=1)
    parts = zip(values.split(sizes), labels.split(sizes), strict=True)
    return [{"values": v, "labels": of_v} for v, of_v in parts]


def gradients(model: nn.Module) -> list[Tensor]:
    found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return found


def test_the_shares_of_batches_have_the_value_and_gradients_of_one_likelihood_over_all() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1))
    batches = batches_of(11, [4, 4, 3])
    whole = {key: torch.cat([b[key] for b in batches]) for key in ("values", "labels")}
    loss = cox_loss(model(whole["values"])[:, 0], whole["labels"][:, 0], whole["labels"][:, 1] > 0.5)
    loss.backward()
    expected = gradients(model)
    shares = share_likelihood(model, batches, lambda b: model(b["values"])[:, 0])
    total = torch.zeros(())
    for share, batch in zip(shares, batches, strict=True):
        part = share.backward_loss(model(batch["values"])[:, 0])
        part.backward()
        total += part.detach()
    assert float(total) == pytest.approx(float(loss.detach()), rel=1e-6)
    for found, wanted in zip(gradients(model), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-7)


def test_the_second_pass_drops_what_the_first_dropped_and_takes_no_draw_of_later_ones() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 64), nn.Dropout(0.5), nn.Linear(64, 1))
    batches = batches_of(8, [4, 4])
    seen: list[Tensor] = []

    def log_hazards(batch: dict[str, Tensor]) -> Tensor:
        found: Tensor = model(batch["values"])[:, 0]
        seen.append(found.detach())
        return found

    before = torch.get_rng_state()
    shares = share_likelihood(model, batches, log_hazards)
    assert torch.equal(torch.get_rng_state(), before)
    for share, batch in zip(shares, batches, strict=True):
        share.random_state.restore()
        log_hazards(batch)
    assert torch.equal(seen[0], seen[2])
    assert torch.equal(seen[1], seen[3])
    assert not torch.equal(seen[0], model(batches[0]["values"])[:, 0])


def test_the_first_pass_leaves_batch_statistics_and_gradients_alone() -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    share_likelihood(model, batches_of(8, [4, 4]), lambda b: model(b["values"])[:, 0])
    assert all(torch.equal(before[name], buffer) for name, buffer in model.named_buffers())
    assert all(p.grad is None for p in model.parameters())


def test_the_weights_of_batches_are_their_patients_shares() -> None:
    labels = [torch.tensor([0, 1, 1]), torch.tensor([1])]
    assert batch_weights(labels) == [0.75, 0.25]
    # Class 0 counts threefold: 3 + 1 + 1 of 6, and 1 of 6.
    assert batch_weights(labels, [3.0, 1.0]) == pytest.approx([5 / 6, 1 / 6])


@pytest.mark.parametrize("task", ["survival", "grade", "folds"])
@pytest.mark.parametrize("is_balanced", [False, True])
def test_k_steps_of_b_patients_learn_as_one_of_k_times_b(
    built: Any, tmp_path: Path, task: str, is_balanced: bool
) -> None:
    """The last step of an epoch has fewer patients, and its last batch fewer again."""
    members = {}
    for batch_size, accumulation in ((7, 2), (14, 1)):
        settings = {
            "batch_size": batch_size,
            "accumulation": accumulation,
            "balance_classes": is_balanced,
            "epochs": 3,
            "schedule": "constant",
            "warmup": 0.0,
        }
        tables = built.study.tasks[task].modalities
        modalities = {
            name: getattr(tables, name).model_dump() | {"dropout": 0.0, "feature_dropout": 0.0}
            for name in ("genomics", "clinical")
        }
        study = built.changed(task, training=settings, modalities=modalities, **NO_CHANCE)
        features = built.features(task, study)
        assert 7 < len(features.patients(0, "train")) % 14 < 14
        directory = tmp_path / f"{batch_size}x{accumulation}"
        with quiet(1):
            content = train_fold(features, 0, Sources(None, None), 7, directory)
        members[accumulation] = (load_file(directory / "fold_0" / "model.safetensors"), content["curves"])
    (several, of_several), (one, of_one) = members[2], members[1]
    assert of_several["training_loss"] == pytest.approx(of_one["training_loss"], rel=1e-4)
    # Cox's likelihood does not change when all log hazards shift: what only shifts them has no gradient but rounding.
    shifts = {"head.0.bias", "head.2.bias"} if task == "survival" else set()
    assert shifts < set(several)
    for name in set(several) - shifts:
        torch.testing.assert_close(several[name], one[name], rtol=1e-3, atol=1e-4, msg=name)


def test_a_batch_of_the_training_has_the_labels_that_the_likelihood_reads(built: Any) -> None:
    from clinical_mm.features.dataset import PatientDataset
    from clinical_mm.features.statistics import Statistics

    features = built.features("survival")
    ids = features.patients(0, "train")
    dataset = PatientDataset(features, Statistics.fit(features, ids), ids)
    labels = collate([dataset[i] for i in range(4)])["labels"]
    expected = features.cohort.loc[ids[:4], ["duration", "label"]].to_numpy(dtype="float32")
    assert torch.equal(labels, torch.from_numpy(expected))
