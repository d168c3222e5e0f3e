"""The model card: `README.md` of a version, for who meets the directory without the study beside it."""

from typing import Any

from clinical_mm.study.root import Study
from clinical_mm.study.tasks import Outcome
from clinical_mm.training.validation import DISCRIMINATION

_NAMES = {"auroc": "AUROC", "c_index": "c-index"}


def model_card(study: Study, about: dict[str, Any], folds: list[dict[str, Any]]) -> str:
    """The card as Markdown. It holds counts and figures, nothing about a patient.

    Args:
        study: that the model was trained in.
        about: content of `model.json`.
        folds: content of each member's `training.json`.
    """
    task = study.tasks[about["task"]]
    measure = DISCRIMINATION[task.outcome.kind]
    rows = [
        f"| {f['fold']} | {f['n_training']} | {f['n_validation']} | {f['best_epoch']} of {f['n_epochs']} "
        f"| {_number(f['criterion'])} | {_number(f['criterion_constant'])} | {_number(f['discrimination'])} |"
        for f in folds
    ]
    read = [f"- **{name}**: {_reads(name, task.modalities)}" for name in about["modalities"]]
    libraries = ", ".join(f"{name} {version}" for name, version in sorted(about["libraries"].items()))
    return f"""---
library_name: transformers
tags: [clinical, multimodal, {task.outcome.kind}]
---

# {study.study}: {about["task"]}

**{task.question}**

{study.intended_use}

Version `{about["version"]}`, made {about["made"]} with seed {about["seed"]}.

## What it predicts

{_predicts(task.outcome)}

## What it reads

{chr(10).join(read)}

Fusion: {task.model.fusion}. Any subset of the modalities is a valid input: an absent one is a learned token, and in
training each was hidden with a chance of {task.model.modality_dropout:g}.

## Training

{len(folds)} {"member" if len(folds) == 1 else "members, one a fold"}. The epoch with the lowest loss over all \
validation patients was kept.

| fold | training patients | validation patients | best epoch | validation loss | of a constant prediction | \
{_NAMES[measure]} |
|---|---|---|---|---|---|---|
{chr(10).join(rows)}

These figures chose the epoch, so they flatter the model. The figures of held-out patients, with intervals, calibration
and the classical baselines, are in the task's evaluation.

## Limits

- Learned from the patients of this study alone: another hospital's notes, scanners and laboratories differ.
- Logits are not calibrated probabilities; the evaluation fits the calibration that reports print.
- An attribution says what moved the model's output, not what caused the outcome.

## Traces

- `study.json`: the study file as it was; its hash is `{about["study_hash"][:12]}`.
- Features of the data: `{about["data_fingerprint"][:12]}`.
- Made with {libraries}.
- Opens with `clinical_mm.training.members.load_members(directory)`, or one fold with
  `clinical_mm.model.network.FusionModel.from_pretrained(directory)`; needs no network.
"""


def _predicts(outcome: Outcome) -> str:
    if outcome.kind == "binary":
        return f"`{outcome.variable}` = `{outcome.positive}`, yes or no: one logit, the log odds of yes."
    if outcome.kind == "multiclass":
        return f"`{outcome.variable}`: one logit for each of {', '.join(outcome.classes)}, in this order."
    return (
        f"Time to `{outcome.event}` = `{outcome.event_value}` in {outcome.duration_unit}, right-censored: one output, "
        "the log hazard ratio of Cox's model. Higher is earlier."
    )


def _reads(name: str, modalities: Any) -> str:
    settings = getattr(modalities, name)
    if name == "text":
        return f"notes, by `{settings.encoder}` ({settings.fine_tune}), windows of {settings.window_tokens} tokens"
    if name == "image":
        size = " × ".join(map(str, settings.size))
        return f"DICOM series, by {settings.network} in {settings.spatial_dims}D on {size} voxels"
    kind = "genomic features" if name == "genomics" else "structured covariates"
    return f"{kind}, standardised on the training patients"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
