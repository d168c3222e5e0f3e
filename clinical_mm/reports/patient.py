"""A patient's page, put together from the explanation and what the earlier stages kept on record.

Pure assembly: what a value means is decided where it was made, how it looks is for the template.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from clinical_mm.explain.explanation import Explanation
from clinical_mm.explain.words import Word
from clinical_mm.reports.answer import answer, output_unit
from clinical_mm.reports.caution import left_out, warnings
from clinical_mm.reports.evidence import Evidence
from clinical_mm.reports.page import (
    Fact,
    FeatureRow,
    FeatureSection,
    ItemRow,
    ModalityRow,
    NoteSection,
    PatientPage,
    WordRow,
)
from clinical_mm.reports.series import SeriesInfo, series_sections
from clinical_mm.reports.shading import segments
from clinical_mm.reports.vocabulary import ITEM_NOUNS, MODALITY_NAMES
from clinical_mm.reports.wording import counted, number, percent, signed, time
from clinical_mm.study.root import Study

_MAX_WORDS = 15
_FAINT = 0.02  # share of the strongest word below which a word is not listed
_MAX_FEATURES = 20
_MAX_ITEMS = 300


@dataclass(frozen=True)
class ReadNote:
    """A note that the model was given.

    Attributes:
        source: of the note.
        item_id: of the note.
        note_type: or None.
        available_time: or None where it is timeless.
        text: all of it.
        read: stretches that a window covered.
    """

    source: str
    item_id: str
    note_type: str | None
    available_time: pd.Timestamp | None
    text: str
    read: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class PatientRecord:
    """What the earlier stages kept on record about a patient.

    Attributes:
        pseudonym: under which the patient stands on pages.
        index_time: or None.
        notes: in reading order.
        series: of every image that was read, in order.
        items: rows of `tables.ITEMS`.
        left_out: rows (modality, reason, n) of what the features left out.
    """

    pseudonym: str
    index_time: pd.Timestamp | None
    notes: tuple[ReadNote, ...]
    series: tuple[SeriesInfo, ...]
    items: pd.DataFrame
    left_out: pd.DataFrame


def patient_page(
    study: Study,
    task_name: str,
    *,
    store: Path,
    record: PatientRecord,
    explanation: Explanation,
    evidence: Evidence,
) -> PatientPage:
    """All that a patient's page shows.

    Args:
        study: the study.
        task_name: of the task.
        store: root of the store.
        record: of the patient.
        explanation: of the same patient.
        evidence: how good the model is.
    """
    task = study.tasks[task_name]
    risk = evidence.risk(explanation)
    units = _units(study)
    items = record.items[record.items["is_used"]]
    return PatientPage(
        pseudonym=record.pseudonym,
        study=study.study,
        task=task_name,
        question=task.question,
        index_time=time(record.index_time)
        if record.index_time is not None
        else "none: all items are timeless",
        intended_use=study.intended_use,
        unit=output_unit(task.outcome),
        answer=answer(
            task.outcome,
            explanation.logits,
            explanation.target,
            risk=risk,
            confidence=evidence.confidence,
            typical=evidence.typical,
            rank=evidence.rank(explanation),
        ),
        baseline_line=evidence.first_line,
        warnings=warnings(
            task,
            record.items,
            features_left_out=record.left_out,
            index_time=record.index_time,
            explanation=explanation,
            risk=risk,
        ),
        modalities=_modalities(explanation, items),
        words=_word_rows(explanation.words),
        notes=_notes(record.notes, explanation.words),
        series=(
            series_sections(explanation.images, record.series, store, task.modalities.image)
            if task.modalities.image is not None and explanation.images
            else ()
        ),
        genomics=_features(explanation, "genomics", {}),
        clinical=_features(explanation, "clinical", units),
        left_out=left_out(explanation, record.items, record.left_out),
        trust=_trust(explanation, evidence),
        items=_items(items, record, _MAX_ITEMS),
        n_more_items=max(len(items) - _MAX_ITEMS, 0),
        provenance=evidence.provenance(explanation),
    )


def _units(study: Study) -> dict[str, str]:
    """Units of the clinical variables."""
    return {
        name: variable.unit
        for source in study.sources.values()
        if source.kind == "clinical"
        for name, variable in source.variables.items()
        if variable.type == "number" and variable.unit
    }


def _modalities(explanation: Explanation, items: pd.DataFrame) -> tuple[ModalityRow, ...]:
    n_items = items["modality"].value_counts()
    return tuple(
        ModalityRow(
            name=MODALITY_NAMES.get(c.modality, c.modality),
            is_present=c.is_present,
            remark=(
                counted(int(n_items.get(c.modality, 0)), *ITEM_NOUNS[c.modality])
                if c.is_present
                else "not there for this patient"
            ),
            integrated_gradients=c.integrated_gradients,
            shapley=c.shapley,
        )
        for c in explanation.contributions
    )


def _word_rows(words: Sequence[Word]) -> tuple[WordRow, ...]:
    """Words as written, whatever their case, over all their places; signs alone are left out."""
    forms: dict[str, list[Word]] = {}
    for word in words:
        if any(c.isalnum() for c in word.text):
            forms.setdefault(word.text.casefold(), []).append(word)
    rows = [WordRow(same[0].text, len(same), sum(w.attribution for w in same)) for same in forms.values()]
    top = sorted(rows, key=lambda row: -abs(row.attribution))[:_MAX_WORDS]
    return tuple(row for row in top if abs(row.attribution) >= _FAINT * abs(top[0].attribution))


def _notes(notes: Sequence[ReadNote], words: Sequence[Word]) -> tuple[NoteSection, ...]:
    strongest = max((abs(word.attribution) for word in words), default=0.0)
    of_note: dict[tuple[str, str], list[Word]] = {}
    for word in words:
        of_note.setdefault((word.source, word.item_id), []).append(word)
    return tuple(
        NoteSection(
            title=note.note_type or "Note",
            source=note.source,
            time="any time" if note.available_time is None else time(note.available_time),
            attribution=sum(w.attribution for w in of_note.get((note.source, note.item_id), [])),
            segments=segments(note.text, of_note.get((note.source, note.item_id), []), note.read, strongest),
        )
        for note in notes
    )


def _features(explanation: Explanation, modality: str, units: Mapping[str, str]) -> FeatureSection | None:
    if modality not in explanation.present:
        return None
    of_modality = [f for f in explanation.features if f.modality == modality]
    observed = [f for f in of_modality if f.is_observed]
    top = sorted(observed, key=lambda f: -abs(f.attribution))[:_MAX_FEATURES]
    total = sum(f.attribution for f in of_modality)
    return FeatureSection(
        rows=tuple(
            FeatureRow(
                name=f.feature,
                value=f.level if f.level is not None else _with_unit(f.value, units.get(f.feature)),
                direction=_direction(f.deviation),
                attribution=f.attribution,
            )
            for f in top
        ),
        n_others=len(observed) - len(top),
        others=total - sum(f.attribution for f in top),
        n_missing=len(of_modality) - len(observed),
    )


def _with_unit(value: float | None, unit: str | None) -> str:
    return f"{number(value)} {unit}" if unit else number(value)


def _direction(deviation: float | None) -> str:
    """Where a value lies among those of the training patients.

    >>> _direction(1.44), _direction(-0.5), _direction(0.02), _direction(None)
    ('↑ 1.4 SD above the mean', '↓ 0.5 SD below the mean', 'at the mean', '')
    """
    if deviation is None:
        return ""
    if abs(deviation) < 0.05:
        return "at the mean"
    return f"{'↑' if deviation > 0 else '↓'} {abs(deviation):.1f} SD {'above' if deviation > 0 else 'below'} the mean"


def _trust(explanation: Explanation, evidence: Evidence) -> tuple[Fact, ...]:
    complete = explanation.completeness
    return (
        *evidence.trust,
        Fact(
            "Attributions sum to",
            f"{signed(complete.attributed, 3)} of {signed(complete.score - complete.baseline_score, 3)}: error "
            f"{percent(complete.error)} after {complete.steps} steps ({percent(complete.tolerance)} was asked for)",
        ),
        Fact(
            "The model's output",
            f"{signed(complete.score, 3)}, against {signed(complete.baseline_score, 3)} for neutral notes, empty "
            "images and average values",
        ),
    )


def _items(items: pd.DataFrame, record: PatientRecord, at_most: int) -> tuple[ItemRow, ...]:
    types = {(note.source, note.item_id): note.note_type or "note" for note in record.notes}
    kinds = {info.item: info.kind for info in record.series}
    rows = items.sort_values(["modality", "rank", "item_id"], kind="stable").head(at_most)
    return tuple(
        ItemRow(
            modality=MODALITY_NAMES.get(row["modality"], row["modality"]),
            kind=types.get((row["source"], row["item_id"]))
            or kinds.get((row["source"], row["item_id"]))
            or _kind(row),
            source=row["source"],
            delivery=row["delivery"],
            time="any time" if pd.isna(row["available_time"]) else time(row["available_time"]),
            identifier=row["item_id"],
        )
        for row in rows.to_dict("records")
    )


def _kind(row: Mapping[Hashable, str]) -> str:
    """A sample, or the name of a clinical variable: what stands before its place in the file."""
    return row["item_id"].partition("@")[0] if row["modality"] == "clinical" else "sample"
