"""The stage `score`: a model version's risks for patients whose outcome is not yet known.

Which version is champion is for the registry; it is told here.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from clinical_mm import tables
from clinical_mm.evaluation.calibration import Calibration
from clinical_mm.evaluation.predict import member_scores
from clinical_mm.evaluation.record import require_evaluation
from clinical_mm.features.build import build_features
from clinical_mm.features.loaded import TaskFeatures
from clinical_mm.progress import track
from clinical_mm.store import Store, content_hash, current, current_about, snapshot
from clinical_mm.study.root import Study
from clinical_mm.summary import Check, StageSummary
from clinical_mm.training.members import Member, open_version
from clinical_mm.training.quiet import quiet

VERSION = 1
STAGE = "score"
_CHECK = "has a champion"


def score(study: Study, store: Store, task: str, version: str | None) -> StageSummary:
    """Predict for the patients without an outcome: the snapshot `store.task(task, "scores")`.

    The features are brought up to date with the cohort first.

    Args:
        study: the study.
        store: its store.
        task: name of the task.
        version: of the champion; None where there is none: then nothing is scored, and the summary says so.

    Raises:
        ModelError: the version reads features of another form than stand now.
        StoreError: there is no cohort, or the version was not evaluated, so that no risk can be said.
    """
    if version is None:
        sentence = f"task {task} has no champion yet, so nobody was scored: `clinical-mm promote` names one"
        return StageSummary(STAGE, {"patients scored": 0}, checks=(Check(_CHECK, False, sentence, False),))
    build_features(study, store, task)
    features = TaskFeatures.load(study, store, task)
    calibration = require_evaluation(store, task, version).calibration
    folder = store.task(task, "scores")
    fingerprint = content_hash(version, features.fingerprint, calibration.to_json(), VERSION)
    with store.lock(f"score-{task}"):
        kept = current_about(folder)
        is_unchanged = kept is not None and kept["fingerprint"] == fingerprint
        if not is_unchanged:
            opened = open_version(store, task, version, features)
            waiting = sorted(features.cohort.index[features.cohort["label"].isna()])
            usable = [p for p in waiting if features.present(p).any()]
            about = {"version": version, "patients": len(usable), "unusable": len(waiting) - len(usable)}
            with quiet(study.tasks[task].training.threads), snapshot(folder, fingerprint, about) as directory:
                found = risks(opened.members, features, usable, calibration).assign(version=version)
                tables.write_table(tables.SCORES, found, directory)
    made = current_about(folder) or {}
    return StageSummary(
        STAGE,
        {
            "version": version,
            "patients scored": made["patients"],
            "patients without usable features": made["unusable"],
            "risk": calibration.meaning,
        },
        checks=(Check(_CHECK, True, f"scored by {version}", is_blocking=False),),
        path=current(folder),
        is_unchanged=is_unchanged,
    )


def risks(
    members: Sequence[Member], features: TaskFeatures, ids: Sequence[str], calibration: Calibration
) -> pd.DataFrame:
    """Scores and calibrated risks of patients whom no member saw: means over the members.

    Returns:
        `tables.SCORES` without the version; a risk that a fold's calibration cannot give is NaN.
    """
    if not ids:
        return tables.empty(tables.SCORES).drop(columns="version")
    whole = features.modalities
    of_members = []
    for member in track(members, "scoring"):
        scores = member_scores(member, features, ids, [whole])[whole]
        of_members.append([scores, *calibration.risk(scores, member.fold)])
    score_mean, risk, lower, upper = np.mean(of_members, axis=0)
    n_outputs = score_mean.shape[1]
    return pd.DataFrame(
        {
            "patient_id": np.repeat(np.asarray(ids, dtype=object), n_outputs),
            "output": np.tile(np.arange(n_outputs), len(ids)),
            "score": score_mean.ravel(),
            "risk": risk.ravel(),
            "lower": lower.ravel(),
            "upper": upper.ravel(),
        }
    )
