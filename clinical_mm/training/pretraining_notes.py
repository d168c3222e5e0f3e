"""Which notes a text encoder may be pretrained on: not those of patients whom a task holds out for testing, or may yet.

With a held-out split those patients' words must not shape the encoder, though no label is read. Patients of the cohort
whose outcome is not yet known may be tested once it is: were they read, the encoder would have to be made anew then,
and no model of before could read its tokens. With k-fold every patient is tested by some fold, so their notes are all
read, and the summary says so. What is learned from them stands in `pretrain`.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from clinical_mm import tables
from clinical_mm.cohort.build import build_cohort, load_cohort
from clinical_mm.cohort.current import current_rows
from clinical_mm.cohort.linkage import load_links
from clinical_mm.errors import TrainingError
from clinical_mm.store import Store, content_hash
from clinical_mm.study.root import Study

_HELD_OUT_SHARE = 0.1
_ID = ["source", "source_patient_id"]


@dataclass(frozen=True)
class PretrainingNotes:
    """Notes by their place among all current ones.

    Attributes:
        training: columns patient_id, place and content_hash; ordered by patient.
        held_out: the same, of other patients: the language model is judged on them.
        n_of_test_patients: notes that were left out because a task tests their patient.
        n_of_waiting_patients: notes that were left out because their patient may be tested once the outcome is known.
        n_unlinked: notes that were left out because nobody knows whose they are.
        tested: patients whom a task holds out for testing.
        kfold_tasks: tasks whose test patients' notes are among them, since each patient is tested by some fold.
    """

    training: pd.DataFrame
    held_out: pd.DataFrame
    n_of_test_patients: int
    n_of_waiting_patients: int
    n_unlinked: int
    tested: frozenset[str]
    kfold_tasks: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """Of the notes, of whose they are, and of who is held out."""
        return content_hash(
            *(
                sorted(zip(frame["patient_id"], frame["content_hash"], strict=True))
                for frame in (self.training, self.held_out)
            )
        )

    @staticmethod
    def texts(store: Store) -> pd.Series:
        """All current notes' texts, by place."""
        return current_rows(store, tables.NOTES, "notes", ["text"])["text"].reset_index(drop=True)


def choose_notes(study: Study, store: Store) -> PretrainingNotes:
    """The notes to pretrain on; cohorts of tasks with a held-out split are built where they are not current.

    Raises:
        TrainingError: they are of fewer than two patients.
        CohortError: a task's cohort cannot be built, so nobody knows whom it tests.
    """
    rows = current_rows(store, tables.NOTES, "notes", [*_ID, "content_hash"]).reset_index(drop=True)
    tested: set[str] = set()
    waiting: set[str] = set()
    kfold = []
    for name, task in study.tasks.items():
        if task.split.method == "kfold":
            kfold.append(name)
            continue
        build_cohort(study, store, name)
        made = load_cohort(store, name)
        tested |= set(made.splits.loc[made.splits["split"] == "test", "patient_id"])
        waiting |= set(made.cohort.loc[made.cohort["label"].isna(), "patient_id"])
    links = load_links(store)
    linked = links.loc[links["status"] == "linked", [*_ID, "patient_id"]]
    found = rows.rename_axis("place").reset_index().merge(linked, on=_ID, how="left")
    is_linked = found["patient_id"].notna()
    is_tested = found["patient_id"].isin(tested)
    is_waiting = found["patient_id"].isin(waiting) & ~is_tested
    usable = found.loc[is_linked & ~is_tested & ~is_waiting, ["patient_id", "place", "content_hash"]]
    usable = usable.sort_values(["patient_id", "place"], ignore_index=True)
    patients = list(usable["patient_id"].unique())
    if len(patients) < 2:
        raise TrainingError(
            f"{len(patients)} patients outside the tests have notes: pretraining needs two at least, one to learn from "
            "and one to be judged by"
        )
    # The order is by hash, not drawn: a patient stays on its side when others come.
    patients.sort(key=lambda patient_id: content_hash(study.seed, "held out of pretraining", patient_id))
    n_held_out = max(1, round(_HELD_OUT_SHARE * len(patients)))
    is_held_out = usable["patient_id"].isin(patients[:n_held_out])
    return PretrainingNotes(
        training=usable[~is_held_out].reset_index(drop=True),
        held_out=usable[is_held_out].reset_index(drop=True),
        n_of_test_patients=int(np.sum(is_linked & is_tested)),
        n_of_waiting_patients=int(np.sum(is_linked & is_waiting)),
        n_unlinked=int(np.sum(~is_linked)),
        tested=frozenset(tested),
        kfold_tasks=tuple(kfold),
    )
