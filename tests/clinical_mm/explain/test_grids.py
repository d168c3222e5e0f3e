import numpy as np
import pytest

from clinical_mm.explain.grids import ImageAttribution, on_grid


def image(values: np.ndarray, affine: np.ndarray | None = None) -> ImageAttribution:
    return ImageAttribution("ct", "1.2.3#0", 0, values.astype(np.float32), np.eye(4), affine)


def test_the_peak_is_found_in_voxels_and_in_the_patients_millimetres() -> None:
    values = np.zeros((8, 10, 12))
    values[5, 2, 7] = -4.0
    values[1, 1, 1] = 3.0
    # Slices 3 mm apart along z, rows 2 mm along y, columns 1.5 mm along x, from (-10, 20, 100).
    affine = np.array([[0, 0, 1.5, -10], [0, 2, 0, 20], [3, 0, 0, 100], [0, 0, 0, 1]], dtype=float)
    peak = image(values, affine).peak()
    assert peak.voxel == (5, 2, 7)
    assert peak.position_mm == pytest.approx((-10 + 7 * 1.5, 20 + 2 * 2, 100 + 5 * 3))


def test_smoothing_prefers_a_region_to_a_single_voxel() -> None:
    values = np.zeros((1, 40, 40))
    values[0, 5, 5] = 2.0
    values[0, 25:30, 25:30] = 1.0
    assert image(values).peak(smoothing_voxels=0.0).voxel == (0, 5, 5)
    assert image(values).peak(smoothing_voxels=2.0).voxel == (0, 27, 27)


def test_smoothing_in_millimetres_uses_the_spacing_of_each_axis() -> None:
    values = np.zeros((9, 9, 9))
    values[4, 4, 4] = 1.0
    affine = np.diag([5.0, 1.0, 1.0, 1.0])
    smooth = image(values, affine).smoothed(smoothing_mm=1.0)
    assert smooth[5, 4, 4] < 1e-3 * smooth[4, 5, 4]


def test_no_geometry_gives_no_position() -> None:
    peak = image(np.ones((1, 3, 3))).peak()
    assert peak.position_mm is None


def test_channels_are_summed_and_a_slice_becomes_a_grid_of_depth_one() -> None:
    assert on_grid(np.ones((3, 4, 5), dtype=np.float32)).shape == (1, 4, 5)
    assert on_grid(np.ones((3, 4, 5), dtype=np.float32)).max() == 3.0
    assert on_grid(np.ones((1, 2, 4, 5), dtype=np.float32)).shape == (2, 4, 5)
