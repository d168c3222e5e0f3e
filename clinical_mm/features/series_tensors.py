"""A series as image tensors: from its decoded volume to float16 in the cache, found again by content and settings.

One series is in memory at a time, and of it one run of slices. In three dimensions a series gives one tensor; in two,
one for each of the slices that are taken evenly from it. Which series a patient has does not belong here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clinical_mm.features.cache import cache_path, read_array, write_array
from clinical_mm.features.intensity import Scale, UnusableImageError, chunks, scale_of
from clinical_mm.features.resample import Axis, Grid, Resampler
from clinical_mm.store import content_hash, read_json, write_json
from clinical_mm.study.tasks import ImageModality

VERSION = 2

CHANNELS = 1
"""Channels of an image tensor: colour is read as luminance."""

_STORED = np.float16
"""Intensities in [0, 1] to a step of at most 1/2048: finer than any display, half the disk of float32."""


@dataclass(frozen=True)
class SeriesVolume:
    """What of a row of `tables.SERIES` decides its tensors.

    Attributes:
        path: of the .npy file [slices, rows, columns(, 3)].
        content_hash: of the volume.
        shape: [slices, rows, columns].
        is_colour: whether a last axis holds red, green and blue.
        is_inverted: MONOCHROME1.
        header_window: centre and width of the VOI window, or None.
        spacing_mm: [slice, row, column], or None.
    """

    path: Path
    content_hash: str
    shape: tuple[int, int, int]
    is_colour: bool
    is_inverted: bool
    header_window: tuple[float, float] | None
    spacing_mm: tuple[float, float, float] | None

    @classmethod
    def of(cls, row: Mapping[str, Any], root: Path) -> "SeriesVolume":
        """Of a row of `tables.SERIES`; `root` is the store's."""
        centre, width = _number(row["window_center"]), _number(row["window_width"])
        spacing = [] if row["spacing_mm"] is None else [float(v) for v in row["spacing_mm"]]
        slices, rows, columns = (int(n) for n in row["shape"])
        return cls(
            path=root / str(row["volume"]),
            content_hash=str(row["content_hash"]),
            shape=(slices, rows, columns),
            is_colour=int(row["channels"]) == 3,
            is_inverted=bool(row["is_inverted"]),
            header_window=None if centre is None or width is None else (centre, width),
            spacing_mm=(spacing[0], spacing[1], spacing[2]) if len(spacing) == 3 else None,
        )


@dataclass(frozen=True)
class SeriesTensors:
    """The tensors of one series.

    Attributes:
        key: of the cache.
        grids: of each tensor; empty where there is none.
        unusable: how many tensors or series give no image, by reason.
        n_slices_not_taken: 2D: slices of the series that no tensor shows.
        is_hit: whether the cache had them.
    """

    key: str
    grids: dict[int, Grid]
    unusable: dict[str, int]
    n_slices_not_taken: int
    is_hit: bool


def series_grids(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float] | None, settings: ImageModality
) -> list[Grid]:
    """The grids of a series' tensors: one in 3D, one for each slice taken in 2D.

    Raises:
        UnusableImageError: `spacing_mm` is asked for, and the series does not know its own.
    """
    n_slices = shape[0]
    sizes, wanted = settings.size, settings.spacing_mm
    axes: list[Axis] = []
    for place in range(settings.spatial_dims):
        axis = place + 3 - settings.spatial_dims  # of the volume
        if wanted is None:
            axes.append(Axis.resized(shape[axis], sizes[place]))
            continue
        own = 0.0 if spacing_mm is None else spacing_mm[axis]
        if not (np.isfinite(own) and own > 0):
            raise UnusableImageError("no_spacing")
        axes.append(Axis.spaced(shape[axis], sizes[place], wanted[place] / own))
    if settings.spatial_dims == 3:
        return [Grid(*axes)]
    n = min(settings.slices_per_series, n_slices)
    return [Grid(Axis.single(n_slices, int((i + 0.5) * n_slices / n)), *axes) for i in range(n)]


def prepare_series(volume: SeriesVolume, settings: ImageModality, folder: Path) -> SeriesTensors:
    """The tensors of a series, computed where the cache does not have them."""
    key = _key(volume, settings)
    path = cache_path(folder, key)
    try:
        grids = series_grids(volume.shape, volume.spacing_mm, settings)
        found = _cached(path, len(grids))
        is_hit = found is not None
        if found is None:
            found = _compute(volume, grids, settings, path)
    except UnusableImageError as error:
        return SeriesTensors(key, {}, {error.reason: 1}, 0, is_hit=False)
    usable = {i: grid for i, grid in enumerate(grids) if found[i]}
    n_blank = len(grids) - len(usable)
    unusable = {"no_contrast": n_blank} if n_blank else {}
    n_not_taken = volume.shape[0] - len(grids) if settings.spatial_dims == 2 else 0
    return SeriesTensors(key, usable, unusable, n_not_taken, is_hit)


def read_tensor(folder: Path, key: str, member: int) -> npt.NDArray[np.float16] | None:
    """One tensor [channel, *size] of the cache, memory-mapped; None where the cache does not have it."""
    array = read_array(cache_path(folder, key))
    return None if array is None else array[member]


def _compute(volume: SeriesVolume, grids: Sequence[Grid], settings: ImageModality, path: Path) -> list[bool]:
    """Write the tensors and say which of them show anything."""
    stored = _open(volume)
    scale = scale_of(stored, volume.is_colour, volume.is_inverted, volume.header_window, settings)
    tensors = np.zeros((len(grids), CHANNELS, *settings.size), dtype=_STORED)
    for i, grid in enumerate(grids):
        tensors[i, 0] = _sample(stored, volume.is_colour, scale, grid).reshape(settings.size)
    shows = [bool(tensor.min() < tensor.max()) for tensor in tensors]
    write_array(path, tensors)
    write_json(path.with_suffix(".json"), {"shows": shows})  # last: it says that the tensors are whole
    return shows


def _sample(
    stored: npt.NDArray[np.generic], is_colour: bool, scale: Scale, grid: Grid
) -> npt.NDArray[np.float32]:
    resampler = Resampler(grid)
    for run in chunks(stored):
        if resampler.needs(run):
            resampler.add(run, scale(stored[run], is_colour))
    # A sum of shares may leave [0, 1] by a rounding error.
    return np.clip(resampler.result(), 0, 1)


def _open(volume: SeriesVolume) -> npt.NDArray[np.generic]:
    if not volume.path.is_file():
        raise UnusableImageError("volume_missing")
    stored = read_array(volume.path)
    expected = (*volume.shape, 3) if volume.is_colour else volume.shape
    if stored is None or stored.shape != expected or 0 in stored.shape:
        raise UnusableImageError("volume_damaged")
    return stored


def _cached(path: Path, n: int) -> list[bool] | None:
    about = path.with_suffix(".json")
    if not about.is_file() or read_array(path) is None:
        return None
    shows = [bool(value) for value in read_json(about)["shows"]]
    return shows if len(shows) == n else None


def _key(volume: SeriesVolume, settings: ImageModality) -> str:
    chosen = {"spatial_dims", "size", "spacing_mm", "intensity", "window_hu", "slices_per_series"}
    return content_hash(
        "image",
        VERSION,
        volume.content_hash,
        [volume.shape, volume.is_colour, volume.is_inverted],
        volume.spacing_mm if settings.spacing_mm is not None else None,
        volume.header_window if settings.intensity == "header" else None,
        settings.model_dump(mode="json", include=chosen),
    )


def _number(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
