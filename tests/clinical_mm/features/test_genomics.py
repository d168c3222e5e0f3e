"""Samples of a patient as one row: sources side by side, and what was not measured stays unknown."""

import numpy as np
import pytest

from clinical_mm.errors import CohortError, StudyError
from clinical_mm.features.dataset import PatientDataset
from clinical_mm.features.statistics import Statistics


def test_sources_stand_side_by_side_under_their_own_names(world, built) -> None:  # type: ignore[no-untyped-def]
    for patient in "ab":
        world.patient(patient)
    world.sample("a", "rna", TP53=1.5, KRAS=-2.0)
    world.sample("b", "rna", TP53=2.5, KRAS=0.0)
    world.sample("b", "dna", TP53=1.0)
    table = built({"genomics": {}}).genomics()
    assert table.columns.tolist() == ["dna:TP53", "rna:TP53", "rna:KRAS"]
    np.testing.assert_array_equal(table.loc["b"], [1, 2.5, 0])
    np.testing.assert_array_equal(table.loc["a"], [np.nan, 1.5, -2])
    assert table.to_numpy().dtype == np.float32


def test_of_several_samples_the_mean_is_that_of_those_that_measured_a_feature(world, built) -> None:  # type: ignore[no-untyped-def]
    for patient in "ab":
        world.patient(patient)
    world.sample("b", "rna", X=7.0, Y=7.0, Z=np.nan)
    world.sample("a", "rna", X=1.0, Y=np.nan, Z=np.nan)
    world.sample("a", "rna", X=2.0, Y=5.0, Z=np.nan)
    world.sample("a", "rna", X=6.0, Y=8.0, Z=np.nan)
    table = built({"genomics": {}}).genomics()
    np.testing.assert_array_equal(table.loc["a"], [3, 6.5, np.nan])
    np.testing.assert_array_equal(table.loc["b"], [7, 7, np.nan])


def test_a_missing_gene_differs_from_one_that_is_zero(world, built) -> None:  # type: ignore[no-untyped-def]
    for patient, values in {"a": {"X": 0.0, "Y": 1.0}, "b": {"Y": 3.0}, "c": {"X": 4.0, "Y": 5.0}}.items():
        world.sample(world.patient(patient), "rna", **values)
    features = built({"genomics": {}})
    statistics = Statistics.fit(features, ["a", "b", "c"])
    dataset = PatientDataset(features, statistics, ["a", "b", "c"])
    assert [dataset[i]["genomics_observed"].tolist() for i in range(3)] == [
        [True, True],
        [False, True],
        [True, True],
    ]
    assert [float(dataset[i]["genomics"][0]) for i in range(3)] == [-1, 0, 1]  # of 0, ?, 4


def test_genes_are_chosen_by_their_own_name_not_by_that_of_the_source(world, built) -> None:  # type: ignore[no-untyped-def]
    world.sample(world.patient("a"), "rna", rna1=1.0, TP53=2.0, TP63=3.0)
    assert built({"genomics": {"features": "^TP"}}).genomics().columns.tolist() == ["rna:TP53", "rna:TP63"]
    assert built({"genomics": {"features": "rna"}}).genomics().columns.tolist() == ["rna:rna1"]


def test_a_choice_that_matches_no_gene_is_refused(world, built) -> None:  # type: ignore[no-untyped-def]
    world.sample(world.patient("a"), "rna", TP53=2.0, KRAS=1.0)
    with pytest.raises(StudyError, match=r"'\^BRCA' matches none of 2 features"):
        built({"genomics": {"features": "^BRCA"}})


def test_a_sample_in_which_no_chosen_gene_was_measured_is_counted(world, built) -> None:  # type: ignore[no-untyped-def]
    for patient in "abc":
        world.patient(patient)
    world.sample("a", "rna", TP53=np.nan, KRAS=1.0)
    world.sample("b", "rna", TP53=2.0, KRAS=1.0)
    world.sample("b", "rna", TP53=np.nan, KRAS=1.0)
    features = built({"genomics": {"features": "TP53"}})
    omitted = {(r.patient_id, r.reason): r.n for r in features.left_out().itertuples()}
    assert omitted == {("a", "no_feature_measured"): 1, ("b", "no_feature_measured"): 1}
    assert features.genomics().index.tolist() == ["b"]
    assert [features.present(p).tolist() for p in "abc"] == [[False], [True], [False]]


def test_a_gene_that_no_training_patient_has_is_never_read(world, built) -> None:  # type: ignore[no-untyped-def]
    world.sample(world.patient("a"), "rna", TP53=1.0)
    world.sample(world.patient("b"), "rna", TP53=2.0)
    world.sample(world.patient("t", "test"), "rna", TP53=2.0, NEW=5.0)
    world.sample(world.patient("u", "test"), "rna", NEW=5.0)
    features = built({"genomics": {}})
    statistics = Statistics.fit(features, features.patients(0, "train"))
    assert statistics.genomics_features == ("rna:TP53",)
    dataset = PatientDataset(features, statistics, ["t", "u"])
    assert dataset[0]["genomics"].tolist() == [1]
    # Of u nothing that the model knows was measured: the modality is absent, not a row of zeros.
    assert features.present("u").tolist() == [True]
    assert [dataset[i]["present"].tolist() for i in range(2)] == [[True], [False]]


def test_a_sample_that_is_no_longer_current_is_refused(world, built) -> None:  # type: ignore[no-untyped-def]
    world.sample(world.patient("a"), "rna", TP53=1.0)
    world.items[0]["item_id"] = "replaced"
    with pytest.raises(CohortError, match="1 of 1 items"):
        built({"genomics": {}})


def test_features_that_are_read_cannot_be_changed_by_accident(world, built) -> None:  # type: ignore[no-untyped-def]
    world.sample(world.patient("a"), "rna", TP53=1.0)
    table = built({"genomics": {}}).genomics()
    with pytest.raises(ValueError, match="read-only"):
        table.to_numpy()[0, 0] = 2
