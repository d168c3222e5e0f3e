"""The notes of a synthetic patient, as text and times. How they become CSV and FHIR files is in `note_files`."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from clinical_mm.synthetic import vocabulary as words
from clinical_mm.synthetic.patients import Patient, stream
from clinical_mm.synthetic.truth import PlantedPhrase

LETTERS, REFERRALS, DOCUMENTS = "letters", "referrals", "documents"
"""The sources: a CSV of the clinic, a CSV of practices outside, and FHIR resources of the ward and the pathology."""


@dataclass(frozen=True)
class Note:
    """A note as its author and the system know it.

    `available_time` is when it could be read, `event_time` what it tells of; both hospital-local. `start` and `end`
    are the places of the phrase that carries the signal or its neutral counterpart; both 0 where there is neither.
    """

    source: str
    note_id: str
    patient_id: str
    note_type: str
    status: str
    event_time: datetime
    available_time: datetime
    text: str
    start: int = 0
    end: int = 0
    is_date_only: bool = False

    @property
    def item_id(self) -> str:
        """The id in the notes table: the note's own, or of a FHIR resource its type and id."""
        if self.source != DOCUMENTS:
            return self.note_id
        return f"{'DiagnosticReport' if self.is_report else 'DocumentReference'}/{self.note_id}"

    @property
    def is_report(self) -> bool:
        """Whether it is written as a DiagnosticReport."""
        return self.note_id.startswith("rep")

    @property
    def key(self) -> str:
        """`source/item_id`, as the truth names notes."""
        return f"{self.source}/{self.item_id}"

    @property
    def phrase(self) -> PlantedPhrase | None:
        """The planted phrase in it, if it holds one."""
        found = words.words_of(self.text[self.start : self.end])
        return PlantedPhrase(self.source, self.item_id, self.start, self.end, found) if found else None


def compose_notes(seed: int, patient: Patient) -> list[Note]:
    """The notes of a patient that may be read at the index time; none where there is no text of the patient.

    Everyone with text has a pathology report, which says the phrase; half of the letters repeat it.
    """
    if "text" not in patient.has:
        return []
    rng = stream(seed, "notes", patient.number)
    notes = [_pathology(patient, rng)]
    if rng.random() < 0.5:
        notes.append(_discharge(patient, rng))
    if rng.random() < 0.7:
        notes.append(_letter(patient, rng))
    if rng.random() < 0.35:
        notes.append(_nursing(patient, rng))
    if rng.random() < 0.2:
        notes.append(_referral(patient, rng))
    return notes


def leak_note(seed: int, patient: Patient, case: int) -> Note:
    """A note that gives the outcome away, and that could not be read at the index time.

    Case 0 and 1: written weeks later, and written before but stored only after. Case 2: dated, without a time of
    day, on the day of the index time. Case 3: a FHIR document of half an hour later, for which an offset from UTC
    matters. Case 4: earlier, but entered in error.
    """
    rng = stream(seed, "leak", patient.number, case)
    text = words.choose(words.LEAK_RELAPSE if patient.relapse else words.LEAK_NO_RELAPSE, rng)
    later = patient.index_time + timedelta(days=int(rng.integers(20, 400)), hours=int(rng.integers(0, 5)))
    before = patient.index_time - timedelta(days=int(rng.integers(2, 20)))
    event, available, source, status = {
        0: (later, later, LETTERS, "final"),
        1: (before, later, LETTERS, "final"),
        2: (before, patient.index_time.replace(hour=0, minute=0), LETTERS, "final"),
        3: (before, patient.index_time + timedelta(minutes=30), DOCUMENTS, "final"),
        4: (before, before, DOCUMENTS, "entered-in-error"),
    }[case]
    return Note(
        source,
        f"{'L' if source == LETTERS else 'doc-'}{patient.number:05d}-x{case}",
        patient.patient_id,
        "Clinic letter",
        status,
        event,
        available,
        text,
        is_date_only=case == 2,
    )


def earlier_version(note: Note, rng: np.random.Generator) -> Note:
    """What stood there before the note was amended: older, and with a neutral phrase instead of the planted one."""
    short = note.note_type == "Clinic letter"
    neutral = words.choose(words.NEUTRAL_SHORT if short else words.NEUTRAL, rng)
    text = (
        note.text[: note.start] + neutral + note.text[note.end :] if note.end else note.text + " Provisional."
    )
    older = note.available_time - timedelta(hours=int(rng.integers(2, 20)))
    end = note.start + len(neutral) if note.end else 0
    return replace(note, status="preliminary", available_time=older, text=text, end=end)


def amended_version(note: Note, addition: str, available_time: datetime) -> Note:
    """The note with a sentence more and a later time."""
    return replace(note, status="amended", available_time=available_time, text=f"{note.text} {addition}")


def _pathology(patient: Patient, rng: np.random.Generator) -> Note:
    has_signal = patient.signals["text"]
    phrase = words.choose(words.PLANTED if has_signal else words.NEUTRAL, rng)
    findings = [words.fill(f, rng) for f in words.some_findings(words.PATHOLOGY_FINDINGS, 4, rng)]
    findings.insert(int(rng.integers(0, len(findings) + 1)), phrase)
    head = words.fill(words.choose(words.PATHOLOGY_OPENING, rng), rng)
    tumour = words.fill(words.choose(words.PATHOLOGY_TUMOUR, rng), rng)
    text = "\n\n".join([head, " ".join([tumour, *findings]), words.choose(words.PATHOLOGY_CLOSING, rng)])
    times = _times(patient, rng, first_day=12, last_day=30, delay_h=(24, 96))
    note_id = f"{'rep' if rng.random() < 0.5 else 'doc'}-{patient.number:05d}-1"
    return _written(patient, DOCUMENTS, note_id, "Pathology report", times=times, text=text, phrase=phrase)


def _discharge(patient: Patient, rng: np.random.Generator) -> Note:
    parts = [
        words.choose(words.DISCHARGE_OPENING, rng),
        *words.some_findings(words.DISCHARGE_FINDINGS, 3, rng),
    ]
    text = " ".join(words.fill(p, rng) for p in [*parts, words.choose(words.DISCHARGE_CLOSING, rng)])
    times = _times(patient, rng, first_day=3, last_day=10, delay_h=(2, 40))
    return _written(
        patient, DOCUMENTS, f"doc-{patient.number:05d}-2", "Discharge summary", times=times, text=text
    )


def _letter(patient: Patient, rng: np.random.Generator) -> Note:
    opening = words.fill(
        words.choose(words.LETTER_OPENING, rng), rng, age_years=patient.age_years, sex=patient.sex
    )
    sentences = [words.fill(f, rng) for f in words.some_findings(words.LETTER_FINDINGS, 4, rng)]
    phrase = ""
    if rng.random() < 0.5:
        phrase = words.choose(words.PLANTED_SHORT if patient.signals["text"] else words.NEUTRAL_SHORT, rng)
        sentences.insert(int(rng.integers(0, len(sentences) + 1)), phrase)
    closing = words.fill(words.choose(words.LETTER_CLOSING, rng), rng)
    text = f"{opening}\n\n{' '.join(sentences)}\n{closing}"
    times = _times(patient, rng, first_day=2, last_day=6, delay_h=(1, 20))
    return _written(
        patient, LETTERS, f"L{patient.number:05d}-1", "Clinic letter", times=times, text=text, phrase=phrase
    )


def _nursing(patient: Patient, rng: np.random.Generator) -> Note:
    places = rng.choice(len(words.NURSING), 2, replace=False)
    text = " ".join(words.fill(words.NURSING[p], rng) for p in places)
    times = _times(patient, rng, first_day=8, last_day=12, delay_h=(0, 2))
    return _written(patient, LETTERS, f"L{patient.number:05d}-2", "Nursing note", times=times, text=text)


def _referral(patient: Patient, rng: np.random.Generator) -> Note:
    places = sorted(rng.choice(len(words.EXTERNAL), 3, replace=False))
    text = " ".join(words.fill(words.EXTERNAL[p], rng) for p in places)
    times = _times(patient, rng, first_day=40, last_day=80, delay_h=(24, 48))
    return _written(patient, REFERRALS, f"R{patient.number:05d}", "Referral", times=times, text=text)


def _times(
    patient: Patient, rng: np.random.Generator, *, first_day: int, last_day: int, delay_h: tuple[int, int]
) -> tuple[datetime, datetime]:
    """An event some days before the index time, and hours later when its note could be read, still before it."""
    day = patient.index_time - timedelta(days=int(rng.integers(first_day, last_day + 1)))
    event = day.replace(hour=int(rng.integers(7, 19)), minute=int(rng.integers(1, 60)))
    available = event + timedelta(hours=int(rng.integers(*delay_h)), minutes=int(rng.integers(1, 50)))
    return event, min(available, patient.index_time - timedelta(minutes=10))


def _written(
    patient: Patient,
    source: str,
    note_id: str,
    note_type: str,
    *,
    times: tuple[datetime, datetime],
    text: str,
    phrase: str = "",
) -> Note:
    event, available = times
    start = text.index(phrase) if phrase else 0
    return Note(
        source,
        note_id,
        patient.patient_id,
        note_type,
        "final",
        event,
        available,
        text,
        start,
        start + len(phrase),
    )
