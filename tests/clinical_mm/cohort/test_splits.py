import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinical_mm.cohort.apportion import apportion
from clinical_mm.cohort.splits import assign_splits
from clinical_mm.errors import CohortError
from clinical_mm.study.tasks import HoldoutSplit, KFoldSplit

PATTERNS = ["text", "image", "text+image", "text+image+genomics"]


def cohort(labels, patterns=None, duration=float("nan"), start=0) -> pd.DataFrame:
    n = len(labels)
    return pd.DataFrame(
        {
            "patient_id": [f"p{start + i:05}" for i in range(n)],
            "label": np.array(labels, dtype=float),
            "duration": duration,
            "modality_pattern": patterns if patterns is not None else ["text"] * n,
        }
    )


def random_cohort(n, seed, start=0, positive=0.3):
    random = np.random.default_rng(seed)
    patterns = random.choice(PATTERNS, n, p=[0.5, 0.3, 0.15, 0.05])
    return cohort((random.random(n) < positive).astype(int), patterns, start=start)


def test_the_shares_hold_within_every_label_and_pattern():
    table = random_cohort(2000, seed=1)
    splits = assign_splits(table, HoldoutSplit(test=0.25, validation=0.15), 7, None)
    merged = splits.merge(table, on="patient_id")
    for _, stratum in merged.groupby(["label", "modality_pattern"]):
        shares = stratum["split"].value_counts() / len(stratum)
        tolerance = 1.5 / len(stratum) + 1e-9
        assert shares.get("test", 0) == pytest.approx(0.25, abs=tolerance)
        assert shares.get("validation", 0) == pytest.approx(0.15, abs=tolerance)
    assert (splits["fold"] == 0).all()
    counts = splits["split"].value_counts()
    assert counts["test"] == pytest.approx(500, abs=1)
    assert counts["validation"] == pytest.approx(300, abs=1)


def test_patients_without_a_label_are_in_no_split():
    table = cohort([0, 1] * 5 + [float("nan")] * 3)
    splits = assign_splits(table, HoldoutSplit(), 7, None)
    assert sorted(splits["patient_id"]) == sorted(table["patient_id"][:10])


def test_the_split_depends_on_the_seed_and_on_nothing_else():
    table = random_cohort(300, seed=2)
    first = assign_splits(table, HoldoutSplit(), 7, None)
    shuffled = table.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(first, assign_splits(shuffled, HoldoutSplit(), 7, None))
    assert not first.equals(assign_splits(table, HoldoutSplit(), 8, None))


def test_kfold_tests_every_patient_once_and_carves_validation_out_of_the_others():
    table = random_cohort(500, seed=3)
    splits = assign_splits(table, KFoldSplit(method="kfold", folds=5, validation=0.2), 7, None)
    assert splits.groupby(["patient_id", "fold"]).size().eq(1).all()
    assert splits["fold"].nunique() == 5
    tests = splits[splits["split"] == "test"]
    assert tests["patient_id"].is_unique
    assert len(tests) == 500
    for _, fold in splits.groupby("fold"):
        counts = fold["split"].value_counts()
        assert counts["test"] == pytest.approx(100, abs=1)
        assert counts["validation"] == pytest.approx(80, abs=1)
        events = fold.merge(table, on="patient_id").groupby("split")["label"].mean()
        assert events.max() - events.min() < 0.02


def test_small_labels_do_not_all_fall_into_the_first_folds():
    labels = [label for label in range(6) for _ in range(7)]
    splits = assign_splits(cohort(labels), KFoldSplit(method="kfold", folds=5), 7, None)
    sizes = splits[splits["split"] == "test"].groupby("fold").size()
    assert sizes.sum() == 42
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("n", [3, 4, 5, 7])
def test_every_split_of_a_small_cohort_holds_every_label(n):
    table = cohort([0] * 40 + [1] * n)
    splits = assign_splits(table, HoldoutSplit(test=0.1, validation=0.1), 7, None)
    events = splits.merge(table, on="patient_id").groupby("split")["label"].sum()
    assert (events[["train", "validation", "test"]] >= 1).all()


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_every_fold_of_a_small_cohort_holds_every_label(folds):
    n = max(folds, 4) if folds == 2 else folds
    table = cohort([0] * 31 + [1] * n)
    splits = assign_splits(table, KFoldSplit(method="kfold", folds=folds), 7, None)
    events = splits.merge(table, on="patient_id").groupby(["fold", "split"])["label"].sum()
    assert len(events) == folds * 3
    assert (events >= 1).all()


@pytest.mark.parametrize(
    ("labels", "split", "message"),
    [
        ([0] * 10 + [1] * 2, HoldoutSplit(), "2 patients have 'relapsed' and the split needs 3"),
        ([0] * 10 + [1] * 4, KFoldSplit(method="kfold"), "4 patients have 'relapsed' and the split needs 5"),
        ([0] * 10 + [1] * 3, KFoldSplit(method="kfold", folds=2), "the split needs 4"),
        ([0] * 10, HoldoutSplit(), "0 patients have 'relapsed'"),
        ([], HoldoutSplit(), "no patient of the cohort has a known outcome"),
    ],
)
def test_too_few_patients_of_a_label_are_an_error_that_says_how_many_are_needed(labels, split, message):
    with pytest.raises(CohortError, match=message):
        assign_splits(cohort(labels), split, 7, None, {0: "well", 1: "relapsed"})


def test_survival_needs_events_and_not_censored_patients():
    table = cohort([1] * 12, duration=3.0)
    assert len(assign_splits(table, HoldoutSplit(), 7, None)) == 12
    with pytest.raises(CohortError, match="0 patients have 'label 1'"):
        assign_splits(cohort([0] * 12, duration=3.0), HoldoutSplit(), 7, None)


def test_shares_that_leave_nothing_to_learn_from_are_an_error():
    with pytest.raises(CohortError, match="leave no patient to learn from"):
        assign_splits(cohort([0, 1] * 9), HoldoutSplit(test=0.7, validation=0.4), 7, None)


def test_a_record_that_leaves_the_test_without_a_label_is_an_error_not_a_move():
    table = cohort([0] * 12 + [1] * 12)
    splits = assign_splits(table, HoldoutSplit(), 7, None)
    tested = set(splits.loc[splits["split"] == "test", "patient_id"])
    corrected = table.assign(label=table["label"].where(~table["patient_id"].isin(tested), 0))
    with pytest.raises(CohortError, match="leaves a part without any patient of 'label 1'"):
        assign_splits(corrected, HoldoutSplit(), 7, splits)


def holdout_or_folds():
    holdout = st.builds(
        HoldoutSplit,
        test=st.sampled_from([0.1, 0.2, 0.25, 0.4]),
        validation=st.sampled_from([0.1, 0.15, 0.3]),
    )
    folds = st.builds(
        KFoldSplit,
        method=st.just("kfold"),
        folds=st.integers(2, 6),
        validation=st.sampled_from([0.1, 0.15, 0.3]),
    )
    return holdout | folds


@settings(max_examples=120, deadline=None)
@given(
    split=holdout_or_folds(),
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=4),
    n_classes=st.integers(2, 4),
    seed=st.integers(0, 1000),
)
def test_patients_never_move_as_patients_are_added_and_the_shares_hold(split, sizes, n_classes, seed):
    random = np.random.default_rng(seed)
    classes = list(range(n_classes)) * 6  # enough of each for any of these splits
    table = cohort(classes, random.choice(PATTERNS, len(classes)))
    splits = assign_splits(table, split, seed, None)
    for n in sizes:
        labels = random.integers(0, n_classes, n)
        more = cohort(labels, random.choice(PATTERNS, n), start=len(table))
        table = pd.concat([table, more], ignore_index=True)
        before, splits = splits, assign_splits(table, split, seed, splits)
        kept = before.merge(splits, on=["patient_id", "fold"], suffixes=("_before", ""))
        assert len(kept) == len(before)
        assert (kept["split"] == kept["split_before"]).all()
    n_folds = split.folds if split.method == "kfold" else 1
    assert not splits.duplicated(["patient_id", "fold"]).any()
    assert len(splits) == len(table) * n_folds
    tests = splits[splits["split"] == "test"]
    assert tests["patient_id"].is_unique
    held = splits.merge(table, on="patient_id").groupby(["fold", "split", "label"]).size()
    assert len(held) == n_folds * 3 * n_classes  # every label in every part
    if split.method == "kfold":
        assert len(tests) == len(table)
        sizes_of_folds = tests.groupby("fold").size()
        assert (sizes_of_folds - len(table) / split.folds).abs().max() <= 1 + n_classes
    else:
        counts = splits["split"].value_counts()
        for name, share in (("test", split.test), ("validation", split.validation)):
            # Every label may be rounded by one patient, and holds at least one however small the share.
            assert abs(counts[name] - share * len(table)) <= 1 + n_classes


@settings(max_examples=200, deadline=None)
@given(
    n=st.integers(0, 200),
    already=st.lists(st.integers(0, 50), min_size=3, max_size=3),
    weights=st.lists(st.integers(1, 9), min_size=3, max_size=3),
)
def test_apportionment_deals_out_all_and_nobody_twice(n, already, weights):
    shares = np.array(weights) / sum(weights)
    quotas, carry = apportion(n, shares, np.array(already), np.zeros(3), 1)
    assert quotas.sum() == n
    assert (quotas >= 0).all()
    assert (np.abs(carry) <= 1).all()


def test_apportionment_meets_shares_that_are_whole():
    quotas, _ = apportion(20, np.array([0.6, 0.15, 0.25]), np.zeros(3, int), np.array([0.0, 0.9, 0.0]), 0)
    assert quotas.tolist() == [12, 3, 5]
