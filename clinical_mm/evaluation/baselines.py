"""The classical baselines: what a fusion model has to beat, trained on the same splits every time.

For each modality and for all of them together a penalised linear model: logistic for classes, Cox for survival.
Everything is fitted on the training patients of a fold; how strong the penalty is, is chosen on its validation
patients (logistic) or by cross-validation among its training patients (Cox, where a few dozen validation patients
with a handful of events could not tell). What the models read is `baseline_blocks`.
"""

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter
from lifelines.exceptions import ConvergenceError, ConvergenceWarning
from scipy import sparse
from scipy.special import expit, softmax
from sklearn.exceptions import ConvergenceWarning as LogisticConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold

from clinical_mm.evaluation.baseline_blocks import Block, FittedBlock, Matrix
from clinical_mm.evaluation.held_out import Floats, Integers
from clinical_mm.progress import track

log = logging.getLogger(__name__)

_STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
"""Logistic: inverse penalties tried, on blocks whose total variance is about one."""

_PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0)
"""Cox: ridge penalties tried, per patient, on standardised components."""

_STRONGER = (10.0, 30.0, 100.0)
"""Cox: penalties for the case that it converges with none of those."""

_INNER_FOLDS = 3
NAMES = {"binary": "baseline_logistic", "multiclass": "baseline_logistic", "survival": "baseline_cox"}


@dataclass(frozen=True)
class BaselineData:
    """What the baselines of a task are fitted on.

    Attributes:
        kind: binary, multiclass or survival.
        blocks: by modality, in the task's order.
        labels: by patient, as in `tables.COHORT`.
        durations: by patient, survival alone.
        n_classes: multiclass: how many.
    """

    kind: str
    blocks: Mapping[str, Block]
    labels: "pd.Series[float]"
    durations: "pd.Series[float] | None" = None
    n_classes: int = 2


@dataclass(frozen=True)
class BaselineResult:
    """Predictions as `tables.PREDICTIONS`, and what was chosen or went wrong: fold, subset, penalty, note."""

    predictions: pd.DataFrame
    choices: pd.DataFrame


def fit_baselines(data: BaselineData, splits: pd.DataFrame, seed: int) -> BaselineResult:
    """Fit every baseline in every fold and predict its validation and test patients.

    Args:
        data: labels and blocks.
        splits: `tables.SPLITS`.
        seed: of randomised decompositions and inner folds.

    Returns:
        Predictions (model `baseline_logistic` or `baseline_cox`, subset the modalities read) and choices. A baseline
        that cannot be fitted in a fold has no predictions there; its note in the choices says why.
    """
    predictions, choices = [], []
    subsets: list[tuple[str, ...]] = [(m,) for m in data.blocks]
    if len(data.blocks) > 1:
        subsets.append(tuple(data.blocks))
    for fold in track(sorted(splits["fold"].unique()), "baselines"):
        members = splits[splits["fold"] == fold].sort_values("patient_id")
        ids = {
            s: members.loc[members["split"] == s, "patient_id"].tolist()
            for s in ("train", "validation", "test")
        }
        fitted = {m: block.fit(ids["train"], seed) for m, block in data.blocks.items()}
        for subset in subsets:
            scores, penalty, note = _fit_one(data, [fitted[m] for m in subset], ids, seed)
            choices.append({"fold": fold, "subset": "+".join(subset), "penalty": penalty, "note": note})
            if note:
                log.warning("baseline %s, fold %d: %s", "+".join(subset), fold, note)
            predictions += [
                prediction_rows(
                    data.kind,
                    NAMES[data.kind],
                    subset,
                    fold=int(fold),
                    split=split,
                    ids=ids[split],
                    scores=scores[split],
                    labels=data.labels,
                    durations=data.durations,
                )
                for split in ("validation", "test")
                if split in scores
            ]
    frame = pd.concat(predictions, ignore_index=True) if predictions else pd.DataFrame()
    return BaselineResult(frame, pd.DataFrame(choices, columns=["fold", "subset", "penalty", "note"]))


def prediction_rows(
    kind: str,
    model: str,
    subset: Sequence[str],
    *,
    fold: int,
    split: str,
    ids: Sequence[str],
    scores: Floats,
    labels: "pd.Series[float]",
    durations: "pd.Series[float] | None",
) -> pd.DataFrame:
    """Rows of `tables.PREDICTIONS` for scores `[n, o]`, with the model's own probabilities."""
    n_outputs = scores.shape[1]
    probability = {"binary": expit, "multiclass": lambda s: softmax(s, axis=1)}.get(
        kind, lambda s: np.full(s.shape, np.nan)
    )(scores)
    repeated = np.repeat(np.asarray(ids, dtype=object), n_outputs)
    duration = (
        np.full(len(ids), np.nan) if durations is None else durations.reindex(list(ids)).to_numpy(float)
    )
    return pd.DataFrame(
        {
            "model": model,
            "subset": "+".join(subset),
            "fold": fold,
            "patient_id": repeated,
            "split": split,
            "output": np.tile(np.arange(n_outputs), len(ids)),
            "score": scores.ravel(),
            "probability": probability.ravel(),
            "label": np.repeat(labels.reindex(list(ids)).to_numpy(float), n_outputs),
            "duration": np.repeat(duration, n_outputs),
        }
    )


def _fit_one(
    data: BaselineData, blocks: list[FittedBlock], ids: Mapping[str, list[str]], seed: int
) -> tuple[dict[str, Floats], float | None, str]:
    """Scores of validation and test, the penalty chosen, and what is to be said about it."""
    labels = _integers(data.labels, ids["train"])
    if data.kind == "survival":
        assert data.durations is not None
        train, validation, test = (
            np.hstack([b.components(ids[s]) for b in blocks]) for s in ("train", "validation", "test")
        )
        if not train.shape[1] or labels.sum() < 2:
            return (
                {},
                None,
                "not fitted: no feature varies, or fewer than two events, among training patients",
            )
        return _fit_cox(
            train,
            np.asarray(data.durations.reindex(ids["train"]), dtype=np.float64),
            labels,
            validation=validation,
            test=test,
            seed=seed,
        )
    columns = {s: _stack([b.columns(ids[s]) for b in blocks]) for s in ids}
    if not columns["train"].shape[1] or len(np.unique(labels)) < 2:
        return {}, None, "not fitted: no feature varies, or one class alone, among training patients"
    known = _integers(data.labels, ids["validation"])
    return _fit_logistic(data, columns, labels, known)


def _integers(labels: "pd.Series[float]", ids: Sequence[str]) -> Integers:
    return np.asarray(labels.reindex(list(ids)), dtype=np.int64)


def _stack(columns: list[Matrix]) -> Matrix:
    if any(sparse.issparse(c) for c in columns):
        return sparse.csr_matrix(sparse.hstack([sparse.csr_matrix(c) for c in columns]))
    return np.hstack(columns)


def _fit_logistic(
    data: BaselineData, columns: Mapping[str, Matrix], labels: Integers, validation_labels: Integers
) -> tuple[dict[str, Floats], float | None, str]:
    """The inverse penalty with the lowest log loss among validation patients; 1 where there are none."""
    tried: list[tuple[float, float, LogisticRegression]] = []
    strengths = _STRENGTHS if len(validation_labels) else (1.0,)
    for strength in strengths:
        model = LogisticRegression(C=strength, max_iter=5000)
        with warnings.catch_warnings():
            # Without convergence the strength is not a candidate: the penalised loss has one minimum, and this is
            # not it.
            warnings.simplefilter("error", LogisticConvergenceWarning)
            try:
                model.fit(columns["train"], labels)
            except LogisticConvergenceWarning:
                continue
        loss = 0.0
        if len(validation_labels):
            scores = _class_scores(model, columns["validation"], data)
            loss = _log_loss(scores, validation_labels)
        tried.append((loss, strength, model))
    if not tried:
        return {}, None, "not fitted: the logistic regression converged with no penalty that was tried"
    _, strength, model = min(tried, key=lambda t: (t[0], t[1]))
    scores_of = {s: _class_scores(model, columns[s], data) for s in ("validation", "test")}
    absent = data.n_classes - len(model.classes_)
    failed = len(strengths) - len(tried)
    notes = [f"{absent} classes have no training patient"] * (absent > 0)
    notes += [f"{failed} of {len(strengths)} penalties did not converge"] * (failed > 0)
    return scores_of, 1 / strength, "; ".join(notes)


_ABSENT_CLASS_LOGIT = -20.0
"""Below the lowest of the others: for a class that no training patient has."""


def _class_scores(model: LogisticRegression, columns: Matrix, data: BaselineData) -> Floats:
    """`[n, 1]` log odds, or `[n, c]` class logits."""
    decision = np.asarray(model.decision_function(columns), dtype=np.float64)
    if data.kind == "binary":
        return decision[:, None]
    if decision.ndim == 1:  # of three or more classes two alone occur in training
        decision = np.stack([-decision / 2, decision / 2], axis=1)
    scores = np.full((len(decision), data.n_classes), decision.min(initial=0.0) + _ABSENT_CLASS_LOGIT)
    scores[:, model.classes_.astype(int)] = decision
    return scores


def _log_loss(scores: Floats, labels: Integers) -> float:
    if scores.shape[1] == 1:
        return float(log_loss(labels, expit(scores[:, 0]), labels=[0, 1]))
    return float(log_loss(labels, softmax(scores, axis=1), labels=list(range(scores.shape[1]))))


def _fit_cox(
    train: Floats, durations: Floats, events: Integers, *, validation: Floats, test: Floats, seed: int
) -> tuple[dict[str, Floats], float | None, str]:
    """The ridge penalty with the highest partial likelihood of left-out training patients (Verweij 1993)."""
    penalty = _choose_penalty(train, durations, events, seed)
    for tried in (penalty, *(p for p in (*_PENALTIES, *_STRONGER) if p > penalty)):
        coefficients = _cox(train, durations, events, tried)
        if coefficients is not None:
            note = (
                ""
                if tried == penalty
                else f"with the penalty {penalty:g} it did not converge: {tried:g} was taken"
            )
            scores = {
                "validation": (validation @ coefficients)[:, None],
                "test": (test @ coefficients)[:, None],
            }
            return scores, tried, note
    return {}, None, "not fitted: the Cox model converged with no penalty that was tried"


def _choose_penalty(columns: Floats, durations: Floats, events: Integers, seed: int) -> float:
    n_folds = min(_INNER_FOLDS, int(events.sum()), int((events == 0).sum()))
    if n_folds < 2:
        return _PENALTIES[-1]
    folds = list(StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(columns, events))
    gains = []
    for penalty in _PENALTIES:
        gain = 0.0
        for kept, _ in folds:
            coefficients = _cox(columns[kept], durations[kept], events[kept], penalty)
            if coefficients is None:
                gain = -np.inf
                break
            eta = columns @ coefficients
            gain += _partial_likelihood(eta, durations, events)
            gain -= _partial_likelihood(eta[kept], durations[kept], events[kept])
        gains.append(gain)
    return _PENALTIES[int(np.argmax(gains))]


def _cox(columns: Floats, durations: Floats, events: Integers, penalty: float) -> Floats | None:
    """Coefficients by lifelines, or None where it does not converge."""
    names = [f"x{i}" for i in range(columns.shape[1])]
    frame = pd.DataFrame(columns, columns=names).assign(duration=durations, event=events)
    with warnings.catch_warnings():
        # Not converging is an answer here. The warning of columns that vary little given the event is for models
        # without a penalty, whose coefficients would run away; lifelines warns of it before it fits.
        warnings.simplefilter("error", ConvergenceWarning)
        warnings.filterwarnings("ignore", message=r"Column.*very low variance", category=ConvergenceWarning)
        warnings.filterwarnings("ignore", message=r".*complete separation", category=ConvergenceWarning)
        # A step of Newton's that overflows is halved by lifelines itself.
        warnings.filterwarnings("ignore", category=RuntimeWarning, module="lifelines")
        try:
            fitter = CoxPHFitter(penalizer=penalty, l1_ratio=0.0).fit(frame, "duration", "event")
        except (ConvergenceError, ConvergenceWarning):
            return None
    # lifelines centres the columns; that shifts every patient's score by the same and changes no order.
    return np.asarray(fitter.params_.to_numpy(np.float64))


def _partial_likelihood(eta: Floats, durations: Floats, events: Integers) -> float:
    """Cox's log partial likelihood with Breslow's ties."""
    order = np.argsort(-durations, kind="stable")
    eta, time, seen = eta[order], durations[order], events[order] == 1
    last = np.searchsorted(-time, -time, side="right") - 1
    log_total = np.logaddexp.accumulate(eta)[last]
    return float((eta - log_total)[seen].sum())
