"""What was planted is in the files, where the truth says, and nowhere else; and it suffices to predict the outcome."""

import re
from datetime import datetime

import numpy as np
import pandas as pd
import pydicom
import pytest
from lifelines.utils import concordance_index
from scipy.ndimage import uniform_filter
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from clinical_mm.synthetic.genomics import GENES
from clinical_mm.synthetic.patients import draw_patients, ideal_auroc, ideal_probability


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def _readable_texts(files) -> dict[str, list[str]]:
    """By patient, the texts that may be read; of a key with several versions the one that is delivered last."""
    last = {**files.texts("2026-01-05"), **files.texts("2026-02-02")}
    return {p.patient_id: [max(last[k], key=len) for k in p.note_ids] for p in files.truth.patients.values()}


def test_planted_phrases_stand_where_the_truth_says_and_only_in_patients_with_the_signal(files):
    last = {**files.texts("2026-01-05"), **files.texts("2026-02-02")}
    n_phrases = 0
    for patient in files.truth.patients.values():
        for phrase in patient.phrases:
            found = {t[phrase.start : phrase.end].lower() for t in last[f"{phrase.source}/{phrase.note_id}"]}
            assert any(set(phrase.words) <= _words(text) for text in found)
            assert set(phrase.words) <= set(files.truth.planted_words)
            n_phrases += 1
        assert bool(patient.phrases) == (patient.signals["text"] and "text" in patient.modalities)
        if not patient.signals["text"]:
            for key in patient.note_ids:
                assert not any(_words(t) & set(files.truth.planted_words) for t in last[key])
    assert n_phrases > 50


def test_words_that_give_the_outcome_away_stand_only_in_notes_that_may_not_be_read(files):
    leaks = set(files.truth.leak_words)
    readable = {k for p in files.truth.patients.values() for k in p.note_ids}
    texts = files.texts("2026-01-05")
    leaking = {key for key, versions in texts.items() if any(_words(t) & leaks for t in versions)}
    assert len(leaking) > 20
    assert not leaking & readable


def test_a_leaking_document_would_be_read_by_one_who_overlooks_its_offset(files):
    index_times = {p.patient_id: datetime.fromisoformat(p.index_time) for p in files.truth.patients.values()}
    overlooked = 0
    for resource in files.resources():
        if resource.get("id", "").endswith("x3"):
            patient_id = resource["subject"]["reference"].removeprefix("Patient/")
            written = datetime.fromisoformat(resource["date"]).replace(tzinfo=None)
            overlooked += written < index_times[patient_id]
    assert overlooked >= 1


def test_every_dicom_file_is_valid_and_consistent_within_its_series(files):
    syntaxes = set()
    for slices in files.series.values():
        positions = np.array([d.ImagePositionPatient for d in slices], dtype=float)
        steps = np.diff(positions, axis=0)
        first = slices[0]
        orientation = np.array(first.ImageOrientationPatient, dtype=float).reshape(2, 3)
        np.testing.assert_allclose(orientation @ orientation.T, np.eye(2), atol=1e-6)
        if len(slices) > 1 and len(steps) != 22:  # the two series with a broken file have gaps
            normal = np.cross(*orientation)
            np.testing.assert_allclose(steps, steps[:1].repeat(len(steps), axis=0), atol=1e-3)
            np.testing.assert_allclose(steps[0] @ normal, float(first.SpacingBetweenSlices), atol=1e-3)
        assert len({d.InstanceNumber for d in slices}) == len(slices)
        assert {d.PatientID for d in slices} == {first.PatientID}
        syntaxes |= {d.file_meta.TransferSyntaxUID for d in slices}
        assert all(d.file_meta.MediaStorageSOPInstanceUID == d.SOPInstanceUID for d in slices)
    assert syntaxes == {
        pydicom.uid.ExplicitVRLittleEndian,
        pydicom.uid.RLELossless,
        pydicom.uid.JPEGLSLossless,
    }


def test_file_names_of_dicom_say_nothing_about_their_order(files):
    paths = sorted(files.delivery("2026-01-05").glob("imaging/*/*"))[:400]
    numbers = [int(d.InstanceNumber) for d in (pydicom.dcmread(p, stop_before_pixels=True) for p in paths)]
    assert abs(np.corrcoef(np.arange(len(numbers)), numbers)[0, 1]) < 0.15


def test_the_lesion_is_bright_in_the_very_place_that_the_truth_names(files):
    n_lesions = 0
    for patient in files.truth.patients.values():
        lesion = patient.lesion
        assert (lesion is not None) == (patient.signals["image"] and "image" in patient.modalities)
        if lesion is None:
            continue
        hu = files.volume_hu(lesion.series_instance_uid)
        places = np.stack(np.indices(hu.shape), axis=-1).reshape(-1, 3)
        slices = files.series[lesion.series_instance_uid]
        origin = np.array(slices[0].ImagePositionPatient, dtype=float)
        right, down = np.array(slices[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
        step = np.array(slices[1].ImagePositionPatient, dtype=float) - origin
        row_mm, column_mm = map(float, slices[0].PixelSpacing)
        lps = origin + places @ np.stack([step, down * row_mm, right * column_mm])
        distance = np.linalg.norm(lps - np.array(lesion.centre_lps_mm), axis=1).reshape(hu.shape)
        inside, outside = hu[distance < lesion.radius_mm - 1], hu[distance > lesion.radius_mm + 1]
        assert inside.size > 80
        assert inside.mean() > 235
        assert np.mean(outside > 235) < 0.01
        assert np.all(np.array(lesion.centre_voxel) > np.array(lesion.radius_voxel) - 1)
        n_lesions += 1
    assert n_lesions > 40


def test_planted_genes_are_two_standard_deviations_higher_and_the_others_are_not(files):
    genomics = _expression(files)
    signal = np.array([files.truth.patients[i].signals["genomics"] for i in genomics.index])
    shift = (genomics[signal].mean() - genomics[~signal].mean()) / genomics[~signal].std()
    planted = list(files.truth.planted_genes)
    assert len(GENES) == genomics.shape[1] == 120
    assert shift[planted].between(1.6, 2.9).all()
    assert shift.drop(planted).abs().max() < 0.8


def _expression(files) -> pd.DataFrame:
    """Patients × genes: the first row of each tumour sample that the truth calls usable."""
    frames = [
        pd.read_csv(files.delivery(name) / "genomics" / "expression.tsv", sep="\t", na_values="<LOD")
        for name in files.truth.deliveries
    ]
    rows = pd.concat(frames)
    rows = rows[rows["sample"].str.endswith("-01A")].drop_duplicates("sample")
    rows.index = rows["sample"].str.slice(4, 8)
    usable = [
        i
        for i in rows.index
        if i in files.truth.patients and "genomics" in files.truth.patients[i].modalities
    ]
    return rows.loc[usable].drop(columns="sample").astype(float)


def _hand_features(files) -> pd.DataFrame:
    """Of each labelled patient, what a reader with a ruler would note: NaN where there is nothing to read."""
    texts = _readable_texts(files)
    genes = _expression(files)[list(files.truth.planted_genes)]
    genes = ((genes - genes.mean()) / genes.std()).mean(axis=1)
    rows = {}
    for patient in files.truth.patients.values():
        if patient.relapse is None:
            continue
        words = set().union(*(_words(t) for t in texts[patient.patient_id])) if patient.note_ids else None
        uid = patient.series_instance_uid
        rows[patient.patient_id] = {
            "text": np.nan if words is None else float(bool(words & set(files.truth.planted_words))),
            "image": np.nan if uid is None else float(uniform_filter(files.volume_hu(uid), 3).max() > 200),
            "genomics": genes.get(patient.patient_id, np.nan),
            "n_words": sum(len(t.split()) for t in texts[patient.patient_id]),
            "n_notes": len(patient.note_ids),
            "corner_hu": np.nan if uid is None else files.volume_hu(uid)[0, 0, 0],
            "n_modalities": len(patient.modalities),
            "relapse": patient.relapse,
        }
    return pd.DataFrame.from_dict(rows, orient="index").astype(float)


def test_hand_made_features_of_the_files_reach_the_ideal_observer(files):
    features = _hand_features(files)
    ideal = files.truth.ideal_auroc
    for modality in ("text", "image", "genomics"):
        known = features.dropna(subset=[modality])
        found = roc_auc_score(known["relapse"], known[modality])
        assert found == pytest.approx(ideal[modality], abs=0.04)
        assert 0.68 < ideal[modality] < 0.80
    complete = features.dropna(subset=["text", "image", "genomics"])
    scores = cross_val_predict(
        LogisticRegression(),
        complete[["text", "image", "genomics"]],
        complete["relapse"],
        cv=10,
        method="predict_proba",
    )[:, 1]
    assert roc_auc_score(complete["relapse"], scores) > ideal["complete"] - 0.05
    assert ideal["complete"] > 0.9
    assert ideal["available"] > 0.85


def test_the_ideal_c_index_is_the_one_that_another_library_computes(files):
    known = [
        p
        for p in files.truth.patients.values()
        if p.survival_months is not None and {"text", "genomics"} & set(p.modalities)
    ]
    risk = [ideal_probability(p.signals, {"text", "genomics"} & set(p.modalities)) for p in known]
    found = concordance_index(
        [p.survival_months for p in known], -np.array(risk), [p.is_event for p in known]
    )
    assert files.truth.ideal_c_index == pytest.approx(found, abs=0.01)
    assert 0.65 < found < 0.85


def test_nothing_trivial_tells_the_outcome(files):
    features = _hand_features(files)
    for name in ("n_words", "n_notes", "corner_hu", "n_modalities"):
        known = features.dropna(subset=[name])
        assert abs(roc_auc_score(known["relapse"], known[name]) - 0.5) < 0.15, name


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_the_three_signals_are_independent_and_each_seed_is_as_difficult_as_another(seed):
    patients = draw_patients(seed, 0, 240, year=2024, unknown_outcomes=0.05)
    signals = np.array([list(p.signals.values()) for p in patients], dtype=float)
    np.testing.assert_allclose(np.corrcoef(signals.T), np.eye(3), atol=0.02)
    known = [(p.signals, p.has, p.relapse) for p in patients if p.is_outcome_known]
    found = ideal_auroc(known)
    assert all(0.69 < found[m] < 0.77 for m in ("text", "image", "genomics"))
    assert found["complete"] > 0.93
    assert found["available"] > max(found["text"], found["image"], found["genomics"]) + 0.12


def test_the_ideal_observer_averages_over_what_it_does_not_see():
    signals = {"text": True, "image": True, "genomics": True}
    # Logistic with slope 5 around 1.5 of three: .99945, .92414, .07586 and .00055 at three, two, one and none.
    assert ideal_probability(signals, {"text", "image", "genomics"}) == pytest.approx(0.99945, abs=1e-5)
    assert ideal_probability(signals, {"text"}) == pytest.approx(
        (0.07586 + 2 * 0.92414 + 0.99945) / 4, abs=1e-5
    )
    assert ideal_probability(signals, set()) == pytest.approx(0.5)
