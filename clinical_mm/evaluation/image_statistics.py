"""A picture in a few dozen numbers, for the classical baselines: brightness overall, by region and by level."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import numpy.typing as npt
import pandas as pd

from clinical_mm.evaluation.held_out import Floats

_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
_N_LEVELS = 16


def image_statistics(tensor: npt.NDArray[np.floating]) -> "pd.Series[float]":
    """Statistics of one image tensor.

    Args:
        tensor: `[channel, *size]` with intensities in [0, 1], in two or three dimensions.

    Returns:
        For every channel mean, standard deviation, quantiles, the mean size of the steps along each axis, the share
        of voxels at each of 16 levels, and mean, standard deviation and maximum of each half of the field along
        every axis taken together (quadrants in two dimensions, octants in three).
    """
    found: dict[str, float] = {}
    for channel, values in enumerate(np.asarray(tensor, dtype=np.float32)):
        name = f"{channel}_"
        found[name + "mean"], found[name + "std"] = float(values.mean()), float(values.std())
        for q, quantile in zip(_QUANTILES, np.quantile(values, _QUANTILES), strict=True):
            found[f"{name}quantile_{q:g}"] = float(quantile)
        for axis in range(values.ndim):
            steps = np.abs(np.diff(values, axis=axis))
            found[f"{name}step_{axis}"] = float(steps.mean()) if steps.size else 0.0
        levels, _ = np.histogram(np.clip(values, 0, 1), bins=_N_LEVELS, range=(0, 1))
        for level, share in enumerate(levels / values.size):
            found[f"{name}level_{level}"] = float(share)
        for corner in product((0, 1), repeat=values.ndim):
            part = values[tuple(_half(n, side) for n, side in zip(values.shape, corner, strict=True))]
            where = name + "part_" + "".join(map(str, corner))
            found[where + "_mean"], found[where + "_std"] = float(part.mean()), float(part.std())
            found[where + "_max"] = float(part.max())
    return pd.Series(found)


def patient_image_statistics(tensors: Sequence[npt.NDArray[np.floating]]) -> "pd.Series[float]":
    """Mean over a patient's series of the statistics of each."""
    rows = [image_statistics(tensor) for tensor in tensors]
    means: Floats = np.mean([row.to_numpy() for row in rows], axis=0)
    return pd.Series(means, index=rows[0].index)


def _half(n: int, side: int) -> slice:
    """The first or second half of an axis; an axis of one place has it in both."""
    middle = n // 2
    return slice(0, max(middle, 1)) if side == 0 else slice(middle, n)
