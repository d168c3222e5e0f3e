"""Structured covariates: numbers, and categories as one 0 or 1 for each level."""

import numpy as np
import pytest

from clinical_mm.errors import StudyError
from clinical_mm.features.clinical import clinical_variables
from clinical_mm.features.dataset import PatientDataset
from clinical_mm.features.statistics import Statistics
from clinical_mm.study.root import Study
from clinical_mm.study.tasks import ClinicalModality


def test_a_category_is_one_for_its_level_zero_for_the_others_and_unknown_without_a_value(
    world, built
) -> None:  # type: ignore[no-untyped-def]
    for patient in "abc":
        world.patient(patient)
    world.value("a", "sex", "female")
    world.value("b", "sex", "male")
    world.value("b", "age", 0.0)
    world.value("c", "age", 61.0)
    features = built({"clinical": {}})
    table = features.clinical()
    assert table.columns.tolist() == ["age", "sex=female", "sex=male", "ki67"]
    nan = np.nan
    np.testing.assert_array_equal(table.loc["a"], [nan, 1, 0, nan])
    np.testing.assert_array_equal(table.loc["b"], [0, 0, 1, nan])
    np.testing.assert_array_equal(table.loc["c"], [61, nan, nan, nan])
    assert features.clinical_categories == {"sex=female", "sex=male"}


def test_of_several_numbers_the_mean_counts_and_of_levels_the_preferred_one(world, built) -> None:  # type: ignore[no-untyped-def]
    world.patient("a")
    for value in (10.0, 20.0, 60.0):
        world.value("a", "ki67", value)
    for level in ("female", "male", "female"):
        world.value("a", "sex", level)
    second = [i for i in world.items if i["item_id"].startswith("sex")][1]
    second["rank"] = -1  # before all others
    row = built({"clinical": {}}).clinical().loc["a"]
    assert row["ki67"] == 30
    assert (row["sex=male"], row["sex=female"]) == (1, 0)


def test_a_level_that_the_study_does_not_declare_is_left_out_and_stays_unknown(world, built) -> None:  # type: ignore[no-untyped-def]
    for patient in "ab":
        world.patient(patient)
    world.value("a", "sex", "intersex")
    world.value("a", "age", 50.0)
    world.value("b", "sex", "intersex")
    features = built({"clinical": {}})
    omitted = {(r.patient_id, r.reason): r.n for r in features.left_out().itertuples()}
    assert omitted == {("a", "level_not_declared"): 1, ("b", "level_not_declared"): 1}
    assert features.clinical().loc["a", ["sex=female", "sex=male"]].isna().all()
    assert [features.present(p).tolist() for p in "ab"] == [[True], [False]]


def test_a_level_that_training_patients_never_had_adds_no_feature(world, built) -> None:  # type: ignore[no-untyped-def]
    for patient, level, age in (("a", "female", 40.0), ("b", "female", 60.0)):
        world.patient(patient)
        world.value(patient, "sex", level)
        world.value(patient, "age", age)
    world.value(world.patient("t", "test"), "sex", "male")
    features = built({"clinical": {}})
    statistics = Statistics.fit(features, features.patients(0, "train"))
    # All training patients are female: neither level varies, and neither is read.
    assert statistics.clinical_features == ("age",)
    assert statistics.clinical.dropped == ("sex=female", "sex=male", "ki67")
    sample = PatientDataset(features, statistics, ["t"])[0]
    assert (sample["clinical"].tolist(), sample["clinical_observed"].tolist()) == ([0], [False])
    assert sample["present"].tolist() == [False]


def test_only_the_variables_that_a_task_names_are_read(world, built) -> None:  # type: ignore[no-untyped-def]
    world.patient("a")
    world.value("a", "age", 50.0)
    world.value("a", "ki67", 5.0)
    features = built({"clinical": {"variables": ["ki67"]}})
    assert features.clinical().columns.tolist() == ["ki67"]
    omitted = {(r.patient_id, r.reason): r.n for r in features.left_out().itertuples()}
    assert omitted == {("a", "variable_not_declared"): 1}  # the cohort chose it, the study no longer reads it


def two_sources(study: Study, **second: object) -> Study:
    value = study.model_dump(mode="json", exclude_unset=True)
    other = value["sources"]["clinical"] | {"variables": second}
    return Study.model_validate(value | {"sources": value["sources"] | {"clinic2": other}})


def test_levels_that_two_sources_declare_are_united_in_their_order(study_of) -> None:  # type: ignore[no-untyped-def]
    study = two_sources(study_of({"clinical": {}}), sex={"type": "category", "levels": ["male", "other"]})
    found = clinical_variables(study, ClinicalModality())
    assert list(found) == ["age", "sex", "ki67"]
    assert found["sex"].levels == ("female", "male", "other")  # type: ignore[union-attr]
    assert list(clinical_variables(study, ClinicalModality(sources=("clinic2",)))) == ["sex"]


def test_a_variable_that_is_a_number_here_and_a_category_there_is_refused(study_of) -> None:  # type: ignore[no-untyped-def]
    study = two_sources(study_of({"clinical": {}}), age={"type": "category", "levels": ["old", "young"]})
    with pytest.raises(StudyError, match=r"sources.clinic2.variables.age is a category"):
        clinical_variables(study, ClinicalModality())
