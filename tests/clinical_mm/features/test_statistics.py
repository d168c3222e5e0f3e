"""Statistics by hand and by scikit-learn, of training patients alone."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from clinical_mm.errors import ClinicalMMError, CohortError, ModelError
from clinical_mm.features.statistics import FeatureStatistics, Statistics

NAN = float("nan")


def frame(rows: dict[str, list[float]], columns: str) -> pd.DataFrame:
    index = pd.Index(list(rows), name="patient_id", dtype=object)
    return pd.DataFrame(np.array(list(rows.values()), dtype=np.float32), index=index, columns=columns.split())


def test_mean_and_scale_are_those_of_the_values_that_are_there() -> None:
    table = frame({"a": [1, NAN], "b": [3, 10], "c": [NAN, 20], "d": [5, 60]}, "x y")
    found = FeatureStatistics.fit(table, ["a", "b", "c", "d"])
    assert found.features == ("x", "y")
    assert found.mean == pytest.approx((3, 30))
    # Of 1, 3, 5: (4 + 0 + 4) / 3. Of 10, 20, 60: (400 + 100 + 900) / 3.
    assert found.scale == pytest.approx((np.sqrt(8 / 3), np.sqrt(1400 / 3)))


def test_statistics_are_those_of_scikit_learn() -> None:
    values = np.random.default_rng(0).normal(50, 9, (40, 30)).astype(np.float32)
    values[np.random.default_rng(1).random(values.shape) < 0.2] = NAN
    ids = [f"p{i}" for i in range(40)]
    table = frame(dict(zip(ids, values.tolist(), strict=True)), " ".join(f"g{i}" for i in range(30)))
    train, test = ids[:25], ids[25:]
    found = FeatureStatistics.fit(table, train)
    theirs = StandardScaler().fit(values[:25].astype(np.float64))
    np.testing.assert_allclose(found.mean, theirs.mean_)
    np.testing.assert_allclose(found.scale, theirs.scale_)
    standardised, observed = found.standardise(table, test)
    expected = theirs.transform(values[25:].astype(np.float64))
    np.testing.assert_array_equal(observed, np.isfinite(values[25:]))
    np.testing.assert_allclose(standardised, np.nan_to_num(expected), rtol=1e-5, atol=1e-6)


_cells = st.one_of(st.just(NAN), st.floats(-1e6, 1e6, width=32))


@settings(deadline=None)
@given(st.lists(_cells, min_size=6, max_size=6), st.integers(1, 3) | st.none())
def test_no_value_of_another_patient_changes_the_statistics(values: list[float], top: int | None) -> None:
    rows = {"a": [1, NAN, 0], "b": [2, 5, 0], "c": [9, 7, NAN]}
    train = FeatureStatistics.fit(frame(rows, "x y z"), list(rows), top_variance=top)
    others = {"v": values[:3], "t": values[3:]}
    table = frame({"v": others["v"]} | rows | others, "x y z")
    found = FeatureStatistics.fit(table, list(rows), top_variance=top)
    assert found == train


def test_the_order_of_the_training_patients_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    table = frame({f"p{i}": rng.normal(size=3).tolist() for i in range(20)}, "x y z")
    ids = list(table.index)
    assert FeatureStatistics.fit(table, ids) == FeatureStatistics.fit(table, ids[::-1])


def test_a_feature_that_training_patients_lack_or_that_does_not_vary_is_dropped_and_named() -> None:
    table = frame(
        {"a": [1, NAN, 4, 0.1], "b": [2, NAN, 4, 0.1], "c": [3, NAN, NAN, 0.1], "test": [1, 5, 9, 0.7]},
        "varies unmeasured constant tenth",
    )
    found = FeatureStatistics.fit(table, ["a", "b", "c"])
    assert found.features == ("varies",)
    assert found.dropped == ("unmeasured", "constant", "tenth")
    standardised, observed = found.standardise(table, ["test"])
    assert standardised.shape == observed.shape == (1, 1)


def test_a_missing_value_is_not_the_mean_which_is_also_zero() -> None:
    table = frame({"a": [0], "b": [4], "at_mean": [2], "missing": [NAN]}, "x")
    found = FeatureStatistics.fit(table, ["a", "b"])
    values, observed = found.standardise(table, ["at_mean", "missing", "not_in_the_table"])
    assert values.ravel().tolist() == [0, 0, 0]
    assert observed.ravel().tolist() == [True, False, False]


def test_levels_of_a_category_are_used_as_they_are_and_unseen_ones_are_dropped() -> None:
    table = frame({"a": [1, 0, 0, 3], "b": [0, 1, 0, 5], "test": [0, 0, 1, 4]}, "c=x c=y c=z age")
    found = FeatureStatistics.fit(table, ["a", "b"], frozenset({"c=x", "c=y", "c=z"}))
    assert found.features == ("c=x", "c=y", "age")
    assert (found.mean, found.scale) == ((0, 0, 4), (1, 1, 1))
    assert found.dropped == ("c=z",)
    values, observed = found.standardise(table, ["test", "a"])
    assert values.tolist() == [[0, 0, 0], [1, 0, -1]]
    assert observed.all()  # neither x nor y: known, and said


def test_the_features_that_vary_most_are_kept_in_their_order() -> None:
    table = frame({"a": [0, 0, 0, 7], "b": [1, 10, 5, 7], "test": [900, 0, 0, 0]}, "x y z constant")
    found = FeatureStatistics.fit(table, ["a", "b"], top_variance=2)
    assert found.features == ("y", "z")
    assert found.dropped == ("constant",)
    assert FeatureStatistics.fit(table, ["a", "b"], top_variance=9).features == ("x", "y", "z")


def test_wide_tables_are_read_in_runs_without_a_seam(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from clinical_mm.features import statistics

    rng = np.random.default_rng(4)
    table = frame({f"p{i}": rng.normal(size=11).tolist() for i in range(5)}, " ".join("abcdefghijk"))
    whole = FeatureStatistics.fit(table, list(table.index))
    monkeypatch.setattr(statistics, "_CHUNK_FEATURES", 3)
    assert FeatureStatistics.fit(table, list(table.index)) == whole


def test_features_are_found_by_name_whatever_their_place() -> None:
    table = frame({"a": [1, 10, 100], "b": [3, 30, 300]}, "x y z")
    found = FeatureStatistics.fit(table, ["a", "b"])
    moved = table[["z", "x"]]  # a later snapshot without y
    values, observed = found.standardise(moved, ["a"])
    np.testing.assert_allclose(values, [[-1, 0, -1]])
    assert observed.tolist() == [[True, False, True]]


@settings(deadline=None)
@given(st.lists(st.floats(-1e30, 1e30).filter(lambda v: v != 0), min_size=1, max_size=5))
def test_statistics_come_back_from_json_bit_by_bit(numbers: list[float]) -> None:
    names = tuple(f"f{i}" for i in range(len(numbers)))
    table = FeatureStatistics(names, tuple(numbers), tuple(map(abs, numbers)), ("gone",))
    kept = Statistics(genomics=table)
    assert Statistics.from_json(kept.to_json()) == kept


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"genomics": {"features": ["a"], "mean": [0], "scale": []}, "clinical": {}}',
        '{"genomics": {"features": ["a"], "mean": [0], "scale": [0]}, "clinical": {}}',
        '{"genomics": {"features": ["a"], "mean": [0], "scale": [NaN]}, "clinical": {}}',
        '{"genomics": {"features": ["a"], "mean": [0], "scale": [Infinity]}, "clinical": {}}',
        '{"genomics": {"features": ["a"], "mean": [NaN], "scale": [1]}, "clinical": {}}',
        '{"genomics": {"features": ["a"], "mean": [0], "scale": ["1"]}, "clinical": {}}',
        '{"genomics": {"features": ["a"], "mean": [null], "scale": [1]}, "clinical": {}}',
        '{"genomics": {"colour": ["a"]}, "clinical": {}}',
    ],
)
def test_damaged_statistics_are_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(ModelError, match="damaged"):
        Statistics.from_json(text)


def test_statistics_of_a_task_are_those_of_its_training_patients(world, built) -> None:  # type: ignore[no-untyped-def]
    for i, split in enumerate(["train", "train", "train", "validation", "test"]):
        patient = world.patient(f"p{i}", split)
        world.sample(
            patient, "rna", TP53=[1.0, 3.0, 8.0, 100.0, -100.0][i], **({"ONLY": 1.0 * i} if i > 2 else {})
        )
        world.value(patient, "age", [40.0, 50.0, 60.0, 999.0, -999.0][i])
    features = built({"genomics": {}, "clinical": {}})
    found = Statistics.fit(features, features.patients(0, "train"))
    assert (found.genomics_features, found.clinical_features) == (("rna:TP53",), ("age",))
    assert found.genomics.dropped == ("rna:ONLY",)
    np.testing.assert_allclose(found.genomics_mean, 4)
    np.testing.assert_allclose(found.genomics_scale, np.sqrt((9 + 1 + 16) / 3))
    np.testing.assert_allclose(found.clinical_mean, 50)
    np.testing.assert_allclose(found.clinical_scale, np.sqrt(200 / 3))


def test_a_table_from_which_nothing_can_be_learned_is_refused(world, built) -> None:  # type: ignore[no-untyped-def]
    for i in range(3):
        world.sample(world.patient(f"p{i}"), "rna", TP53=1.0)
    features = built({"genomics": {}})
    with pytest.raises(
        CohortError, match="no genomics feature varies among the 3 training patients"
    ) as caught:
        Statistics.fit(features, features.patients(0, "train"))
    assert isinstance(caught.value, ClinicalMMError)
