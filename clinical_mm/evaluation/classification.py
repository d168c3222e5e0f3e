"""scikit-learn's classification report of the held-out patients, as the text that one is used to reading.

For survival the classes are who had the event by the calibration's horizon, among patients of whom that is known.
"""

from collections.abc import Mapping

import numpy as np
from sklearn.metrics import classification_report

from clinical_mm.evaluation.calibration import Calibration
from clinical_mm.evaluation.held_out import HeldOut, Integers
from clinical_mm.study.tasks import Outcome


def report_text(held: HeldOut, calibration: Calibration, outcome: Outcome) -> str:
    """The report, with a line above it that says what the classes are and who was left out.

    Args:
        held: predictions for test patients, with calibrated decisions.
        calibration: of the same model.
        outcome: of the task.
    """
    if not len(held):
        return "no held-out patient has a known outcome\n"
    if outcome.kind == "survival":
        return _survival_report(held, calibration, outcome.duration_unit)
    assert held.decisions is not None
    if outcome.kind == "multiclass":
        names, heading = list(outcome.classes), "decision: the class with the highest calibrated probability"
    else:
        names = [f"not {outcome.positive}", outcome.positive]
        heading = f"decision: {outcome.positive!r} from {_cuts(calibration.thresholds)} on"
    return f"{heading}\n\n{_report(held.labels, held.decisions, names)}"


def _survival_report(held: HeldOut, calibration: Calibration, unit: str) -> str:
    horizon = calibration.horizon
    assert held.durations is not None
    if horizon is None:
        return "no horizon: no patient was followed\n"
    is_known = (held.labels == 1) | (held.durations >= horizon)
    had_event = ((held.labels == 1) & (held.durations <= horizon)).astype(np.int64)
    risk = np.full(len(held), np.nan)
    for fold in np.unique(held.folds):
        rows = held.folds == fold
        risk[rows] = calibration.risk(held.scores[rows, 0], int(fold))[0]
    cut = np.array([calibration.thresholds.get(int(fold), 0.5) for fold in held.folds])
    usable = is_known & np.isfinite(risk)
    heading = (
        f"event within {horizon:.3g} {unit}; {int((~is_known).sum())} of {len(held)} patients were censored before and "
        f"are left out\ndecision: event from {_cuts(calibration.thresholds)} on"
    )
    if not usable.any():
        return f"{heading}\n\nno patient can be judged\n"
    decided = (risk >= cut).astype(np.int64)
    return f"{heading}\n\n{_report(had_event[usable], decided[usable], ['no event', 'event'])}"


def _report(labels: Integers, decisions: Integers, names: list[str]) -> str:
    report: str = classification_report(
        labels, decisions, labels=list(range(len(names))), target_names=names, digits=3, zero_division=0.0
    )
    return report


def _cuts(thresholds: Mapping[int, float]) -> str:
    cuts = sorted(set(thresholds.values()))
    if not cuts:
        return "a calibrated risk of 0.5"
    shown = f"{cuts[0]:.3f}" if len(cuts) == 1 else f"{cuts[0]:.3f} to {cuts[-1]:.3f} (by fold)"
    return f"a calibrated risk of {shown} (the share of patients with it in training)"
