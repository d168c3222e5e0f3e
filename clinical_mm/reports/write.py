"""The stage `report`: one self-contained page a patient, an index of them, and a page on how good the model is."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from clinical_mm.cohort.build import CohortTables, load_cohort
from clinical_mm.errors import StoreError
from clinical_mm.explain.saved import SavedExplanations
from clinical_mm.features.loaded import TaskFeatures
from clinical_mm.progress import track
from clinical_mm.reports.evidence import load_evidence
from clinical_mm.reports.overview import FeatureTally, IndexRow, cohort_page, index_page, index_row
from clinical_mm.reports.patient import PatientRecord, ReadNote, patient_page
from clinical_mm.reports.pseudonym import pseudonyms
from clinical_mm.reports.rendering import render
from clinical_mm.reports.series import SeriesInfo
from clinical_mm.store import Store, content_hash, current, current_about, require_current, snapshot
from clinical_mm.study.root import Study
from clinical_mm.summary import Check, StageSummary

VERSION = 1
MAX_BYTES = 5_000_000
"""A page is mailed and archived: larger ones fail the check of the stage."""


def write_reports(study: Study, store: Store, task: str) -> StageSummary:
    """Write the pages of the patients that were explained.

    Raises:
        StoreError: nothing was explained yet, or something else than what the features hold now.
    """
    explained = require_current(store.task(task, "explanations"), "explain")
    about = current_about(store.task(task, "explanations")) or {}
    features = TaskFeatures.load(study, store, task)
    if about.get("features") != features.fingerprint:
        raise StoreError(
            f"task {task}: the explanations were made of other features than stand now: run `clinical-mm explain` again"
        )
    cohort = load_cohort(store, task)
    evidence = load_evidence(study, store, task, about["version"], cohort)
    folder = store.task(task, "reports")
    fingerprint = content_hash(
        about["fingerprint"],
        evidence.fingerprint,
        cohort.fingerprint,
        study.study,
        study.intended_use,
        study.tasks[task].model_dump(mode="json", exclude={"training", "promotion"}),
        _templates_hash(),
        VERSION,
    )
    with store.lock(f"report-{task}"):
        kept = current_about(folder)
        if kept is not None and kept["fingerprint"] == fingerprint:
            return _summary(folder, is_unchanged=True)
        saved = SavedExplanations(explained)
        tally, rows = FeatureTally(), list[IndexRow]()
        use = {"intended_use": study.intended_use}
        tokens = pseudonyms(study.study, cohort.cohort["patient_id"])
        warned: Counter[str] = Counter()
        pages_about: dict[str, int | dict[str, int]] = {}
        with snapshot(folder, fingerprint, pages_about) as path:
            for patient_id in track(saved.patient_ids, "writing reports"):
                record = patient_record(features, cohort, patient_id, tokens[patient_id])
                texts = {(note.source, note.item_id): note.text for note in record.notes}
                explanation = saved.of(patient_id, texts)
                page = patient_page(
                    study, task, store=store.root, record=record, explanation=explanation, evidence=evidence
                )
                html = render("patient.html", script="patient.js", page=page, **use)
                (path / f"{page.pseudonym}.html").write_text(html, encoding="utf-8")
                tally.add(explanation)
                rows.append(index_row(page, explanation))
                warned["with warnings" if page.warnings else "without"] += 1
            index = index_page(study, task, evidence, rows)
            (path / "index.html").write_text(
                render("index.html", script="index.js", page=index, **use), encoding="utf-8"
            )
            overview = cohort_page(study, task, evidence, saved.contributions, tally)
            (path / "cohort.html").write_text(render("cohort.html", page=overview, **use), encoding="utf-8")
            pages_about |= {"pages": len(rows), "with_warnings": warned["with warnings"]}
    return _summary(folder, is_unchanged=False)


def patient_record(
    features: TaskFeatures, cohort: CohortTables, patient_id: str, pseudonym: str
) -> PatientRecord:
    """What the earlier stages kept on record about a patient."""
    index_time = features.cohort["index_time"][patient_id]
    left_out = features.left_out()
    read: dict[tuple[str, str], list[tuple[int, int]]] = {}
    has_text = "text" in features.modalities
    for window in features.windows(patient_id) if has_text else ():
        pieces = zip(window.starts, window.ends, strict=True)
        read.setdefault((window.source, window.item_id), []).extend(
            (int(start), int(end)) for start, end in pieces if start >= 0
        )
    notes = features.notes(patient_id) if has_text else []
    images = features.images(patient_id) if "image" in features.modalities else []
    return PatientRecord(
        pseudonym=pseudonym,
        index_time=None if pd.isna(index_time) else index_time,
        notes=tuple(
            ReadNote(
                note.source,
                note.item_id,
                note.note_type,
                None if pd.isna(note.available_time) else note.available_time,
                note.text,
                tuple(read.get((note.source, note.item_id), [])),
            )
            for note in notes
        ),
        series=tuple(SeriesInfo.of(image.series.to_dict()) for image in images),
        items=cohort.items[cohort.items["patient_id"] == patient_id],
        left_out=left_out[left_out["patient_id"] == patient_id],
    )


def _templates_hash() -> str:
    folder = Path(__file__).parent / "templates"
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _sizes(path: Path) -> Iterator[int]:
    for page in sorted(path.glob("*.html")):
        yield page.stat().st_size


def _summary(folder: Path, is_unchanged: bool) -> StageSummary:
    path, about = current(folder), current_about(folder)
    assert path is not None
    assert about is not None
    sizes = list(_sizes(path))
    largest = max(sizes)
    n_over = sum(size > MAX_BYTES for size in sizes)
    sentence = f"{n_over} of {len(sizes)} pages are larger than {MAX_BYTES / 1e6:.0f} MB"
    return StageSummary(
        stage="report",
        facts={
            "patients": about["pages"],
            "patients with warnings": about["with_warnings"],
            "largest page in kB": round(largest / 1000),
            "index": str(path / "index.html"),
        },
        checks=(Check("page size", n_over == 0, sentence, is_blocking=False),),
        path=path,
        is_unchanged=is_unchanged,
    )
