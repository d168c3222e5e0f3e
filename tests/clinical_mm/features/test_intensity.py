"""Stored values to intensities, by hand and by pydicom's own windowing."""

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import apply_windowing

from clinical_mm.features import intensity
from clinical_mm.features.intensity import UnusableImageError, chunks, luminance, scale_of
from clinical_mm.study.tasks import ImageModality

WINDOW = ImageModality(intensity="window", window_hu=(-100, 300))
HEADER = ImageModality(intensity="header")
PERCENTILE = ImageModality(intensity="percentile")


def column(*values: float, dtype: type = np.int16) -> np.ndarray:
    return np.array(values, dtype=dtype).reshape(len(values), 1, 1)


def test_a_window_maps_its_ends_to_dark_and_bright_and_cuts_off_beyond() -> None:
    volume = column(-1000, -100, 0, 100, 300, 3000)
    scale = scale_of(volume, False, False, None, WINDOW)
    assert scale(volume, False).ravel().tolist() == [0, 0, 0.25, 0.5, 1, 1]


def test_low_values_of_monochrome1_are_bright() -> None:
    volume = column(-1000, -100, 0, 100, 300, 3000)
    scale = scale_of(volume, False, True, None, WINDOW)
    assert scale(volume, False).ravel().tolist() == [1, 1, 0.75, 0.5, 0, 0]


@pytest.mark.parametrize("is_inverted", [False, True])
def test_a_value_that_is_no_number_is_dark(is_inverted: bool) -> None:
    volume = column(np.nan, np.inf, -np.inf, 300, 100, dtype=np.float32)
    found = scale_of(volume, False, is_inverted, None, WINDOW)(volume, False).ravel()
    assert found.tolist() == [0, 0, 0, *([0, 0.5] if is_inverted else [1, 0.5])]


@pytest.mark.parametrize(("centre", "width"), [(40, 400), (50.5, 351), (-600, 1500), (128, 2)])
def test_the_headers_window_is_the_standards_linear_function(centre: float, width: float) -> None:
    stored = np.arange(-1024, 3072, dtype=np.int16)
    volume = stored.reshape(-1, 1, 1)
    dataset = Dataset()
    dataset.WindowCenter, dataset.WindowWidth = centre, width
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsStored, dataset.PixelRepresentation = 16, 1
    shown = apply_windowing(stored, dataset)  # -32768 … 32767
    expected = (shown + 32768) / 65535
    found = scale_of(volume, False, False, (centre, width), HEADER)(volume, False).ravel()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_header_window_of_width_one_is_a_threshold() -> None:
    volume = column(8, 9, 10, 11)
    found = scale_of(volume, False, False, (10, 1), HEADER)(volume, False).ravel()
    assert found.tolist() == [0, 0, 1, 1]  # PS3.3 C.11.2.1.2.1: bright above 9.5


def test_percentiles_are_those_of_all_voxels() -> None:
    volume = np.random.default_rng(0).permutation(1001).astype(np.int16).reshape(7, 11, 13)
    scale = scale_of(volume, False, False, None, PERCENTILE)
    # Of 0 … 1000 the percentile p is 10 p.
    assert (scale.low, scale.high) == pytest.approx((5, 995))


def test_percentiles_of_a_large_volume_come_from_a_sample_of_every_column(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(intensity, "SAMPLED_VOXELS", 4000)
    volume = np.broadcast_to(np.arange(100, dtype=np.float32), (10, 20, 100)).copy()  # a ramp along each row
    scale = scale_of(volume, False, False, None, PERCENTILE)
    # Steps of 5 and 6 would see every fifth or second column of each row alone, and never the last.
    assert scale.low <= 1
    assert scale.high >= 98


def test_a_bright_spot_in_nothing_but_background_is_seen() -> None:
    volume = np.zeros((4, 32, 32), dtype=np.int16)
    volume[2, 5, 5] = 500
    scale = scale_of(volume, False, False, None, PERCENTILE)
    assert scale(volume, False)[2, 5, 5] == 1


def test_values_that_are_no_number_do_not_enter_the_percentiles() -> None:
    values = np.concatenate([np.arange(1001), np.full(500, np.nan), [np.inf]]).astype(np.float32)
    scale = scale_of(values.reshape(-1, 1, 1), False, False, None, PERCENTILE)
    assert (scale.low, scale.high) == pytest.approx((5, 995))


def test_colour_is_read_as_luminance() -> None:
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]], dtype=np.uint8)
    expected = [76.245, 149.685, 29.07, 255]  # 0.299 R + 0.587 G + 0.114 B
    np.testing.assert_allclose(luminance(colours), expected, rtol=1e-5)
    volume = colours.reshape(1, 2, 2, 3)
    settings = ImageModality(intensity="window", window_hu=(0, 255))
    found = scale_of(volume, True, False, None, settings)(volume, True)
    np.testing.assert_allclose(found.ravel(), np.array(expected) / 255, rtol=1e-5)


@pytest.mark.parametrize(
    ("volume", "settings", "reason"),
    [
        (column(7, 7, 7), WINDOW, "no_contrast"),
        (column(np.nan, np.inf, dtype=np.float32), WINDOW, "no_finite_value"),
        (column(1, 2), HEADER, "no_header_window"),
    ],
)
def test_what_gives_no_image_is_refused_by_name(
    volume: np.ndarray, settings: ImageModality, reason: str
) -> None:
    with pytest.raises(UnusableImageError) as caught:
        scale_of(volume, False, False, None, settings)
    assert caught.value.reason == reason


def test_unsigned_values_do_not_wrap() -> None:
    volume = column(0, 40000, 65535, dtype=np.uint16)
    settings = ImageModality(intensity="window", window_hu=(-1000, 65535))
    found = scale_of(volume, False, False, None, settings)(volume, False).ravel()
    np.testing.assert_allclose(found, [1000 / 66535, 41000 / 66535, 1], rtol=1e-5)


def test_the_runs_of_a_volume_cover_each_slice_once(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(intensity, "_CHUNK_VOXELS", 50)
    volume = np.zeros((11, 4, 6))  # two slices a run
    runs = chunks(volume)
    assert [(r.start, r.stop) for r in runs] == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10), (10, 11)]
    assert len(chunks(np.zeros((3, 100, 100)))) == 3  # never less than one
