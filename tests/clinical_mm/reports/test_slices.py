import io

import numpy as np
from PIL import Image

from clinical_mm.explain.grids import ImageAttribution
from clinical_mm.reports.slices import (
    Window,
    overlaid_slices,
    percentile_window,
    sampled,
    strongest_slices,
)

OPTIONS = {"spacing_mm": (1.0, 1.0), "is_inverted": False, "at_most": 1, "strongest": 1.0}


def opened(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png))


def test_the_overlay_lies_on_the_pixels_that_the_attribution_came_from() -> None:
    volume = np.zeros((30, 60, 80), dtype=np.int16)
    # The grid covers the volume's middle alone; index (d, r, c) is at slice 25 − d, row 10 + 2r, column 20 + 2c.
    to_volume = np.array([[-1, 0, 0, 25], [0, 2, 0, 10], [0, 0, 2, 20], [0, 0, 0, 1]], dtype=float)
    values = np.zeros((20, 20, 20), dtype=np.float32)
    values[5, 8, 12] = 1.0  # slice 20, row 26, column 44
    image = ImageAttribution("ct", "u#0", 0, values, to_volume, None)
    (shown,) = overlaid_slices(volume, image, Window(0, 1), **{**OPTIONS, "strongest": 0.1, "max_pixels": 80})
    assert shown.index == 20
    overlay = np.asarray(opened(shown.overlay).convert("RGBA"))
    # 60 × 80 pixels of 1 mm are shown as they are, but for the least size of 192 that the limit of 80 overrides.
    assert overlay.shape == (60, 80, 4)
    row, column = np.unravel_index(int(overlay[..., 3].argmax()), (60, 80))
    assert abs(row - 26) <= 1
    assert abs(column - 44) <= 1
    assert overlay[40:, :, 3].max() == 0
    assert overlay[row, column, 0] > overlay[row, column, 2], "a positive attribution is orange"


def test_sampling_at_the_grids_own_points_gives_its_values() -> None:
    values = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    found = sampled(values, np.eye(4), 2, rows=5, columns=6, step=1.0)
    np.testing.assert_allclose(found, values[2], rtol=1e-6)


def test_a_single_slice_is_drawn_on_its_own_slice_alone() -> None:
    values = np.ones((1, 4, 4), dtype=np.float32)
    matrix = np.eye(4)
    matrix[0, 3] = -3.0
    assert sampled(values, matrix, 3, rows=4, columns=4, step=1.0).min() == 1.0
    assert sampled(values, matrix, 2, rows=4, columns=4, step=1.0).max() == 0.0


def test_neighbouring_slices_do_not_take_all_places() -> None:
    magnitude = [0.0] * 300
    magnitude[100:109] = [9.0] * 9
    magnitude[200] = 1.0
    assert strongest_slices(magnitude, 2) == [100, 200]
    assert strongest_slices([0.0, 0.0], 3) == []


def test_inverted_images_show_low_values_bright() -> None:
    volume = np.zeros((1, 8, 8), dtype=np.int16)
    volume[0, :, 4:] = 100
    image = ImageAttribution("cr", "u#0", 0, np.ones((1, 8, 8), dtype=np.float32), np.eye(4), None)
    options = {**OPTIONS, "max_pixels": 8}
    (plain,) = overlaid_slices(volume, image, Window(0, 100), **options)
    (turned,) = overlaid_slices(volume, image, Window(0, 100), **{**options, "is_inverted": True})
    assert np.asarray(opened(plain.picture))[4, 0] == 0
    assert np.asarray(opened(turned.picture))[4, 0] == 255


def test_a_picture_is_square_in_millimetres() -> None:
    volume = np.zeros((1, 100, 100), dtype=np.int16)
    image = ImageAttribution(
        "us", "u#0", 0, np.ones((1, 10, 10), dtype=np.float32), np.diag([1, 10, 10, 1.0]), None
    )
    (shown,) = overlaid_slices(volume, image, Window(0, 1), **{**OPTIONS, "spacing_mm": (2.0, 1.0)})
    assert shown.height == 2 * shown.width


def test_a_flat_volume_still_has_a_window() -> None:
    window = percentile_window(np.full((2, 4, 4), 7, dtype=np.int16))
    assert window.high > window.low
