"""The stage: made once, the same again, and anew only where something that matters changed."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clinical_mm.errors import EncoderError, StoreError, StudyError
from clinical_mm.features.build import build_features
from clinical_mm.features.dataset import PatientDataset, collate
from clinical_mm.features.loaded import TaskFeatures
from clinical_mm.features.statistics import Statistics
from clinical_mm.store import current_about


@pytest.fixture
def modalities(tiny_bert) -> dict[str, Any]:  # type: ignore[no-untyped-def]
    return {
        "text": {"encoder": str(tiny_bert), "window_tokens": 16, "overlap_tokens": 4, "max_windows": 2},
        "image": {"size": [3, 3, 3], "intensity": "window", "window_hu": [0, 100]},
        "genomics": {},
        "clinical": {},
    }


@pytest.fixture
def delivered(world):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    for i in range(4):
        patient = world.patient(f"p{i}")
        world.note(patient, "the tumour of the liver is large " * (i + 1))
        world.image(patient, rng.integers(0, 100, (4, 4, 4)).astype(np.int16))
        world.sample(patient, "rna", X=float(i), Y=float(i**2))
        world.value(patient, "age", 40.0 + i)
    world.patient("p4")
    world.write()
    return world


def fingerprint(world) -> str:  # type: ignore[no-untyped-def]
    about = current_about(world.store.task("relapse", "features"))
    assert about is not None
    return str(about["fingerprint"])


def contents(directory: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in directory.iterdir()}


def batch(features: TaskFeatures) -> dict[str, Any]:
    ids = [f"p{i}" for i in range(5)]
    dataset = PatientDataset(features, Statistics.fit(features, ids), ids)
    return collate([dataset[i] for i in range(5)])


def test_the_summary_counts_what_was_made_and_what_was_left_out(delivered, study_of, modalities) -> None:  # type: ignore[no-untyped-def]
    summary = build_features(study_of(modalities), delivered.store, "relapse")
    # Notes of 7, 14, 21 and 28 words: 1, 1, 2 and 3 windows of at most 14, of which a patient's first two are read.
    assert summary.facts == {
        "patients": 5,
        "notes": 4,
        "windows": 6,
        "tokens": (7 + 2) + (14 + 2) + (14 + 2 + 11 + 2) + (14 + 2) * 2,
        "notes tokenised before (cache hits)": 0,
        "series": 4,
        "images": 4,
        "series prepared before (cache hits)": 0,
        "genomic features": 2,
        "clinical features": 4,
        "left out": 1,
    }
    by_modality = summary.tables["patients by modality"].set_index("modality")["patients with features"]
    assert by_modality.to_dict() == {"text": 4, "image": 4, "genomics": 4, "clinical": 4}
    assert summary.tables["left out by reason"].to_numpy().tolist() == [["text", "windows_over_max", 1, 1]]
    (check,) = summary.checks
    assert not check.is_passed  # p4 has nothing
    assert check.sentence.startswith("1 of 5 patients")
    assert not summary.is_unchanged


def test_a_second_run_changes_nothing_and_says_the_same(delivered, study_of, modalities) -> None:  # type: ignore[no-untyped-def]
    study = study_of(modalities)
    first = build_features(study, delivered.store, "relapse")
    before = contents(first.path)
    second = build_features(study, delivered.store, "relapse")
    assert second.is_unchanged
    assert second.path == first.path
    assert second.facts == first.facts
    assert second.checks == first.checks
    assert contents(second.path) == before


def test_the_same_inputs_give_the_same_bytes_with_and_without_the_cache(
    delivered, study_of, modalities
) -> None:  # type: ignore[no-untyped-def]
    study, store = study_of(modalities), delivered.store
    first = build_features(study, store, "relapse")
    kept, expected = contents(first.path), batch(TaskFeatures.load(study, store, "relapse"))
    for is_cache_emptied in (False, True):
        shutil.rmtree(store.task("relapse", "features"))
        if is_cache_emptied:
            shutil.rmtree(store.root / "cache")
        again = build_features(study, store, "relapse")
        hits = {name: value for name, value in again.facts.items() if "cache hits" in name}
        assert set(hits.values()) == ({0} if is_cache_emptied else {4})
        made = contents(again.path)
        assert {k: v for k, v in made.items() if k != "summary.json"} == {
            k: v for k, v in kept.items() if k != "summary.json"
        }
        found = batch(TaskFeatures.load(study, store, "relapse"))
        assert all(bool((found[name] == tensor).all()) for name, tensor in expected.items())


MATTER = [
    ("text", {"window_tokens": 17}),
    ("text", {"overlap_tokens": 5}),
    ("text", {"max_windows": 3}),
    ("image", {"size": [3, 3, 4]}),
    ("image", {"spacing_mm": [1, 1, 1]}),
    ("image", {"window_hu": [0, 50]}),
    ("image", {"intensity": "percentile", "window_hu": None}),
    ("image", {"spatial_dims": 2, "size": [3, 3]}),
    ("image", {"slices_per_series": 2}),
    ("genomics", {"features": "X"}),
    ("clinical", {"variables": ["age"]}),
]
DO_NOT_MATTER = [
    ("text", {"fine_tune": "frozen", "learning_rate": 0.1, "last_k": 1}),
    ("image", {"network": "DenseNet169", "augment": False, "arguments": {"init_features": 8}}),
    ("genomics", {"top_variance": 1, "hidden": [4], "dropout": 0.5}),
    ("clinical", {"hidden": [4], "dropout": 0.5}),
]


@pytest.mark.parametrize(("modality", "options"), MATTER)
def test_a_setting_that_decides_the_features_makes_them_anew(  # type: ignore[no-untyped-def]
    delivered, study_of, modalities, modality, options
) -> None:
    build_features(study_of(modalities), delivered.store, "relapse")
    before = fingerprint(delivered)
    summary = build_features(
        study_of(modalities | {modality: modalities[modality] | options}), delivered.store, "relapse"
    )
    assert not summary.is_unchanged
    assert fingerprint(delivered) != before


@pytest.mark.parametrize(("modality", "options"), DO_NOT_MATTER)
def test_a_setting_of_the_model_leaves_the_features_as_they_are(  # type: ignore[no-untyped-def]
    delivered, study_of, modalities, modality, options
) -> None:
    build_features(study_of(modalities), delivered.store, "relapse")
    before = fingerprint(delivered)
    summary = build_features(
        study_of(modalities | {modality: modalities[modality] | options}), delivered.store, "relapse"
    )
    assert summary.is_unchanged
    assert fingerprint(delivered) == before


def test_another_vocabulary_makes_the_features_anew(delivered, study_of, modalities, make_tiny_bert) -> None:  # type: ignore[no-untyped-def]
    encoder = make_tiny_bert()
    own = modalities | {"text": modalities["text"] | {"encoder": str(encoder)}}
    build_features(study_of(own), delivered.store, "relapse")
    before = fingerprint(delivered)
    path = encoder / "tokenizer.json"
    path.write_text(
        path.read_text()
        .replace('"lowercase":true', '"lowercase":false')
        .replace('"lowercase": true', '"lowercase": false')
    )
    build_features(study_of(own), delivered.store, "relapse")
    assert fingerprint(delivered) != before


def test_another_cohort_makes_the_features_anew_and_the_old_ones_are_refused(
    delivered, study_of, modalities
) -> None:  # type: ignore[no-untyped-def]
    study = study_of(modalities)
    build_features(study, delivered.store, "relapse")
    before = fingerprint(delivered)
    delivered.patient("p5")
    delivered.write()
    with pytest.raises(StoreError, match="cohort of task relapse has changed"):
        TaskFeatures.load(study, delivered.store, "relapse")
    assert build_features(study, delivered.store, "relapse").facts["patients"] == 6
    assert fingerprint(delivered) != before


def test_one_patients_features_do_not_depend_on_another_patient(delivered, study_of, modalities) -> None:  # type: ignore[no-untyped-def]
    study = study_of(modalities)
    build_features(study, delivered.store, "relapse")
    own = TaskFeatures.load(study, delivered.store, "relapse")
    genes, tokens = own.genomics().loc["p1"].tolist(), own.windows("p1")[0].input_ids
    image = own.images("p1")[0].tensor
    delivered.sample(delivered.patient("a0"), "rna", X=1e6, Z=1.0)
    delivered.note("a0", "nausea " * 50)
    delivered.image("a0", np.full((4, 4, 4), 99) - np.arange(64).reshape(4, 4, 4))
    delivered.write()
    build_features(study, delivered.store, "relapse")
    found = TaskFeatures.load(study, delivered.store, "relapse")
    assert found.genomics().loc["p1", own.genomics().columns].tolist() == genes
    np.testing.assert_array_equal(found.windows("p1")[0].input_ids, tokens)
    np.testing.assert_array_equal(found.images("p1")[0].tensor, image)


def test_a_failed_run_leaves_the_features_that_stood(delivered, study_of, modalities) -> None:  # type: ignore[no-untyped-def]
    build_features(study_of(modalities), delivered.store, "relapse")
    before = fingerprint(delivered)
    with pytest.raises(StudyError, match="matches none"):
        build_features(study_of(modalities | {"genomics": {"features": "^BRCA"}}), delivered.store, "relapse")
    assert fingerprint(delivered) == before
    assert build_features(study_of(modalities), delivered.store, "relapse").is_unchanged


def test_what_cannot_be_built_is_said_before_anything_is_written(world, study_of, modalities) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(StudyError, match="no task 'other': it has relapse"):
        build_features(study_of(modalities), world.store, "other")
    with pytest.raises(StoreError, match="clinical-mm cohort"):
        build_features(study_of(modalities), world.store, "relapse")
    world.patient("p")
    world.write()
    with pytest.raises(EncoderError):
        build_features(study_of({"text": {"encoder": "./nowhere"}}), world.store, "relapse")
    with pytest.raises(StudyError, match="window_tokens is 512"):
        build_features(study_of({"text": {"encoder": modalities["text"]["encoder"]}}), world.store, "relapse")
    with pytest.raises(StoreError, match="clinical-mm train"):
        TaskFeatures.load(study_of(modalities), world.store, "relapse")


def test_a_cohort_without_any_item_is_built_and_fails_its_check(world, study_of, modalities) -> None:  # type: ignore[no-untyped-def]
    world.patient("p")
    world.write()
    summary = build_features(study_of(modalities), world.store, "relapse")
    (check,) = summary.checks
    assert (check.is_passed, check.is_blocking) == (False, False)
    features = TaskFeatures.load(study_of(modalities), world.store, "relapse")
    assert not features.present("p").any()
    assert (features.windows("p"), features.images("p"), features.notes("p")) == ([], [], [])


def test_nothing_of_a_note_stands_in_a_summary(delivered, study_of, modalities, capfd) -> None:  # type: ignore[no-untyped-def]
    summary = build_features(study_of(modalities), delivered.store, "relapse")
    said = (summary.path / "summary.json").read_text() + "".join(capfd.readouterr())
    assert not any(word in said for word in ("tumour", "liver", "p0", "note0"))
