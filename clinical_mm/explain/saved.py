"""Explanations in the store: tables in Parquet with one row group a patient, image attributions as arrays.

A page reads one patient at a time, so nothing here holds all of them. Words are kept by their place in the note, not
by what they say: the text stays where it was ingested.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from clinical_mm import tables
from clinical_mm.errors import TableError
from clinical_mm.explain.attribution import Completeness
from clinical_mm.explain.covariates import FeatureContribution
from clinical_mm.explain.explanation import Explanation, ModalityContribution
from clinical_mm.explain.grids import ImageAttribution
from clinical_mm.explain.words import Word
from clinical_mm.store import content_hash
from clinical_mm.tables import Table

_TEXT, _NUMBER, _COUNT, _FLAG = pa.string(), pa.float64(), pa.int64(), pa.bool_()
_NUMBERS = pa.list_(pa.float64())


def _table(
    name: str, key: tuple[str, ...], columns: dict[str, pa.DataType], optional: tuple[str, ...] = ()
) -> Table:
    return Table(name, pa.schema([pa.field(c, t, nullable=c in optional) for c, t in columns.items()]), key)


SUMMARY = _table(
    "summary",
    ("patient_id",),
    {
        "patient_id": _TEXT,
        "fold": _COUNT,  # of the member that was asked; -1: the mean of all
        "target": _COUNT,
        "target_name": _TEXT,
        "logits": _NUMBERS,
        "score": _NUMBER,
        "baseline_score": _NUMBER,
        "attributed": _NUMBER,
        "completeness_error": _NUMBER,
        "tolerance": _NUMBER,
        "steps": _COUNT,
        "is_complete": _FLAG,
        "text_remainder": _NUMBER,
    },
)

CONTRIBUTIONS = _table(
    "contributions",
    ("patient_id", "modality"),
    {
        "patient_id": _TEXT,
        "modality": _TEXT,
        "is_present": _FLAG,
        "integrated_gradients": _NUMBER,
        "shapley": _NUMBER,
    },
)

WORDS = _table(
    "words",
    ("patient_id", "source", "item_id", "start"),
    {
        "patient_id": _TEXT,
        "source": _TEXT,
        "item_id": _TEXT,
        "start": _COUNT,  # characters of the note's text
        "end": _COUNT,
        "attribution": _NUMBER,
    },
)

FEATURES = _table(
    "features",
    ("patient_id", "modality", "feature"),
    {
        "patient_id": _TEXT,
        "modality": _TEXT,
        "feature": _TEXT,
        "value": _NUMBER,
        "level": _TEXT,
        "deviation": _NUMBER,
        "attribution": _NUMBER,
    },
    optional=("value", "level", "deviation"),
)

IMAGES = _table(
    "images",
    ("patient_id", "place"),
    {
        "patient_id": _TEXT,
        "place": _COUNT,
        "source": _TEXT,
        "item_id": _TEXT,
        "array": _TEXT,  # path within the snapshot: [depth, height, width]
        "grid_to_volume": _NUMBERS,  # 16 numbers, row by row: (d, r, c, 1) to (slice, row, column, 1)
        "grid_affine": _NUMBERS,  # 16 numbers, row by row: (d, r, c, 1) to patient LPS mm; or empty
        "attribution": _NUMBER,
        "peak_voxel": pa.list_(_COUNT),
        "peak_position_mm": _NUMBERS,  # patient LPS; or empty
    },
)

_ALL = (SUMMARY, CONTRIBUTIONS, WORDS, FEATURES, IMAGES)


class ExplanationWriter:
    """Writes explanations one by one into a folder; use it in a `with` block."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self._writers: dict[str, pq.ParquetWriter] = {}

    def __enter__(self) -> "ExplanationWriter":
        (self._directory / "images").mkdir(parents=True, exist_ok=True)
        for table in _ALL:
            path = self._directory / f"{table.name}.parquet"
            writer = pq.ParquetWriter(path, table.schema, compression="zstd")
            self._writers[table.name] = self._stack.enter_context(writer)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def write(self, explanation: Explanation) -> None:
        """Add one patient's explanation."""
        rows: dict[Table, list[dict[str, object]]] = {
            SUMMARY: [_summary_row(explanation)],
            CONTRIBUTIONS: [
                {
                    "modality": c.modality,
                    "is_present": c.is_present,
                    "integrated_gradients": c.integrated_gradients,
                    "shapley": c.shapley,
                }
                for c in explanation.contributions
            ],
            WORDS: [
                {
                    "source": w.source,
                    "item_id": w.item_id,
                    "start": w.start,
                    "end": w.end,
                    "attribution": w.attribution,
                }
                for w in explanation.words
            ],
            FEATURES: [
                {
                    "modality": f.modality,
                    "feature": f.feature,
                    "value": f.value,
                    "level": f.level,
                    "deviation": f.deviation,
                    "attribution": f.attribution,
                }
                for f in explanation.features
            ],
            IMAGES: [self._image_row(explanation.patient_id, image) for image in explanation.images],
        }
        for table, of_table in rows.items():
            if of_table:
                frame = pd.DataFrame.from_records(of_table).assign(patient_id=explanation.patient_id)
                self._writers[table.name].write_table(tables.to_arrow(table, frame[table.columns]))

    def _image_row(self, patient_id: str, image: ImageAttribution) -> dict[str, object]:
        name = f"images/{content_hash(patient_id, image.source, image.item_id, image.place)[:32]}.npy"
        np.save(self._directory / name, image.values, allow_pickle=False)
        peak = image.peak()
        return {
            "place": image.place,
            "source": image.source,
            "item_id": image.item_id,
            "array": name,
            "grid_to_volume": image.grid_to_volume.ravel().tolist(),
            "grid_affine": [] if image.grid_affine is None else image.grid_affine.ravel().tolist(),
            "attribution": image.total,
            "peak_voxel": list(peak.voxel),
            "peak_position_mm": list(peak.position_mm or ()),
        }


def _summary_row(explanation: Explanation) -> dict[str, object]:
    complete = explanation.completeness
    return {
        "fold": explanation.fold,
        "target": explanation.target,
        "target_name": explanation.target_name,
        "logits": list(explanation.logits),
        "score": complete.score,
        "baseline_score": complete.baseline_score,
        "attributed": complete.attributed,
        "completeness_error": complete.error,
        "tolerance": complete.tolerance,
        "steps": complete.steps,
        "is_complete": complete.is_reached,
        "text_remainder": explanation.text_remainder,
    }


class SavedExplanations:
    """The explanations of a snapshot, read patient by patient.

    Attributes:
        summary: `SUMMARY`, of all patients.
        contributions: `CONTRIBUTIONS`, of all patients.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.summary = tables.read_table(SUMMARY, directory)
        self.contributions = tables.read_table(CONTRIBUTIONS, directory)

    @property
    def patient_ids(self) -> list[str]:
        """The explained patients, in the order in which they were explained."""
        return list(self.summary["patient_id"])

    def of(self, patient_id: str, texts: Mapping[tuple[str, str], str]) -> Explanation:
        """One patient's explanation.

        Args:
            patient_id: one of `patient_ids`.
            texts: of the patient's notes by (source, item_id): what the words say.

        Raises:
            TableError: the notes are not those that were explained.
        """
        row = self.summary[self.summary["patient_id"] == patient_id].iloc[0]
        contributions = self.contributions[self.contributions["patient_id"] == patient_id]
        return Explanation(
            patient_id=patient_id,
            fold=int(row["fold"]),
            target=int(row["target"]),
            target_name=row["target_name"],
            logits=tuple(float(v) for v in row["logits"]),
            completeness=Completeness(
                score=float(row["score"]),
                baseline_score=float(row["baseline_score"]),
                attributed=float(row["attributed"]),
                error=float(row["completeness_error"]),
                tolerance=float(row["tolerance"]),
                steps=int(row["steps"]),
            ),
            contributions=tuple(
                ModalityContribution(
                    c["modality"],
                    bool(c["is_present"]),
                    float(c["integrated_gradients"]),
                    float(c["shapley"]),
                )
                for c in contributions.to_dict("records")
            ),
            words=tuple(_word(w, texts) for w in self._rows(WORDS, patient_id)),
            features=tuple(
                FeatureContribution(
                    f["modality"], f["feature"], f["value"], f["level"], f["deviation"], f["attribution"]
                )
                for f in self._rows(FEATURES, patient_id)
            ),
            images=tuple(self._image(i) for i in self._rows(IMAGES, patient_id)),
            text_remainder=float(row["text_remainder"]),
        )

    def _rows(self, table: Table, patient_id: str) -> list[dict]:
        path = self._directory / f"{table.name}.parquet"
        if not path.is_file():
            raise TableError(f"table {table.name} of the explanations is missing: run `clinical-mm explain`")
        return pq.read_table(path, filters=[("patient_id", "=", patient_id)]).to_pylist()

    def _image(self, row: dict) -> ImageAttribution:
        to_volume = np.array(row["grid_to_volume"], dtype=np.float64).reshape(4, 4)
        affine = np.array(row["grid_affine"], dtype=np.float64).reshape(4, 4) if row["grid_affine"] else None
        values = np.load(self._directory / row["array"], allow_pickle=False)
        return ImageAttribution(row["source"], row["item_id"], row["place"], values, to_volume, affine)


def _word(row: dict, texts: Mapping[tuple[str, str], str]) -> Word:
    text = texts.get((row["source"], row["item_id"]))
    if text is None or row["end"] > len(text):
        raise TableError(
            "the notes of a patient are not those that were explained: run `clinical-mm explain` again"
        )
    start, end = row["start"], row["end"]
    return Word(row["source"], row["item_id"], start, end, text[start:end], row["attribution"])
