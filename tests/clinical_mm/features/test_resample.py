"""Resampling against scipy, torch and quadrature, and the exact place of every new voxel."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, ndimage

from clinical_mm.features.resample import Axis, Grid, Resampler


def resampled(volume: np.ndarray, grid: Grid, run: int | None = None) -> np.ndarray:
    resampler = Resampler(grid)
    step = run or len(volume)
    for first in range(0, len(volume), step):
        part = slice(first, min(first + step, len(volume)))
        if resampler.needs(part):
            resampler.add(part, volume[part].astype(np.float32))
    return resampler.result()


@pytest.fixture
def volume() -> np.ndarray:
    return np.random.default_rng(0).random((7, 9, 11)).astype(np.float32)


@pytest.mark.parametrize("size", [(7, 9, 11), (14, 18, 22), (10, 9, 33)])
def test_a_finer_grid_is_torchs_trilinear_interpolation(
    volume: np.ndarray, size: tuple[int, int, int]
) -> None:
    grid = Grid(*(Axis.resized(n, m) for n, m in zip(volume.shape, size, strict=True)))
    tensor = torch.from_numpy(volume)[None, None]
    expected = torch.nn.functional.interpolate(tensor, size=size, mode="trilinear", align_corners=False)
    np.testing.assert_allclose(resampled(volume, grid), expected[0, 0].numpy(), atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.73])
def test_a_spaced_grid_is_scipys_affine_transform(volume: np.ndarray, scale: float) -> None:
    size = (6, 9, 7)  # stays inside the field, about the same middle
    grid = Grid(*(Axis.spaced(n, m, scale) for n, m in zip(volume.shape, size, strict=True)))
    expected = ndimage.affine_transform(volume, grid.to_volume, output_shape=size, order=1, mode="nearest")
    np.testing.assert_allclose(resampled(volume, grid), expected, atol=1e-5)


def test_beyond_the_field_is_nothing_and_within_it_scipys_values(volume: np.ndarray) -> None:
    size = (13, 15, 17)  # three voxels of padding on either side
    grid = Grid(*(Axis.spaced(n, m, 1.0) for n, m in zip(volume.shape, size, strict=True)))
    expected = np.pad(volume, 3)
    np.testing.assert_allclose(resampled(volume, grid), expected, atol=1e-6)


@pytest.mark.parametrize(("n_in", "n_out"), [(12, 5), (12, 3), (7, 6), (40, 1)])
def test_a_coarser_axis_averages_the_interpolated_values_over_a_box(n_in: int, n_out: int) -> None:
    values = np.random.default_rng(1).random(n_in)
    axis = Axis.resized(n_in, n_out)
    box = np.sqrt((n_in / n_out) ** 2 - 1)
    found = axis.weights() @ values

    def at(x: float) -> float:
        return float(np.interp(x, np.arange(n_in), values))

    for o in range(n_out):
        centre = (o + 0.5) * n_in / n_out - 0.5
        low, high = centre - box / 2, centre + box / 2
        kinks = [k for k in range(n_in) if low < k < high]
        mean = integrate.quad(at, low, high, points=kinks or None, limit=200)[0] / box
        assert found[o] == pytest.approx(mean, abs=1e-5)


def test_alternating_slices_do_not_alias() -> None:
    # Every second voxel is 1: at half the resolution all voxels are 0.5, picking voxels would give 0 or 1.
    values = np.arange(64) % 2
    found = Axis.resized(64, 32).weights() @ values
    np.testing.assert_allclose(found[2:-2], 0.5, atol=0.07)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.2, 6))
def test_shares_sum_to_one_inside_the_field_and_to_none_outside(n_in: int, n_out: int, scale: float) -> None:
    for axis in (Axis.resized(n_in, n_out), Axis.spaced(n_in, n_out, scale)):
        centres = axis.scale * np.arange(n_out) + axis.offset
        sums = axis.weights().sum(axis=1)
        is_inside = (centres >= -0.5) & (centres <= n_in - 0.5)
        is_clearly_outside = (centres < -0.501) | (centres > n_in - 0.499)
        np.testing.assert_allclose(sums[is_inside], 1, atol=1e-4)
        assert not sums[is_clearly_outside].any()
        assert (axis.weights() >= -1e-6).all()


@settings(deadline=None)
@given(st.integers(2, 40), st.integers(1, 40), st.floats(0.2, 6))
def test_a_new_voxel_shows_the_place_that_the_grid_says(n_in: int, n_out: int, scale: float) -> None:
    # A ramp whose value is the index of the voxel: away from the edges, each new value is its own source index.
    for axis in (Axis.resized(n_in, n_out), Axis.spaced(n_in, n_out, scale)):
        grid = Grid(Axis.single(1, 0), Axis.single(1, 0), axis)
        places = (grid.to_volume @ np.array([[0, 0, o, 1] for o in range(n_out)]).T)[2]
        reach = np.sqrt(max(axis.scale**2 - 1, 0)) / 2
        is_inner = (places - reach >= 0) & (places + reach <= n_in - 1)
        found = axis.weights() @ np.arange(n_in)
        np.testing.assert_allclose(found[is_inner], places[is_inner], atol=1e-3)


def test_the_field_of_view_keeps_its_edges_when_resized() -> None:
    axis = Axis.resized(10, 4)  # 2.5 voxels each: the first reaches from -0.5 to 2
    edges = axis.scale * np.array([-0.5, 3.5]) + axis.offset
    np.testing.assert_allclose(edges, [-0.5, 9.5])


def test_a_spaced_grid_keeps_the_middle() -> None:
    axis = Axis.spaced(10, 7, 1.7)
    assert axis.scale * 3 + axis.offset == pytest.approx(4.5)


@pytest.mark.parametrize("run", [1, 2, 3, 7])
def test_slices_may_come_in_any_runs(volume: np.ndarray, run: int) -> None:
    grid = Grid(Axis.resized(7, 4), Axis.resized(9, 5), Axis.spaced(11, 6, 2.0))
    np.testing.assert_allclose(resampled(volume, grid, run), resampled(volume, grid), atol=1e-6)


def test_one_slice_is_taken_as_it_is(volume: np.ndarray) -> None:
    grid = Grid(Axis.single(7, 5), Axis.resized(9, 9), Axis.resized(11, 11))
    np.testing.assert_allclose(resampled(volume, grid, 1)[0], volume[5], atol=1e-6)
    resampler = Resampler(grid)
    assert [resampler.needs(slice(i, i + 1)) for i in range(7)] == [False] * 5 + [True, False]
