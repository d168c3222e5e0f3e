"""Masked language modelling: windows of tokens, a model and its loss on notes that it does not learn from.

Devlin et al., 2019: of the chosen tokens 80 % become [MASK], 10 % another token, 10 % stay. Which notes are read, and
what is kept of it, stands in `pretrain`.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import (
    AutoModelForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    DataCollatorForLanguageModeling,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    TrainingArguments,
)

from clinical_mm.errors import EncoderError
from clinical_mm.study.root import PretrainText
from clinical_mm.training.checkpoints import whole_checkpoints
from clinical_mm.training.trainer import EpochCallback, WholeTrainer

_EVALUATION_BATCH = 64
_SPECIALS = 2
_SHORTEST_WINDOW = 8


class Windows(Dataset[dict[str, Any]]):
    """Notes cut into windows of tokens, one after the other, special tokens around each.

    The tokens of all notes lie in one array; a window is a slice of it.
    """

    def __init__(self, texts: Iterable[str], tokenizer: PreTrainedTokenizerFast, window_tokens: int) -> None:
        room = window_tokens - _SPECIALS
        self._cls, self._sep = tokenizer.cls_token_id, tokenizer.sep_token_id
        tokens: list[np.ndarray] = []
        bounds: list[tuple[int, int]] = []
        start = 0
        for text in texts:
            ids = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
            tokens.append(np.asarray(ids, dtype=np.int32))
            for first in range(0, len(ids), room):
                last = min(first + room, len(ids))
                # The tail of a long note is too short to predict anything in it.
                if first == 0 or last - first >= _SHORTEST_WINDOW:
                    bounds.append((start + first, start + last))
            start += len(ids)
        self._tokens = np.concatenate(tokens) if tokens else np.zeros(0, dtype=np.int32)
        self._bounds = bounds

    @property
    def tokens(self) -> np.ndarray:
        """All tokens, without the special ones around windows."""
        return self._tokens

    def __len__(self) -> int:
        return len(self._bounds)

    def __getitem__(self, index: int) -> dict[str, Any]:
        first, last = self._bounds[index]
        return {"input_ids": [self._cls, *self._tokens[first:last].tolist(), self._sep]}


def small_bert(settings: PretrainText, tokenizer: PreTrainedTokenizerFast) -> BertForMaskedLM:
    """A BERT of the study's size with random weights; it tells as many positions apart as a window has tokens."""
    if settings.hidden % settings.heads:
        raise EncoderError(
            f"pretrain_text.hidden ({settings.hidden}) is not a multiple of heads ({settings.heads}): change one"
        )
    return BertForMaskedLM(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=settings.hidden,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            intermediate_size=4 * settings.hidden,
            max_position_embeddings=settings.window_tokens,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def load_masked_model(name: str) -> tuple[PreTrainedModel, bool]:
    """An encoder with its language model head.

    Args:
        name: directory or hub id.

    Returns:
        The model; and whether its head is new, where the encoder came without one.

    Raises:
        EncoderError: it cannot be read, or the encoder itself would begin at random.
    """
    try:
        model, info = AutoModelForMaskedLM.from_pretrained(
            name, trust_remote_code=False, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise EncoderError(
            f"pretrain_text.start_from {name} cannot be loaded as a masked language model ({type(error).__name__}): "
            "name a directory or hub id of a BERT-like encoder"
        ) from None
    missing = sorted(info["missing_keys"])
    of_encoder = [key for key in missing if key.startswith(f"{model.base_model_prefix}.")]
    if of_encoder:
        raise EncoderError(
            f"pretrain_text.start_from {name} lacks {len(of_encoder)} tensors of its encoder ({of_encoder[0]} …): its "
            "weights belong to another configuration"
        )
    return model, bool(missing)


def masked_loss(
    model: PreTrainedModel, windows: Windows, tokenizer: PreTrainedTokenizerFast, masked: float, seed: int
) -> float:
    """Mean cross-entropy, in nats, of the masked tokens; the same seed masks the same tokens."""
    collator = masking_collator(tokenizer, masked)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()  # type: ignore[no-untyped-call]
    total, n_masked = 0.0, 0
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        # Not by the collator's own seed: it refuses in any child process, and a Dagster run is one.
        torch.default_generator.manual_seed(seed)
        for first in range(0, len(windows), _EVALUATION_BATCH):
            batch = collator([windows[i] for i in range(first, min(first + _EVALUATION_BATCH, len(windows)))])
            labels = batch.pop("labels").to(device)
            logits = model(**{key: value.to(device) for key, value in batch.items()}).logits
            chosen = labels != -100
            total += float(
                torch.nn.functional.cross_entropy(logits[chosen].float(), labels[chosen], reduction="sum")
            )
            n_masked += int(chosen.sum())
    model.train(was_training)
    return total / n_masked if n_masked else float("nan")


def frequency_loss(training: Windows, held_out: Windows, n_tokens: int) -> float:
    """Mean cross-entropy, in nats, of held-out tokens for who knows only how frequent each was in training."""
    counts = np.bincount(training.tokens, minlength=n_tokens) + 1.0
    return float(-np.log(counts / counts.sum())[held_out.tokens].mean())


def masking_collator(tokenizer: PreTrainedTokenizerFast, masked: float) -> DataCollatorForLanguageModeling:
    """Pads and masks; its draws are torch's own, which a checkpoint restores."""
    return DataCollatorForLanguageModeling(tokenizer, mlm=True, mlm_probability=masked)


def train_masked(
    model: PreTrainedModel,
    windows: Windows,
    tokenizer: PreTrainedTokenizerFast,
    settings: PretrainText,
    *,
    seed: int,
    checkpoints: Path,
) -> list[float]:
    """Train a masked language model, or carry on from its newest whole checkpoint.

    Returns:
        The training loss of each epoch.

    Raises:
        TrainingError: the loss is no longer finite.
    """
    has_gpu = torch.cuda.is_available()
    steps = -(-len(windows) // settings.batch_size) * settings.epochs
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        weight_decay=0.01,
        warmup_steps=round(0.06 * steps),
        lr_scheduler_type="linear",
        bf16=has_gpu and torch.cuda.is_bf16_supported(including_emulation=False),
        use_cpu=not has_gpu,
        seed=seed,
        data_seed=seed,
        dataloader_pin_memory=has_gpu,
        save_strategy="epoch",
        logging_strategy="epoch",
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
    )
    trainer = WholeTrainer(
        model=model,
        args=arguments,
        train_dataset=windows,
        data_collator=masking_collator(tokenizer, settings.masked),
        callbacks=[EpochCallback(windows, "pretraining", settings.epochs)],
    )
    whole = whole_checkpoints(checkpoints)
    trainer.train(resume_from_checkpoint=str(whole[-1].path) if whole else None)
    return [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
