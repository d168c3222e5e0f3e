"""Splits: which patients a model learns from, which it is tuned on, and which it never sees before it is judged.

Patient-level, stratified by label and, within a label, by which modalities a patient has; patterns that are too rare
to be spread are one stratum. A patient once assigned keeps its place; new ones go where the shares lack them. The
order in which they are dealt out is a keyed hash of the patient's id, so it depends on nothing but the seed. How many
go where is for `apportion`; what is recorded, and when the record no longer holds, is for `build`.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from clinical_mm import tables
from clinical_mm.cohort.apportion import apportion, apportion_within
from clinical_mm.errors import CohortError
from clinical_mm.study.tasks import HoldoutSplit, KFoldSplit, Split


def assign_splits(
    cohort: pd.DataFrame,
    split: Split,
    seed: int,
    recorded: pd.DataFrame | None,
    names: Mapping[int, str] | None = None,
) -> pd.DataFrame:
    """Assign every labelled patient, in every fold, to train, validation or test.

    Args:
        cohort: `tables.COHORT`; patients without a label get no split.
        split: a holdout (fold 0 alone), or k folds: each patient is in the test of one, and the validation patients
            of a fold are carved out of the others.
        seed: of the order in which patients are dealt out.
        recorded: `tables.SPLITS` as assigned before under the same settings; what stands there is kept.
        names: labels that every split must hold, with what they are called in an error; default: for survival the
            event, else all that occur, and 0 and 1.

    Returns:
        `tables.SPLITS`, by fold and patient.

    Raises:
        CohortError: a label has too few patients for the split.
    """
    labelled = cohort[cohort["label"].notna()].sort_values("patient_id", ignore_index=True)
    patients = _Patients(
        ids=labelled["patient_id"].to_numpy(dtype=object),
        labels=labelled["label"].to_numpy(dtype=float).astype(np.int64),
        patterns=labelled["modality_pattern"].to_numpy(dtype=object),
    )
    if names is None:
        occurring = {1} if labelled["duration"].notna().any() else {0, 1, *patients.labels.tolist()}
        names = {label: f"label {label}" for label in sorted(occurring)}
    _require_enough(patients.labels, split, names)
    if isinstance(split, KFoldSplit):
        return _folds(patients, split, seed, recorded, names)
    shares = {
        "train": 1.0 - split.test - split.validation,
        "validation": split.validation,
        "test": split.test,
    }
    if shares["train"] <= 0:
        raise CohortError("split.test and split.validation leave no patient to learn from: lower them")
    kept = _recorded(recorded, 0, patients.ids, list(shares))
    dealt = _deal(patients, list(shares.values()), kept, f"{seed} holdout", names)
    return _frame([(0, patients.ids, np.array(list(shares), dtype=object)[dealt])])


@dataclass(frozen=True)
class _Patients:
    """Labelled patients: [n] ids, labels and modality patterns."""

    ids: np.ndarray
    labels: np.ndarray
    patterns: np.ndarray

    def __getitem__(self, places: np.ndarray) -> "_Patients":
        return _Patients(self.ids[places], self.labels[places], self.patterns[places])


def _folds(
    patients: _Patients,
    split: KFoldSplit,
    seed: int,
    recorded: pd.DataFrame | None,
    names: Mapping[int, str],
) -> pd.DataFrame:
    kept_fold = np.full(len(patients.ids), -1, dtype=np.int64)
    for fold in range(split.folds):
        kept_fold[_recorded(recorded, fold, patients.ids, ["test"]) == 0] = fold
    fold_of = _deal(patients, [1 / split.folds] * split.folds, kept_fold, f"{seed} fold", names)
    parts_of = ["train", "validation"]
    shares = [1.0 - split.validation, split.validation]
    folds = []
    for fold in range(split.folds):
        is_other = fold_of != fold
        others = patients[is_other]
        kept = _recorded(recorded, fold, others.ids, parts_of)
        parts = np.full(len(patients.ids), "test", dtype=object)
        dealt = _deal(others, shares, kept, f"{seed} validation {fold}", names)
        parts[is_other] = np.array(parts_of, dtype=object)[dealt]
        folds.append((fold, patients.ids, parts))
    return _frame(folds)


def _deal(
    patients: _Patients, shares: Sequence[float], kept: np.ndarray, key: str, names: Mapping[int, str]
) -> np.ndarray:
    """The part [n] that each patient goes to; those with a part in `kept` (else -1) stay in it."""
    weights = np.asarray(shares, dtype=float)
    parts = kept.copy()
    turn = _dealing_order(patients.ids, key)
    rarest = math.ceil(1 / weights.min())
    carry = np.zeros(len(weights))
    for label in np.unique(patients.labels):
        of_label = patients.labels == label
        already = np.bincount(kept[of_label & (kept >= 0)], minlength=len(weights))
        n_new = int((of_label & (kept < 0)).sum())
        at_least = 1 if int(label) in names else 0
        quotas, carry = apportion(n_new, weights, already, carry, at_least)
        if ((already + quotas) < at_least).any():
            raise CohortError(
                f"the recorded split leaves a part without any patient of {names[int(label)]!r}, now that the "
                "outcomes changed: change the split's settings or the seed to assign all anew"
            )
        for stratum in _strata(patients.patterns, np.flatnonzero(of_label), rarest):
            new = stratum[kept[stratum] < 0]
            there = np.bincount(kept[stratum][kept[stratum] >= 0], minlength=len(weights))
            share_out = apportion_within(len(new), weights, there, quotas)
            quotas = quotas - share_out
            parts[new[np.argsort(turn[new])]] = np.repeat(np.arange(len(weights)), share_out)
    return parts


def _strata(patterns: np.ndarray, inside: np.ndarray, rarest: int) -> list[np.ndarray]:
    """The places `inside` by pattern, those with fewer than `rarest` patients together.

    The largest stratum comes first: what rounding leaves over falls to the small ones.
    """
    names = pd.Series(patterns[inside])
    is_rare = names.map(names.value_counts()) < rarest
    merged = names.mask(is_rare, "rare")
    strata = [inside[places] for places in merged.groupby(merged, sort=True).indices.values()]
    return sorted(strata, key=lambda stratum: (-len(stratum), int(stratum[0])))


def _dealing_order(patients: np.ndarray, key: str) -> np.ndarray:
    """A number [n] for each patient by which they are dealt out: a keyed hash of the id."""
    digest_key = hashlib.blake2b(key.encode(), digest_size=32).digest()
    digests = b"".join(hashlib.blake2b(p.encode(), digest_size=8, key=digest_key).digest() for p in patients)
    return np.frombuffer(digests, dtype=">u8")


def _recorded(
    recorded: pd.DataFrame | None, fold: int, patients: np.ndarray, parts: Sequence[str]
) -> np.ndarray:
    """The place in `parts` [n] that each patient has in a fold on record; -1 where none."""
    if recorded is None:
        return np.full(len(patients), -1, dtype=np.int64)
    of_fold = recorded[(recorded["fold"] == fold) & recorded["split"].isin(parts)]
    place = of_fold.set_index("patient_id")["split"].map({part: i for i, part in enumerate(parts)})
    return pd.Series(patients).map(place).fillna(-1).to_numpy(dtype=np.int64)


def _require_enough(labels: np.ndarray, split: Split, names: Mapping[int, str]) -> None:
    if len(labels) == 0:
        raise CohortError("no patient of the cohort has a known outcome: there is nothing to learn from")
    for label, name in names.items():
        n = int((labels == label).sum())
        if isinstance(split, HoldoutSplit):
            needed, what = 3, "one each to train, validate and test"
        else:
            # Outside the fold that tests most of them, two must be left: one to train and one to validate.
            needed = split.folds if split.folds > 2 else 4
            what = f"one to test in each of {split.folds} folds, and two more outside of it"
        if n < needed:
            raise CohortError(f"{n} patients have {name!r} and the split needs {needed}: {what}")


def _frame(folds: list[tuple[int, np.ndarray, np.ndarray]]) -> pd.DataFrame:
    parts = [pd.DataFrame({"patient_id": p, "fold": fold, "split": s}) for fold, p, s in folds]
    return pd.concat(parts, ignore_index=True)[tables.SPLITS.columns]
