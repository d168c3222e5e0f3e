"""Which notes pretraining reads: never those of a test patient, nor of nobody known."""

import dataclasses
from typing import Any

import pandas as pd
import pytest

from clinical_mm.cohort.build import load_cohort
from clinical_mm.cohort.linkage import load_links
from clinical_mm.errors import TrainingError
from clinical_mm.study.tasks import KFoldSplit
from clinical_mm.training.pretraining_notes import PretrainingNotes, choose_notes


@pytest.fixture(scope="module")
def notes(ingested: Any) -> PretrainingNotes:
    return choose_notes(ingested.study, ingested.store)


def texts_of(ingested: Any, patients: set[str]) -> set[str]:
    """Texts of the patients' notes, by the linked ids of the ingested tables, without the module under test."""
    links = load_links(ingested.store).query("status == 'linked'")
    paths = sorted((ingested.store.root / "deliveries").glob("*/notes/*/notes.parquet"))
    rows = pd.concat(pd.read_parquet(path) for path in paths)
    found = rows.merge(links, on=["source", "source_patient_id"])
    return set(found.loc[found["patient_id"].isin(patients), "text"])


def test_no_note_of_a_patient_whom_a_task_holds_out_is_chosen(ingested: Any, notes: PretrainingNotes) -> None:
    tested: set[str] = set()
    for task in ("relapse", "survival", "grade"):
        splits = load_cohort(ingested.store, task).splits
        tested |= set(splits.loc[splits["split"] == "test", "patient_id"])
    assert len(tested) > 5
    assert not tested & {*notes.training["patient_id"], *notes.held_out["patient_id"]}
    texts = notes.texts(ingested.store)
    chosen = {texts[place] for place in [*notes.training["place"], *notes.held_out["place"]]}
    others = {*notes.training["patient_id"], *notes.held_out["patient_id"]}
    # Some letters of a sentence are the same for several patients.
    peculiar = texts_of(ingested, tested) - texts_of(ingested, others)
    assert len(peculiar) > 10
    assert not chosen & peculiar
    assert chosen <= texts_of(ingested, others)


def test_patients_who_may_be_tested_once_their_outcome_is_known_are_not_read_nor_is_nobody(
    ingested: Any, notes: PretrainingNotes
) -> None:
    made = load_cohort(ingested.store, "relapse")
    unlabelled = set(made.cohort["patient_id"]) - set(made.splits["patient_id"])
    chosen = {*notes.training["patient_id"], *notes.held_out["patient_id"]}
    assert unlabelled
    assert not unlabelled & chosen
    texts = notes.texts(ingested.store)
    n_chosen = len(notes.training) + len(notes.held_out)
    left_out = notes.n_of_test_patients + notes.n_of_waiting_patients + notes.n_unlinked
    assert n_chosen + left_out == len(texts)
    assert notes.n_of_test_patients > 0
    assert notes.n_of_waiting_patients > 0
    assert notes.n_unlinked > 0
    assert None not in chosen


def test_the_language_model_is_judged_on_other_patients_than_it_learns_from(notes: PretrainingNotes) -> None:
    training, held_out = set(notes.training["patient_id"]), set(notes.held_out["patient_id"])
    assert not training & held_out
    assert len(held_out) == round(0.1 * len(training | held_out))
    assert notes.kfold_tasks == ("folds",)


def test_a_patient_stays_held_out_or_not_when_the_study_is_read_again(
    ingested: Any, notes: PretrainingNotes
) -> None:
    again = choose_notes(ingested.study, ingested.store)
    assert again.fingerprint == notes.fingerprint
    assert list(again.held_out["place"]) == list(notes.held_out["place"])
    another = choose_notes(ingested.study.model_copy(update={"seed": 8}), ingested.store)
    assert set(another.held_out["patient_id"]) != set(notes.held_out["patient_id"])


def test_the_fingerprint_tells_who_wrote_which_note(notes: PretrainingNotes) -> None:
    merged = notes.training.assign(patient_id="one")
    joined = dataclasses.replace(notes, training=merged)
    assert joined.fingerprint != notes.fingerprint


def test_with_kfold_alone_every_linked_note_is_read_and_the_task_is_named(ingested: Any) -> None:
    tasks = {"folds": ingested.study.tasks["folds"].model_copy(update={"split": KFoldSplit(method="kfold")})}
    found = choose_notes(ingested.study.model_copy(update={"tasks": tasks}), ingested.store)
    assert found.n_of_test_patients == found.n_of_waiting_patients == 0
    assert found.kfold_tasks == ("folds",)


def test_one_patient_outside_the_tests_is_too_few(ingested: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    links = load_links(ingested.store)
    keep = links[links["status"] == "linked"].head(1)
    monkeypatch.setattr("clinical_mm.training.pretraining_notes.load_links", lambda _: keep)
    with pytest.raises(TrainingError, match="pretraining needs two at least"):
        choose_notes(ingested.study, ingested.store)
