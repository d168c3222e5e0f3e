import json

import numpy as np
import pandas as pd
import pytest

from clinical_mm import tables
from clinical_mm.cohort.build import build_cohort, load_cohort
from clinical_mm.cohort.linkage import load_links
from clinical_mm.errors import CohortError, StoreError, StudyError
from clinical_mm.store import current, current_about
from clinical_mm.study.root import Study

INDEX = "2020-03-10 12:00"
BEFORE = "2020-03-01 08:00"
AFTER = "2020-04-01 08:00"
SURVIVAL = {"kind": "survival", "duration": "months", "event": "died"}
GRADE = {"kind": "multiclass", "variable": "grade", "classes": ["g1", "g2", "g3"]}


def patients(hospital, n, delivery="d1", start=0):
    """Every second one relapsed, and each has a note from before the index time."""
    for i in range(start, start + n):
        hospital.outcome(delivery, f"p{i:03}", "yes" if i % 2 else "no", INDEX)
        hospital.note(delivery, f"p{i:03}", f"n{i:03}", BEFORE)


def build(hospital):
    hospital.write()
    summary = build_cohort(hospital.study, hospital.store, "relapse")
    assert not summary.failed_checks
    return summary, load_cohort(hospital.store, "relapse")


def step(made, name):
    row = made.flow.set_index("name").loc[name]
    return int(row["n_in"]), int(row["n_out"]), row["reason"]


def test_a_cohort_has_a_row_a_patient_with_what_each_modality_has(hospital):
    patients(hospital, 12)
    hospital.note("d1", "p000", "second", BEFORE)
    hospital.series("d1", "p000", "1.2.3", BEFORE)
    hospital.sample("d1", "p001", "s1")
    hospital.value("d1", "p001", "crp", 4.5, BEFORE)
    hospital.value("d1", "p001", "sex", "f", None)
    hospital.with_task(modalities={"text": {}, "image": {}, "genomics": {}, "clinical": {}})
    summary, made = build(hospital)
    rows = made.cohort.set_index("patient_id")
    counts = ["n_text", "n_image", "n_genomics", "n_clinical"]
    assert rows.loc["p000", counts].tolist() == [2, 1, 0, 0]
    assert rows.loc["p001", counts].tolist() == [1, 0, 1, 2]
    assert rows.loc["p000", "modality_pattern"] == "text+image"
    assert rows.loc["p001", "modality_pattern"] == "text+genomics+clinical"
    assert rows["label"].tolist() == [0.0, 1.0] * 6
    assert (rows["index_time"] == pd.Timestamp(INDEX)).all()
    ids = set(made.items["item_id"])
    assert {"1.2.3#0", "s1", "crp@d1/file#row 1", "sex@d1/file#row 2", "n000"} <= ids
    assert set(made.splits["split"]) == {"train", "validation", "test"}
    assert [c.name for c in summary.checks if c.is_blocking] == [
        "no patient in two splits",
        "nothing later than the index time",
        "every item belongs to a linked patient",
    ]
    assert list(summary.tables) == [
        "flow",
        "modality patterns by split",
        "label by split",
        "linkage by source and rule",
    ]


def test_the_flow_leads_from_delivered_records_to_patients_to_be_split(hospital):
    patients(hospital, 10)
    hospital.outcome("d1", "no-index", "yes", None)
    hospital.outcome("d1", "outcome-alone", "yes", INDEX)
    hospital.outcome("d1", "not-yet", None, INDEX)
    hospital.note("d1", "not-yet", "x1", BEFORE)
    hospital.note("d1", "no-index", "x2", BEFORE)
    hospital.note("d1", "stranger", "x3", BEFORE)
    hospital.note("d1", "p001", "x4", AFTER)
    hospital.note("d1", "p002", "x5", BEFORE, note_type="draft")
    hospital.note("d2", "p001", "n001", BEFORE, text="amended")
    hospital.with_task(modalities={"text": {"note_types": ["letter"], "at_most": 1}})
    for rows in hospital._rows.values():
        for row in rows:
            if "note_id" in row:
                row.setdefault("note_type", "letter")
    hospital.note("d2", "p003", "x6", "2020-03-02 08:00", note_type="letter")
    _, made = build(hospital)
    assert step(made, "patients with an outcome record of the task")[:2] == (13, 13)
    assert step(made, "patients with an index time")[:2] == (13, 12)
    assert step(made, "text: delivered records that ingest accepted")[:2] == (17, 17)
    assert step(made, "text: rows that stand, over all deliveries") == (17, 16, "superseded 1")
    assert step(made, "text: linked to a patient") == (16, 15, "unlinked 1")
    assert step(made, "text: of a patient with a usable outcome")[:2] == (15, 14)
    assert step(made, "text: fit for the task") == (14, 13, "wrong_note_type 1")
    assert step(made, "text: within the window") == (13, 12, "after_index 1")
    assert step(made, "text: chosen") == (12, 11, "over_limit 1")
    assert step(made, "patients with a modality") == (12, 11, "an outcome alone")
    assert step(made, "patients with a known label, to be split")[:2] == (11, 10)
    assert set(made.cohort.loc[made.cohort["label"].isna(), "patient_id"]) == {"not-yet"}
    assert "not-yet" not in set(made.splits["patient_id"])
    assert made.flow["step"].tolist() == list(range(len(made.flow)))


def test_a_note_after_the_index_time_is_in_no_patients_used_items(hospital):
    patients(hospital, 8)
    hospital.note("d1", "p000", "late", AFTER)
    hospital.note("d1", "p000", "that-day", "2020-03-10")
    _, made = build(hospital)
    late = made.items.set_index("item_id").loc[["late", "that-day"]]
    assert late["reason_code"].tolist() == ["after_index", "after_index"]
    assert not late["is_used"].any()


def test_contradicting_index_times_or_outcomes_leave_the_patient_out(hospital):
    patients(hospital, 8)
    hospital.with_study({"linkage": {"rules": [{"rule": "pattern", "pattern": r"^(\w+)"}]}})
    for patient, second in (
        ("a", ("yes", AFTER)),
        ("b", ("no", INDEX)),
        ("c", ("yes", INDEX)),
        ("d", (None, INDEX)),
    ):
        hospital.outcome("d1", f"{patient}/1", "yes", INDEX)
        hospital.outcome("d1", f"{patient}/2", *second)
        hospital.note("d1", patient, f"of-{patient}", BEFORE)
    _, made = build(hospital)
    assert {"a", "b", "c", "d"} & set(made.cohort["patient_id"]) == {"c", "d"}
    assert step(made, "patients without contradicting index times")[:2] == (12, 11)
    assert step(made, "patients without contradicting outcomes")[:2] == (11, 10)


def test_survival_needs_duration_and_event_and_refuses_negative_times(hospital):
    for i in range(9):
        for variable, value in (("months", 10.0 + i), ("died", float(i % 3 == 0))):
            hospital.outcome("d1", f"p{i}", value, INDEX, variable=variable)
        hospital.note("d1", f"p{i}", f"n{i}", BEFORE)
    hospital.outcome("d1", "half", 5.0, INDEX, variable="months")
    hospital.outcome("d1", "half", None, INDEX, variable="died")
    hospital.outcome("d1", "negative", -1.0, INDEX, variable="months")
    hospital.outcome("d1", "negative", 1.0, INDEX, variable="died")
    for patient in ("half", "negative"):
        hospital.note("d1", patient, patient, BEFORE)
    hospital.with_task(outcome=SURVIVAL)
    _, made = build(hospital)
    rows = made.cohort.set_index("patient_id")
    assert rows.loc[[f"p{i}" for i in range(9)], "label"].tolist() == [1, 0, 0] * 3
    assert rows.loc["p4", "duration"] == 14.0
    assert rows.loc["half", ["label", "duration"]].isna().all()
    assert "negative" not in rows.index
    assert step(made, "patients whose outcome can be") == (11, 10, "a negative duration")


def test_an_event_written_as_a_number_is_the_value_that_spells_it(hospital):
    for i in range(9):
        for variable, value in (("months", 1.0 + i), ("died", float(i >= 5))):
            hospital.outcome("d1", f"p{i}", value, INDEX, variable=variable)
        hospital.note("d1", f"p{i}", f"n{i}", BEFORE)
    hospital.with_task(outcome={**SURVIVAL, "event_value": "0"})  # as `censored` is coded in TCGA tables
    _, made = build(hospital)
    assert made.cohort["label"].tolist() == [1.0] * 5 + [0.0] * 4


def test_classes_are_numbered_as_the_task_lists_them_and_others_are_left_out(hospital):
    for i in range(12):
        hospital.outcome("d1", f"p{i:02}", ("g1", "g2", "g3")[i % 3], INDEX, variable="grade")
        hospital.note("d1", f"p{i:02}", f"n{i}", BEFORE)
    hospital.outcome("d1", "unclear", "gx", INDEX, variable="grade")
    hospital.note("d1", "unclear", "u", BEFORE)
    hospital.with_task(outcome={**GRADE, "classes": ["g3", "g1", "g2"]})
    _, made = build(hospital)
    assert made.cohort["label"].tolist() == [1.0, 2.0, 0.0] * 4
    assert step(made, "patients whose outcome can be") == (13, 12, "a class that the task does not name")


def test_patients_with_too_few_modalities_are_left_out_and_counted(hospital):
    patients(hospital, 10)
    for i in range(8):
        hospital.sample("d1", f"p{i:03}", f"s{i}")
    hospital.with_task(modalities={"text": {}, "genomics": {}}, min_modalities=2)
    _, made = build(hospital)
    assert len(made.cohort) == 8
    assert step(made, "patients with 2 modalities or more")[:2] == (10, 8)
    assert step(made, "text: used by the cohort") == (10, 8, "the patient has too few modalities")
    assert set(made.items["patient_id"]) == set(made.cohort["patient_id"])


def test_series_are_refused_for_what_they_are_each_with_its_reason(hospital):
    patients(hospital, 8)
    hospital.series("d1", "p000", "1", BEFORE, description="Thorax axial", n_slices=40)
    hospital.series("d1", "p000", "2", BEFORE, description="Thorax axial", modality="MR")
    hospital.series("d1", "p000", "3", BEFORE, description="Scout")
    hospital.series("d1", "p000", "4", BEFORE)
    hospital.series("d1", "p000", "5", BEFORE, description="axial", n_slices=3)
    hospital.series("d1", "p000", "6", BEFORE, description="axial", is_volume=False)
    hospital.series("d1", "p000", "7", BEFORE, description="axial", n_slices=39)
    image = {"modality": ["CT"], "description": "(?i)axial", "min_slices": 10}
    hospital.with_task(modalities={"text": {}, "image": image})
    _, made = build(hospital)
    found = made.items[made.items["modality"] == "image"].set_index("item_id")["reason_code"]
    assert found.sort_index().to_dict() == {
        "1#0": "used",
        "2#0": "wrong_modality",
        "3#0": "wrong_description",
        "4#0": "wrong_description",
        "5#0": "too_few_slices",
        "6#0": "not_a_volume",
        "7#0": "over_limit",
    }


def test_a_stack_without_even_spacing_may_be_read_in_two_dimensions(hospital):
    patients(hospital, 8)
    hospital.series("d1", "p000", "6", BEFORE, is_volume=False)
    hospital.with_task(modalities={"image": {"spatial_dims": 2, "size": [64, 64]}, "text": {}})
    _, made = build(hospital)
    assert made.items.set_index("item_id").loc["6#0", "is_used"]


def test_a_clinical_row_without_a_value_gives_way_to_an_older_one_with_one(hospital):
    patients(hospital, 8)
    hospital.value("d1", "p000", "crp", 4.0, "2020-02-01 08:00")
    hospital.value("d1", "p000", "crp", None, "2020-02-02 08:00")
    hospital.value("d1", "p000", "sex", "f", None)
    hospital.with_task(modalities={"text": {}, "clinical": {"variables": ["crp"]}})
    _, made = build(hospital)
    reasons = made.items[made.items["modality"] == "clinical"].set_index("item_id")["reason_code"]
    assert reasons.to_dict() == {
        "crp@d1/file#row 1": "used",
        "crp@d1/file#row 2": "missing_value",
        "sex@d1/file#row 3": "wrong_variable",
    }


def test_a_task_without_index_time_reads_all_and_says_how_many_had_a_time(hospital):
    patients(hospital, 8)
    hospital.note("d1", "p000", "late", AFTER)
    hospital.note("d1", "p000", "timeless", None)
    hospital.with_task(index_time="none")
    summary, made = build(hospital)
    assert made.items["is_used"].all()
    assert made.cohort["index_time"].isna().all()
    assert summary.facts["used items with a time, read as timeless"] == 9


def without_outcomes(hospital, index_time):
    """Eight patients with an outcome; one whose outcome is open; one of whom the registry says nothing."""
    patients(hospital, 8)
    hospital.outcome("d1", "open", None, INDEX)
    hospital.note("d1", "open", "o1", BEFORE)
    hospital.note("d1", "unheard", "u1", BEFORE)
    hospital.note("d1", "unheard", "u2", BEFORE)
    hospital.with_task(index_time=index_time)
    settings = hospital.study.model_dump(exclude_unset=True)
    settings["linkage"] = {"patients": ["notes", "registry"], "rules": [{"rule": "exact"}]}
    hospital.study = Study.model_validate(settings).placed_in(hospital.directory)


def test_without_an_index_time_a_patient_without_an_outcome_record_is_there_to_be_scored(hospital):
    without_outcomes(hospital, "none")
    summary, made = build(hospital)
    rows = made.cohort.set_index("patient_id")
    assert len(rows) == 10
    assert rows.loc[["open", "unheard"], ["label", "duration", "index_time"]].isna().all(axis=None)
    assert rows.loc["unheard", "n_text"] == 2
    assert not {"open", "unheard"} & set(made.splits["patient_id"])
    assert made.items.loc[made.items["patient_id"] == "unheard", "is_used"].all()
    assert summary.facts["patients to be scored"] == 2
    assert step(made, "linked patients, with or without an outcome record of the task")[:2] == (10, 10)
    assert step(made, "text: of a patient to be labelled or scored")[:2] == (11, 11)
    assert step(made, "patients with a known label, to be split") == (
        *(10, 8),
        "in the cohort, to be scored: no outcome record 1, outcome not known 1",
    )


def test_with_an_index_time_a_patient_without_an_outcome_record_cannot_be_predicted(hospital):
    without_outcomes(hospital, "outcomes")
    _, made = build(hospital)
    assert set(made.cohort.loc[made.cohort["label"].isna(), "patient_id"]) == {"open"}
    assert step(made, "text: of a patient with a usable outcome") == (11, 9, "the patient is not among them")
    assert step(made, "patients with a known label, to be split") == (9, 8, "in the cohort, to be scored")


def test_a_record_of_another_variable_is_no_outcome_of_the_task(hospital):
    patients(hospital, 8)
    hospital.outcome("d1", "other", "g1", INDEX, variable="grade")
    hospital.note("d1", "other", "o1", BEFORE)
    hospital.with_task(index_time="none")
    _, made = build(hospital)
    assert made.cohort.set_index("patient_id").loc["other", ["label", "duration"]].isna().all()
    assert "no outcome record 1" in step(made, "patients with a known label, to be split")[2]


def test_a_linked_patient_of_whom_nothing_may_be_read_is_left_out_and_counted(hospital):
    patients(hospital, 8)
    hospital.outcome("d1", "alone", "yes", INDEX)
    hospital.with_task(index_time="none")
    _, made = build(hospital)
    assert "alone" not in set(made.cohort["patient_id"])
    assert step(made, "patients with a modality") == (9, 8, "nothing of them may be read")


def test_a_patient_whose_outcome_arrives_later_is_split_then(hospital):
    without_outcomes(hospital, "none")
    _, before = build(hospital)
    hospital.outcome("d2", "unheard", "yes", INDEX)
    _, after = build(hospital)
    assert after.cohort.set_index("patient_id").loc["unheard", "label"] == 1.0
    assert set(after.splits["patient_id"]) - set(before.splits["patient_id"]) == {"unheard"}
    both = before.splits.merge(after.splits, on=["patient_id", "fold"])
    assert (both["split_x"] == both["split_y"]).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"window": {"from_days": -5}}, "the window of text is relative to an index time"),
        ({"choose": "nearest"}, "text chooses the items nearest to an index time"),
    ],
)
def test_options_that_need_an_index_time_are_refused_without_one(hospital, text, message):
    patients(hospital, 8)
    hospital.with_task(index_time="none", modalities={"text": text})
    hospital.write()
    with pytest.raises(CohortError, match=f"task relapse: {message}"):
        build_cohort(hospital.study, hospital.store, "relapse")


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        ({"kind": "binary", "variable": "relapse", "positive": "Yes"}, "did you mean 'yes'"),
        ({"kind": "binary", "variable": "died", "positive": "yes"}, "it is a number"),
        ({**SURVIVAL, "duration": "relapse"}, "'relapse' is declared as a category"),
        ({**GRADE, "classes": ["g1", "g2", "g4"]}, "'grade' can never be 'g4'"),
    ],
)
def test_an_outcome_that_can_never_be_is_an_error_before_it_is_a_model(hospital, outcome, message):
    patients(hospital, 8)
    hospital.with_task(outcome=outcome)
    hospital.write()
    with pytest.raises(CohortError, match=message):
        build_cohort(hospital.study, hospital.store, "relapse")


def test_a_cohort_without_patients_says_at_which_step_they_were_lost(hospital):
    for i in range(4):
        hospital.outcome("d1", f"p{i}", "yes", None)
        hospital.note("d1", f"p{i}", f"n{i}", BEFORE)
    hospital.write()
    with pytest.raises(CohortError, match="with an index time: 4 to 0"):
        build_cohort(hospital.study, hospital.store, "relapse")


def test_outcomes_alone_make_no_cohort(hospital):
    for i in range(4):
        hospital.outcome("d1", f"p{i}", "yes", INDEX)
    hospital.write()
    with pytest.raises(CohortError, match="none of 4 patients with an outcome"):
        build_cohort(hospital.study, hospital.store, "relapse")


def test_too_few_patients_of_a_class_is_a_sentence_with_the_task_and_the_class(hospital):
    patients(hospital, 4)
    hospital.write()
    with pytest.raises(CohortError, match="task relapse: 2 patients have 'relapse other than yes'"):
        build_cohort(hospital.study, hospital.store, "relapse")


def test_an_unknown_task_is_an_error_with_those_that_there_are(hospital):
    with pytest.raises(StudyError, match="it has relapse"):
        build_cohort(hospital.study, hospital.store, "nothing")


def test_loading_before_building_names_the_stage(hospital):
    with pytest.raises(StoreError, match="clinical-mm cohort"):
        load_cohort(hospital.store, "relapse")


def test_building_again_changes_nothing_and_a_reading_option_needs_no_other_cohort(hospital):
    patients(hospital, 12)
    first, made = build(hospital)
    again = build_cohort(hospital.study, hospital.store, "relapse")
    assert (first.is_unchanged, again.is_unchanged) == (False, True)
    assert again.facts == first.facts
    assert again.checks == first.checks
    assert again.path == first.path
    for title, table in first.tables.items():
        pd.testing.assert_frame_equal(again.tables[title], table, check_dtype=False)
    hospital.with_task(modalities={"text": {"window_tokens": 64, "overlap_tokens": 8, "fine_tune": "frozen"}})
    assert build_cohort(hospital.study, hospital.store, "relapse").is_unchanged
    hospital.with_task(modalities={"text": {"at_most": 1}})
    assert not build_cohort(hospital.study, hospital.store, "relapse").is_unchanged
    assert load_cohort(hospital.store, "relapse").fingerprint != made.fingerprint


def test_the_same_inputs_give_the_same_cohort_in_another_store(new_hospital):
    made = []
    for name in ("a", "b"):
        hospital = new_hospital(name)
        patients(hospital, 30)
        made.append(build(hospital)[1])
    assert made[0].fingerprint == made[1].fingerprint
    for table in ("cohort", "items", "splits", "flow"):
        pd.testing.assert_frame_equal(getattr(made[0], table), getattr(made[1], table))


@pytest.mark.parametrize("split", [{"method": "holdout"}, {"method": "kfold", "folds": 3}])
def test_a_patient_never_moves_as_deliveries_arrive(hospital, split):
    hospital.with_task(split=split)
    patients(hospital, 20)
    summary, before = build(hospital)
    assert summary.facts["patients newly assigned"] == 20
    patients(hospital, 25, "d2", start=20)
    summary, after = build(hospital)
    assert summary.facts["patients that kept their split"] == 20
    assert summary.facts["patients newly assigned"] == 25
    both = before.splits.merge(after.splits, on=["patient_id", "fold"])
    assert len(both) == len(before.splits)
    assert (both["split_x"] == both["split_y"]).all()
    assert before.fingerprint != after.fingerprint


def test_a_patient_who_leaves_and_comes_back_finds_its_place(hospital):
    patients(hospital, 20)
    _, before = build(hospital)
    tested = before.splits.loc[before.splits["split"] == "test", "patient_id"].iloc[0]
    label = "yes" if int(tested[1:]) % 2 else "no"
    hospital.outcome("d2", tested, None, INDEX)  # the outcome is withdrawn
    _, without = build(hospital)
    assert tested not in set(without.splits["patient_id"])
    hospital.outcome("d3", tested, label, INDEX)  # and confirmed
    patients(hospital, 30, "d3", start=20)
    _, after = build(hospital)
    assert after.splits.set_index("patient_id").loc[tested, "split"] == "test"


def test_other_settings_of_the_split_assign_anew_and_say_so(hospital):
    patients(hospital, 40)
    summary, before = build(hospital)
    assert "split" not in summary.facts
    hospital.with_task(split={"test": 0.4})
    summary, after = build(hospital)
    assert "assigned anew" in summary.facts["split"]
    assert (after.splits["split"] == "test").sum() == 16
    hospital.with_task()
    _, back = build(hospital)
    pd.testing.assert_frame_equal(back.splits, before.splits)
    assert back.fingerprint == before.fingerprint


def test_the_fingerprint_tells_apart_the_same_inputs_with_other_splits(hospital, new_hospital):
    patients(hospital, 20)
    build(hospital)
    patients(hospital, 21, "d2", start=20)
    _, grown = build(hospital)
    at_once = new_hospital("at-once")
    patients(at_once, 20)
    patients(at_once, 21, "d2", start=20)
    _, fresh = build(at_once)
    assert not grown.splits.equals(fresh.splits)
    assert grown.fingerprint != fresh.fingerprint


def test_sources_that_the_study_no_longer_declares_are_not_read(hospital):
    patients(hospital, 8)
    hospital.note("d1", "p000", "old", BEFORE, source="retired")
    _, made = build(hospital)
    assert "old" not in set(made.items["item_id"])
    assert set(load_links(hospital.store)["source"]) == {"notes", "registry"}


def test_no_id_and_no_text_of_a_patient_reaches_the_summary_or_the_pointer(hospital):
    patients(hospital, 12)
    hospital.note("d1", "stranger", "s1", BEFORE)
    summary, _ = build(hospital)
    kept = (summary.path / "summary.json").read_text()
    pointer = json.dumps(current_about(hospital.store.task("relapse", "cohort")))
    shown = kept + pointer + str(summary)
    for secret in ("stranger", "p000", "p011", "n000", "text of"):
        assert secret not in shown


def test_a_blocking_check_that_fails_keeps_the_cohort_before(hospital, monkeypatch):
    patients(hospital, 12)
    _, before = build(hospital)
    standing = current(hospital.store.task("relapse", "cohort"))
    patients(hospital, 12, "d2", start=12)
    hospital.write()
    from clinical_mm.cohort import build as module

    def all_in_train_and_test(cohort, *_):
        doubled = pd.concat([before.splits, before.splits.assign(split="train")])
        return doubled[doubled["patient_id"].isin(cohort["patient_id"])].reset_index(drop=True)

    monkeypatch.setattr(module, "assign_splits", all_in_train_and_test)
    summary = build_cohort(hospital.study, hospital.store, "relapse")
    assert [c.name for c in summary.failed_checks] == ["no patient in two splits"]
    assert summary.path is None
    assert current(hospital.store.task("relapse", "cohort")) == standing


def test_tables_are_as_declared(hospital):
    patients(hospital, 12)
    _, made = build(hospital)
    directory = current(hospital.store.task("relapse", "cohort"))
    for table in (tables.COHORT, tables.ITEMS, tables.SPLITS, tables.FLOW):
        assert tables.read_table(table, directory).columns.tolist() == table.columns
    used = made.items[made.items["is_used"]]
    assert np.array_equal(used["rank"], np.zeros(12))
