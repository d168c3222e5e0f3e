"""The stage `evaluate`: a model version judged on held-out patients, beside its own subsets and the baselines.

What is asked of whom is decided here; metrics, calibration, comparison and prediction stand in their own modules.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from lifelines import KaplanMeierFitter

from clinical_mm import tables
from clinical_mm.cohort.kept_summary import keep_summary, unchanged_summary
from clinical_mm.errors import ModelError
from clinical_mm.evaluation.baseline_blocks import Block, TableBlock, TextBlock
from clinical_mm.evaluation.baselines import BaselineData, BaselineResult, fit_baselines
from clinical_mm.evaluation.calibration import Calibration, fit_calibration, median_follow_up, reliability
from clinical_mm.evaluation.classification import report_text
from clinical_mm.evaluation.held_out import Floats, HeldOut, held_out
from clinical_mm.evaluation.image_statistics import patient_image_statistics
from clinical_mm.evaluation.metrics import Estimate, estimates, metrics_table, primary_metric
from clinical_mm.evaluation.predict import MODEL, all_subsets, predict
from clinical_mm.evaluation.record import ABOUT, REPORT, evaluation_folder, point_to
from clinical_mm.evaluation.resampling import draw
from clinical_mm.evaluation.verdict import Key, Verdict, judge
from clinical_mm.features.loaded import TaskFeatures
from clinical_mm.progress import track
from clinical_mm.store import Store, content_hash, current, current_about, snapshot, write_file, write_json
from clinical_mm.study.root import Study
from clinical_mm.study.tasks import Task
from clinical_mm.summary import Check, StageSummary
from clinical_mm.training.members import TrainedVersion, latest_version, open_version
from clinical_mm.training.quiet import quiet

VERSION = 1
STAGE = "evaluate"
_CALIBRATION_RESAMPLES = 200
"""Resamples of validation patients for the interval of a risk."""


def evaluate(study: Study, store: Store, task: str, version: str | None = None) -> StageSummary:
    """Judge a model version on the patients whom it never saw: the snapshot of its evaluation.

    Args:
        study: the study.
        store: its store.
        task: name of the task.
        version: model version; default: the one that was trained last.

    Returns:
        Metrics with intervals over patients of the fusion model, of every subset of its modalities and of the
        classical baselines; comparisons; calibration.

    Raises:
        ModelError: no model was trained, it reads other features than stand now, or nobody is held out.
        StoreError: an earlier stage has not been run.
    """
    features = TaskFeatures.load(study, store, task)
    version = version or latest_version(store, task)
    settings = study.tasks[task]
    fingerprint = content_hash(
        version,
        features.fingerprint,
        settings.evaluation.model_dump(mode="json"),
        settings.promotion.margin,
        study.seed,
        VERSION,
    )
    folder = evaluation_folder(store, task, version)
    with store.lock(f"evaluate-{task}"):
        about, standing = current_about(folder), current(folder)
        if about is not None and standing is not None and about["fingerprint"] == fingerprint:
            point_to(store, task, version)
            return unchanged_summary(standing)
        opened = open_version(store, task, version, features)
        with quiet(settings.training.threads), snapshot(folder, fingerprint) as directory:
            judged = _Judged.of(opened, features, study.seed)
            summary = _write(judged, version, directory)
            keep_summary(directory, summary)
        point_to(store, task, version)
    return StageSummary(STAGE, summary.facts, summary.tables, {}, summary.checks, current(folder))


@dataclass(frozen=True)
class _Judged:
    """Everything that an evaluation computes, before it is written."""

    task: Task
    splits: pd.DataFrame
    predictions: pd.DataFrame
    calibration: Calibration
    test: Mapping[Key, HeldOut]
    metrics: Mapping[tuple[str, str, str], list[Estimate]]
    verdict: Verdict
    baselines: BaselineResult | None
    n_without_features: int

    @property
    def whole(self) -> HeldOut:
        """The fusion model on all modalities, test patients."""
        return self.test[_whole_key(self.task)]

    @classmethod
    def of(cls, opened: TrainedVersion, features: TaskFeatures, seed: int) -> "_Judged":
        task = features.task
        usable = opened.splits["patient_id"].map(lambda p: bool(features.present(p).any())).astype(bool)
        splits = opened.splits[usable].reset_index(drop=True)
        n_without = int(opened.splits.loc[~usable, "patient_id"].nunique())
        if not (splits["split"] == "test").any():
            raise ModelError(
                f"model {opened.version} has no held-out patient with usable features: see `clinical-mm cohort`"
            )
        fused = predict(opened.members, features, splits, all_subsets(features.modalities))
        folds = sorted({m.fold for m in opened.members})
        horizon = _horizon(features, splits)
        cuts = _thresholds(features, splits, folds, horizon)
        fused, calibration = _calibrated(fused, task, cuts, horizon, seed)
        baselines = _baselines(features, splits, seed) if task.evaluation.baselines else None
        parts = (
            [fused] if baselines is None or baselines.predictions.empty else [fused, baselines.predictions]
        )
        predictions = pd.concat(parts, ignore_index=True)
        by_key = {
            (str(model), str(subset), str(split)): held_out(rows, task.outcome.kind, cuts)
            for (model, subset, split), rows in predictions.groupby(["model", "subset", "split"], sort=False)
        }
        found = {
            key: estimates(held, draw(held, task.evaluation.bootstrap, seed), task.evaluation.confidence)
            for key, held in track(by_key.items(), "bootstrap", total=len(by_key))
            if key[2] == "test" or key[:2] == _whole_key(task)
        }
        test = {key[:2]: held for key, held in by_key.items() if key[2] == "test"}
        verdict = judge(task, test, _whole_key(task), seed)
        return cls(task, splits, predictions, calibration, test, found, verdict, baselines, n_without)


def _whole_key(task: Task) -> Key:
    return MODEL, "+".join(task.modalities.names)


def _horizon(features: TaskFeatures, splits: pd.DataFrame) -> float | None:
    """Survival: the median follow-up of training patients, to which risks refer."""
    if features.task.outcome.kind != "survival":
        return None
    ids = sorted(set(splits.loc[splits["split"] == "train", "patient_id"]))
    return median_follow_up(features.durations(ids), features.labels(ids))


def _thresholds(
    features: TaskFeatures, splits: pd.DataFrame, folds: list[int], horizon: float | None
) -> dict[int, float]:
    """By fold the share of training patients with the outcome: above it a patient's risk is higher than usual."""
    cuts = {}
    for fold in folds:
        of_fold = splits[(splits["fold"] == fold) & (splits["split"] == "train")]
        ids = sorted(of_fold["patient_id"])
        labels = features.labels(ids)
        if horizon is not None:
            fitter = KaplanMeierFitter().fit(features.durations(ids), event_observed=labels)
            cuts[fold] = float(1 - fitter.predict(horizon))
        else:
            cuts[fold] = float(labels.mean()) if features.task.outcome.kind == "binary" else 0.5
    return cuts


def _calibrated(
    fused: pd.DataFrame, task: Task, cuts: dict[int, float], horizon: float | None, seed: int
) -> tuple[pd.DataFrame, Calibration]:
    """The predictions with calibrated probabilities, each subset by its own map; and the map of the whole model."""
    kind, settings = task.outcome.kind, task.evaluation
    whole = _whole_key(task)[1]
    maps = {
        str(subset): fit_calibration(
            held_out(rows[rows["split"] == "validation"], kind),
            cuts,
            n_resamples=_CALIBRATION_RESAMPLES if subset == whole else 0,
            confidence=settings.confidence,
            seed=seed,
            horizon=horizon,
            meaning=_meaning(task, horizon),
        )
        for subset, rows in fused.groupby("subset", sort=False)
    }
    if kind == "survival":
        return fused, maps[whole]
    fused = fused.sort_values(["subset", "fold", "split", "patient_id", "output"], ignore_index=True)
    risk = np.empty(len(fused))
    for place, rows in fused.groupby(["subset", "fold"], sort=False):
        subset, fold = str(place[0]), int(str(place[1]))
        scores = rows["score"].to_numpy().reshape(-1, int(fused["output"].max()) + 1)
        risk[rows.index.to_numpy()] = maps[subset].risk(scores, fold)[0].ravel()
    return fused.assign(probability=risk), maps[whole]


def _meaning(task: Task, horizon: float | None) -> str:
    outcome = task.outcome
    if outcome.kind == "survival":
        return f"{outcome.event} = {outcome.event_value} within {horizon:.3g} {outcome.duration_unit}"
    return f"{outcome.variable} = {outcome.positive}" if outcome.kind == "binary" else outcome.variable


def _baselines(features: TaskFeatures, splits: pd.DataFrame, seed: int) -> BaselineResult:
    task = features.task
    labels = features.cohort["label"].astype(float)
    is_survival = task.outcome.kind == "survival"
    data = BaselineData(
        task.outcome.kind,
        _blocks(features, sorted(set(splits["patient_id"]))),
        labels,
        features.cohort["duration"].astype(float) if is_survival else None,
        len(task.outcome.classes) if task.outcome.kind == "multiclass" else 2,
    )
    return fit_baselines(data, splits, seed)


def _blocks(features: TaskFeatures, ids: list[str]) -> dict[str, Block]:
    """What the baselines read: the same items as the fusion model, in the classical form."""
    blocks: dict[str, Block] = {}
    for name in features.modalities:
        if name == "text":
            texts = {p: "\n".join(note.text for note in features.notes(p)) for p in ids}
            blocks[name] = TextBlock({p: text for p, text in texts.items() if text.strip()})
        elif name == "image":
            rows = {}
            for p in track(ids, "image statistics"):
                tensors = [image.tensor for image in features.images(p)]
                if tensors:
                    rows[p] = patient_image_statistics(tensors)
            blocks[name] = TableBlock(pd.DataFrame.from_dict(rows, orient="index"))
        else:
            table = getattr(features, name)()
            blocks[name] = TableBlock(table.loc[[p for p in ids if p in table.index]])
    return blocks


def _write(judged: _Judged, version: str, directory: Path) -> StageSummary:
    metrics = metrics_table(dict(judged.metrics))
    tables.write_table(tables.PREDICTIONS, judged.predictions, directory)
    tables.write_table(tables.METRICS, metrics, directory)
    judged.calibration.write(directory)
    groups = _reliability(judged)
    report = report_text(judged.whole, judged.calibration, judged.task.outcome)
    write_file(directory / REPORT, report.encode())
    verdict = judged.verdict
    against = verdict.against_baseline
    about = {
        "version": version,
        "first_line": verdict.first_line,
        "against_baseline": None if against is None else against.to_json(),
        "against_subsets": {name: c.to_json() for name, c in verdict.against_subsets.items()},
        "reliability": groups.to_dict("records"),
        "baseline_choices": [] if judged.baselines is None else judged.baselines.choices.to_dict("records"),
        "n_without_features": judged.n_without_features,
    }
    write_json(directory / ABOUT, about)
    return _summary(judged, version, metrics, groups)


def _reliability(judged: _Judged) -> pd.DataFrame:
    """Risk said against risk observed among test patients; of several classes that of the first."""
    held, calibration = judged.whole, judged.calibration
    if held.kind == "multiclass" or not len(held):
        return pd.DataFrame({"n_patients": [], "mean_risk": [], "observed_risk": []})
    risk: Floats = np.full(len(held), np.nan)
    for fold in np.unique(held.folds):
        rows = held.folds == fold
        risk[rows] = calibration.risk(held.scores[rows, 0], int(fold))[0]
    known = held.take(np.isfinite(risk))
    return reliability(
        risk[np.isfinite(risk)], known.labels.astype(np.float64), known.durations, calibration.horizon
    )


def _summary(judged: _Judged, version: str, metrics: pd.DataFrame, groups: pd.DataFrame) -> StageSummary:
    task, whole = judged.task, judged.whole
    test = metrics[metrics["split"] == "test"].reset_index(drop=True)
    is_fusion = test["model"] == MODEL
    shown = ["subset", "metric", "value", "lower", "upper", "n_patients", "n_events"]
    main = test["metric"] == primary_metric(task.outcome.kind)
    is_whole = is_fusion & (test["subset"] == _whole_key(task)[1])
    notes = [c.note for c in judged.calibration.folds.values() if c.note]
    against = judged.verdict.against_baseline
    facts: dict[str, str | int | float] = {
        "verdict": judged.verdict.first_line,
        "version": version,
        "held-out patients": len(whole),
        "of these with the event": whole.n_events if len(whole) else 0,
        "patients without usable features": judged.n_without_features,
    }
    return StageSummary(
        STAGE,
        facts,
        {
            "fusion on all modalities": test.loc[is_whole, shown].drop(columns="subset"),
            "by subset of modalities": test.loc[is_fusion & main, shown].sort_values(
                "value", ascending=False
            ),
            "classical baselines": test.loc[~is_fusion & main, ["model", *shown]],
            "comparisons": judged.verdict.table(),
            "calibration": groups,
        },
        {},
        (
            Check(
                "no worse than the best baseline",
                against is not None and against.difference >= 0,
                judged.verdict.first_line,
                is_blocking=False,
            ),
            Check(
                "calibrated",
                not notes,
                "; ".join(notes) or "every fold has validation patients enough to calibrate on",
                is_blocking=False,
            ),
        ),
    )
