"""Order, rates and arguments of the Trainer."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from clinical_mm.errors import TrainingError
from clinical_mm.features.dataset import PatientDataset, collate
from clinical_mm.features.statistics import Statistics
from clinical_mm.model.config import FusionConfig
from clinical_mm.model.network import FusionModel
from clinical_mm.store import read_json
from clinical_mm.study.tasks import TrainingSettings
from clinical_mm.summary import StageSummary
from clinical_mm.training.fold import train_fold
from clinical_mm.training.quiet import quiet
from clinical_mm.training.trainer import EpochSampler, FusionTrainer, parameter_groups, training_arguments

MODALITIES = ("text", "image", "genomics", "clinical")
RATES = {"text": 0.1, "image": 0.2, "clinical": 0.3}


def model_of(trained: StageSummary, **text: Any) -> FusionModel:
    """The model of `relapse`, its weights drawn anew."""
    assert trained.path is not None
    values = read_json(trained.path / "fold_0" / "config.json")
    values["text"] |= text
    with quiet():
        return FusionModel(FusionConfig.from_dict(values))


def part_of(name: str) -> str:
    return name.split(".")[1] if name.startswith("encoders.") else "fusion"


def test_every_patient_comes_once_an_epoch_in_an_order_of_seed_and_epoch_alone() -> None:
    sampler = EpochSampler(20, seed=3)
    orders = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert orders[0] != orders[1]
    again = EpochSampler(20, seed=3)
    again.set_epoch(1)
    torch.manual_seed(99)
    assert list(again) == orders[1]
    assert list(EpochSampler(20, seed=4)) != orders[0]


def test_the_trainer_shows_every_patient_once_an_epoch_and_tells_the_dataset_the_epoch(
    built: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    read = PatientDataset.__getitem__

    def recorded(self: PatientDataset, index: int) -> Any:
        if len(self) == n_training:
            seen.append((self.epoch, index))
        return read(self, index)

    monkeypatch.setattr(PatientDataset, "__getitem__", recorded)
    features = built.features("grade")
    n_training = len(features.patients(0, "train"))
    assert n_training != len(features.patients(0, "validation"))
    with quiet(1):
        train_fold(features, 0, built.sources("grade"), 7, tmp_path)
    of_epoch = {epoch: [i for e, i in seen if e == epoch] for epoch in (0, 1)}
    assert all(sorted(order) == list(range(n_training)) for order in of_epoch.values())
    assert of_epoch[0] != of_epoch[1]
    assert len(seen) == 2 * n_training


@pytest.mark.parametrize("fine_tune", ["full", "frozen", "last_k"])
def test_every_learning_parameter_is_in_exactly_one_group(trained: StageSummary, fine_tune: str) -> None:
    model = model_of(trained, fine_tune=fine_tune, last_k=1)
    groups = parameter_groups(model, RATES, learning_rate=0.01, weight_decay=0.5)
    grouped = [id(p) for group in groups for p in group["params"]]
    learning = [id(p) for p in model.parameters() if p.requires_grad]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == set(learning)
    of_text = [p for name, p in model.named_parameters() if name.startswith("encoders.text.encoder.")]
    assert {p.requires_grad for p in of_text} == {"full": {True}, "frozen": {False}, "last_k": {True, False}}[
        fine_tune
    ]


def test_each_modality_learns_at_its_own_rate_and_only_matrices_decay(trained: StageSummary) -> None:
    model = model_of(trained)
    groups = parameter_groups(model, RATES, learning_rate=0.01, weight_decay=0.5)
    found = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    rates = {"text": 0.1, "image": 0.2, "genomics": 0.01, "clinical": 0.3, "fusion": 0.01}
    for name, parameter in model.named_parameters():
        is_token = name.rsplit(".", 1)[-1] in {"absent", "place"}
        decay = 0.5 if parameter.ndim >= 2 and not is_token else 0.0
        assert found[id(parameter)] == (rates[part_of(name)], decay), name
    assert {part_of(name) for name, _ in model.named_parameters()} == set(rates)
    assert found[id(model.absent)][1] == 0.0


@pytest.mark.parametrize("learner", MODALITIES)
def test_a_step_moves_only_what_has_a_rate(
    built: Any, trained: StageSummary, tmp_path: Path, learner: str
) -> None:
    torch.manual_seed(0)
    model = model_of(trained)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    features = built.features("relapse")
    ids = features.patients(0, "train")
    dataset = PatientDataset(features, Statistics.fit(features, ids), ids)
    settings = TrainingSettings(epochs=1, batch_size=len(ids), schedule="constant", warmup=0.0, threads=1)
    arguments = training_arguments(settings, tmp_path, 7, len(ids), is_validated=False)
    arguments.save_strategy = "no"  # type: ignore[assignment]
    rates = {name: 0.01 if name == learner else 0.0 for name in MODALITIES}
    with quiet(1):
        FusionTrainer(
            model=model, rates=rates, args=arguments, train_dataset=dataset, data_collator=collate
        ).train()
    moved = {part_of(name) for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {learner, "fusion"}


def test_the_tensor_of_a_group_is_the_optimizers_own(
    built: Any, trained: StageSummary, tmp_path: Path
) -> None:
    model = model_of(trained)
    settings = TrainingSettings(learning_rate=0.01, weight_decay=0.1)
    arguments = training_arguments(settings, tmp_path, 7, 20, is_validated=False)
    optimizer = FusionTrainer(model=model, rates=RATES, args=arguments).create_optimizer()
    assert isinstance(optimizer, torch.optim.AdamW)
    held = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    rates = {"text": 0.1, "image": 0.2, "genomics": 0.01, "clinical": 0.3, "fusion": 0.01}
    assert held == {id(p): rates[part_of(name)] for name, p in model.named_parameters()}


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_bf16_without_a_gpu_is_an_error_and_auto_is_fp32(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"training\.precision is bf16"):
        training_arguments(TrainingSettings(precision="bf16"), tmp_path, 7, 20, is_validated=True)
    arguments = training_arguments(TrainingSettings(precision="auto"), tmp_path, 7, 20, is_validated=True)
    assert not arguments.bf16


def test_the_warmup_is_a_share_of_the_steps_that_will_be_made(tmp_path: Path) -> None:
    # 22 patients by 4 are 6 batches, by 2 are 3 steps; ten epochs of them are 30.
    settings = TrainingSettings(epochs=10, batch_size=4, accumulation=2, warmup=0.1)
    assert training_arguments(settings, tmp_path, 7, 22, is_validated=True).warmup_steps == 3


def test_what_the_settings_say_is_what_the_optimizer_gets(
    built: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of steps, and the rate at the middle of a linear schedule and at its end."""
    rates: list[float] = []

    class Record(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            rates.append(kwargs["lr_scheduler"].get_last_lr()[0])

    study = built.changed("grade", training={"schedule": "linear", "warmup": 0.0, "learning_rate": 0.01})
    features = built.features("grade", study)
    with quiet(1):
        train_fold(features, 0, built.sources("grade"), 7, tmp_path, callbacks=(Record(),))
    n = 2 * -(-len(features.patients(0, "train")) // 4)
    assert rates == pytest.approx([0.01 * (1 - (step + 1) / n) for step in range(n)])


def test_the_whole_trainer_prints_nothing(
    built: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with quiet(1):
        train_fold(built.features("grade"), 0, built.sources("grade"), 7, tmp_path)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_quiet_puts_threads_and_verbosity_back() -> None:
    from transformers.utils import logging as transformers_logging

    before = torch.get_num_threads(), transformers_logging.get_verbosity()
    other = before[0] + 1

    def fail() -> None:
        with quiet(other):
            assert torch.get_num_threads() == other
            assert transformers_logging.get_verbosity() == transformers_logging.ERROR
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (torch.get_num_threads(), transformers_logging.get_verbosity()) == before
