"""The first delivery of a synthetic cohort: everyone, and everything that is wrong in real exports.

Which public function writes it is in `cohort`; how single files are written is in the modules of the modalities.
"""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

from pydicom.uid import JPEGLSLossless, RLELossless

from clinical_mm.progress import track
from clinical_mm.synthetic.delivery import IMAGING, DeliveryWriter, PatientState, shuffled, truth_of
from clinical_mm.synthetic.dicom_files import PLAIN, Encoding
from clinical_mm.synthetic.genomics import EXPRESSION
from clinical_mm.synthetic.images import compose_study, follow_up
from clinical_mm.synthetic.notes import (
    DOCUMENTS,
    LETTERS,
    REFERRALS,
    Note,
    compose_notes,
    earlier_version,
    leak_note,
)
from clinical_mm.synthetic.patients import draw_patients, stray_ids, stream
from clinical_mm.synthetic.tables import CLINICAL
from clinical_mm.synthetic.truth import GroundTruth

NAME = "2026-01-05"

_ENCODINGS = (
    Encoding(transfer_syntax=RLELossless),
    Encoding(transfer_syntax=JPEGLSLossless),
    Encoding(intercept=0.0, is_signed=True),
    Encoding(intercept=0.0, is_signed=True),
    Encoding(slope=0.5),
    Encoding(slope=0.5),
    *(Encoding(is_head_first=True),) * 4,
)
"""How the first patients' series are written, by lot; the others' plainly."""


class FirstDelivery:
    """The first delivery: everyone, and everything that is wrong in real exports."""

    def __init__(self, landing: Path, seed: int, n_patients: int) -> None:
        self.landing, self.seed, self.n_patients = landing, seed, n_patients
        patients = draw_patients(seed, 0, n_patients, year=2024, unknown_outcomes=0.05)
        self.states = {p.patient_id: PatientState(p, NAME) for p in patients}
        self.rng = stream(seed, "first delivery")
        self.unit = max(1, n_patients // 60)
        self.strays = stray_ids(seed, 8)
        # The patients without images or genomics who get files all the same, none of which can be used; and those
        # whose images are only late. The second delivery has to know them.
        without = shuffled([p for p in patients if "image" not in p.has], self.rng)
        self.ambiguous, self.gap, *self.late = without[:4]
        self.without_genomics = shuffled([p for p in patients if "genomics" not in p.has], self.rng)
        self.amended = self._edited_notes()

    def write(self) -> GroundTruth:
        """Write the delivery."""
        writer = DeliveryWriter(self.landing, self.seed, NAME)
        for state in self.states.values():
            writer.add_tables(state)
        self._notes(writer)
        self._images(writer)
        s = self.strays
        with_genomics = [x.patient for x in self.states.values() if x.has_genomics]
        writer.genomics.add_unusable(with_genomics, self.without_genomics, [f"SYN-{i}-01A" for i in s[4:6]])
        writer.clinical.add_unusable(s[2:4])
        for state in self._labelled()[: 2 * self.unit]:
            writer.clinical.add_leak(state.patient)
        labelled = self._labelled()
        writer.outcomes.add_row(s[0], datetime(2024, 6, 3, 9, 30), ["no", "low", "20.0", "no"])
        writer.outcomes.add_unusable(labelled[0].patient.patient_id, labelled[1].patient.patient_id, s[6])
        labelled[1].relapse = None
        unlinked: dict[str, tuple[str, ...]] = {
            LETTERS: (s[1],),
            CLINICAL: s[2:4],
            EXPRESSION: (
                *(f"SYN-{i}-01A" for i in s[4:6]),
                *(f"{p.barcode[:-3]}11A" for p in with_genomics[2:5]),
            ),
            IMAGING: ("RAD000001", "RAD000002"),
        }
        counts = {NAME: writer.finish()}
        ambiguous: dict[str, tuple[str, ...]] = {IMAGING: (self.ambiguous.pacs_id,)}
        return truth_of(
            self.seed, self.n_patients, self.states, counts=counts, unlinked=unlinked, ambiguous=ambiguous
        )

    def _edited_notes(self) -> dict[str, Note]:
        """Compose everyone's notes, with the special times and amendments; returns the amended ones by key."""
        for state in self.states.values():
            state.notes = {note.key: note for note in compose_notes(self.seed, state.patient)}
        letters = self._notes_of(LETTERS, "Clinic letter")
        for note in letters[: self.unit]:
            self._replace(replace(note, is_date_only=True))
        at_index = self._notes_of(REFERRALS, "Referral")[0]
        self._replace(replace(at_index, available_time=self.states[at_index.patient_id].patient.index_time))
        amended = [
            *letters[self.unit : 2 * self.unit],
            *shuffled(self._notes_of(DOCUMENTS, "Pathology report"), self.rng)[: 2 * self.unit],
        ]
        edited = [replace(note, status="amended") for note in amended]
        for note in edited:
            self._replace(note)
        return {note.key: note for note in edited}

    def _notes(self, writer: DeliveryWriter) -> None:
        files = writer.notes
        notes = [note for state in self.states.values() for note in state.notes.values()]
        for note in notes:
            if note.key in self.amended:
                files.add(earlier_version(note, self.rng), "superseded")
            files.add(note)
        letters = self._notes_of(LETTERS, "Clinic letter")
        documents = self._notes_of(DOCUMENTS, "Discharge summary")
        for note in (*letters[-3:], *documents[-2:]):
            files.repeat(note)
        files.add_unusable([*letters[2 * self.unit :], *documents])
        stranger = replace(letters[-1], patient_id=self.strays[1])
        files.add(replace(stranger, note_id="L90004"))
        files.add(replace(stranger, note_id="L90005", note_type="Nursing note"))
        told = shuffled([s.patient for s in self._labelled() if s.notes], self.rng)
        share = len(told) // 4
        cases = [0] * share + [1] * share + [2] * 2 * self.unit + [3] * 2 * self.unit + [4] * 2
        for case, patient in zip(cases, told, strict=False):
            files.add(leak_note(self.seed, patient, case), "entered_in_error" if case == 4 else "accepted")

    def _images(self, writer: DeliveryWriter) -> None:
        with_images = [s for s in self.states.values() if "image" in s.patient.has]
        order = shuffled(with_images, self.rng)
        encodings = {s.patient.patient_id: e for s, e in zip(order, _ENCODINGS, strict=False)}
        truncated = order[len(_ENCODINGS)]
        for state in track(with_images, "images"):
            encoding = encodings.get(state.patient.patient_id, PLAIN)
            writer.add_images(state, encoding=encoding, is_last_truncated=state is truncated)
        plain = [s.patient for s in order[len(_ENCODINGS) + 1 :]]
        images = writer.images
        images.repeat_slice(plain[0], compose_study(self.seed, plain[0])[0][0], 11)
        for patient in plain[:2]:
            images.add_report(patient)
        followed = [p for p in plain if self.states[p.patient_id].relapse is not None]
        for patient in followed[: 2 * self.unit]:
            images.add_series(patient, follow_up(self.seed, patient), study="later")
        for patient, pacs_id, mrns in (
            (self.ambiguous, self.ambiguous.pacs_id, (self.ambiguous.patient_id, plain[1].patient_id)),
            (plain[2], "RAD000001", ()),
            (plain[3], "RAD000002", (self.strays[7],)),
        ):
            stack = compose_study(self.seed, patient)[0][0]
            images.add_series(patient, stack, pacs_id=pacs_id, study=f"of {pacs_id}")
            writer.crosswalk += [(pacs_id, mrn) for mrn in mrns]
        images.add_series(self.gap, compose_study(self.seed, self.gap)[0][0], truncate=10)
        writer.crosswalk.append((self.gap.pacs_id, self.gap.patient_id))
        images.add_strange_files()

    def _labelled(self) -> list[PatientState]:
        return [s for s in self.states.values() if s.relapse is not None]

    def _notes_of(self, source: str, note_type: str) -> list[Note]:
        """Notes of a kind, as they stand now, in the order of the patients."""
        every = (n for s in self.states.values() for n in s.notes.values())
        return [n for n in every if n.source == source and n.note_type == note_type]

    def _replace(self, note: Note) -> None:
        self.states[note.patient_id].notes[note.key] = note
