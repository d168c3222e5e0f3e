"""The whole pipeline, as Dagster assets, held to the truth that the synthetic cohort plants, over three seeds.

Each modality carries a signal of its own. On held-out patients fusion has to be worth more than any modality alone, and
the attributions have to point to what was planted. The settings are the demo's; the cohort is twice as large, so that
some hundred patients are held out and a difference of 0.05 in AUROC can be told from chance.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from clinical_mm.evaluation.record import require_evaluation
from clinical_mm.explain.explanation import Explanation
from clinical_mm.explain.saved import SavedExplanations
from clinical_mm.features.loaded import TaskFeatures
from clinical_mm.store import Store, current
from clinical_mm.study.file import load_study
from clinical_mm.synthetic.cohort import generate_cohort
from clinical_mm.synthetic.truth import GroundTruth, PatientTruth

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]

REPOSITORY = Path(__file__).resolve().parents[2]
TASK = "relapse"
SEEDS = (1, 2, 3)
N_PATIENTS = 480
N_EXPLAINED = 70
MODALITIES = ("text", "image", "genomics", "clinical")
MARGIN = 0.05
SHARE_FOUND = 0.8
TOP = 10


@dataclass(frozen=True)
class Finished:
    """A finished run: what was planted in each explained patient, beside the explanation of it."""

    auroc: "pd.Series[float]"
    explained: list[tuple[PatientTruth, Explanation]]
    truth: GroundTruth


def _explain_many(study: dict[str, Any]) -> None:
    study["tasks"] = {TASK: study["tasks"][TASK]}
    study["tasks"][TASK]["explain"]["patients"] = N_EXPLAINED


@pytest.fixture(scope="module", params=SEEDS)
def finished(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    study_file: Callable[..., Path],
) -> Finished:
    """One seed's cohort through `python -m pipelines.demo`, which runs the assets."""
    directory = tmp_path_factory.mktemp(f"seed{request.param}") / "demo"
    generate_cohort(directory, seed=request.param, n_patients=N_PATIENTS)
    path = study_file(directory / "study.yaml", directory / "study.yaml", _explain_many)
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.demo", str(directory)],
        cwd=REPOSITORY,
        env=os.environ | {"DO_NOT_TRACK": "1"},
        capture_output=True,
        text=True,
        timeout=1400,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    study = load_study(path)
    store = Store(study.store_path)
    metrics = require_evaluation(store, TASK).metrics()
    of_test = metrics[
        (metrics["model"] == "fusion") & (metrics["split"] == "test") & (metrics["metric"] == "auroc")
    ]
    features, truth = TaskFeatures.load(study, store, TASK), GroundTruth.read(directory)
    folder = current(store.task(TASK, "explanations"))
    assert folder is not None
    saved = SavedExplanations(folder)
    texts = {p: {(n.source, n.item_id): n.text for n in features.notes(p)} for p in saved.patient_ids}
    explained = [(truth.patients[p], saved.of(p, texts[p])) for p in saved.patient_ids]
    assert len(explained) == N_EXPLAINED
    return Finished(of_test.set_index("subset")["value"], explained, truth)


def share(name: str, found: list[bool]) -> float:
    """Share of the patients in whom something was found; printed for who runs it with `-s`."""
    assert len(found) >= 20
    print(f"{name}: {sum(found)} of {len(found)} ({np.mean(found):.2f})")
    return float(np.mean(found))


def top(names: list[str], attributions: list[float]) -> list[str]:
    """The names with the largest attributions, whatever their sign."""
    order = np.argsort(-np.abs(attributions), kind="stable")[:TOP]
    return [names[i] for i in order]


def test_fusion_is_worth_more_than_any_modality_alone(finished: Finished) -> None:
    whole = finished.auroc["+".join(MODALITIES)]
    alone = {name: float(finished.auroc[name]) for name in MODALITIES}
    print(f"AUROC {whole:.3f}, alone {alone}, of who knows the truth {finished.truth.ideal_auroc}")
    assert whole >= max(alone.values()) + MARGIN


def test_a_word_of_the_planted_phrase_is_among_the_ten_that_mattered_most(finished: Finished) -> None:
    found = []
    for patient, explanation in finished.explained:
        if patient.phrases:
            words = top(
                [w.text.lower() for w in explanation.words], [w.attribution for w in explanation.words]
            )
            found.append(bool(set(words) & set(finished.truth.planted_words)))
    assert share("phrase", found) >= SHARE_FOUND


def test_planted_genes_are_among_the_ten_that_mattered_most(finished: Finished) -> None:
    planted = {f"expression:{gene}" for gene in finished.truth.planted_genes}
    found, n_found, n_features = [], [], 0
    for patient, explanation in finished.explained:
        if patient.signals["genomics"] and "genomics" in patient.modalities:
            features = [f for f in explanation.features if f.modality == "genomics"]
            names = top([f.feature for f in features], [f.attribution for f in features])
            assert planted <= {f.feature for f in features}
            found.append(bool(planted & set(names)))
            n_found.append(len(planted & set(names)))
            n_features = len(features)
    by_chance = TOP * len(planted) / n_features
    print(f"planted genes among the top {TOP}: {np.mean(n_found):.2f} on average, {by_chance:.2f} by chance")
    assert share("genes", found) >= SHARE_FOUND
    assert np.mean(n_found) >= 2 * by_chance


def test_the_image_attribution_peaks_inside_the_lesion(finished: Finished) -> None:
    found = []
    for patient, explanation in finished.explained:
        if patient.lesion is not None and patient.series_instance_uid is not None:
            peak = max((image.peak() for image in explanation.images), key=lambda p: p.value)
            assert peak.position_mm is not None
            away_mm = np.linalg.norm(np.subtract(peak.position_mm, patient.lesion.centre_lps_mm))
            found.append(bool(away_mm <= patient.lesion.radius_mm))
    assert share("lesion", found) >= SHARE_FOUND


def test_every_patients_attributions_add_up_to_the_output_within_five_percent(finished: Finished) -> None:
    errors = [explanation.completeness.error for _, explanation in finished.explained]
    print(f"completeness error: median {np.median(errors):.4f}, largest {max(errors):.4f}")
    assert max(errors) < 0.05
