"""The second delivery of a synthetic cohort: new patients, late images, amended notes, corrected outcomes.

It is drawn after the same plan as the first, whose truth it continues.
"""

from datetime import timedelta
from itertools import islice
from pathlib import Path

from clinical_mm.progress import track
from clinical_mm.synthetic.delivery import DeliveryWriter, PatientState, shuffled, truth_of
from clinical_mm.synthetic.first_delivery import FirstDelivery
from clinical_mm.synthetic.notes import amended_version, compose_notes
from clinical_mm.synthetic.patients import draw_patients, stream
from clinical_mm.synthetic.truth import GroundTruth

NAME = "2026-02-02"


class SecondDelivery:
    """The second delivery, made after the truth of the first and the same draws."""

    def __init__(self, landing: Path, first: GroundTruth) -> None:
        self.landing, self.first, self.seed = landing, first, first.seed
        self.earlier = FirstDelivery(landing, first.seed, first.n_patients)
        self.states = self.earlier.states
        for patient_id, state in self.states.items():
            _restore(state, first, patient_id)
        n_new = max(6, first.n_patients // 8)
        new = draw_patients(self.seed, first.n_patients, n_new, year=2025, unknown_outcomes=1 / 3)
        self.new = [PatientState(p, NAME) for p in new]
        self.rng = stream(self.seed, "second delivery")

    def write(self) -> GroundTruth:
        """Write the delivery."""
        writer = DeliveryWriter(self.landing, self.seed, NAME)
        for state in track(self.new, "new patients"):
            writer.add_tables(state)
            state.notes = {n.key: n for n in compose_notes(self.seed, state.patient)}
            for note in state.notes.values():
                writer.notes.add(note)
            if "image" in state.patient.has:
                writer.add_images(state)
        for patient in self.earlier.late:
            writer.add_images(self.states[patient.patient_id])
        self._notes(writer)
        self._outcomes(writer)
        states = {**self.states, **{s.patient.patient_id: s for s in self.new}}
        counts = {**self.first.counts, NAME: writer.finish()}
        first = self.first
        return truth_of(
            self.seed,
            first.n_patients,
            states,
            counts=counts,
            unlinked=first.unlinked,
            ambiguous=first.ambiguous,
        )

    def _notes(self, writer: DeliveryWriter) -> None:
        letters = [
            (s, n)
            for s in self.states.values()
            for n in s.notes.values()
            if n.note_type == "Clinic letter"
            and n.status == "final"
            and not n.is_date_only
            and len(s.notes) > 1
        ]
        amendable = iter(shuffled(letters, self.rng))
        for state, note in islice(amendable, 3):
            time = note.available_time + (state.patient.index_time - note.available_time) / 2
            amended = amended_version(
                note, "Addendum: blood group confirmed.", time.replace(second=0, microsecond=0)
            )
            writer.notes.add(amended)
            state.notes[note.key] = amended
        for state, note in islice(amendable, 1):
            late = state.patient.index_time + timedelta(days=40)
            writer.notes.add(amended_version(note, "Addendum: telephone number changed.", late))
            del state.notes[note.key]
        for _, note in islice(amendable, 2):
            writer.notes.add(note)

    def _outcomes(self, writer: DeliveryWriter) -> None:
        unknown = [s for s in self.states.values() if s.relapse is None]
        for state in unknown[: (len(unknown) + 1) // 2]:
            writer.outcomes.add(state.patient, is_known=True)
            state.relapse, state.is_outcome_known = state.patient.relapse, True
        known = shuffled([s for s in self.states.values() if s not in unknown], self.rng)
        for state in known[:2]:
            state.relapse = not state.relapse
            writer.outcomes.add(state.patient, is_known=True, relapse=state.relapse)


def _restore(state: PatientState, first: GroundTruth, patient_id: str) -> None:
    """What the first delivery brought of a patient, besides the notes."""
    truth = first.patients[patient_id]
    state.series_instance_uid, state.lesion = truth.series_instance_uid, truth.lesion
    state.has_genomics, state.has_clinical = "genomics" in truth.modalities, "clinical" in truth.modalities
    state.mutated_genes = truth.mutated_genes
    state.relapse, state.is_outcome_known = truth.relapse, truth.survival_months is not None
