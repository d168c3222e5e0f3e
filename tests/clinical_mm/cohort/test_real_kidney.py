"""TCGA kidney reports and genomics: ids that look different, slides that repeat patients, reports without a barcode."""

from pathlib import Path

import pandas as pd
import pytest

from clinical_mm.cohort.build import build_cohort, load_cohort
from clinical_mm.store import Store, content_hash
from clinical_mm.study.root import Study

pytestmark = pytest.mark.real_data

KIDNEY = {
    "study": "kidney",
    "sources": {
        "reports": {
            "kind": "notes_table",
            "path": "r.csv",
            "patient_id": "pdf_file_name_path",
            "text": "ocr_text",
            "is_timeless": True,
        },
        "rna": {"kind": "genomics_matrix", "path": "g.csv", "samples": "rows"},
        "registry": {
            "kind": "outcomes",
            "path": "g.csv",
            "patient_id": "case_id",
            "variables": {"survival_months": {}, "censorship": {}},
        },
    },
    "linkage": {
        "rules": [
            {"rule": "pattern", "sources": ["reports"], "pattern": r"^(TCGA-\w\w-\w{4})"},
            {"rule": "exact", "sources": ["rna", "registry"]},
        ]
    },
    "tasks": {
        "survival": {
            "question": "?",
            "outcome": {
                "kind": "survival",
                "duration": "survival_months",
                "event": "censorship",
                "event_value": "0",
            },
            "index_time": "none",
            "min_modalities": 2,
            "modalities": {"text": {}, "genomics": {}},
            "split": {"method": "kfold", "folds": 5},
        }
    },
}


@pytest.mark.parametrize(("cancer", "n_patients", "n_deaths"), [("kirc", 334, 88), ("kirp", 222, 33)])
def test_barcodes_join_reports_with_genomics_and_survival(
    real_data: Path, hospital, cancer, n_patients, n_deaths
):
    folder = real_data / "tcga_reports_genomics"
    reports = pd.read_csv(
        folder / "reports" / "KIDNEY.csv", usecols=["pdf_file_name_path", "ocr_text"], dtype=str
    )
    reports = reports[reports["ocr_text"].fillna("").str.strip() != ""]  # ingest quarantines empty texts
    reports = reports.drop_duplicates("pdf_file_name_path")
    columns = ["case_id", "survival_months", "censorship"]
    cases = pd.read_csv(folder / "genomics" / f"tcga_{cancer}_all_clean.csv.zip", usecols=columns)
    cases = cases.drop_duplicates("case_id")

    hospital.study = Study.model_validate(KIDNEY).placed_in(hospital.directory)
    assert isinstance(hospital.store, Store)
    notes = pd.DataFrame(
        {
            "source": "reports",
            "source_patient_id": reports["pdf_file_name_path"],
            "note_id": reports["pdf_file_name_path"],
            "text": reports["ocr_text"],
            "content_hash": reports["ocr_text"].map(content_hash),
        }
    )
    samples = pd.DataFrame(
        {
            "source": "rna",
            "source_patient_id": cases["case_id"],
            "sample_id": cases["case_id"],
            "n_features": 1,
            "content_hash": cases["case_id"],
        }
    )
    outcomes = pd.concat(
        [
            pd.DataFrame(
                {
                    "source": "registry",
                    "source_patient_id": cases["case_id"],
                    "variable": variable,
                    "value_number": cases[variable].astype(float),
                }
            )
            for variable in ("survival_months", "censorship")
        ]
    )
    for stage, rows in (("notes", notes), ("genomics", samples), ("outcomes", outcomes)):
        places = [f"r.csv#row {i + 1}" for i in range(len(rows))]
        hospital.write_stage("tcga", stage, rows.assign(delivery="tcga", locator=places))
    for stage in ("imaging", "clinical"):
        hospital.write_stage("tcga", stage, pd.DataFrame())

    summary = build_cohort(hospital.study, hospital.store, "survival")
    assert not summary.failed_checks
    made = load_cohort(hospital.store, "survival")
    assert len(made.cohort) == n_patients
    assert made.cohort["label"].sum() == n_deaths
    assert (made.cohort["modality_pattern"] == "text+genomics").all()
    deaths = made.splits.merge(made.cohort[["patient_id", "label"]], on="patient_id")
    deaths = deaths[deaths["split"] == "test"].groupby("fold")["label"].sum()
    assert deaths.sum() == n_deaths
    assert deaths.max() - deaths.min() <= 1
