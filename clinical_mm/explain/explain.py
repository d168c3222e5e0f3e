"""The stage `explain`: the held-out patients of a model version, explained and kept in the store."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from clinical_mm.errors import ModelError
from clinical_mm.evaluation.record import latest_evaluated
from clinical_mm.explain.baselines import NeutralText
from clinical_mm.explain.patients import explain_patients, has_input, unseen_members
from clinical_mm.explain.saved import ExplanationWriter, SavedExplanations
from clinical_mm.features.encoder import load_tokenizer
from clinical_mm.features.loaded import TaskFeatures
from clinical_mm.progress import track
from clinical_mm.store import Store, content_hash, current, current_about, snapshot
from clinical_mm.study.root import Study
from clinical_mm.summary import Check, StageSummary
from clinical_mm.training.members import Member, latest_version, open_version
from clinical_mm.training.quiet import quiet

VERSION = 2


def explain(study: Study, store: Store, task: str, version: str | None = None) -> StageSummary:
    """Explain the patients whom a model version was tested on.

    Args:
        study: the study.
        store: its store.
        task: name of the task.
        version: model version; default: the one that was evaluated last, else the one that was trained last. Where
            there is a champion the caller names it.

    Returns:
        How many were explained, how completely, and what the modalities contributed on average.

    Raises:
        ModelError: no patient was held out for testing.
        StoreError: an earlier stage has not been run.
    """
    settings = study.tasks[task].explain
    features = TaskFeatures.load(study, store, task)
    version = version or latest_evaluated(store, task) or latest_version(store, task)
    fingerprint = content_hash(
        settings.model_dump(mode="json"), features.fingerprint, version, study.seed, VERSION
    )
    folder = store.task(task, "explanations")
    with store.lock(f"explain-{task}"):
        about = current_about(folder)
        if about is not None and about["fingerprint"] == fingerprint:
            return _summary(folder, is_unchanged=True)
        opened = open_version(store, task, version, features)
        members = opened.members
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        for member in members:
            nn.Module.to(member.model, device)
        ids, n_without = held_out_patients(members, features, opened.splits, study.seed, settings.patients)
        if not ids:
            raise ModelError(
                f"task {task}: no patient is held out for testing, so none can be explained: see `clinical-mm cohort`"
            )
        neutral = _neutral_text(features, opened.directory)
        about = {"version": version, "n_without_modality": n_without, "features": features.fingerprint}
        with snapshot(folder, fingerprint, about) as path, ExplanationWriter(path) as writer:
            explanations = explain_patients(members, features, ids, settings, neutral, splits=opened.splits)
            for explanation in track(explanations, "explaining patients", total=len(ids)):
                writer.write(explanation)
    return _summary(folder, is_unchanged=False)


def held_out_patients(
    members: Sequence[Member], features: TaskFeatures, splits: pd.DataFrame, seed: int, n: int | None
) -> tuple[list[str], int]:
    """The patients of the test split of whom the model can read anything, and how many there are of the others.

    Where fewer are wanted than there are, they are drawn by the hash of their id: the same ones every time, and a
    patient who is added changes no other's place.
    """
    tested = sorted(set(splits.loc[splits["split"] == "test", "patient_id"]))
    usable = [
        patient_id
        for patient_id in tested
        if any(has_input(m, features, patient_id) for m in unseen_members(members, splits, patient_id))
    ]
    chosen = usable
    if n is not None and n < len(usable):
        chosen = sorted(sorted(usable, key=lambda patient_id: content_hash(seed, patient_id))[:n])
    return chosen, len(tested) - len(usable)


def _neutral_text(features: TaskFeatures, directory: Path) -> NeutralText | None:
    if "text" not in features.modalities:
        return None
    first = min(directory.glob("fold_*"))
    with quiet():  # the directory's config.json is the fusion model's, which transformers remarks on
        return NeutralText.of(load_tokenizer(str(first)))


def _summary(folder: Path, is_unchanged: bool) -> StageSummary:
    path, about = current(folder), current_about(folder)
    assert path is not None
    assert about is not None
    saved = SavedExplanations(path)
    table = saved.summary
    n, n_complete = len(table), int(table["is_complete"].sum())
    of_present = saved.contributions[saved.contributions["is_present"]]
    magnitudes = (
        of_present.assign(
            integrated_gradients=of_present["integrated_gradients"].abs(), shapley=of_present["shapley"].abs()
        )
        .groupby("modality", sort=False)
        .agg(
            patients=("patient_id", "size"),
            integrated_gradients=("integrated_gradients", "mean"),
            shapley=("shapley", "mean"),
        )
        .reset_index()
    )
    sentence = f"{n_complete} of {n} patients reached the completeness that was asked for"
    return StageSummary(
        stage="explain",
        facts={
            "version": about["version"],
            "patients": n,
            "patients without any modality": about["n_without_modality"],
            "complete": n_complete,
            "median completeness error": float(table["completeness_error"].median()),
            "worst completeness error": float(table["completeness_error"].max()),
            "median steps": float(table["steps"].median()),
        },
        tables={"mean magnitude of contributions": pd.DataFrame(magnitudes)},
        checks=(Check("completeness", n_complete == n, sentence, is_blocking=False),),
        path=path,
        is_unchanged=is_unchanged,
    )
