"""The stage `pretrain-text`: the study's own text encoder, by masked language modelling on its notes.

From scratch, with a vocabulary of its own, or from an encoder that the study names, with that one's tokenizer. Which
notes it may read stands in `pretraining_notes`, how it learns in `masked_language`.
"""

import math
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerFast, set_seed

from clinical_mm.errors import StudyError, TrainingError
from clinical_mm.features.encoder import load_tokenizer, position_limit
from clinical_mm.store import (
    Store,
    content_hash,
    current,
    current_about,
    file_hash,
    read_json,
    snapshot,
    write_json,
)
from clinical_mm.study.root import PretrainText, Study
from clinical_mm.summary import Check, StageSummary
from clinical_mm.training.masked_language import (
    Windows,
    frequency_loss,
    load_masked_model,
    masked_loss,
    small_bert,
    train_masked,
)
from clinical_mm.training.pretraining_notes import PretrainingNotes, choose_notes
from clinical_mm.training.quiet import quiet
from clinical_mm.training.wordpiece import train_tokenizer

VERSION = 2
_ABOUT = "pretraining.json"
_READ = "patients_read.json"
"""Hashes of the patients whose notes were learned from."""


def pretrain_text(study: Study, store: Store, *, force: bool = False) -> StageSummary:
    """Pretrain the study's text encoder: the snapshot `store.text_encoder`, a Hugging Face directory.

    An encoder that stands is kept when notes arrive: models read its tokens, and with another vocabulary the champion
    could neither score nor be compared. It is made anew when its settings changed, when it was pretrained on notes of
    a patient whom a task now tests, or when it is forced.

    Args:
        study: the study.
        store: its store.
        force: make it anew from the notes that stand now.

    Raises:
        StudyError: the study has no `pretrain_text`, or its window is longer than the encoder reads.
        StoreError: nothing was ingested, or another run is pretraining.
        TrainingError: there are too few notes, or the loss is no longer finite.
        EncoderError: `start_from` cannot be read.
    """
    settings = study.pretrain_text
    if settings is None:
        raise StudyError("the study has no pretrain_text: add it to say what to pretrain")
    start_from = None if settings.start_from is None else _located(study, settings.start_from)
    with store.lock("pretrain-text"):
        notes = choose_notes(study, store)
        made_by = content_hash(settings.model_dump(mode="json"), _identity(start_from), study.seed, VERSION)
        fingerprint = content_hash(made_by, notes.fingerprint)
        about = current_about(store.text_encoder)
        is_same = about is not None and about["fingerprint"] == fingerprint
        is_unchanged = is_same or (not force and _may_stay(store, made_by, notes))
        if not is_unchanged:
            with quiet():
                _pretrain(
                    settings,
                    store,
                    notes,
                    start_from=start_from,
                    seed=study.seed,
                    made_by=made_by,
                    fingerprint=fingerprint,
                )
    directory = current(store.text_encoder)
    assert directory is not None
    return _summary(directory, is_unchanged=is_unchanged, is_kept=is_unchanged and not is_same)


def _may_stay(store: Store, made_by: str, notes: PretrainingNotes) -> bool:
    """Whether the encoder that stands has the same settings, and read the notes of nobody who is now tested."""
    about, directory = current_about(store.text_encoder), current(store.text_encoder)
    if about is None or directory is None or about.get("made_by") != made_by:
        return False
    return not set(read_json(directory / _READ)).intersection(map(_hashed, notes.tested))


def _hashed(patient_id: str) -> str:
    return content_hash("pretraining", patient_id)


def _pretrain(
    settings: PretrainText,
    store: Store,
    notes: PretrainingNotes,
    *,
    start_from: str | None,
    seed: int,
    made_by: str,
    fingerprint: str,
) -> None:
    start_s = time.monotonic()
    texts = notes.texts(store)
    set_seed(seed)
    has_new_head = start_from is None
    model: PreTrainedModel
    if start_from is None:
        by_patient = (texts[group.to_numpy()] for _, group in notes.training.groupby("patient_id")["place"])
        tokenizer = train_tokenizer(by_patient, settings.vocabulary, settings.window_tokens)
        model = small_bert(settings, tokenizer)
    else:
        tokenizer = _tokenizer_of(start_from, settings.window_tokens)
        model, has_new_head = load_masked_model(start_from)
    training, held_out = (
        Windows(texts[frame["place"].to_numpy()], tokenizer, settings.window_tokens)
        for frame in (notes.training, notes.held_out)
    )
    if not len(training) or not len(held_out):
        raise TrainingError("the notes hold no text to pretrain on: see the notes that were ingested")
    before = masked_loss(model, held_out, tokenizer, settings.masked, seed)
    working = _working_directory(store, fingerprint)
    losses = train_masked(model, training, tokenizer, settings, seed=seed, checkpoints=working)
    model.cpu()
    after = masked_loss(model, held_out, tokenizer, settings.masked, seed)
    if math.isfinite(before) and not math.isfinite(after):
        raise TrainingError(
            "the loss on held-out notes is no longer a finite number: lower the learning rate "
            f"({settings.learning_rate:g}) of pretrain_text"
        )
    about = {
        "start_from": settings.start_from,
        "has_new_head": has_new_head,
        "seed": seed,
        "vocabulary": len(tokenizer),
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "n_training_notes": len(notes.training),
        "n_training_patients": int(notes.training["patient_id"].nunique()),
        "n_training_windows": len(training),
        "n_held_out_notes": len(notes.held_out),
        "n_held_out_patients": int(notes.held_out["patient_id"].nunique()),
        "n_of_test_patients": notes.n_of_test_patients,
        "n_of_waiting_patients": notes.n_of_waiting_patients,
        "n_unlinked": notes.n_unlinked,
        "kfold_tasks": list(notes.kfold_tasks),
        "unknown_share": _unknown_share(held_out, tokenizer),
        "loss_before": before,
        "loss_after": after,
        "loss_of_frequencies": frequency_loss(training, held_out, len(tokenizer)),
        "training_loss": losses,
        "duration_s": round(time.monotonic() - start_s, 1),
    }
    with snapshot(store.text_encoder, fingerprint, {"made_by": made_by}) as directory:
        write_json(directory / _READ, sorted(map(_hashed, {*notes.training["patient_id"]})))
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
        write_json(directory / _ABOUT, about)
    shutil.rmtree(working, ignore_errors=True)


def _working_directory(store: Store, fingerprint: str) -> Path:
    """Where checkpoints lie; what was begun with other settings or notes will not be carried on and goes."""
    working = store.cache("pretraining") / fingerprint[:16]
    for path in working.parent.iterdir():
        if path != working:
            shutil.rmtree(path, ignore_errors=True)
    return working


def _located(study: Study, name: str) -> str:
    """A directory relative to the study file, or the name as the hub knows it."""
    directory = study.resolve_path(name)
    return str(directory) if directory.is_dir() else name


def _identity(start_from: str | None) -> list[str]:
    if start_from is None or not Path(start_from).is_dir():
        return [str(start_from)]
    files = sorted(
        p for p in Path(start_from).iterdir() if p.suffix in {".json", ".safetensors", ".bin", ".txt"}
    )
    return [f"{p.name} {file_hash(p)}" for p in files]


def _tokenizer_of(start_from: str, window_tokens: int) -> PreTrainedTokenizerFast:
    tokenizer = load_tokenizer(start_from)
    if tokenizer.mask_token_id is None or tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
        raise TrainingError(
            f"the tokenizer of pretrain_text.start_from {start_from} has no mask, start or end token: masked language "
            "modelling needs them"
        )
    limit = position_limit(start_from)
    if limit is not None and window_tokens > limit:
        raise StudyError(
            f"pretrain_text.window_tokens is {window_tokens}, and {start_from} reads {limit} at most: lower it"
        )
    return tokenizer


def _unknown_share(windows: Windows, tokenizer: PreTrainedTokenizerFast) -> float:
    if tokenizer.unk_token_id is None or not len(windows.tokens):
        return 0.0
    return float(np.mean(windows.tokens == tokenizer.unk_token_id))


def _summary(directory: Path, *, is_unchanged: bool, is_kept: bool) -> StageSummary:
    about: dict[str, Any] = read_json(directory / _ABOUT)
    read = (
        "not read: notes of patients whom a task holds out for testing, or may once their outcome is known, and notes "
        "of nobody known"
    )
    if about["kfold_tasks"]:
        read += (
            f"; {', '.join(about['kfold_tasks'])} cross-validates, so each of its patients is tested by some fold and "
            "their notes are read, without any label"
        )
    facts: dict[str, str | int | float] = {
        "notes learned from": about["n_training_notes"],
        "of patients": about["n_training_patients"],
        "held-out notes": about["n_held_out_notes"],
        "of other patients": about["n_held_out_patients"],
        "notes of test patients, left out": about["n_of_test_patients"],
        "notes of patients without an outcome yet, left out": about["n_of_waiting_patients"],
        "notes of nobody known, left out": about["n_unlinked"],
        "leakage rule": read,
        "starts from": about["start_from"] or "scratch",
        "language model head": "new" if about["has_new_head"] else "as it came",
        "vocabulary": about["vocabulary"],
        "parameters": about["n_parameters"],
        "seconds": about["duration_s"],
    }
    if is_kept:
        facts["notes changed since"] = (
            "the encoder is kept for the models that read its tokens; --force makes it anew"
        )
    losses = pd.DataFrame(
        {
            "held-out notes": ["before", "after", "word frequencies alone"],
            "masked-token loss (nats)": [
                about["loss_before"],
                about["loss_after"],
                about["loss_of_frequencies"],
            ],
        }
    )
    is_better = about["loss_after"] < about["loss_before"]
    check = Check(
        "language model learned",
        is_better,
        f"the loss on held-out notes went from {about['loss_before']:.3f} to {about['loss_after']:.3f} nats a token",
        is_blocking=False,
    )
    return StageSummary(
        "pretrain-text",
        facts=facts,
        tables={"masked language model": losses},
        curves={"training_loss": about["training_loss"]},
        checks=(check,),
        path=directory,
        is_unchanged=is_unchanged,
    )
