"""Sets of real data that other tests leave out: laboratory values, header tables, teaching cases, identified images.

Counts were taken with `csv` and by hand; what a reader said of itself is never the reference.
"""

import csv
import gzip
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from clinical_mm import tables
from clinical_mm.ingest.clinical import read_clinical
from clinical_mm.ingest.decode_pool import DecodeLimits
from clinical_mm.ingest.delivery import Delivery
from clinical_mm.ingest.genomics import read_genomics_matrix
from clinical_mm.ingest.imaging import read_dicom
from clinical_mm.ingest.ledger import Ledger, is_conserved
from clinical_mm.ingest.notes import read_notes_table
from clinical_mm.study.sources import ClinicalSource, DicomSource, GenomicsMatrixSource, NotesTableSource

pytestmark = pytest.mark.real_data

HEMOGLOBIN = "Hemoglobin [Mass/volume] in Blood"
PLATELETS = "Platelets [#/volume] in Blood"


def _rows(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as file:
        return list(csv.DictReader(file))


def _fates(ledger: Ledger) -> tuple[int, ...]:
    counts = ledger.counts()
    assert is_conserved(counts)
    return tuple(int(n) for n in counts[["found", "accepted", "duplicate", "quarantined"]].iloc[0])


def _clinical(path: Path, **declared: Any) -> tuple[pd.DataFrame, Ledger]:
    source = ClinicalSource.model_validate(
        {"kind": "clinical", "path": path.name, "is_timeless": True, **declared}
    )
    ledger = Ledger("s", "d", "row")
    frame = read_clinical("s", source, Delivery("d", path.parent), [path], ledger)
    tables.to_arrow(tables.CLINICAL, frame)
    return frame, ledger


def _notes(path: Path, **declared: Any) -> tuple[pd.DataFrame, Ledger]:
    source = NotesTableSource.model_validate(
        {"kind": "notes_table", "path": path.name, "is_timeless": True, **declared}
    )
    ledger = Ledger("s", "d", "row")
    return read_notes_table("s", source, Delivery("d", path.parent), [path], ledger), ledger


def _images(folder: Path, files: list[Path], store: Path) -> tuple[pd.DataFrame, Ledger]:
    ledger = Ledger("s", "d", "file")
    delivery: Any = SimpleNamespace(name="d", path=folder)
    source = DicomSource(kind="dicom", is_timeless=True)
    series = read_dicom("s", source, delivery, files, ledger, store, limits=DecodeLimits(workers=1))
    return series, ledger


def test_blood_counts_of_hancock_lie_within_what_a_living_patient_can_have(real_data: Path) -> None:
    variables = {
        "hemoglobin": {"column": HEMOGLOBIN, "unit": "g/dL", "minimum": 2, "maximum": 25},
        "platelets": {"column": PLATELETS, "unit": "10*9/L", "minimum": 1, "maximum": 1000},
    }
    path = real_data / "hancock" / "blood.csv"
    frame, ledger = _clinical(path, patient_id="patient_id", variables=variables)
    assert _fates(ledger) == (692, 692, 0, 0)
    too_many = [row for row in _rows(path) if float(row[PLATELETS]) > 1000]
    assert len(too_many) == 1  # 1,106
    assert list(ledger.records()["reason_code"]) == ["out_of_range"] * len(too_many)
    assert Counter(frame["variable"]) == {"hemoglobin": 692, "platelets": 691}
    assert frame["source_patient_id"].str.fullmatch(r"\d{3}").all()
    values = frame[frame["variable"] == "hemoglobin"]["value_number"]
    assert (values.min(), values.max()) == (8.0, 18.5)


def test_the_same_blood_counts_with_a_row_a_value_and_in_another_unit_are_the_same(
    real_data: Path, tmp_path: Path
) -> None:
    """As a laboratory delivers them: half of the hemoglobins in mmol/L of the monomer (16,114 g/mol)."""
    rows = _rows(real_data / "hancock" / "blood.csv")
    with (tmp_path / "l.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient_id", "analyte", "value", "unit"])
        for number, row in enumerate(rows):
            value, unit = float(row[HEMOGLOBIN]), "g/dL"
            if number % 2:
                value, unit = value / 1.6114, "mmol/L"
            writer.writerow([row["patient_id"], "718-7", repr(value), unit])
            writer.writerow([row["patient_id"], "777-3", row[PLATELETS], "10*9/L"])
    hemoglobin = {
        "column": "718-7",
        "unit": "g/dL",
        "conversions": {"mmol/L": {"factor": 1.6114}},
        "minimum": 2,
        "maximum": 25,
    }
    frame, ledger = _clinical(
        tmp_path / "l.csv",
        patient_id="patient_id",
        layout="long",
        variable_column="analyte",
        value_column="value",
        unit_column="unit",
        variables={"hemoglobin": hemoglobin},
    )
    assert _fates(ledger) == (2 * 692, 692, 0, 692)
    assert set(ledger.records()["reason_code"]) == {"undeclared_variable"}
    assert set(frame["unit"]) == {"g/dL"}
    found = dict(zip(frame["source_patient_id"], frame["value_number"], strict=True))
    assert found == {row["patient_id"]: pytest.approx(float(row[HEMOGLOBIN])) for row in rows}


def test_pathology_of_hancock_has_levels_and_blanks_that_are_no_fault(real_data: Path) -> None:
    path = real_data / "hancock" / "pathological.csv"
    variables = {
        "grading": {"type": "category", "levels": ["1", "2", "3"]},
        "infiltration": {"column": "infiltration_depth_in_mm", "unit": "mm", "minimum": 0, "maximum": 200},
    }
    frame, ledger = _clinical(path, patient_id="patient_id", variables=variables)
    rows = _rows(path)
    assert _fates(ledger) == (763, 763, 0, 0)
    assert Counter(ledger.records()["reason_code"]) == {"unknown_level": 16}  # grading 0 is none
    grades = Counter(frame[frame["variable"] == "grading"]["value_text"])
    assert grades == {"1": 236, "2": 370, "3": 141}
    depths = frame[frame["variable"] == "infiltration"].set_index("source_patient_id")["value_number"]
    assert len(depths) == 763 - 137
    assert depths.to_dict() == {
        row["patient_id"]: float(row["infiltration_depth_in_mm"])
        for row in rows
        if row["infiltration_depth_in_mm"]
    }


def test_diagnoses_of_hancock_are_a_matrix_of_indicators(real_data: Path) -> None:
    folder = real_data / "hancock"
    ledger = Ledger("s", "d", "sample")
    source = GenomicsMatrixSource(kind="genomics_matrix", path="icd_codes.csv", samples="rows")
    genomic = read_genomics_matrix("s", source, Delivery("d", folder), [folder / "icd_codes.csv"], ledger)
    assert _fates(ledger) == (712, 712, 0, 0)
    assert genomic.values.num_columns == 1 + 40
    rows = _rows(folder / "icd_codes.csv")
    total = sum(int(value) for row in rows for column, value in row.items() if column != "patient_id")
    values = genomic.values.drop_columns("sample_id").to_pandas().to_numpy()
    assert values.sum() == total
    assert "001" in genomic.values["sample_id"].to_pylist()


def test_the_header_table_of_chest_radiographs_joins_their_reports(real_data: Path) -> None:
    folder = real_data / "iu_cxr"
    variables = {
        "rows": {"column": "Rows", "unit": "px", "minimum": 1, "maximum": 4096},
        "modality": {"type": "category", "column": "Modality", "levels": ["CR", "DX"]},
        "photometric": {
            "type": "category",
            "column": "Photometric Interpretation",
            "levels": ["MONOCHROME1", "MONOCHROME2"],
        },
    }
    path = folder / "nlmcxr_dicom_metadata.csv.gz"
    frame, ledger = _clinical(path, patient_id="imageid", variables=variables)
    assert _fates(ledger) == (7469, 7469, 0, 0)
    too_long = sum(int(row["Rows"]) > 4096 for row in _rows(path))
    assert Counter(ledger.records()["reason_code"]) == ({"out_of_range": too_long} if too_long else {})
    assert Counter(frame["value_text"].dropna()) == {
        "CR": 7443,
        "DX": 26,
        "MONOCHROME1": 3584,
        "MONOCHROME2": 3885,
    }
    notes, noted = _notes(folder / "indiana_reports.csv", patient_id="uid", note_id="uid", text="findings")
    assert _fates(noted) == (3851, 3851 - 514, 0, 514)
    studies = {image.split("_")[0].removeprefix("CXR") for image in frame["source_patient_id"]}
    assert studies == {row["uid"] for row in _rows(folder / "indiana_reports.csv")}
    assert set(notes["source_patient_id"]) < studies


def test_teaching_cases_of_medpix_are_notes_and_their_images_a_table(real_data: Path) -> None:
    folder = real_data / "medpix_ct_mr"
    notes, ledger = _notes(folder / "cases.csv", patient_id="U_id", note_id="U_id", text="findings")
    assert _fates(ledger) == (602, 602 - 16, 0, 16)
    texts = {row["U_id"]: row["findings"] for row in _rows(folder / "cases.csv") if row["findings"].strip()}
    assert dict(zip(notes["note_id"], notes["text"], strict=True)) == texts
    kind = {"type": "category", "column": "type", "levels": ["CT", "MR"]}
    sex = {"type": "category", "levels": ["female", "male"]}
    frame, ledger = _clinical(
        folder / "images.csv",
        patient_id="image",
        variables={"modality": kind, "sex": sex},
        missing_values=["", "N/A"],
    )
    assert _fates(ledger) == (671, 671, 0, 0)
    assert Counter(frame["value_text"]) == {"CT": 431, "MR": 240, "male": 359, "female": 287}
    assert ledger.records().empty


def test_images_with_identities_in_them_are_read_like_others_and_no_record_names_one(
    real_data: Path, tmp_path: Path
) -> None:
    folder = real_data / "phi"
    files = sorted(path for path in folder.rglob("*") if path.suffix in {".dcm", ".dicom"})
    assert len(files) == 8
    series, ledger = _images(folder, files, tmp_path)
    found, accepted, duplicate, quarantined = _fates(ledger)
    assert found == accepted + duplicate + quarantined == 8
    records = ledger.records()
    reasons = dict(zip(records["locator"], records["reason_code"], strict=True))
    assert reasons["presidio_dicom/0_ORIGINAL_no_pixels.dcm"] in {"truncated_file", "not_an_image"}
    used = {locator for locators in series["slice_locators"] for locator in locators}
    assert {"dicognito/CT_small_deflated.dcm", "presidio_dicom/RGB_ORIGINAL.dcm"} <= used
    identities = {str(patient) for patient in series["source_patient_id"] if len(str(patient)) > 3}
    assert not any(identity in sentence for identity in identities for sentence in records["sentence"])


def test_two_chest_radiographs_of_open_i_are_accounted_for(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "iu_cxr" / "dicom"
    series, ledger = _images(folder, sorted(folder.iterdir()), tmp_path)
    assert _fates(ledger)[0] == 2
    assert len(series) == _fates(ledger)[1]
