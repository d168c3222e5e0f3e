"""The stage `features`: what the model of a task reads, for every patient of its cohort.

Text, images, genomics and clinical each stand in their own module; here they are put into one snapshot. What needs
training patients to be known (means, scales, which genes vary) is no feature: see `statistics`.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from clinical_mm import tables
from clinical_mm.cohort.build import CohortTables, load_cohort
from clinical_mm.cohort.kept_summary import keep_summary, unchanged_summary
from clinical_mm.errors import StudyError
from clinical_mm.features.clinical import build_clinical, clinical_variables
from clinical_mm.features.encoder import load_tokenizer, position_limit, resolve_encoder, tokenizer_hash
from clinical_mm.features.genomics import build_genomics
from clinical_mm.features.image import build_images
from clinical_mm.features.items import used_items
from clinical_mm.features.left_out import LeftOut
from clinical_mm.features.schemas import IMAGES, LEFT_OUT, PRESENCE, TEXT_WINDOWS
from clinical_mm.features.text import build_text
from clinical_mm.features.windows import Tokeniser, WindowPlan
from clinical_mm.store import Store, content_hash, current, current_about, snapshot, write_json
from clinical_mm.study.root import Study
from clinical_mm.study.sources import Variable
from clinical_mm.study.tasks import Task, TextModality
from clinical_mm.summary import Check, StageSummary

VERSION = 3
STAGE = "features"
ABOUT = "features.json"
TOKEN_CACHE = "tokens"
_LOCK_TIMEOUT_S = 600.0
_READ = {
    "text": {"window_tokens", "overlap_tokens", "max_windows"},
    "image": {"spatial_dims", "size", "spacing_mm", "intensity", "window_hu", "slices_per_series"},
    "genomics": {"features"},
    "clinical": {"variables", "sources"},
}
"""The options of a modality that decide its features; the cohort's fingerprint speaks for those that choose items."""


class _Text:
    """The task's tokenizer and windows; its name alone is known before the tokenizer is read."""

    def __init__(self, study: Study, store: Store, settings: TextModality) -> None:
        self.encoder = resolve_encoder(study, store, settings)
        tokenizer = load_tokenizer(self.encoder)
        limit = position_limit(self.encoder)
        self.plan = WindowPlan.of(tokenizer, settings.window_tokens, settings.overlap_tokens, limit)
        self.hash = tokenizer_hash(tokenizer)
        self.mask_token_id = tokenizer.mask_token_id
        self.tokeniser = Tokeniser(tokenizer, store.cache(TOKEN_CACHE))

    def about(self) -> dict[str, Any]:
        """What decides which token ids a note becomes, wherever the encoder lies."""
        plan = self.plan
        return {
            "tokenizer_hash": self.hash,
            "prefix": plan.prefix,
            "suffix": plan.suffix,
            "pad_token_id": plan.pad_token_id,
            "mask_token_id": self.mask_token_id,
        }


def build_features(study: Study, store: Store, task: str) -> StageSummary:
    """Make the features of a task's cohort: the snapshot `store.task(task, "features")`.

    Raises:
        StudyError: the study has no such task, a window is longer than the encoder reads, or no gene matches.
        StoreError: there is no cohort yet, or another run is working on the features.
        CohortError: what was ingested has changed since the cohort was built.
        EncoderError: the encoder, or its tokenizer, cannot be read.
    """
    if task not in study.tasks:
        raise StudyError(f"the study has no task {task!r}: it has {', '.join(study.tasks)}")
    settings = study.tasks[task]
    folder = store.task(task, STAGE)
    with store.lock(f"features-{task}", timeout_s=_LOCK_TIMEOUT_S):
        cohort = load_cohort(store, task)
        text = None if settings.modalities.text is None else _Text(study, store, settings.modalities.text)
        variables = (
            {}
            if settings.modalities.clinical is None
            else clinical_variables(study, settings.modalities.clinical)
        )
        fingerprint = _fingerprint(settings, cohort, text, variables)
        about, standing = current_about(folder), current(folder)
        if about is not None and about["fingerprint"] == fingerprint and standing is not None:
            return unchanged_summary(standing)
        with snapshot(folder, fingerprint, {"cohort": cohort.fingerprint}) as directory:
            summary = _make(store, settings, directory, cohort=cohort, text=text, variables=variables)
            keep_summary(directory, summary)
    return StageSummary(STAGE, summary.facts, summary.tables, {}, summary.checks, current(folder))


def _fingerprint(task: Task, cohort: CohortTables, text: _Text | None, variables: dict[str, Variable]) -> str:
    return content_hash(STAGE, VERSION, cohort.fingerprint, _form(task, text, variables))


def _form(task: Task, text: _Text | None, variables: dict[str, Variable]) -> dict[str, str]:
    """By modality a hash of what decides how an item becomes features: a model reads no others than its own."""
    declared = [[name, variable.model_dump(mode="json")] for name, variable in variables.items()]
    beside = {"text": None if text is None else text.about(), "clinical": declared}
    return {
        name: content_hash(VERSION, settings, beside.get(name))
        for name, settings in feature_settings(task).items()
    }


def feature_settings(task: Task) -> dict[str, str]:
    """By modality a hash of the options that decide its features: what the study file alone can say about them."""
    return {
        name: content_hash(getattr(task.modalities, name).model_dump(mode="json", include=_READ[name]))
        for name in task.modalities.names
    }


def _make(
    store: Store,
    task: Task,
    directory: Path,
    *,
    cohort: CohortTables,
    text: _Text | None,
    variables: dict[str, Variable],
) -> StageSummary:
    modalities, left_out = task.modalities, LeftOut()
    facts: dict[str, str | int | float] = {"patients": len(cohort.cohort)}
    has: dict[str, set[str]] = {}
    if modalities.text is not None and text is not None:
        items = used_items(cohort.items, "text")
        counts = build_text(
            store,
            items,
            directory,
            tokeniser=text.tokeniser,
            plan=text.plan,
            max_windows=modalities.text.max_windows,
            left_out=left_out,
        )
        has["text"] = _patients_of(tables.read_table(TEXT_WINDOWS, directory, ["patient_id"]))
        facts |= {
            "notes": counts.n_notes,
            "windows": counts.n_windows,
            "tokens": counts.n_tokens,
            "notes tokenised before (cache hits)": text.tokeniser.n_hits,
        }
    if modalities.image is not None:
        items = used_items(cohort.items, "image")
        images = build_images(store, items, directory, modalities.image, left_out)
        has["image"] = _patients_of(tables.read_table(IMAGES, directory, ["patient_id"]))
        facts |= {
            "series": images.n_series,
            "images": images.n_images,
            "series prepared before (cache hits)": images.n_hits,
        }
    if modalities.genomics is not None:
        items = used_items(cohort.items, "genomics")
        patients, n_features = build_genomics(store, items, directory, modalities.genomics, left_out)
        has["genomics"] = set(patients)
        facts["genomic features"] = n_features
    if modalities.clinical is not None:
        items = used_items(cohort.items, "clinical")
        patients, n_features = build_clinical(store, items, directory, variables, left_out)
        has["clinical"] = set(patients)
        facts["clinical features"] = n_features
    presence = [(patient_id, name) for name, patients in has.items() for patient_id in sorted(patients)]
    tables.write_table(PRESENCE, pd.DataFrame(presence, columns=PRESENCE.columns), directory)
    omitted = left_out.table()
    tables.write_table(LEFT_OUT, omitted, directory)
    about = {
        "text": None if text is None else text.about(),
        "form": _form(task, text, variables),
        "settings": feature_settings(task),
    }
    write_json(directory / ABOUT, about)
    facts["left out"] = int(omitted["n"].sum())
    return StageSummary(
        STAGE,
        facts,
        {
            "patients by modality": _patients_table(has, cohort.cohort),
            "left out by reason": _left_out_table(omitted),
        },
        {},
        (_usable_check(has, cohort.cohort),),
    )


def _patients_of(frame: pd.DataFrame) -> set[str]:
    return set(frame["patient_id"])


def _patients_table(has: dict[str, set[str]], cohort: pd.DataFrame) -> pd.DataFrame:
    rows = [(name, int((cohort[f"n_{name}"] > 0).sum()), len(patients)) for name, patients in has.items()]
    return pd.DataFrame(rows, columns=["modality", "patients with items", "patients with features"])


def _left_out_table(left_out: pd.DataFrame) -> pd.DataFrame:
    grouped = left_out.groupby(["modality", "reason"], as_index=False, sort=True)
    return pd.DataFrame(grouped.agg(n=("n", "sum"), patients=("patient_id", "nunique")))


def _usable_check(has: dict[str, set[str]], cohort: pd.DataFrame) -> Check:
    n_without = len(set(cohort["patient_id"]).difference(*has.values()))
    sentence = (
        "every patient has features of a modality"
        if not n_without
        else f"{n_without} of {len(cohort)} patients have items, and no usable feature of any: see what was left out"
    )
    return Check("usable_features", n_without == 0, sentence, is_blocking=False)
