import numpy as np
import pandas as pd
import pytest

from clinical_mm.cohort.build import build_cohort, load_cohort
from clinical_mm.cohort.leakage import check_owners, check_splits, check_times
from clinical_mm.cohort.linkage import load_links
from clinical_mm.cohort.twins import check_images, check_texts, text_hash
from clinical_mm.study.tasks import HoldoutSplit, KFoldSplit

INDEX = "2020-03-10 12:00"
BEFORE = "2020-03-01 08:00"


@pytest.fixture
def made(hospital):
    for i in range(12):
        hospital.outcome("d1", f"p{i:02}", "yes" if i % 2 else "no", INDEX)
        hospital.note("d1", f"p{i:02}", f"n{i:02}", BEFORE)
        hospital.value("d1", f"p{i:02}", "crp", 1.0 + i, BEFORE)
        hospital.series("d1", f"p{i:02}", f"1.{i}", BEFORE)
    hospital.note("d1", "p00", "late", "2020-03-10 12:00:01")
    hospital.note("d1", "p01", "that-day", "2020-03-10")
    hospital.with_task(modalities={"text": {}, "clinical": {}, "image": {}})
    hospital.write()
    assert not build_cohort(hospital.study, hospital.store, "relapse").failed_checks
    return load_cohort(hospital.store, "relapse")


def times(hospital, made, items):
    return check_times(hospital.study.tasks["relapse"], hospital.store, made.cohort, items)


@pytest.mark.parametrize("note", ["late", "that-day"])
def test_a_used_item_after_the_index_time_fails_the_audit(hospital, made, note):
    assert times(hospital, made, made.items).is_passed
    forced = made.items.assign(is_used=made.items["is_used"] | (made.items["item_id"] == note))
    check = times(hospital, made, forced)
    assert not check.is_passed
    assert check.is_blocking
    assert check.sentence == "1 used items became available after the index time"


def test_the_audit_reads_times_from_ingest_and_not_from_the_items(hospital, made):
    forced = made.items.assign(is_used=True, available_time=pd.Timestamp(BEFORE))
    assert times(hospital, made, forced).sentence.startswith("2 used items")


def test_what_the_study_allows_by_name_is_named(hospital, made):
    window = {"until_days": 1, "allow_after_index": True, "reason": "typed up the day after"}
    hospital.with_task(modalities={"text": {"window": window}, "clinical": {}, "image": {}})
    check = times(hospital, made, made.items.assign(is_used=True))
    assert check.is_passed
    assert check.sentence.endswith("allowed by name: text up to 1 days after it")


def test_an_item_of_another_or_of_no_patient_fails_the_audit(hospital, made):
    task, links = hospital.study.tasks["relapse"], load_links(hospital.store)
    assert check_owners(task, hospital.store, links, made.items).is_passed
    swapped = made.items.replace({"patient_id": {"p00": "p01", "p01": "p00"}})
    check = check_owners(task, hospital.store, links, swapped)
    assert not check.is_passed
    assert check.sentence == "8 items belong to another patient"
    links.loc[links["source_patient_id"] == "p02", ["patient_id", "status"]] = None, "ambiguous"
    check = check_owners(task, hospital.store, links, made.items)
    assert check.sentence == "3 items belong to no linked patient"


def assigned(*rows):
    return pd.DataFrame(rows, columns=["patient_id", "fold", "split"])


def labelled(*patients):
    return pd.DataFrame({"patient_id": patients, "label": 1.0})


HOLDOUT, FOLDS = HoldoutSplit(), KFoldSplit(method="kfold", folds=2)


@pytest.mark.parametrize(
    ("splits", "split", "sentence"),
    [
        (assigned(("a", 0, "train"), ("b", 0, "test")), HOLDOUT, None),
        (
            assigned(("a", 0, "train"), ("a", 0, "test"), ("b", 0, "test")),
            HOLDOUT,
            "1 patients are in two splits of a",
        ),
        (assigned(("a", 0, "train")), HOLDOUT, "1 patients are labelled and in no split"),
        (assigned(("a", 0, "test"), ("a", 1, "train"), ("b", 0, "train"), ("b", 1, "test")), FOLDS, None),
        (
            assigned(("a", 0, "test"), ("a", 1, "test"), ("b", 0, "train"), ("b", 1, "test")),
            FOLDS,
            "test of two folds",
        ),
        (
            assigned(("a", 0, "test"), ("a", 1, "train"), ("b", 0, "train"), ("b", 1, "train")),
            FOLDS,
            "of no fold",
        ),
        (assigned(("a", 0, "test"), ("a", 1, "train"), ("b", 1, "test")), FOLDS, "not in every fold"),
    ],
)
def test_a_patient_in_two_splits_fails_the_audit(splits, split, sentence):
    check = check_splits(labelled("a", "b"), splits, split, None)
    assert check.is_passed == (sentence is None)
    assert sentence is None or sentence in check.sentence


def test_a_patient_that_moved_since_the_last_time_fails_the_audit():
    splits = assigned(("a", 0, "train"), ("b", 0, "test"))
    recorded = assigned(("a", 0, "test"), ("gone", 0, "test"))
    check = check_splits(labelled("a", "b"), splits, HOLDOUT, recorded)
    assert check.sentence == "1 assignments changed since the last time"


def test_the_same_words_are_the_same_text_whatever_their_case_and_spacing():
    assert text_hash("No acute\n  findings. ") == text_hash("no ACUTE findings.")
    assert text_hash("STRASSE") == text_hash("straße")
    assert text_hash("no acute findings") != text_hash("no acute finding s")


def split_as(made, **splits):
    return pd.DataFrame([(p, 0, s) for p, s in splits.items()], columns=["patient_id", "fold", "split"])


def test_the_same_text_in_two_splits_is_a_warning(hospital, made):
    hospital.note("d2", "p02", "a", BEFORE, text="Same  Words")
    hospital.note("d2", "p03", "b", BEFORE, text="same words\n")
    hospital.write()
    build_cohort(hospital.study, hospital.store, "relapse")
    items = load_cohort(hospital.store, "relapse").items
    check = check_texts(hospital.store, items, split_as(made, p02="train", p03="test"))
    assert (check.is_passed, check.is_blocking) == (False, False)
    assert check.sentence == "1 note texts are the same in patients of two splits (2 patients)"
    assert check_texts(hospital.store, items, split_as(made, p02="train", p03="train")).is_passed
    in_folds = pd.DataFrame(
        [("p02", 0, "test"), ("p02", 1, "train"), ("p03", 0, "train"), ("p03", 1, "test")],
        columns=["patient_id", "fold", "split"],
    )
    assert not check_texts(hospital.store, items, in_folds).is_passed


def write_volumes(hospital, made, arrays):
    folder = hospital.store.volumes
    folder.mkdir(exist_ok=True)
    rows = made.items[made.items["modality"] == "image"].sort_values("patient_id")
    from clinical_mm.store import content_hash

    for uid, array in zip(rows["item_id"].str.removesuffix("#0"), arrays, strict=False):
        np.save(folder / f"{content_hash(uid)}.npy", array)


def test_the_same_voxels_in_two_splits_are_a_warning_and_one_equal_slice_is_not(hospital, made):
    volume = np.arange(48, dtype=np.int16).reshape(3, 4, 4)
    other = volume.copy()
    other[0, 0, 0] = 99  # the slice in the middle is the same
    write_volumes(hospital, made, [volume, volume.copy(), other])
    found = check_images(hospital.store, made.items, split_as(made, p00="train", p01="test", p02="test"))
    assert (found.is_passed, found.is_blocking) == (False, False)
    assert found.sentence == "1 images are the same in patients of two splits (2 patients)"
    assert check_images(hospital.store, made.items, split_as(made, p00="train", p02="test")).is_passed
    missing = check_images(hospital.store, made.items, split_as(made, p00="train", p05="test"))
    assert missing.is_passed
    assert missing.sentence.endswith("1 volumes are not in the store and were not compared")
