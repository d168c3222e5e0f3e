"""A small cohort with both deliveries, and what can be read from its files without the library's readers."""

import base64
import csv
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pydicom
import pytest

from clinical_mm.synthetic.cohort import generate_cohort
from clinical_mm.synthetic.truth import GroundTruth


@dataclass(frozen=True)
class Files:
    """A cohort's folder, read with csv, json and pydicom alone."""

    directory: Path
    truth: GroundTruth

    def delivery(self, name: str) -> Path:
        return self.directory / "landing" / name

    def rows(self, path: str, delivery: str = "2026-01-05", **options: str) -> list[dict[str, str]]:
        encoding = options.pop("encoding", "utf-8")
        with (self.delivery(delivery) / path).open(encoding=encoding, newline="") as file:
            return list(csv.DictReader(file, **options))  # type: ignore[arg-type]

    def resources(self, delivery: str = "2026-01-05") -> list[dict]:
        lines = [
            line
            for path in sorted(self.delivery(delivery).glob("fhir/*.ndjson"))
            for line in path.read_text(encoding="utf-8").splitlines()
        ]
        return [r for line in lines if (r := _parsed(line)) is not None]

    def texts(self, delivery: str = "2026-01-05") -> dict[str, set[str]]:
        """By `source/item_id`, every text that stands under it."""
        found: dict[str, set[str]] = {}
        for row in self.rows("notes/letters.csv", delivery):
            found.setdefault(f"letters/{row['letter_id']}", set()).add(row["body"])
        for row in self.rows("notes/referrals.csv", delivery, delimiter=";", encoding="latin-1"):
            found.setdefault(f"referrals/{row['Nummer']}", set()).add(row["Inhalt"])
        for resource in self.resources(delivery):
            attachments = resource.get("presentedForm") or [
                c["attachment"] for c in resource.get("content", [])
            ]
            for attachment in attachments:
                text = base64.b64decode(attachment["data"]).decode("utf-8")
                found.setdefault(f"documents/{resource['resourceType']}/{resource['id']}", set()).add(text)
        return found

    @cached_property
    def series(self) -> dict[str, list[pydicom.Dataset]]:
        """Whole CT slices of both deliveries by SeriesInstanceUID, from feet to head."""
        found: dict[str, dict[str, pydicom.Dataset]] = {}
        for path in sorted(self.directory.glob("landing/*/imaging/*/*")):
            dataset = pydicom.dcmread(path)
            if dataset.Modality == "CT" and len(dataset.PixelData) >= _least_bytes(dataset):
                found.setdefault(dataset.SeriesInstanceUID, {})[dataset.SOPInstanceUID] = dataset
        return {
            uid: sorted(slices.values(), key=lambda d: float(d.ImagePositionPatient[2]))
            for uid, slices in found.items()
        }

    def volume_hu(self, series_instance_uid: str) -> np.ndarray:
        slices = self.series[series_instance_uid]
        return np.stack([d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept) for d in slices])


def _least_bytes(dataset: pydicom.Dataset) -> int:
    is_compressed = dataset.file_meta.TransferSyntaxUID.is_compressed
    return 0 if is_compressed else dataset.Rows * dataset.Columns * 2


def _parsed(line: str) -> dict | None:
    try:
        return json.loads(line)
    except ValueError:
        return None


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    directory = tmp_path_factory.mktemp("cohort")
    return Files(directory, generate_cohort(directory, seed=3, n_patients=120, second_delivery=True))
