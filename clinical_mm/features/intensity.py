"""Stored values of a volume to intensities in [0, 1], as the study asks: 0 is dark, 1 is bright.

Colour becomes luminance first. MONOCHROME1, where low values are shown bright, is inverted last. Values that are no
number become 0. Geometry does not belong here.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clinical_mm.study.tasks import ImageModality

PERCENTILES = (0.5, 99.5)
LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue: ITU-R BT.601, as DICOM's own YBR (PS3.3 C.7.6.3.1.2)."""

SAMPLED_VOXELS = 2**24
"""Percentiles of larger volumes are those of an even sample of at most so many voxels."""

_CHUNK_VOXELS = 2**22


class UnusableImageError(Exception):
    """A series gives no image; `reason` is the code under which it is counted. It never leaves the features."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Scale:
    """The values that become 0 and 1, and whether the result is inverted."""

    low: float
    high: float
    is_inverted: bool

    def __call__(self, stored: npt.NDArray[np.generic], is_colour: bool) -> npt.NDArray[np.float32]:
        """Intensities of slices: [k, rows, columns(, 3)] stored values to [k, rows, columns] in [0, 1]."""
        values = luminance(stored) if is_colour else stored.astype(np.float32)
        is_none = ~np.isfinite(values) if np.issubdtype(stored.dtype, np.floating) else None
        values -= np.float32(self.low)
        values /= np.float32(self.high - self.low)
        np.clip(values, 0, 1, out=values)
        if self.is_inverted:
            np.subtract(1, values, out=values)
        if is_none is not None:
            values[is_none] = 0
        return values


def luminance(stored: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Luminance of colour [..., 3]."""
    return stored.astype(np.float32) @ np.array(LUMINANCE, dtype=np.float32)


def scale_of(
    volume: npt.NDArray[np.generic],
    is_colour: bool,
    is_inverted: bool,
    header_window: tuple[float, float] | None,
    settings: ImageModality,
) -> Scale:
    """The scale of a series.

    Args:
        volume: [slices, rows, columns(, 3)] stored values after the modality LUT (HU for CT); may be memory-mapped.
        is_colour: whether the last axis is red, green, blue.
        is_inverted: MONOCHROME1.
        header_window: centre and width of the header's VOI window, where it has one.
        settings: the study's `intensity` and `window_hu`.

    Raises:
        UnusableImageError: no value is a number, all are the same, or the header has no window and the study wants it.
    """
    lowest, highest = _extremes(volume, is_colour)
    if not np.isfinite(lowest):
        raise UnusableImageError("no_finite_value")
    if lowest == highest:
        raise UnusableImageError("no_contrast")
    if settings.intensity == "window":
        assert settings.window_hu is not None
        low, high = settings.window_hu
    elif settings.intensity == "header":
        if header_window is None:
            raise UnusableImageError("no_header_window")
        # PS3.3 C.11.2.1.2.1: a window of width 1 is a threshold, and the centre lies half a unit to the right.
        centre, width = header_window
        low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
        high = max(high, low + 1e-3)
    else:
        low, high = _percentiles(volume, is_colour)
        if low == high:  # nearly all of it is background: what is not lies between the extremes
            low, high = lowest, highest
    return Scale(float(low), float(high), is_inverted)


def chunks(volume: npt.NDArray[np.generic]) -> list[slice]:
    """The slices of a volume in runs that fit into memory many times over."""
    n = max(1, _CHUNK_VOXELS // max(1, int(np.prod(volume.shape[1:]))))
    return [slice(first, min(first + n, len(volume))) for first in range(0, len(volume), n)]


def _extremes(volume: npt.NDArray[np.generic], is_colour: bool) -> tuple[float, float]:
    lowest, highest = np.inf, -np.inf
    for run in chunks(volume):
        values = luminance(volume[run]) if is_colour else np.asarray(volume[run])
        if np.issubdtype(values.dtype, np.floating):
            values = values[np.isfinite(values)]
        if values.size:
            lowest, highest = min(lowest, float(values.min())), max(highest, float(values.max()))
    return lowest, highest


def _percentiles(volume: npt.NDArray[np.generic], is_colour: bool) -> tuple[float, float]:
    n_voxels = int(np.prod(volume.shape[:3]))
    step = -(-n_voxels // SAMPLED_VOXELS)
    # A step that shares a factor with the slice would take the same columns of every row, or rows of every slice.
    while math.gcd(step, volume.shape[1] * volume.shape[2]) > 1:
        step += 1
    voxels = volume.reshape(-1, 3) if is_colour else volume.reshape(-1)
    values = luminance(voxels[::step]) if is_colour else np.asarray(voxels[::step])
    if np.issubdtype(values.dtype, np.floating):
        values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 0.0
    low, high = np.percentile(values, PERCENTILES)
    return float(low), float(high)
