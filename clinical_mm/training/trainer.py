"""The Hugging Face Trainer with what a fusion model needs besides: its own order, rates, loss and whole checkpoints.

Settings of a study become arguments here; what is trained on which patients stands in `fold`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from clinical_mm.errors import TrainingError
from clinical_mm.model.network import FusionModel
from clinical_mm.progress import track
from clinical_mm.study.tasks import TrainingSettings
from clinical_mm.training.accumulation import BatchShare, batch_weights, share_likelihood
from clinical_mm.training.checkpoints import keep_newest_and_best, mark_whole
from clinical_mm.training.validation import CRITERION
from clinical_mm.training.weight_average import WeightAverage


class EpochSampler(Sampler[int]):
    """Every place once an epoch, in an order that the seed and the epoch alone decide: resuming repeats it."""

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.seed, self.epoch = n, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        yield from torch.randperm(self.n, generator=generator).tolist()


class WholeTrainer(Trainer):
    """A Trainer that prints nothing, repeats its order when resumed, leaves whole checkpoints and stops at nan."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.remove_callback(PrinterCallback)

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> Sampler[int]:
        dataset: Any = self.train_dataset if train_dataset is None else train_dataset
        return EpochSampler(len(dataset), self.args.seed)

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """One batch forwards and backwards.

        Raises:
            TrainingError: the loss is not a number, or infinite.
        """
        loss: Tensor = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss):
            raise self._diverged("the loss is", self.state.global_step + 1)
        return loss

    def _diverged(self, what: str, step: int) -> TrainingError:
        return TrainingError(
            f"{what} no longer a finite number at step {step}: lower the learning rate "
            f"({self.args.learning_rate:g}, and those of the modalities), or train in fp32"
        )

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        # Weights that the newest step ruined give no loss before the next one, and the last has no next one.
        if not all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters()):
            raise self._diverged("a weight is", self.state.global_step)
        super()._save_checkpoint(model, trial)
        if self.args.should_save:
            folder = Path(str(self.args.output_dir))
            checkpoint = folder / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            self._save_beside(checkpoint)
            mark_whole(checkpoint)
            keep_newest_and_best(folder)

    def _save_beside(self, checkpoint: Path) -> None:
        """What else a checkpoint needs to be whole: here nothing."""


class FusionTrainer(WholeTrainer):
    """A Trainer for `FusionModel`.

    Args:
        model: to train.
        rates: learning rate by modality; the others, the fusion and the head learn at the arguments' rate.
        average: of the model's weights: what is validated, and saved beside every checkpoint; default: the weights
            of the last step.
        kwargs: as the Trainer takes them.
    """

    def __init__(
        self, model: FusionModel, rates: dict[str, float], average: WeightAverage | None = None, **kwargs: Any
    ) -> None:
        super().__init__(model=model, **kwargs)
        self._fusion_model = model
        self._rates = rates
        self._average = average or WeightAverage(model, 1)
        self.add_callback(self._average)
        self._shares: list[BatchShare] = []
        self._weights: list[float] = []
        if self.args.gradient_accumulation_steps > 1:
            # The loss of each batch is its part of the step's already.
            self.loss_is_scaled_for_ga = True

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As the Trainer, of the averaged weights."""
        with self._average.shown():
            metrics: dict[str, float] = super().evaluate(*args, **kwargs)
        return metrics

    def _save_beside(self, checkpoint: Path) -> None:
        self._average.save(checkpoint)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW with one group a modality and decay; norms, biases and learned tokens do not decay."""
        if self.optimizer is None:
            trained = self._fusion_model if model is None else model
            optimizer_class, optimizer_arguments = self.get_optimizer_cls_and_kwargs(
                self.args, self._fusion_model
            )
            groups = parameter_groups(trained, self._rates, self.args.learning_rate, self.args.weight_decay)
            self.optimizer = optimizer_class(groups, **optimizer_arguments)
        optimizer: torch.optim.Optimizer = self.optimizer
        return optimizer

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The batches of a step, and what each contributes to the loss over the patients of all of them."""
        batches, n_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.loss_is_scaled_for_ga and batches:
            config = self._fusion_model.config
            if config.outcome == "survival":
                self._fusion_model.train()
                self._shares = share_likelihood(self._fusion_model, batches, self._log_hazards)
            else:
                self._weights = batch_weights([batch["labels"] for batch in batches], config.class_weights)
        return batches, n_items

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The model's loss, or a batch's share of its step's."""
        if not (model.training and self._shares):
            loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
            if model.training and self._weights:
                loss = loss * self._weights.pop(0)
            return (loss, outputs) if return_outputs else loss
        share = self._shares.pop(0)
        share.random_state.restore()
        outputs = model(**{k: v for k, v in inputs.items() if k != "labels"})
        loss = share.backward_loss(outputs.logits[:, 0])
        return (loss, outputs) if return_outputs else loss

    def _log_hazards(self, batch: dict[str, Tensor]) -> Tensor:
        inputs = self._prepare_inputs({k: v for k, v in batch.items() if k != "labels"})
        with self.compute_loss_context_manager():
            logits: Tensor = self._fusion_model(**inputs).logits
        return logits[:, 0]


class EpochCallback(TrainerCallback):
    """Tells the dataset which epoch it is, so that augmentation can differ by epoch, and moves the progress bar."""

    def __init__(self, dataset: Any, description: str, epochs: int) -> None:
        self._dataset = dataset
        self._epochs = track(range(epochs), description)

    def on_epoch_begin(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Hand the epoch on."""
        next(self._epochs, None)
        if hasattr(self._dataset, "set_epoch"):
            self._dataset.set_epoch(round(state.epoch or 0))

    def on_train_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Finish the bar, also where training stopped early."""
        for _ in self._epochs:
            pass


def parameter_groups(
    model: nn.Module, rates: dict[str, float], learning_rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """AdamW's groups: by modality (its own rate), and by whether weights decay (those of two axes or more do)."""
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parts = name.split(".")
            part = parts[1] if parts[0] == "encoders" else "fusion"
            decays = parameter.ndim >= 2 and parts[-1] not in {"absent", "place"}
            groups.setdefault((part, decays), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": rates.get(part, learning_rate),
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (part, decays), parameters in groups.items()
    ]


def steps_per_epoch(settings: TrainingSettings, n_patients: int) -> int:
    """Optimizer steps in which every training patient is seen once."""
    batches = -(-n_patients // settings.batch_size)
    return -(-batches // settings.accumulation)


def training_arguments(
    settings: TrainingSettings, folder: Path, seed: int, n_patients: int, *, is_validated: bool
) -> TrainingArguments:
    """The Trainer's arguments for a study's settings.

    Args:
        settings: of the task.
        folder: for checkpoints.
        seed: of everything that is drawn.
        n_patients: training patients.
        is_validated: there are validation patients to choose the epoch by.

    Raises:
        TrainingError: bf16 is asked for where no GPU has it.
    """
    has_gpu = torch.cuda.is_available()
    has_bf16 = has_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    if settings.precision == "bf16" and not has_bf16:
        raise TrainingError(
            "training.precision is bf16, and this machine has no GPU that computes in it: use auto or fp32"
        )
    steps = steps_per_epoch(settings, n_patients) * settings.epochs
    schedule = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}[settings.schedule]
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=max(settings.batch_size, 16),
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warmup_steps=round(settings.warmup * steps),
        lr_scheduler_type=schedule,
        max_grad_norm=settings.max_gradient_norm,
        bf16=has_bf16 and settings.precision in {"bf16", "auto"},
        use_cpu=not has_gpu,
        seed=seed,
        data_seed=seed,
        dataloader_num_workers=settings.loader_workers,
        dataloader_multiprocessing_context="spawn" if settings.loader_workers else None,
        dataloader_pin_memory=has_gpu,
        remove_unused_columns=False,
        label_names=["labels"],
        eval_strategy="epoch" if is_validated else "no",
        save_strategy="epoch",
        logging_strategy="epoch",
        load_best_model_at_end=is_validated,
        metric_for_best_model=f"eval_{CRITERION}" if is_validated else None,
        greater_is_better=False if is_validated else None,
        restore_callback_states_from_checkpoint=True,
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
    )
