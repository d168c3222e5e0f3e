"""One delivery of a synthetic cohort while it is collected, and what is true of each patient at its end.

What goes into which delivery is decided in `cohort`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from clinical_mm.synthetic.dicom_files import PLAIN, DicomFolder, Encoding
from clinical_mm.synthetic.genomics import MUTATION_GENE, PLANTED_GENES, GenomicFiles
from clinical_mm.synthetic.images import compose_study
from clinical_mm.synthetic.note_files import NoteFiles
from clinical_mm.synthetic.notes import Note
from clinical_mm.synthetic.patients import SIGNALS, Patient, ideal_auroc, ideal_c_index, stream
from clinical_mm.synthetic.tables import CLINICAL, OUTCOMES, ClinicalTable, OutcomesTable, write_crosswalk
from clinical_mm.synthetic.truth import GroundTruth, PatientTruth, PlantedLesion, Tally
from clinical_mm.synthetic.vocabulary import LEAK_WORDS, PLANTED_WORDS

_Item = TypeVar("_Item")

IMAGING = "imaging"
"""The source of images."""


@dataclass
class PatientState:
    """What has been delivered of a patient so far, as it counts at the index time."""

    patient: Patient
    delivery: str
    notes: dict[str, Note] = field(default_factory=dict)
    series_instance_uid: str | None = None
    lesion: PlantedLesion | None = None
    has_genomics: bool = False
    mutated_genes: tuple[str, ...] = ()
    has_clinical: bool = False
    is_outcome_known: bool = False
    relapse: bool | None = None

    @property
    def modalities(self) -> tuple[str, ...]:
        """What is usable, in the order text, image, genomics, clinical."""
        usable = {
            "text": bool(self.notes),
            "image": self.series_instance_uid is not None,
            "genomics": self.has_genomics,
            "clinical": self.has_clinical,
        }
        return tuple(name for name, is_usable in usable.items() if is_usable)

    def truth(self) -> PatientTruth:
        """The patient as the truth tells of it."""
        p = self.patient
        phrases = tuple(n.phrase for n in self.notes.values() if n.phrase is not None)
        return PatientTruth(
            patient_id=p.patient_id,
            delivery=self.delivery,
            index_time=p.index_time.isoformat(),
            modalities=self.modalities,
            signals=p.signals,
            relapse=self.relapse,
            survival_months=p.survival_months if self.is_outcome_known else None,
            is_event=p.is_event if self.is_outcome_known else None,
            note_ids=tuple(self.notes),
            phrases=phrases,
            series_instance_uid=self.series_instance_uid,
            lesion=self.lesion,
            genes=PLANTED_GENES if self.has_genomics and p.signals["genomics"] else (),
            mutated_genes=self.mutated_genes,
        )


def ideal_of(states: list[PatientState]) -> dict[str, float]:
    """The ideal observer's AUROC over the patients whose outcome is known, on what was delivered of them."""
    labelled = [s for s in states if s.relapse is not None and set(s.modalities) & set(SIGNALS)]
    return ideal_auroc([(s.patient.signals, frozenset(s.modalities), bool(s.relapse)) for s in labelled])


class DeliveryWriter:
    """Collects the files of one delivery; `finish` writes what is not written yet, `_SUCCESS` last."""

    def __init__(self, landing: Path, seed: int, name: str) -> None:
        self.directory = landing / name
        self.directory.mkdir(parents=True)
        self.seed = seed
        self.name = name
        self.notes = NoteFiles(stream(seed, "note files", name))
        self.images = DicomFolder(self.directory / "imaging", seed)
        self.genomics = GenomicFiles(seed, name)
        self.clinical = ClinicalTable(stream(seed, "clinical order", name))
        self.outcomes = OutcomesTable(stream(seed, "outcomes order", name))
        self.crosswalk: list[tuple[str, str]] = []

    def add_tables(self, state: PatientState) -> None:
        """Add the genomics, covariates and outcome of a patient, as far as they exist."""
        patient = state.patient
        if "genomics" in patient.has:
            state.mutated_genes = self.genomics.add(patient)
            state.has_genomics = True
        if "clinical" in patient.has:
            self.clinical.add(self.seed, patient)
            state.has_clinical = True
        self.outcomes.add(patient, is_known=patient.is_outcome_known)
        state.is_outcome_known = patient.is_outcome_known
        state.relapse = patient.relapse if patient.is_outcome_known else None

    def add_images(
        self, state: PatientState, *, encoding: Encoding = PLAIN, is_last_truncated: bool = False
    ) -> None:
        """Add the CT of a patient and the line of the crosswalk; the last slice may break off."""
        patient = state.patient
        stacks, lesion = compose_study(self.seed, patient)
        for i, stack in enumerate(stacks):
            truncate = len(stack.hu) - 1 if is_last_truncated and i == 0 else None
            series = self.images.add_series(patient, stack, encoding=encoding, truncate=truncate)
            if i == 0:
                state.series_instance_uid = series
        self.crosswalk.append((patient.pacs_id, patient.patient_id))
        if lesion is not None and state.series_instance_uid is not None:
            state.lesion = PlantedLesion(
                state.series_instance_uid,
                tuple(float(v) for v in lesion.centre_lps_mm.round(3)),  # type: ignore[arg-type]
                lesion.radius_mm,
                tuple(float(v) for v in lesion.centre_voxel.round(3)),  # type: ignore[arg-type]
                tuple(float(v) for v in lesion.radius_voxel.round(3)),  # type: ignore[arg-type]
            )

    def finish(self) -> dict[str, Tally]:
        """Write the files.

        Returns:
            By source, what has to become of the records.
        """
        self.notes.write(self.directory)
        self.genomics.write(self.directory)
        self.clinical.write(self.directory)
        self.outcomes.write(self.directory)
        write_crosswalk(self.directory, self.crosswalk, stream(self.seed, "crosswalk", self.name))
        (self.directory / "_SUCCESS").touch()
        return {
            **self.notes.tallies,
            IMAGING: self.images.tally,
            **self.genomics.tallies,
            CLINICAL: self.clinical.tally,
            OUTCOMES: self.outcomes.tally,
        }


def truth_of(
    seed: int,
    n_patients: int,
    states: dict[str, PatientState],
    *,
    counts: dict[str, dict[str, Tally]],
    unlinked: dict[str, tuple[str, ...]],
    ambiguous: dict[str, tuple[str, ...]],
) -> GroundTruth:
    """The truth after the deliveries that `counts` names."""
    followed = [s for s in states.values() if s.is_outcome_known and {"text", "genomics"} & set(s.modalities)]
    return GroundTruth(
        seed=seed,
        n_patients=n_patients,
        deliveries=tuple(counts),
        ideal_auroc=ideal_of(list(states.values())),
        ideal_c_index=ideal_c_index(
            [
                (s.patient.signals, frozenset(s.modalities), s.patient.survival_months, s.patient.is_event)
                for s in followed
            ]
        ),
        planted_words=PLANTED_WORDS,
        leak_words=LEAK_WORDS,
        planted_genes=PLANTED_GENES,
        mutation_gene=MUTATION_GENE,
        counts=counts,
        unlinked=unlinked,
        ambiguous=ambiguous,
        patients={patient_id: state.truth() for patient_id, state in states.items()},
    )


def shuffled(items: Sequence[_Item], rng: np.random.Generator) -> list[_Item]:
    """The items in random order."""
    return [items[i] for i in rng.permutation(len(items))]
