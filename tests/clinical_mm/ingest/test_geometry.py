"""Order, spacing and affine of slices, against numbers worked out by hand or by construction."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinical_mm.ingest.geometry import affine_of, multiplicity, normal_of, parallel_geometry

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def rotation(a: float, b: float, c: float) -> np.ndarray:
    def about(axis: int, angle: float) -> np.ndarray:
        i, j = [(1, 2), (0, 2), (0, 1)][axis]
        matrix = np.eye(3)
        matrix[[i, j], [i, j]] = np.cos(angle)
        matrix[i, j], matrix[j, i] = -np.sin(angle), np.sin(angle)
        return matrix

    return about(0, a) @ about(1, b) @ about(2, c)


angles = st.floats(-np.pi, np.pi)
places = st.floats(-500, 500)
spacings = st.floats(0.2, 8)


@given(
    st.tuples(angles, angles, angles),
    st.tuples(places, places, places),
    st.tuples(spacings, spacings, spacings),
    st.integers(3, 30),
    st.randoms(),
)
def test_the_affine_places_every_pixel_where_the_scanner_had_it(turn, origin_mm, spacing_mm, n, random):
    turned = rotation(*turn)
    gap_mm, rows_mm, columns_mm = spacing_mm
    row, column, normal = turned[:, 0], turned[:, 1], turned[:, 2]
    origin = np.array(origin_mm)
    positions = [origin + i * gap_mm * normal for i in range(n)]
    shuffled = list(range(n))
    random.shuffle(shuffled)

    geometry = parallel_geometry(
        [positions[i] for i in shuffled], (*row, *column), (rows_mm, columns_mm), slice_thickness_mm=None
    )

    assert [shuffled[i] for i in geometry.order] == list(range(n))
    assert geometry.is_volume
    assert geometry.spacing_mm == pytest.approx((gap_mm, rows_mm, columns_mm))
    s, r, k = n - 1, 17, 5
    expected = origin + s * gap_mm * normal + r * rows_mm * column + k * columns_mm * row  # PS3.3 C.7.6.2.1.1
    assert geometry.affine @ [s, r, k, 1] == pytest.approx([*expected, 1], abs=1e-6)


@given(st.integers(4, 40), st.data(), spacings)
def test_a_missing_slice_is_never_a_volume(n, data, gap_mm):
    missing = data.draw(st.integers(1, n - 2))  # the first or last could not be known to be missing
    positions = [(0.0, 0.0, i * gap_mm) for i in range(n) if i != missing]
    geometry = parallel_geometry(positions, AXIAL, (1.0, 1.0), None)
    assert not geometry.is_volume
    assert geometry.affine is None
    assert np.isnan(geometry.spacing_mm[0])
    assert "unevenly spaced" in geometry.sentence


@given(st.lists(st.floats(-0.005, 0.005), min_size=60, max_size=60), st.sampled_from([0.6, 1.0, 5.0]))
def test_positions_rounded_to_hundredths_are_still_even(errors, gap_mm):
    positions = [(0.0, 0.0, i * gap_mm + error) for i, error in enumerate(errors)]
    assert parallel_geometry(positions, AXIAL, (1.0, 1.0), None).is_volume


@pytest.mark.parametrize(
    ("orientation", "normal"), [(AXIAL, (0, 0, 1)), (CORONAL, (0, 1, 0)), (SAGITTAL, (-1, 0, 0))]
)
def test_normals_of_the_three_planes(orientation, normal):
    assert normal_of(orientation) == pytest.approx(normal)


def test_sagittal_slices_are_sorted_towards_the_right():
    positions = [(x, 0.0, 0.0) for x in (2.0, -1.0, 5.0)]
    geometry = parallel_geometry(positions, SAGITTAL, (1.0, 1.0), None)
    assert geometry.order == (2, 0, 1)  # the normal of (posterior, feet) points to the patient's right
    assert geometry.affine[:3, 0] == pytest.approx([-3, 0, 0])


def test_a_sheared_stack_keeps_its_true_affine_and_is_no_volume():
    shift = np.tan(np.radians(15)) * 5
    positions = [(0.0, i * shift, i * 5.0) for i in range(10)]
    geometry = parallel_geometry(positions, AXIAL, (0.5, 0.5), None)
    assert not geometry.is_volume
    assert "sheared by 15.0 degrees" in geometry.sentence
    assert geometry.affine @ [9, 0, 0, 1] == pytest.approx([0, 9 * shift, 45, 1])
    assert geometry.spacing_mm[0] == pytest.approx(5)


def test_two_slices_do_not_show_an_even_spacing():
    assert not parallel_geometry([(0, 0, 0), (0, 0, 50)], AXIAL, (1, 1), None).is_volume


def test_one_slice_steps_by_its_thickness():
    geometry = parallel_geometry([(1, 2, 3)], CORONAL, (0.5, 0.25), 4.0)
    expected = [[0, 0, 0.25, 1], [4, 0, 0, 2], [0, -0.5, 0, 3], [0, 0, 0, 1]]
    assert geometry.affine == pytest.approx(np.array(expected))
    assert not geometry.is_volume


def test_without_a_pixel_spacing_there_is_no_affine():
    geometry = parallel_geometry([(0, 0, i) for i in range(4)], AXIAL, None, None)
    assert geometry.affine is None
    assert geometry.spacing_mm is None
    assert not geometry.is_volume


def test_row_spacing_belongs_to_the_column_direction():
    affine = affine_of((0, 0, 0), AXIAL, (3.0, 2.0), (0, 0, 1))
    assert affine @ [0, 1, 0, 1] == pytest.approx([0, 3, 0, 1])
    assert affine @ [0, 0, 1, 1] == pytest.approx([2, 0, 0, 1])


def test_slices_closer_than_rounding_are_at_one_position():
    assert multiplicity(np.array([0.0, 5.0, 5.004, 10.0, 4.998])) == 3
    assert multiplicity(np.array([0.0, 0.02, 0.04])) == 1
