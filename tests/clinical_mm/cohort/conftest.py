"""A small hospital: a study, and deliveries written into its store as ingest would."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from clinical_mm import tables
from clinical_mm.store import Store, content_hash, snapshot
from clinical_mm.study.root import Study
from clinical_mm.study.sources import STAGES

STAGE_TABLES = {
    "notes": tables.NOTES,
    "imaging": tables.SERIES,
    "genomics": tables.GENOMIC_SAMPLES,
    "clinical": tables.CLINICAL,
    "outcomes": tables.OUTCOMES,
}

SETTINGS: dict[str, Any] = {
    "study": "hospital",
    "sources": {
        "notes": {
            "kind": "notes_table",
            "path": "n.csv",
            "patient_id": "p",
            "text": "t",
            "available_time": "a",
        },
        "ct": {"kind": "dicom"},
        "rna": {"kind": "genomics_matrix", "path": "g.csv", "samples": "rows"},
        "labs": {
            "kind": "clinical",
            "path": "l.csv",
            "patient_id": "p",
            "available_time": "a",
            "variables": {"crp": {}, "sex": {"type": "category", "levels": ["m", "f"]}},
        },
        "registry": {
            "kind": "outcomes",
            "path": "o.csv",
            "patient_id": "p",
            "index_time": "i",
            "variables": {
                "relapse": {"type": "category", "levels": ["yes", "no"]},
                "months": {},
                "died": {},
                "grade": {"type": "category", "levels": ["g1", "g2", "g3", "gx"]},
            },
        },
    },
    "tasks": {
        "relapse": {
            "question": "?",
            "outcome": {"kind": "binary", "variable": "relapse", "positive": "yes"},
            "modalities": {"text": {}},
        }
    },
}


def merged(base: Any, change: Any) -> Any:
    """A tree with the parts of another put over it."""
    if isinstance(base, dict) and isinstance(change, dict):
        return {
            k: merged(base[k], change[k]) if k in base and k in change else {**base, **change}[k]
            for k in {**base, **change}
        }
    return change


class Hospital:
    """Writes deliveries; every row is a dictionary of what differs from a plain one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = Store(directory / "store")
        self.study = self.with_study({})
        self._rows: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def with_study(self, change: dict[str, Any]) -> Study:
        """Use the plain study with some options changed."""
        self.study = Study.model_validate(merged(SETTINGS, change)).placed_in(self.directory)
        return self.study

    def with_task(self, **change: Any) -> Study:
        """As `with_study`, for options of the task; its modalities and outcome are replaced, not merged."""
        task = {**SETTINGS["tasks"]["relapse"], **change}
        settings = {**SETTINGS, "tasks": {"relapse": task}}
        self.study = Study.model_validate(settings).placed_in(self.directory)
        return self.study

    def note(self, delivery: str, patient: str, note_id: str, time: str | None, **more: Any) -> None:
        text = more.pop("text", f"text of {note_id}")
        row = {"note_id": note_id, "available_time": time, "text": text, "content_hash": content_hash(text)}
        self._add(delivery, "notes", {"source": "notes", "source_patient_id": patient, **row, **more})

    def series(self, delivery: str, patient: str, uid: str, time: str | None, **more: Any) -> None:
        n_slices = more.pop("n_slices", 20)
        row = {
            "series_instance_uid": uid,
            "stack": 0,
            "study_instance_uid": f"{uid}.0",
            "modality": "CT",
            "available_time": time,
            "photometric_interpretation": "MONOCHROME2",
            "is_inverted": False,
            "is_volume": True,
            "geometry": "even",
            "shape": [n_slices, 4, 4],
            "channels": 1,
            "spacing_mm": [1.0, 1.0, 1.0],
            "affine": np.eye(4).ravel().tolist(),
            "slice_locators": [f"{uid}/{i}" for i in range(n_slices)],
            "slice_sop_instance_uids": [f"{uid}.{i}" for i in range(n_slices)],
            "slice_frames": [0] * n_slices,
            "volume": f"volumes/{content_hash(uid)}.npy",
            "content_hash": content_hash(uid),
        }
        self._add(delivery, "imaging", {"source": "ct", "source_patient_id": patient, **row, **more})

    def sample(
        self, delivery: str, patient: str, sample_id: str, time: str | None = None, **more: Any
    ) -> None:
        row = {"sample_id": sample_id, "available_time": time, "n_features": 2, "content_hash": sample_id}
        self._add(delivery, "genomics", {"source": "rna", "source_patient_id": patient, **row, **more})

    def value(
        self, delivery: str, patient: str, variable: str, value: Any, time: str | None, **more: Any
    ) -> None:
        row = {"variable": variable, "available_time": time, **_cell(value)}
        self._add(delivery, "clinical", {"source": "labs", "source_patient_id": patient, **row, **more})

    def outcome(self, delivery: str, patient: str, value: Any, index_time: str | None, **more: Any) -> None:
        row = {"variable": "relapse", "index_time": index_time, **_cell(value)}
        self._add(delivery, "outcomes", {"source": "registry", "source_patient_id": patient, **row, **more})

    def _add(self, delivery: str, stage: str, row: dict[str, Any]) -> None:
        rows = self._rows.setdefault((delivery, stage), [])
        rows.append({"delivery": delivery, "locator": f"file#row {len(rows) + 1}", **row})

    def write(self) -> None:
        """Write every delivery's snapshots, as ingest does: all stages, empty where nothing came."""
        for delivery in {d for d, _ in self._rows}:
            for stage in STAGES:
                self.write_stage(delivery, stage, pd.DataFrame(self._rows.get((delivery, stage), [])))

    def write_stage(self, delivery: str, stage: str, rows: pd.DataFrame) -> None:
        """Write one snapshot of rows; columns that they lack are null."""
        table = STAGE_TABLES[stage]
        rows = rows.reset_index(drop=True)
        frame = rows.reindex(columns=table.columns) if len(rows) else tables.empty(table)
        for field in table.schema:
            if str(field.type).startswith("timestamp"):
                frame[field.name] = pd.to_datetime(frame[field.name], format="ISO8601").astype(
                    "datetime64[us]"
                )
            elif str(field.type) == "string":
                frame[field.name] = frame[field.name].astype(object).where(frame[field.name].notna(), None)
        fingerprint = content_hash(frame.to_json())
        by_source = frame.groupby("source").size().rename("found").reset_index()
        counts = by_source.assign(
            delivery=delivery,
            record_kind="row",
            accepted=by_source["found"],
            duplicate=0,
            superseded=0,
            quarantined=0,
        )
        with snapshot(self.store.delivery(delivery, stage), fingerprint) as directory:
            tables.write_table(table, frame, directory)
            tables.write_table(tables.RECORDS, tables.empty(tables.RECORDS), directory)
            tables.write_table(tables.COUNTS, counts[tables.COUNTS.columns], directory)


def _cell(value: Any) -> dict[str, Any]:
    return {"value_text": value} if isinstance(value, str) else {"value_number": value}


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path)


@pytest.fixture
def new_hospital(tmp_path: Path) -> Callable[[str], Hospital]:
    """Several hospitals in one test."""
    return lambda name: Hospital(tmp_path / name)
