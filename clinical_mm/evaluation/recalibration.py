"""Maps from a model's score to a risk, fitted on validation patients and all of their resamples at once.

Three fits, all by Newton's method with step halving, vectorised over resamples: a line on the log odds (Platt 1999),
a temperature (Guo et al. 2017), and a slope with Breslow's baseline hazard. None may turn the order of the patients
round: slopes are not below 0. What a fit is used for does not belong here.
"""

from collections.abc import Callable

import numpy as np
from scipy.special import expit, log_expit, log_softmax, logit, softmax

from clinical_mm.evaluation.held_out import Floats, Integers

_MAX_STEPS = 100
_TOLERANCE = 1e-9
"""Size of a Newton step, on standardised scores, below which the fit has converged."""


def fit_line(score: Floats, label: Integers, counts: Floats) -> Floats:
    """Intercept and slope of the log odds, `[r, 2]`, for resamples `[r, n]`.

    The targets are Platt's: (n₊ + 1) / (n₊ + 2) and 1 / (n₋ + 2) in place of 1 and 0, so that a few validation
    patients who happen to be separated perfectly do not give certainty. A slope below 0 becomes 0, which leaves the
    prevalence as everybody's risk.
    """
    scale = _scale(score)
    x = score / scale
    n_positive = (counts * label).sum(axis=1, keepdims=True)
    n_negative = (counts * (1 - label)).sum(axis=1, keepdims=True)
    target = np.where(label == 1, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))

    def loss(theta: Floats) -> Floats:
        z = theta[:, :1] + theta[:, 1:] * x
        return -(counts * (target * log_expit(z) + (1 - target) * log_expit(-z))).sum(axis=1)

    def step(theta: Floats) -> Floats:
        risk = expit(theta[:, :1] + theta[:, 1:] * x)
        error, weight = counts * (risk - target), counts * risk * (1 - risk)
        g0, g1 = error.sum(axis=1), (error * x).sum(axis=1)
        h00, h01, h11 = weight.sum(axis=1), (weight * x).sum(axis=1), (weight * x * x).sum(axis=1)
        h00, h11 = h00 + 1e-9, h11 + 1e-9  # a resample of one score alone has no slope of its own
        determinant = h00 * h11 - h01**2
        return np.stack([(h11 * g0 - h01 * g1) / determinant, (h00 * g1 - h01 * g0) / determinant], axis=1)

    prevalence = (counts * target).sum(axis=1) / counts.sum(axis=1)
    start = np.stack([logit(prevalence), np.zeros(len(counts))], axis=1)
    theta = _newton(start, loss, step)
    theta[theta[:, 1] < 0] = start[theta[:, 1] < 0]
    return np.asarray(theta / np.array([1.0, scale]))


def fit_temperature(logits: Floats, label: Integers, counts: Floats) -> Floats:
    """Inverse temperature of class logits `[n, c]`, as `[r, 1]`, for resamples `[r, n]`; not below 0.

    As in `fit_line` the targets are smoothed: each class gets 1 / (n + c) of what the true one has too much.
    """
    n_classes = logits.shape[1]
    scale = _scale(logits - logits.mean(axis=1, keepdims=True))
    z = logits / scale
    smoothing = n_classes / (counts.sum(axis=1) + n_classes)
    at_truth, at_mean = z[np.arange(len(z)), label], z.mean(axis=1)

    def loss(beta: Floats) -> Floats:
        log_p = log_softmax(beta[:, :, None] * z, axis=2)  # [r, n, c]
        truth = log_p[:, np.arange(len(z)), label]
        per_patient = (1 - smoothing[:, None]) * truth + smoothing[:, None] * log_p.mean(axis=2)
        return -(counts * per_patient).sum(axis=1)

    def step(beta: Floats) -> Floats:
        p = softmax(beta[:, :, None] * z, axis=2)
        mean = (p * z).sum(axis=2)
        variance = (p * z * z).sum(axis=2) - mean**2
        wanted = (1 - smoothing[:, None]) * at_truth + smoothing[:, None] * at_mean
        gradient = (counts * (mean - wanted)).sum(axis=1)
        return np.asarray((gradient / ((counts * variance).sum(axis=1) + 1e-9))[:, None])

    beta = _newton(np.zeros((len(counts), 1)), loss, step)
    return np.asarray(np.maximum(beta, 0.0) / scale)


def fit_hazard(score: Floats, duration: Floats, event: Integers, counts: Floats, horizon: float) -> Floats:
    """Slope of the log hazard and Breslow's cumulative baseline hazard until the horizon, `[r, 2]`.

    The slope has a normal prior of mean 1 and standard deviation 1 on the model's own scale: a few events say little
    about it, and 1 is what the model was trained for. A slope below 0 becomes 0.
    """
    order = np.argsort(-duration, kind="stable")
    x, time, seen, drawn = score[order], duration[order], event[order] == 1, counts[:, order]
    # The risk set of a time reaches to the last patient of that time: ties are at risk together (Breslow).
    last = np.searchsorted(-time, -time, side="right") - 1
    deaths = drawn * seen

    def at_risk(values: Floats) -> Floats:
        return np.cumsum(values, axis=1)[:, last]

    def loss(beta: Floats) -> Floats:
        eta = beta * x
        peak = eta.max(axis=1, keepdims=True)
        total = at_risk(drawn * np.exp(eta - peak))
        log_total = np.log(np.where(deaths > 0, total, 1.0)) + peak
        return np.asarray(-(deaths * (eta - log_total)).sum(axis=1) + 0.5 * (beta[:, 0] - 1) ** 2)

    def step(beta: Floats) -> Floats:
        eta = beta * x
        weight = drawn * np.exp(eta - eta.max(axis=1, keepdims=True))
        total = np.maximum(at_risk(weight), 1e-300)
        mean = at_risk(weight * x) / total
        variance = at_risk(weight * x * x) / total - mean**2
        gradient = (deaths * (mean - x)).sum(axis=1) + (beta[:, 0] - 1)
        return np.asarray((gradient / ((deaths * variance).sum(axis=1) + 1))[:, None])

    beta = np.maximum(_newton(np.ones((len(counts), 1)), loss, step), 0.0)
    total = at_risk(drawn * np.exp(beta * x))
    is_before = deaths * (time <= horizon)
    increments = np.divide(is_before, total, out=np.zeros_like(total), where=total > 0)
    return np.concatenate([beta, increments.sum(axis=1, keepdims=True)], axis=1)


def _scale(values: Floats) -> float:
    """Standard deviation, or 1 where the scores are all the same: then only the prevalence is learned."""
    spread = float(values.std())
    return spread if spread > 0 else 1.0


def _newton(start: Floats, loss: Callable[[Floats], Floats], step: Callable[[Floats], Floats]) -> Floats:
    """Minimise convex losses, one a row, by Newton's method; a step that does not help is halved."""
    theta = start.copy()
    value = loss(theta)
    for _ in range(_MAX_STEPS):
        move = step(theta)
        for _ in range(30):
            trial = loss(theta - move)
            is_worse = trial > value + 1e-12 * (1 + np.abs(value))
            if not is_worse.any():
                break
            move[is_worse] /= 2
        move[is_worse] = 0.0
        theta = theta - move
        value = loss(theta)
        if np.abs(move).max() < _TOLERANCE:
            break
    return theta
