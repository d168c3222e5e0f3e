"""The truth of a synthetic cohort: what was planted in whom, and what has to become of every record.

It is written as `truth.json` beside the study, never into the landing folder or the store. How the files are made
does not belong here.
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

TRUTH_FILE = "truth.json"


@dataclass(frozen=True)
class PlantedPhrase:
    """A phrase that carries the text signal: its place in the note, and the words that no other phrase uses."""

    source: str
    note_id: str
    start: int
    end: int
    words: tuple[str, ...]


@dataclass(frozen=True)
class PlantedLesion:
    """A bright sphere in a series. `centre_voxel` is [slice, row, column] with slices from feet to head."""

    series_instance_uid: str
    centre_lps_mm: tuple[float, float, float]
    radius_mm: float
    centre_voxel: tuple[float, float, float]
    radius_voxel: tuple[float, float, float]


@dataclass(frozen=True)
class PatientTruth:
    """One patient, as all deliveries written so far tell of them.

    Attributes:
        modalities: what is usable at the index time, in the order text, image, genomics, clinical.
        signals: for text, image and genomics whether the patient has that risk factor, delivered or not.
        relapse: the outcome as last delivered; None while it is not known.
        note_ids: `source/item_id` of the notes that may be read at the index time; the item id of a FHIR resource
            is its type and id, `DocumentReference/doc-00012-1`.
        series_instance_uid: the series that the study's filters leave, or None.
    """

    patient_id: str
    delivery: str
    index_time: str
    modalities: tuple[str, ...]
    signals: dict[str, bool]
    relapse: bool | None
    survival_months: float | None
    is_event: bool | None
    note_ids: tuple[str, ...]
    phrases: tuple[PlantedPhrase, ...]
    series_instance_uid: str | None
    lesion: PlantedLesion | None
    genes: tuple[str, ...]
    mutated_genes: tuple[str, ...]


@dataclass
class Tally:
    """What has to become of the records of one source in one delivery.

    `found = accepted + duplicate + superseded + quarantined`; `cells` are parts of accepted rows, by reason.
    """

    record_kind: str
    accepted: int = 0
    duplicate: int = 0
    superseded: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)
    cells: Counter[str] = field(default_factory=Counter)

    @property
    def found(self) -> int:
        """Records in the files."""
        return self.accepted + self.duplicate + self.superseded + self.quarantined.total()

    def to_json(self) -> dict[str, Any]:
        """As JSON values, sums included."""
        return {
            "record_kind": self.record_kind,
            "found": self.found,
            "accepted": self.accepted,
            "duplicate": self.duplicate,
            "superseded": self.superseded,
            "quarantined": self.quarantined.total(),
            "quarantined_by_reason": dict(sorted(self.quarantined.items())),
            "cells_by_reason": dict(sorted(self.cells.items())),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Tally":
        """Back from `to_json`."""
        return cls(
            value["record_kind"],
            value["accepted"],
            value["duplicate"],
            value["superseded"],
            Counter(value["quarantined_by_reason"]),
            Counter(value["cells_by_reason"]),
        )


@dataclass(frozen=True)
class GroundTruth:
    """The truth of a whole cohort.

    Attributes:
        ideal_auroc: of an observer who knows the signals that were delivered and how the label depends on them:
            by modality over the patients who have it, for `complete` patients, and over all (`available`).
        ideal_c_index: of survival, of an observer of text and genomics.
        planted_words: words of the planted phrases that stand in no other sentence.
        leak_words: words that stand only in notes that may not be read at the index time.
        counts: by delivery and source.
        unlinked: by source, the ids that belong to no patient; `ambiguous` likewise those that belong to two.
    """

    seed: int
    n_patients: int
    deliveries: tuple[str, ...]
    ideal_auroc: dict[str, float]
    ideal_c_index: float
    planted_words: tuple[str, ...]
    leak_words: tuple[str, ...]
    planted_genes: tuple[str, ...]
    mutation_gene: str
    counts: dict[str, dict[str, Tally]]
    unlinked: dict[str, tuple[str, ...]]
    ambiguous: dict[str, tuple[str, ...]]
    patients: dict[str, PatientTruth]

    def write(self, directory: Path) -> Path:
        """Write `truth.json` into a directory."""
        value = asdict(self)
        value["counts"] = {d: {s: t.to_json() for s, t in of.items()} for d, of in self.counts.items()}
        path = directory / TRUTH_FILE
        path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return path

    @classmethod
    def read(cls, directory: Path) -> "GroundTruth":
        """Read what `write` wrote."""
        value = json.loads((directory / TRUTH_FILE).read_text(encoding="utf-8"))
        return cls(
            seed=value["seed"],
            n_patients=value["n_patients"],
            deliveries=tuple(value["deliveries"]),
            ideal_auroc=value["ideal_auroc"],
            ideal_c_index=value["ideal_c_index"],
            planted_words=tuple(value["planted_words"]),
            leak_words=tuple(value["leak_words"]),
            planted_genes=tuple(value["planted_genes"]),
            mutation_gene=value["mutation_gene"],
            counts={d: {s: Tally.from_json(t) for s, t in of.items()} for d, of in value["counts"].items()},
            unlinked={s: tuple(ids) for s, ids in value["unlinked"].items()},
            ambiguous={s: tuple(ids) for s, ids in value["ambiguous"].items()},
            patients={key: _patient(p) for key, p in value["patients"].items()},
        )


def _patient(value: dict[str, Any]) -> PatientTruth:
    phrases = tuple(PlantedPhrase(**{**p, "words": tuple(p["words"])}) for p in value["phrases"])
    lesion = value["lesion"]
    if lesion is not None:
        lesion = PlantedLesion(
            lesion["series_instance_uid"],
            tuple(lesion["centre_lps_mm"]),
            lesion["radius_mm"],
            tuple(lesion["centre_voxel"]),
            tuple(lesion["radius_voxel"]),
        )
    tuples = {k: tuple(value[k]) for k in ("modalities", "note_ids", "genes", "mutated_genes")}
    return PatientTruth(**{**value, **tuples, "phrases": phrases, "lesion": lesion})
