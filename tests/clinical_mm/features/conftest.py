"""A hand-written store: deliveries and a cohort as ingest and cohort leave them, and a tiny BERT to read the notes."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from clinical_mm import tables
from clinical_mm.features.build import build_features
from clinical_mm.features.loaded import TaskFeatures
from clinical_mm.store import Store, content_hash, snapshot
from clinical_mm.study.root import Study

WORDS = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *("the", "tumour", "is", "large", "small", "liver", "grade", "no", "nausea", "mass", "in", "of"),
    *(".", ",", "-", "2", "3", "a", "e", "o", "##s", "##ous", "##a", "##e", "##o", "##n", "##r", "##t"),
]


def write_tiny_bert(directory: Path, *, positions: int = 64, vocab_size: int | None = None) -> Path:
    """A WordPiece tokenizer of a few words and the configuration of a BERT for it."""
    backend = Tokenizer(models.WordPiece({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
    tokenizer.save_pretrained(directory)
    config = {
        "model_type": "bert",
        "vocab_size": vocab_size or len(WORDS),
        "max_position_embeddings": positions,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    (directory / "config.json").write_text(json.dumps(config))
    return directory


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("tiny_bert"))


SOURCES: dict[str, Any] = {
    "notes": {"kind": "notes_table", "path": "n.csv", "patient_id": "p", "text": "t", "is_timeless": True},
    "imaging": {"kind": "dicom", "is_timeless": True},
    "rna": {"kind": "genomics_matrix", "path": "g.csv", "samples": "rows", "sample_id": "s"},
    "dna": {"kind": "genomics_matrix", "path": "d.csv", "samples": "rows", "sample_id": "s"},
    "clinical": {
        "kind": "clinical",
        "path": "c.csv",
        "patient_id": "p",
        "is_timeless": True,
        "variables": {
            "age": {"unit": "years"},
            "sex": {"type": "category", "levels": ["female", "male"]},
            "ki67": {},
        },
    },
    "outcomes": {
        "kind": "outcomes",
        "path": "o.csv",
        "patient_id": "p",
        "index_time": "i",
        "variables": {"relapse": {}, "months": {}, "died": {}, "grade": {}},
    },
}


def make_study(modalities: dict[str, Any], directory: Path, outcome: dict[str, Any] | None = None) -> Study:
    outcome = outcome or {"kind": "binary", "variable": "relapse"}
    task = {"question": "?", "outcome": outcome, "modalities": modalities}
    value = {"study": "test", "sources": SOURCES, "tasks": {"relapse": task}}
    return Study.model_validate(value).placed_in(directory)


@dataclass
class World:
    """What was delivered and what the cohort chose; `write` puts it into the store."""

    directory: Path
    notes: list[dict[str, Any]] = field(default_factory=list)
    series: list[dict[str, Any]] = field(default_factory=list)
    samples: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    clinical: list[dict[str, Any]] = field(default_factory=list)
    items: list[dict[str, Any]] = field(default_factory=list)
    labels: dict[str, float | None] = field(default_factory=dict)
    durations: dict[str, float] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        return Store(self.directory / "store")

    def patient(self, patient_id: str, split: str | None = "train", label: float | None = 0.0) -> str:
        self.labels[patient_id] = label
        if split is not None:
            self.splits[patient_id] = split
        return patient_id

    def note(self, patient_id: str, text: str, delivery: str = "d1") -> str:
        note_id = f"note{len(self.notes)}"
        self.notes.append(
            self._origin("notes", delivery, len(self.notes))
            | {
                "note_id": note_id,
                "note_type": "letter",
                "status": "final",
                "available_time": pd.Timestamp("2020-01-01 10:00"),
                "event_time": None,
                "text": text,
                "content_hash": content_hash(text),
            }
        )
        self._item(patient_id, "text", "notes", delivery, note_id)
        return note_id

    def image(self, patient_id: str, volume: np.ndarray | None, **changes: Any) -> str:
        """A series; `volume` [slices, rows, columns(, 3)], or None where its file is missing."""
        uid = f"1.2.{len(self.series)}"
        values = np.zeros((2, 2, 2)) if volume is None else volume
        name = content_hash("volume", values.tobytes(), str(values.dtype))
        self.store.volumes.mkdir(exist_ok=True)
        if volume is not None:
            np.save(self.store.volumes / f"{name}.npy", volume)
        row = self._origin("imaging", "d1", len(self.series)) | {
            "series_instance_uid": uid,
            "stack": 0,
            "study_instance_uid": "1.2",
            "modality": "CT",
            "body_part": None,
            "description": "axial",
            "manufacturer": None,
            "scanner": None,
            "available_time": pd.Timestamp("2020-01-01 10:00"),
            "unit": "HU",
            "photometric_interpretation": "MONOCHROME2",
            "is_inverted": False,
            "window_center": None,
            "window_width": None,
            "is_volume": True,
            "geometry": "even",
            "shape": list(values.shape[:3]),
            "channels": 3 if values.ndim == 4 else 1,
            "spacing_mm": [1.0, 1.0, 1.0],
            "affine": np.eye(4).ravel().tolist(),
            "slice_locators": ["x"] * len(values),
            "slice_sop_instance_uids": ["1.2.3"] * len(values),
            "slice_frames": [0] * len(values),
            "volume": f"volumes/{name}.npy",
            "content_hash": name,
        }
        self.series.append(row | changes)
        self._item(patient_id, "image", "imaging", "d1", f"{uid}#0")
        return f"{uid}#0"

    def sample(self, patient_id: str, source: str, **values: float) -> str:
        sample_id = f"{patient_id}-{len(self.items)}"
        self.samples.setdefault(source, {})[sample_id] = values
        self._item(patient_id, "genomics", source, "d1", sample_id)
        return sample_id

    def value(self, patient_id: str, variable: str, value: float | str) -> None:
        locator = f"c.csv#row {len(self.clinical)}"
        self.clinical.append(
            self._origin("clinical", "d1", 0)
            | {
                "locator": locator,
                "source_patient_id": f"s{len(self.clinical)}",
                "variable": variable,
                "value_number": value if not isinstance(value, str) else None,
                "value_text": value if isinstance(value, str) else None,
                "unit": None,
                "available_time": None,
            }
        )
        self._item(patient_id, "clinical", "clinical", "d1", f"{variable}@d1/{locator}")

    def write(self) -> None:
        store = self.store
        for delivery in sorted({n["delivery"] for n in self.notes}):
            rows = [n for n in self.notes if n["delivery"] == delivery]
            self._deliver(delivery, "notes", tables.NOTES, rows)
        if self.series:
            self._deliver("d1", "imaging", tables.SERIES, self.series)
        if self.clinical:
            self._deliver("d1", "clinical", tables.CLINICAL, self.clinical)
        if self.samples:
            self._deliver_samples()
        cohort = pd.DataFrame([self._cohort_row(p) for p in self.labels], columns=tables.COHORT.columns)
        splits = [{"patient_id": p, "fold": 0, "split": s} for p, s in self.splits.items()]
        contents = [self.items, sorted(map(str, splits)), cohort.to_json(), self.notes, self.clinical]
        with snapshot(store.task("relapse", "cohort"), content_hash(*contents)) as directory:
            tables.write_table(tables.COHORT, cohort, directory)
            items = pd.DataFrame(self.items, columns=tables.ITEMS.columns)
            tables.write_table(tables.ITEMS, items, directory)
            tables.write_table(tables.SPLITS, pd.DataFrame(splits, columns=tables.SPLITS.columns), directory)
            tables.write_table(tables.FLOW, tables.empty(tables.FLOW), directory)

    def _deliver(self, delivery: str, stage: str, table: tables.Table, rows: list[dict[str, Any]]) -> None:
        with snapshot(self.store.delivery(delivery, stage), content_hash(rows)) as directory:
            tables.write_table(table, pd.DataFrame(rows, columns=table.columns), directory)

    def _deliver_samples(self) -> None:
        with snapshot(self.store.delivery("d1", "genomics"), "genomics") as directory:
            rows = []
            for source, samples in self.samples.items():
                frame = pd.DataFrame.from_dict(samples, orient="index", dtype="float32")
                frame.rename_axis("sample_id").reset_index().to_parquet(
                    directory / f"genomics_{source}.parquet"
                )
                for sample_id in samples:
                    origin = self._origin(source, "d1", 0)
                    own = dict.fromkeys(("locator", "source_patient_id", "sample_id"), sample_id)
                    own |= {"available_time": None, "n_features": 1, "content_hash": "x"}
                    rows.append(origin | own)
            frame = pd.DataFrame(rows, columns=tables.GENOMIC_SAMPLES.columns)
            tables.write_table(tables.GENOMIC_SAMPLES, frame, directory)

    def _cohort_row(self, patient_id: str) -> dict[str, Any]:
        own = [i["modality"] for i in self.items if i["patient_id"] == patient_id and i["is_used"]]
        return {
            "patient_id": patient_id,
            "index_time": pd.Timestamp("2021-01-01"),
            "label": self.labels[patient_id],
            "duration": self.durations.get(patient_id),
            **{f"n_{m}": own.count(m) for m in ("text", "image", "genomics", "clinical")},
            "modality_pattern": "+".join(dict.fromkeys(own)),
        }

    def _item(self, patient_id: str, modality: str, source: str, delivery: str, item_id: str) -> None:
        n = sum(i["patient_id"] == patient_id and i["modality"] == modality for i in self.items)
        self.items.append(
            {
                "patient_id": patient_id,
                "modality": modality,
                "source": source,
                "delivery": delivery,
                "item_id": item_id,
                "available_time": None,
                "is_used": True,
                "rank": n,
                "reason_code": "used",
            }
        )

    @staticmethod
    def _origin(source: str, delivery: str, row: int) -> dict[str, str]:
        place = f"f#row {row}"
        return {"source": source, "delivery": delivery, "locator": place, "source_patient_id": "x"}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def study_of(tmp_path: Path):  # type: ignore[no-untyped-def]
    """`study_of(modalities, outcome=None)` → a study in the test's folder."""
    return lambda modalities, outcome=None: make_study(modalities, tmp_path, outcome)


@pytest.fixture
def built(world: World, study_of):  # type: ignore[no-untyped-def]
    """`built(modalities, outcome=None)` → what was delivered to `world`, as the features of its task."""

    def build(modalities: dict[str, Any], outcome: dict[str, Any] | None = None) -> TaskFeatures:
        world.write()
        study = study_of(modalities, outcome)
        build_features(study, world.store, "relapse")
        return TaskFeatures.load(study, world.store, "relapse")

    return build


@pytest.fixture
def make_tiny_bert(tmp_path: Path):  # type: ignore[no-untyped-def]
    """`make_tiny_bert(**changes)` → the directory of a tiny BERT."""
    return lambda **changes: write_tiny_bert(tmp_path / "another_bert", **changes)
