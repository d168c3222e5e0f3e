"""The geometry of parallel slices: their order, their spacing, and whether they are a volume.

Frames: patient LPS, in mm (PS3.3 C.7.6.2). Arrays are [slice, row, column]; an affine maps (slice, row, column, 1) to
LPS. Everything here is arithmetic on positions and orientations; what a header says is `frames`, and which slices
belong together is `stacks`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]

ORIENTATION_TOLERANCE = 1e-3
"""Largest difference of a direction cosine within one orientation: 0.06 degrees, half a pixel over a 500 mm field."""

DISTINCT_POSITION_MM = 0.01
"""Slices nearer than this along the normal are at the same position: scanners write positions to 0.01 mm or better."""

POSITION_ROUNDING_MM = 0.02
"""Two positions written to 0.01 mm differ by as much from rounding alone."""

EVEN_SPACING_SHARE = 0.05
"""How far a slice may lie from its even place, as a share of the spacing. A missing slice shifts others by half of
it at least; measured tables of real scanners stay below a hundredth."""

TILT_TOLERANCE_DEGREES = 0.1
"""Slices that shift sideways by more are sheared (gantry tilt): over 300 mm it is half a pixel of 1 mm. The affine
holds the measured step all the same, so nothing is lost below it."""

MIN_VOLUME_SLICES = 3
"""Two slices have one gap, and one gap is always even: it takes a third to show that none is missing."""

PIXEL_SPACING_TOLERANCE = 1e-3
"""Largest relative difference of pixel spacings within a stack: half a pixel over 512."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """Of slices in an order.

    Attributes:
        order: places of the given slices, sorted by position along the normal.
        is_volume: distinct positions, evenly spaced, without tilt, of at least `MIN_VOLUME_SLICES`.
        affine: [4, 4], (slice, row, column, 1) to LPS mm; None where no affine places every slice.
        spacing_mm: [slice, row, column]; NaN between slices that have no even spacing; None without a pixel spacing.
        sentence: what was found, in words.
    """

    order: tuple[int, ...]
    is_volume: bool
    affine: Vector | None
    spacing_mm: tuple[float, float, float] | None
    sentence: str


def normal_of(orientation: Sequence[float]) -> Vector:
    """The unit normal of a plane: the cross product of its row and column direction, in LPS."""
    cross = np.cross(np.asarray(orientation[:3], float), np.asarray(orientation[3:], float))
    return cross / np.linalg.norm(cross)


def is_same_orientation(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether two orientations agree within `ORIENTATION_TOLERANCE`."""
    return float(np.abs(np.subtract(first, second)).max()) <= ORIENTATION_TOLERANCE


def is_same_spacing(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether two pixel spacings agree within `PIXEL_SPACING_TOLERANCE`."""
    return bool(np.allclose(first, second, rtol=PIXEL_SPACING_TOLERANCE, atol=0))


def places_along_normal(positions_mm: Sequence[Sequence[float]], orientation: Sequence[float]) -> Vector:
    """Distance of each slice from the origin along the common normal, in mm."""
    return np.asarray(positions_mm, float).reshape(-1, 3) @ normal_of(orientation)


def multiplicity(places_mm: Vector) -> int:
    """How many slices lie at the most crowded position."""
    ordered = np.sort(places_mm)
    group = np.concatenate([[0], np.cumsum(np.diff(ordered) >= DISTINCT_POSITION_MM)])
    return int(np.bincount(group.astype(int)).max())


def parallel_geometry(
    positions_mm: Sequence[Sequence[float]],
    orientation: Sequence[float],
    pixel_spacing_mm: Sequence[float] | None,
    slice_thickness_mm: float | None,
) -> Geometry:
    """The geometry of slices of one orientation at distinct positions.

    Args:
        positions_mm: centre of the first pixel of each slice, in any order.
        orientation: row and column direction that all share.
        pixel_spacing_mm: between rows, between columns; None where the header has none.
        slice_thickness_mm: of a single slice; what a step along the slice axis then means.
    """
    places = places_along_normal(positions_mm, orientation)
    order = np.argsort(places, kind="stable")
    positions = np.asarray(positions_mm, float).reshape(-1, 3)[order]
    ranks = tuple(int(i) for i in order)
    if pixel_spacing_mm is None:
        return Geometry(
            ranks, False, None, None, f"{_slices(len(ranks))} with positions, without a pixel spacing"
        )
    rows_mm, columns_mm = float(pixel_spacing_mm[0]), float(pixel_spacing_mm[1])
    if len(ranks) == 1:
        thickness = slice_thickness_mm or 1.0
        named = (
            f"{thickness:g} mm thick" if slice_thickness_mm else "of unknown thickness (1 mm in the affine)"
        )
        affine = affine_of(
            positions[0], orientation, (rows_mm, columns_mm), thickness * normal_of(orientation)
        )
        return Geometry(ranks, False, affine, (thickness, rows_mm, columns_mm), f"one slice, {named}")
    step = (positions[-1] - positions[0]) / (len(ranks) - 1)
    normal = normal_of(orientation)
    spacing = float(step @ normal)
    misplaced = np.linalg.norm(positions - positions[0] - np.arange(len(ranks))[:, None] * step, axis=1)
    allowed = max(POSITION_ROUNDING_MM, EVEN_SPACING_SHARE * spacing)
    if misplaced.max() > allowed:
        gaps = np.diff(places[order])
        sentence = (
            f"{_slices(len(ranks))}, unevenly spaced: gaps of {gaps.min():.2f} to {gaps.max():.2f} mm, "
            f"median {np.median(gaps):.2f} mm (slices may be missing)"
        )
        return Geometry(ranks, False, None, (float("nan"), rows_mm, columns_mm), sentence)
    affine = affine_of(positions[0], orientation, (rows_mm, columns_mm), step)
    spacing_mm = (spacing, rows_mm, columns_mm)
    sideways_mm = float(np.linalg.norm(step - spacing * normal))
    drift_mm = sideways_mm * (len(ranks) - 1)
    tilt = float(np.degrees(np.arctan2(sideways_mm, spacing)))
    if tilt > TILT_TOLERANCE_DEGREES and drift_mm > POSITION_ROUNDING_MM:
        sentence = (
            f"{_slices(len(ranks))}, {spacing:.2f} mm apart, sheared by {tilt:.1f} degrees (gantry tilt)"
        )
        return Geometry(ranks, False, affine, spacing_mm, sentence)
    if len(ranks) < MIN_VOLUME_SLICES:
        sentence = f"{_slices(len(ranks))}, {spacing:.2f} mm apart: too few to show an even spacing"
        return Geometry(ranks, False, affine, spacing_mm, sentence)
    return Geometry(
        ranks, True, affine, spacing_mm, f"volume of {_slices(len(ranks))}, {spacing:.2f} mm apart"
    )


def affine_of(
    origin_mm: Sequence[float] | Vector,
    orientation: Sequence[float],
    pixel_spacing_mm: Sequence[float],
    step_mm: Sequence[float] | Vector,
) -> Vector:
    """The affine of slices (PS3.3 equation C.7.6.2.1-1, with the slice axis first).

    Args:
        origin_mm: centre of the first pixel of the first slice.
        orientation: direction along a row, direction along a column.
        pixel_spacing_mm: between rows, between columns.
        step_mm: from a slice to the next, in LPS.

    Returns:
        [4, 4]: (slice, row, column, 1) to LPS mm.
    """
    affine = np.eye(4)
    affine[:3, 0] = step_mm
    affine[:3, 1] = np.asarray(orientation[3:], float) * pixel_spacing_mm[0]  # down a column, from row to row
    affine[:3, 2] = np.asarray(orientation[:3], float) * pixel_spacing_mm[1]
    affine[:3, 3] = origin_mm
    return affine


def _slices(n: int) -> str:
    return "1 slice" if n == 1 else f"{n} slices"
