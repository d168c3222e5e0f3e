"""Slices of a series with the attribution drawn on the pixels that it came from.

The original values are read from the store's volume and shown under a named window; the attribution is carried from
its tensor grid to every original pixel. Pictures are PNG bytes: how they stand on a page does
not belong here.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from clinical_mm.explain.grids import ImageAttribution

_FLOOR = 0.12  # share of the strongest attribution below which nothing is drawn
_STEPS = 24  # colour steps for either sign
_POSITIVE, _NEGATIVE = (230, 97, 1), (130, 90, 200)  # PuOr, the purple lighter: it lies on dark pixels
_MAX_ALPHA = 150


@dataclass(frozen=True)
class Window:
    """The values shown as black and as white, in the series' own unit."""

    low: float
    high: float


@dataclass(frozen=True)
class OverlaidSlice:
    """A slice and what to draw over it.

    Attributes:
        index: of the slice in the stack, from 0.
        share: of the magnitude of the image's attribution, in this slice, of 1.
        picture: PNG, the slice under its window.
        overlay: PNG with transparency, of the same size.
        width: of both, in pixels.
        height: of both, in pixels.
    """

    index: int
    share: float
    picture: bytes
    overlay: bytes
    width: int
    height: int


def sampled(
    values: npt.NDArray[np.float32],
    matrix: npt.NDArray[np.float64],
    index: int,
    *,
    rows: int,
    columns: int,
    step: float,
) -> npt.NDArray[np.float32]:
    """Grid values [rows, columns] at a slice's pixels, every `step` pixels; 0 outside the grid.

    Args:
        values: [depth, height, width] on the tensor grid.
        matrix: [4, 4] from the volume's (slice, row, column, 1) to the grid's (d, r, c, 1).
        index: of the slice.
        rows: samples down.
        columns: samples across.
        step: pixels between two samples; the first lies half a step from the edge.
    """
    r = (np.arange(rows) + 0.5) * step - 0.5
    c = (np.arange(columns) + 0.5) * step - 0.5
    grid = matrix[:3, 0, None, None] * index + matrix[:3, 1, None, None] * r[:, None]
    grid = grid + matrix[:3, 2, None, None] * c[None, :] + matrix[:3, 3, None, None]
    # A grid of one slice holds what lies within half its thickness, which interpolation alone would call outside.
    if values.shape[0] == 1:
        inside = np.abs(grid[0]) <= 0.5
        plane = ndimage.map_coordinates(values[0], grid[1:], order=1, mode="grid-constant")
        return np.asarray(np.where(inside, plane, 0), dtype=np.float32)
    return np.asarray(ndimage.map_coordinates(values, grid, order=1, mode="grid-constant"), dtype=np.float32)


def strongest_slices(magnitude: Sequence[float], at_most: int) -> list[int]:
    """Slices with most attribution, in order, no two closer than a thirtieth of the stack.

    Neighbours show much the same: they would take all the places.
    """
    apart = max(1, round(len(magnitude) / 30))
    chosen: list[int] = []
    for index in sorted(range(len(magnitude)), key=lambda i: -magnitude[i]):
        if len(chosen) == at_most:
            break
        if magnitude[index] > 0 and all(abs(index - other) >= apart for other in chosen):
            chosen.append(index)
    return sorted(chosen)


def overlaid_slices(
    volume: npt.NDArray,
    image: ImageAttribution,
    window: Window,
    *,
    spacing_mm: tuple[float, float],
    is_inverted: bool,
    at_most: int,
    strongest: float,
    max_pixels: int = 384,
) -> list[OverlaidSlice]:
    """The slices of a volume in which its attribution lies, drawn.

    Args:
        volume: [slices, rows, columns] or [slices, rows, columns, 3]; may be a memory map: only what is shown is read.
        image: its attribution.
        window: the values to show.
        spacing_mm: of rows and columns; (1, 1) where it is not known.
        is_inverted: low values are shown bright.
        at_most: slices to show.
        strongest: the smoothed attribution that gets the full colour, over all images of the patient.
        max_pixels: the longer side of a picture.
    """
    n, rows, columns = volume.shape[:3]
    matrix = np.asarray(np.linalg.inv(image.grid_to_volume), dtype=np.float64)
    smooth = signed_smooth(image)
    coarse = max(max(rows, columns) / 64, 1.0)
    size = (max(int(rows / coarse), 1), max(int(columns / coarse), 1))
    magnitude = [
        float(np.abs(sampled(smooth, matrix, i, rows=size[0], columns=size[1], step=coarse)).sum())
        for i in range(n)
    ]
    total = sum(magnitude) or 1.0
    found = []
    for index in strongest_slices(magnitude, at_most):
        picture = _picture(volume[index], window, is_inverted)
        height, width = _display_size(rows, columns, spacing_mm, max_pixels)
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        values = sampled(smooth, matrix, index, rows=rows, columns=columns, step=1.0)
        overlay = _overlay(values, strongest).resize((width, height), Image.Resampling.NEAREST)
        found.append(
            OverlaidSlice(index, magnitude[index] / total, _png(picture), _png(overlay), width, height)
        )
    return found


def signed_smooth(image: ImageAttribution) -> npt.NDArray[np.float32]:
    """The attribution with its sign under a Gaussian of one voxel, within planes alone where there is one."""
    sigma = (1.0 if image.values.shape[0] > 1 else 0.0, 1.0, 1.0)
    return np.asarray(ndimage.gaussian_filter(image.values, sigma, mode="constant"), dtype=np.float32)


def strongest_of(images: Sequence[ImageAttribution]) -> float:
    """The magnitude that gets the full colour: all but the top two thousandths of the drawn attribution."""
    drawn = [np.abs(signed_smooth(image)).ravel() for image in images]
    return float(np.quantile(np.concatenate(drawn), 0.998)) if drawn else 0.0


def percentile_window(volume: npt.NDArray) -> Window:
    """From the 0.5 to the 99.5 percentile of a volume, on a regular sample of it."""
    step = max(volume.size // 500_000, 1)
    sample = volume.reshape(-1)[::step]
    low, high = np.percentile(sample, [0.5, 99.5])
    return Window(float(low), float(high) if high > low else float(low) + 1.0)


def _display_size(
    rows: int, columns: int, spacing_mm: tuple[float, float], max_pixels: int
) -> tuple[int, int]:
    """Height and width in pixels, square in millimetres."""
    height, width = rows * spacing_mm[0], columns * spacing_mm[1]
    scale = min(max_pixels, max(rows, columns, 192)) / max(height, width)
    return max(round(height * scale), 1), max(round(width * scale), 1)


def _picture(pixels: npt.NDArray, window: Window, is_inverted: bool) -> Image.Image:
    values = (np.asarray(pixels, dtype=np.float32) - window.low) / max(window.high - window.low, 1e-6)
    grey = (np.clip(values, 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(255 - grey if is_inverted else grey)


def _overlay(values: npt.NDArray[np.float32], strongest: float) -> Image.Image:
    """An indexed picture: place 0 is transparent, then the steps of orange, then those of purple."""
    share = np.clip(np.abs(values) / strongest, 0, 1) if strongest > 0 else np.zeros_like(values)
    step = np.where(share < _FLOOR, 0, np.ceil(share * _STEPS)).astype(np.uint8)
    places = np.where((step > 0) & (values < 0), step + _STEPS, step).astype(np.uint8)
    indexed = Image.frombytes("P", (values.shape[1], values.shape[0]), places.tobytes())
    indexed.putpalette([0, 0, 0, *(_POSITIVE * _STEPS), *(_NEGATIVE * _STEPS)])
    alphas = [round(_MAX_ALPHA * (i + 1) / _STEPS) for i in range(_STEPS)]
    indexed.info["transparency"] = bytes([0, *alphas, *alphas])  # kept by resizing, written by saving
    return indexed


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=False, compress_level=6)
    return buffer.getvalue()
