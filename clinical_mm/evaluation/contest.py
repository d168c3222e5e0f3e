"""Challenger against champion, on the patients who are held out from both, with today's features and outcomes.

The paired bootstrap stands in `compare`; which version is champion is told by the registry.
"""

import pandas as pd

from clinical_mm.errors import ModelError
from clinical_mm.evaluation.compare import Comparison, Decision, compare
from clinical_mm.evaluation.held_out import HeldOut, held_out
from clinical_mm.evaluation.predict import MODEL, predict
from clinical_mm.evaluation.record import Evaluation, require_evaluation
from clinical_mm.features.loaded import TaskFeatures
from clinical_mm.store import Store
from clinical_mm.study.root import Study
from clinical_mm.training.members import open_version
from clinical_mm.training.quiet import quiet


def against_champion(
    study: Study, store: Store, task: str, evaluation: Evaluation, standing: str | None
) -> tuple[Comparison | None, Decision | None]:
    """The comparison with the champion, and what is to be said about how it was made, or why it was not."""
    if standing is None:
        return None, None
    features = TaskFeatures.load(study, store, task)
    settings = study.tasks[task]
    whole = "+".join(settings.modalities.names)
    champions, note = _champion_predictions(study, store, task, features, standing)
    kind = settings.outcome.kind
    ours = _test_rows(evaluation.predictions(), whole)
    first, second = _in_common(ours, champions, features, kind)
    if not len(first):
        why = f"cannot be compared with the champion {standing}: no patient is held out from both"
        return None, Decision(False, (why,))
    compared = compare(
        first,
        second,
        (evaluation.version, standing),
        n_resamples=settings.evaluation.bootstrap,
        confidence=settings.evaluation.confidence,
        margin=settings.promotion.margin,
        seed=study.seed,
    )
    return compared, note


def _champion_predictions(
    study: Study, store: Store, task: str, features: TaskFeatures, standing: str
) -> tuple[pd.DataFrame, Decision | None]:
    """The champion's scores of the patients who are held out from it today.

    Where it reads features of another form than stand now, those that were recorded when it was evaluated.
    """
    whole = features.modalities
    try:
        opened = open_version(store, task, standing, features)
    except ModelError as error:
        recorded = _test_rows(require_evaluation(store, task, standing).predictions(), None)
        widest = recorded["subset"].map(lambda s: s.count("+")).max() if len(recorded) else 0
        recorded = recorded[recorded["subset"].map(lambda s: s.count("+")) == widest]
        note = f"is compared with the champion's recorded predictions, since {error}"
        return recorded, Decision(True, (note,))
    usable = opened.splits["patient_id"].map(lambda p: bool(features.present(p).any())).astype(bool)
    with quiet(study.tasks[task].training.threads):
        predicted = predict(opened.members, features, opened.splits[usable], [whole], ("test",))
    return predicted, None


def _test_rows(predictions: pd.DataFrame, subset: str | None) -> pd.DataFrame:
    rows = predictions[(predictions["model"] == MODEL) & (predictions["split"] == "test")]
    return rows if subset is None else rows[rows["subset"] == subset]


def _in_common(
    first: pd.DataFrame, second: pd.DataFrame, features: TaskFeatures, kind: str
) -> tuple[HeldOut, HeldOut]:
    """Both models' predictions for the patients held out from both in the same fold, with today's outcomes."""
    pairs = [set(zip(f["patient_id"], f["fold"], strict=True)) for f in (first, second)]
    common = pairs[0] & pairs[1]

    def of(frame: pd.DataFrame) -> HeldOut:
        is_common = [p in common for p in zip(frame["patient_id"], frame["fold"], strict=True)]
        rows = frame[is_common].copy()
        ids = list(rows["patient_id"])
        cohort = features.cohort.reindex(ids)
        rows["label"] = cohort["label"].to_numpy(dtype=float)
        rows["duration"] = cohort["duration"].to_numpy(dtype=float)
        return held_out(rows, kind)

    return of(first), of(second)
