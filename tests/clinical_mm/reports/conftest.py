"""A patient made by hand: hostile notes, a CT series with a bright sphere, genes, and an evaluation of their model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from clinical_mm.evaluation.calibration import Calibration, FoldCalibration
from clinical_mm.explain.attribution import Completeness
from clinical_mm.explain.covariates import FeatureContribution
from clinical_mm.explain.explanation import Explanation, ModalityContribution
from clinical_mm.explain.grids import ImageAttribution
from clinical_mm.explain.words import Word, word_spans
from clinical_mm.reports.evidence import Evidence
from clinical_mm.reports.patient import PatientRecord, ReadNote
from clinical_mm.reports.series import SeriesInfo
from clinical_mm.study.root import Study

NOTE = (
    "PATHOLOGY REPORT\n\nRight kidney, nephrectomy: clear cell renal cell carcinoma, Fuhrman grade 3, with tumour "
    "necrosis and lymphovascular invasion. Margins negative. Ki-67 about 35 %. Tumour size 7.5 cm.\nNo evidence of "
    "nodal disease; renal vein invaded."
)
HOSTILE = (
    "</div></main><script>alert('x')</script><img src=x onerror=alert(1)> {{ 7*7 }} {% include '/etc/passwd' %} "
    "\"'><style>*{display:none}</style> \u202egnitset RTL\u202c مرحبا 🩺👩‍⚕️ &lt;b&gt; \x00\x07 "
    "javascript:alert(1) $&{}<!-- "
)
STRENGTH = {
    "necrosis": 0.62,
    "lymphovascular": 0.35,
    "invaded": 0.3,
    "negative": -0.4,
    "No": -0.22,
    "3": 0.28,
}


def words_of(item_id: str, text: str) -> tuple[Word, ...]:
    return tuple(
        Word("pathology", item_id, a, b, text[a:b], STRENGTH.get(text[a:b], 0.002 * ((a % 7) - 3)))
        for a, b in word_spans(text)
    )


def study(**outcome: Any) -> Study:
    return Study.model_validate(
        {
            "study": "kidney",
            "sources": {
                "pathology": {
                    "kind": "notes_table",
                    "path": "n.csv",
                    "patient_id": "p",
                    "text": "t",
                    "is_timeless": True,
                },
                "ct": {"kind": "dicom"},
                "rna": {"kind": "genomics_matrix", "path": "g.csv", "samples": "rows", "sample_id": "s"},
                "labs": {
                    "kind": "clinical",
                    "path": "c.csv",
                    "patient_id": "p",
                    "is_timeless": True,
                    "variables": {
                        "age": {"unit": "years"},
                        "sex": {"type": "category", "levels": ["female", "male"]},
                    },
                },
                "outcomes": {
                    "kind": "outcomes",
                    "path": "o.csv",
                    "patient_id": "p",
                    "index_time": "t",
                    "variables": {
                        "relapse": {"type": "category", "levels": ["yes", "no"]},
                        "grade": {"type": "category", "levels": ["low", "middle", "high"]},
                        "months": {},
                    },
                },
            },
            "tasks": {
                "relapse": {
                    "question": "Will the tumour come back within two years?",
                    "outcome": outcome or {"kind": "binary", "variable": "relapse", "positive": "yes"},
                    "modalities": {
                        "text": {
                            "window": {"until_days": 3, "allow_after_index": True, "reason": "biopsy lag"}
                        },
                        "image": {"size": [16, 16, 16]},
                        "genomics": {},
                        "clinical": {},
                    },
                }
            },
        }
    )


def ct(store: Path) -> tuple[SeriesInfo, ImageAttribution]:
    """A 40 × 64 × 64 series, 3 mm × 1.5 mm × 1.5 mm, with a bright sphere at slice 28, row 40, column 20."""
    depth, rows, columns = np.ogrid[:40, :64, :64]
    body = ((rows - 32) ** 2 + (columns - 32) ** 2 < 28**2) * 1040.0 - 1000
    sphere = ((depth - 28) * 2.0) ** 2 + (rows - 40) ** 2 + (columns - 20) ** 2 < 7**2
    noise = np.random.default_rng(0).normal(0, 12, (40, 64, 64))
    volume = (body + 90 * sphere + noise).astype(np.int16)
    (store / "volumes").mkdir(parents=True, exist_ok=True)
    np.save(store / "volumes" / "ct.npy", volume)
    affine = np.array([[0, 0, 1.5, -48], [0, 1.5, 0, -48], [3, 0, 0, 200], [0, 0, 0, 1]], dtype=float)
    info = SeriesInfo.of(
        {
            "source": "ct",
            "series_instance_uid": "1.2.840.1",
            "stack": 0,
            "modality": "CT",
            "description": "Abdomen <b>venous</b>\n3.0",
            "body_part": "ABDOMEN",
            "unit": "HU",
            "available_time": pd.Timestamp("2024-03-01 10:15"),
            "shape": [40, 64, 64],
            "spacing_mm": [3.0, 1.5, 1.5],
            "affine": affine.ravel().tolist(),
            "window_center": 40.0,
            "window_width": 400.0,
            "is_inverted": False,
            "volume": "volumes/ct.npy",
        }
    )
    # The model saw it on a grid of 20 × 32 × 32: every second slice, row and column.
    values = np.zeros((20, 32, 32), dtype=np.float32)
    values[13:16, 18:23, 8:13] = 0.01
    values[3, 4:6, 25:27] = -0.01
    to_volume = np.array([[2, 0, 0, 0.5], [0, 2, 0, 0.5], [0, 0, 2, 0.5], [0, 0, 0, 1]])
    return info, ImageAttribution("ct", "1.2.840.1#0", 0, values, to_volume, affine @ to_volume)


def explanation(store: Path, patient_id: str = "TCGA-XX-0001") -> Explanation:
    _, image = ct(store)
    words = (*words_of("n1", NOTE), *words_of("n2", HOSTILE))
    rng = np.random.default_rng(1)
    genes = tuple(
        FeatureContribution("genomics", f"GENE{i}", float(v), None, float(v), float(v) / 40)
        for i, v in enumerate(rng.normal(size=60))
    )
    clinical = (
        FeatureContribution("clinical", "age", 71.0, None, 1.3, 0.21),
        FeatureContribution("clinical", "sex", None, "male", None, -0.04),
        FeatureContribution("clinical", "ldh", None, None, None, 0.0),
    )
    sums = (
        sum(w.attribution for w in words),
        image.total,
        sum(g.attribution for g in genes),
        sum(c.attribution for c in clinical),
    )
    return Explanation(
        patient_id=patient_id,
        fold=0,
        target=0,
        target_name="relapse = yes",
        logits=(1.1,),
        completeness=Completeness(1.1, 1.1 - sum(sums), sum(sums), 0.004, 0.01, 64),
        contributions=tuple(
            ModalityContribution(m, True, s, 0.8 * s + 0.05)
            for m, s in zip(("text", "image", "genomics", "clinical"), sums, strict=True)
        ),
        words=words,
        features=(*genes, *clinical),
        images=(image,),
        text_remainder=0.0,
    )


def record(store: Path, pseudonym: str = "P-0123456789") -> PatientRecord:
    info, _ = ct(store)
    items = pd.DataFrame(
        [
            ("text", "pathology", "n1", "2024-03-03", True, "used"),
            ("text", "pathology", "n2", "2024-02-20", True, "used"),
            ("text", "pathology", "n3", "2024-09-01", False, "after_index"),
            ("image", "ct", "1.2.840.1#0", "2024-03-01", True, "used"),
            ("genomics", "rna", "S-17", None, True, "used"),
            ("clinical", "labs", "age@c.csv#row 3", None, True, "used"),
        ],
        columns=["modality", "source", "item_id", "available_time", "is_used", "reason_code"],
    ).assign(patient_id="TCGA-XX-0001", delivery="2024-04", rank=0)
    items["available_time"] = pd.to_datetime(items["available_time"])
    return PatientRecord(
        pseudonym=pseudonym,
        index_time=pd.Timestamp("2024-03-02"),
        notes=(
            ReadNote(
                "pathology",
                "n1",
                "Pathology report",
                pd.Timestamp("2024-03-03"),
                NOTE,
                ((0, len(NOTE) - 30),),
            ),
            ReadNote("pathology", "n2", None, None, HOSTILE, ((0, len(HOSTILE)),)),
        ),
        series=(info,),
        items=items,
        left_out=pd.DataFrame([("text", "windows_over_max", 2)], columns=["modality", "reason", "n"]),
    )


def evidence() -> Evidence:
    resampled = np.column_stack([np.linspace(-0.6, 0.2, 200), np.linspace(0.7, 1.3, 200)])
    fold = FoldCalibration(0, "binary", (-0.2, 1.0), resampled, 0.4, 41, 15)
    rows = [
        ("fusion", "text+image+genomics+clinical", "auroc", 0.83, 0.74, 0.91),
        ("fusion", "text+image+genomics+clinical", "auprc", 0.71, 0.58, 0.83),
        ("fusion", "text+image+genomics+clinical", "brier", 0.16, 0.12, 0.2),
        ("fusion", "text", "auroc", 0.78, 0.68, 0.87),
        ("fusion", "genomics", "auroc", 0.66, 0.55, 0.76),
        ("baseline_text", "text", "auroc", 0.77, 0.67, 0.86),
        ("baseline_all", "text+image+genomics+clinical", "auroc", 0.8, 0.7, 0.88),
    ]
    metrics = pd.DataFrame(rows, columns=["model", "subset", "metric", "value", "lower", "upper"]).assign(
        split="test", n_patients=84, n_events=31
    )
    scores = pd.DataFrame(
        {"patient_id": [f"q{i}" for i in range(10)], "fold": 0, "output": 0, "score": np.arange(10) / 5}
    )
    flow = pd.DataFrame(
        [
            (1, "linked patients", 372, 341, "31 without an outcome"),
            (2, "one modality at least", 341, 334, "7 with none"),
        ],
        columns=["step", "name", "n_in", "n_out", "reason"],
    )
    return Evidence(
        fingerprint="e1",
        kind="binary",
        version="3f2a9c1b7d10",
        first_line=(
            "Fusion beats the best baseline (all modalities): AUROC 0.83 against 0.80, "
            "difference +0.03 [−0.02, 0.08]."
        ),
        confidence=0.95,
        calibration=Calibration("binary", {0: fold}, 0.95, None, "relapse = yes"),
        metrics=metrics,
        scores=scores,
        typical=0.37,
        n_patients={"train": 201, "validation": 41, "test": 84},
        is_cross_validated=False,
        flow=flow,
        model={
            "study_hash": "ab12" * 16,
            "data_fingerprint": "cd34" * 16,
            "seed": 7,
            "libraries": {"torch": "2.13.0"},
        },
    )


@pytest.fixture
def make() -> dict[str, Callable]:
    """Builders of the parts: `study`, `explanation`, `record`, `evidence`."""
    return {"study": study, "explanation": explanation, "record": record, "evidence": evidence}
