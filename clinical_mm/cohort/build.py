"""The cohort of a task: one row a patient, the items that each may be read with, and who is held out.

The stage alone: what it calls decides. A cohort that fails a check which blocks is not kept; the one before it stands.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from clinical_mm import tables
from clinical_mm.cohort import several_samples
from clinical_mm.cohort.alignment import align
from clinical_mm.cohort.candidates import candidates, records_flow
from clinical_mm.cohort.current import counts, current_rows, ingest_fingerprints
from clinical_mm.cohort.flow import Flow
from clinical_mm.cohort.kept_summary import keep_summary, unchanged_summary
from clinical_mm.cohort.leakage import check_owners, check_splits, check_times
from clinical_mm.cohort.linkage import link, linkage_table, links_fingerprint, load_links
from clinical_mm.cohort.outcomes import label_names, task_patients
from clinical_mm.cohort.splits import assign_splits
from clinical_mm.cohort.tallies import labels_by_split, patterns_by_split, why_unlabelled
from clinical_mm.cohort.twins import check_images, check_texts
from clinical_mm.errors import CohortError, StoreError, StudyError
from clinical_mm.progress import track
from clinical_mm.store import Store, content_hash, current, current_about, require_current, snapshot
from clinical_mm.study.root import Study
from clinical_mm.study.tasks import MODALITIES, Task
from clinical_mm.summary import StageSummary

VERSION = 3
"""Raised when the same inputs give another cohort than before."""
_LOCK_TIMEOUT_S = 600.0
_RECORD = "split_record.parquet"
_SELECTION = {
    *("sources", "window", "choose", "at_most", "note_types", "variables"),
    *("samples", "normal"),
    *("spatial_dims", "modality", "description", "min_slices", "max_series"),
}
"""The options of a modality that say what is read; another value of those that say how needs no other cohort."""

_WHEN = ("no_index_time", "after_index", "out_of_window")
_WHICH = ("not_chosen", "over_limit", *several_samples.REASONS)


@dataclass(frozen=True)
class CohortTables:
    """A task's cohort as it stands.

    Attributes:
        cohort: `tables.COHORT`.
        items: `tables.ITEMS` of the cohort's patients, used and not.
        splits: `tables.SPLITS`.
        flow: `tables.FLOW`.
        fingerprint: of settings, inputs and splits.
    """

    cohort: pd.DataFrame
    items: pd.DataFrame
    splits: pd.DataFrame
    flow: pd.DataFrame
    fingerprint: str


def load_cohort(store: Store, task: str) -> CohortTables:
    """The current cohort of a task.

    Raises:
        StoreError: there is none yet.
    """
    folder = store.task(task, "cohort")
    directory = require_current(folder, "cohort")
    about = current_about(folder)
    return CohortTables(
        cohort=tables.read_table(tables.COHORT, directory),
        items=tables.read_table(tables.ITEMS, directory),
        splits=tables.read_table(tables.SPLITS, directory),
        flow=tables.read_table(tables.FLOW, directory),
        fingerprint="" if about is None else str(about["fingerprint"]),
    )


def build_cohort(study: Study, store: Store, task: str) -> StageSummary:
    """Build a task's cohort: the snapshot `store.task(task, "cohort")`; links first where they are not current.

    Raises:
        StudyError: the study has no such task.
        CohortError: no patient, or too few of a label, are left; the sentence says at which step.
        StoreError: another run is working on it, or changed what was ingested meanwhile.
    """
    if task not in study.tasks:
        raise StudyError(f"the study has no task {task!r}: it has {', '.join(study.tasks)}")
    settings = study.tasks[task]
    folder = store.task(task, "cohort")
    link(study, store)
    with store.lock(f"cohort-{task}", timeout_s=_LOCK_TIMEOUT_S):
        inputs = _inputs(study, store, settings)
        about, standing = current_about(folder) or {}, current(folder)
        if standing is not None and about.get("inputs") == inputs:
            return unchanged_summary(standing)
        split_settings = content_hash(settings.split.model_dump(mode="json"), study.seed)
        recorded = None
        if standing is not None and about.get("split_settings") == split_settings:
            recorded = tables.to_pandas(pq.read_table(standing / _RECORD))
        try:
            _require_index_time(settings)
            made = _make(study, store, settings, recorded)
        except CohortError as error:
            raise CohortError(f"task {task}: {error}") from None
        summary = _summarize(store, settings, made, recorded, is_first=standing is None)
        if summary.failed_checks:
            return summary
        if _inputs(study, store, settings) != inputs:
            raise StoreError("what was ingested changed while the cohort was built: run it again")
        record = _record(made.tables.splits, recorded)
        fingerprint = content_hash(inputs, record.to_csv(index=False))
        kept = {"inputs": inputs, "split_settings": split_settings}
        with snapshot(folder, fingerprint, kept) as directory:
            tables.write_table(tables.COHORT, made.tables.cohort, directory)
            tables.write_table(tables.ITEMS, made.tables.items, directory)
            tables.write_table(tables.SPLITS, made.tables.splits, directory)
            tables.write_table(tables.FLOW, made.tables.flow, directory)
            pq.write_table(tables.to_arrow(tables.SPLITS, record), directory / _RECORD, compression="zstd")
            keep_summary(directory, summary)
        return StageSummary("cohort", summary.facts, summary.tables, {}, summary.checks, current(folder))


@dataclass(frozen=True)
class _Made:
    """What was made, not yet kept; `tables.fingerprint` is empty."""

    tables: CohortTables
    links: pd.DataFrame


def _inputs(study: Study, store: Store, task: Task) -> str:
    """Fingerprint of the settings and snapshots that a cohort is made of; its splits depend on the record, too."""
    modalities = {
        name: {
            k: v for k, v in getattr(task.modalities, name).model_dump(mode="json").items() if k in _SELECTION
        }
        for name in task.modalities.names
    }
    outcomes = {
        name: study.sources[name].model_dump(mode="json", include={"index_time", "variables"})
        for name in study.sources_of_stage("outcomes")
    }
    return content_hash(
        VERSION,
        modalities,
        {name: study.sources_of(name) for name in task.modalities.names},
        outcomes,
        task.model_dump(mode="json", include={"outcome", "index_time", "min_modalities", "split"}),
        study.seed,
        ingest_fingerprints(store),
        links_fingerprint(store),
    )


def _require_index_time(task: Task) -> None:
    """Refuse windows and choices that need an index time where the task has none."""
    if task.index_time != "none":
        return
    for name in task.modalities.names:
        settings = getattr(task.modalities, name)
        if settings.window.from_days is not None or settings.window.until_days < 0:
            raise CohortError(f"the window of {name} is relative to an index time, and index_time is none")
        if settings.choose == "nearest":
            raise CohortError(f"{name} chooses the items nearest to an index time, and index_time is none")


def _make(study: Study, store: Store, task: Task, recorded: pd.DataFrame | None) -> _Made:
    flow = Flow()
    links = load_links(store)
    linked = links.loc[links["status"] == "linked", ["source", "source_patient_id", "patient_id"]]
    outcomes = current_rows(store, tables.OUTCOMES, "outcomes")
    outcomes = outcomes.merge(linked, on=["source", "source_patient_id"], how="inner")
    patients = task_patients(study, task, outcomes, linked["patient_id"], flow)
    index_times = patients.set_index("patient_id")["index_time"]
    records_flow(study, task, counts(store), flow)
    aligned = []
    for name in track(task.modalities.names, "aligning modalities"):
        found = candidates(study, store, task, name, links=links, eligible=patients["patient_id"], flow=flow)
        aligned.append(align(found, index_times, task, name))
        _add_alignment(flow, name, aligned[-1]["reason_code"])
    items = pd.concat(aligned, ignore_index=True)
    cohort = _with_modalities(patients, items, task, flow)
    is_kept = items["patient_id"].isin(cohort["patient_id"])
    for name in task.modalities.names:
        is_used = (items["modality"] == name) & items["is_used"]
        reason = "the patient has too few modalities"
        flow.add(f"{name}: used by the cohort", is_used.sum(), (is_used & is_kept).sum(), reason)
    is_labelled = cohort["label"].notna()
    reason = why_unlabelled(cohort, patients.loc[patients["has_record"], "patient_id"])
    flow.add("patients with a known label, to be split", len(cohort), is_labelled.sum(), reason)
    splits = assign_splits(cohort, task.split, study.seed, recorded, label_names(task.outcome))
    items = items[is_kept].reset_index(drop=True)
    return _Made(CohortTables(cohort, items, splits, flow.frame(), ""), links)


def _add_alignment(flow: Flow, modality: str, reason_codes: pd.Series) -> None:
    """The steps from a patient's records to those that are read: what they are, when they were, which of them."""
    n_by_reason = reason_codes.value_counts().sort_index().drop("used", errors="ignore")
    is_when, is_which = n_by_reason.index.isin(_WHEN), n_by_reason.index.isin(_WHICH)
    n_in = len(reason_codes)
    for step, lost in (
        ("fit for the task", n_by_reason[~is_when & ~is_which]),
        ("within the window", n_by_reason[is_when]),
        ("chosen", n_by_reason[is_which]),
    ):
        flow.add(f"{modality}: {step}", n_in, n_in - int(lost.sum()), lost.to_dict())
        n_in -= int(lost.sum())


def _with_modalities(patients: pd.DataFrame, items: pd.DataFrame, task: Task, flow: Flow) -> pd.DataFrame:
    """`tables.COHORT` of the patients with enough modalities."""
    used = items[items["is_used"]]
    n_items = used.groupby(["patient_id", "modality"]).size().unstack("modality", fill_value=0)
    n_items = n_items.reindex(index=patients["patient_id"], columns=MODALITIES, fill_value=0).astype("int64")
    has = n_items.to_numpy() > 0
    patterns = np.array(
        [
            "+".join(m for i, m in enumerate(MODALITIES) if code >> i & 1)
            for code in range(2 ** len(MODALITIES))
        ],
        dtype=object,
    )
    cohort = patients.assign(
        **{f"n_{m}": n_items[m].to_numpy() for m in MODALITIES},
        modality_pattern=patterns[has @ (1 << np.arange(len(MODALITIES)))],
    )
    has_any = has.any(axis=1)
    has_enough = has.sum(axis=1) >= task.min_modalities
    alone = "an outcome alone" if task.index_time == "outcomes" else "nothing of them may be read"
    flow.add("patients with a modality", len(cohort), has_any.sum(), alone)
    name = f"patients with {task.min_modalities} modalities or more"
    flow.add(name, has_any.sum(), has_enough.sum(), "fewer modalities")
    if not has_enough.any():
        raise CohortError(
            f"none of {len(cohort)} patients{' with an outcome' if task.index_time == 'outcomes' else ''} has items "
            f"of {task.min_modalities} modalities or more that may be read: see `clinical-mm check`"
        )
    return cohort.loc[has_enough, tables.COHORT.columns].reset_index(drop=True)


def _record(splits: pd.DataFrame, recorded: pd.DataFrame | None) -> pd.DataFrame:
    """All that was ever assigned under these settings: a patient who leaves and comes back finds its place."""
    if recorded is None:
        return splits
    gone = recorded[~recorded["patient_id"].isin(splits["patient_id"])]
    together = pd.concat([splits, gone], ignore_index=True)
    return together.sort_values(["fold", "patient_id"], ignore_index=True)


def _summarize(
    store: Store, task: Task, made: _Made, recorded: pd.DataFrame | None, is_first: bool
) -> StageSummary:
    cohort, items, splits = made.tables.cohort, made.tables.items, made.tables.splits
    is_labelled = cohort["label"].notna()
    facts: dict[str, str | int | float] = {
        "patients": len(cohort),
        "labelled patients": int(is_labelled.sum()),
        "patients to be scored": int((~is_labelled).sum()),
        "used items": int(items["is_used"].sum()),
    }
    if task.index_time == "none":
        facts["used items with a time, read as timeless"] = int(
            (items["is_used"] & items["available_time"].notna()).sum()
        )
    n_assigned = splits["patient_id"].nunique()
    n_kept = (
        0
        if recorded is None
        else int(splits["patient_id"].drop_duplicates().isin(recorded["patient_id"]).sum())
    )
    facts |= {"patients that kept their split": n_kept, "patients newly assigned": n_assigned - n_kept}
    if recorded is None and not is_first:
        facts["split"] = "all patients assigned anew: the settings of the split, or the seed, changed"
    checks = [
        check_splits(cohort, splits, task.split, recorded),
        check_times(task, store, cohort, items),
        check_owners(task, store, made.links, items),
    ]
    if task.modalities.text is not None:
        checks.append(check_texts(store, items, splits))
    if task.modalities.image is not None:
        checks.append(check_images(store, items, splits))
    return StageSummary(
        "cohort",
        facts,
        {
            "flow": made.tables.flow,
            "modality patterns by split": patterns_by_split(cohort, splits),
            "label by split": labels_by_split(cohort, splits, task.outcome),
            "linkage by source and rule": linkage_table(made.links),
        },
        {},
        tuple(checks),
    )
