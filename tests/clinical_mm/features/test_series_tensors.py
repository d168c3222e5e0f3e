"""A series as tensors: where each voxel lies, what gives no image, and what the cache keeps."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clinical_mm.features import intensity
from clinical_mm.features.intensity import UnusableImageError
from clinical_mm.features.series_tensors import SeriesVolume, prepare_series, read_tensor, series_grids
from clinical_mm.study.tasks import ImageModality

STEP = 1 / 1024
"""Of what is stored as float16 in [0, 1], twice the widest gap between two numbers."""


@pytest.fixture
def save(tmp_path: Path):  # type: ignore[no-untyped-def]
    """`save(array, **changes)` → the `SeriesVolume` of a file of it."""

    def save(array: np.ndarray, **changes: Any) -> SeriesVolume:
        name = f"{abs(hash((array.tobytes(), str(array.dtype), array.shape)))}"
        path = tmp_path / f"{name}.npy"
        np.save(path, array)
        own = {
            "path": path,
            "content_hash": name,
            "shape": array.shape[:3],
            "is_colour": array.ndim == 4,
            "is_inverted": False,
            "header_window": None,
            "spacing_mm": (1.0, 1.0, 1.0),
        }
        return SeriesVolume(**(own | changes))

    return save


def modality(**options: Any) -> ImageModality:
    return ImageModality.model_validate({"intensity": "window", "window_hu": (0, 100)} | options)


def test_a_voxel_of_a_volume_of_its_own_size_keeps_its_value(save, tmp_path) -> None:  # type: ignore[no-untyped-def]
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    tensors = prepare_series(save(array), modality(size=(3, 4, 5)), tmp_path)
    found = read_tensor(tmp_path, tensors.key, 0)
    assert found is not None
    assert found.shape == (1, 3, 4, 5)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found[0], array / 100, atol=STEP)
    assert (tensors.unusable, tensors.n_slices_not_taken, tensors.is_hit) == ({}, 0, False)
    np.testing.assert_array_equal(tensors.grids[0].to_volume, np.eye(4))


def test_spacing_is_that_which_the_study_asks_for(save) -> None:  # type: ignore[no-untyped-def]
    # 5 mm slices of 0.5 mm pixels, wanted at 2 mm: 0.4 slices and 4 pixels a voxel.
    (grid,) = series_grids((20, 512, 512), (5.0, 0.5, 0.5), modality(size=(8, 64, 64), spacing_mm=(2, 2, 2)))
    assert [grid.slices.scale, grid.rows.scale, grid.columns.scale] == pytest.approx([0.4, 4, 4])
    middle = grid.to_volume @ np.array([3.5, 31.5, 31.5, 1])
    np.testing.assert_allclose(middle[:3], [9.5, 255.5, 255.5])


@pytest.mark.parametrize("spacing", [None, (1.0, 0.0, 1.0), (1.0, float("nan"), 1.0)])
def test_a_series_without_spacing_gives_no_image_where_millimetres_are_asked_for(  # type: ignore[no-untyped-def]
    save, tmp_path, spacing
) -> None:
    settings = modality(size=(2, 2, 2), spacing_mm=(1, 1, 1))
    with pytest.raises(UnusableImageError):
        series_grids((4, 4, 4), spacing, settings)
    volume = save(np.arange(64).reshape(4, 4, 4), spacing_mm=spacing)
    found = prepare_series(volume, settings, tmp_path / "cache")
    assert (found.grids, found.unusable) == ({}, {"no_spacing": 1})
    assert prepare_series(volume, modality(size=(2, 2, 2)), tmp_path / "cache").grids  # resized: not needed


@pytest.mark.parametrize(
    ("n_slices", "per_series", "taken"),
    [(1, 1, [0]), (9, 1, [4]), (10, 1, [5]), (9, 3, [1, 4, 7]), (10, 5, [1, 3, 5, 7, 9]), (3, 8, [0, 1, 2])],
)
def test_slices_are_taken_evenly_and_the_others_are_counted(  # type: ignore[no-untyped-def]
    save, tmp_path, n_slices, per_series, taken
) -> None:
    array = np.random.default_rng(0).integers(0, 100, (n_slices, 6, 8)).astype(np.int16)
    settings = modality(spatial_dims=2, size=(6, 8), slices_per_series=per_series)
    found = prepare_series(save(array), settings, tmp_path)
    assert list(found.grids) == list(range(len(taken)))
    assert found.n_slices_not_taken == n_slices - len(taken)
    for member, index in enumerate(taken):
        tensor = read_tensor(tmp_path, found.key, member)
        assert tensor is not None
        assert tensor.shape == (1, 6, 8)
        np.testing.assert_allclose(tensor[0], array[index] / 100, atol=STEP)
        assert (found.grids[member].to_volume @ [0, 2, 3, 1]).tolist() == [index, 2, 3, 1]


def test_a_slice_that_shows_nothing_is_counted_and_the_others_keep_their_place(save, tmp_path) -> None:  # type: ignore[no-untyped-def]
    array = np.zeros((3, 4, 4), dtype=np.int16)
    array[0, 1, 1] = array[2, 2, 2] = 90
    settings = modality(spatial_dims=2, size=(4, 4), slices_per_series=3)
    for is_hit in (False, True):
        found = prepare_series(save(array), settings, tmp_path)
        assert (list(found.grids), found.unusable, found.is_hit) == ([0, 2], {"no_contrast": 1}, is_hit)
        last = read_tensor(tmp_path, found.key, 2)
        assert last is not None
        assert last[0, 2, 2] == pytest.approx(0.9, abs=STEP)


def test_a_series_wholly_beyond_the_window_gives_no_image(save, tmp_path) -> None:  # type: ignore[no-untyped-def]
    array = np.arange(200, 264, dtype=np.int16).reshape(4, 4, 4)
    found = prepare_series(save(array), modality(size=(4, 4, 4)), tmp_path)
    assert (found.grids, found.unusable) == ({}, {"no_contrast": 1})


@pytest.mark.parametrize("damage", ["missing", "short", "other shape"])
def test_a_volume_that_is_missing_or_damaged_is_counted(save, tmp_path, damage) -> None:  # type: ignore[no-untyped-def]
    volume = save(np.arange(64).reshape(4, 4, 4))
    reason = "volume_damaged"
    if damage == "missing":
        volume.path.unlink()
        reason = "volume_missing"
    elif damage == "short":
        volume.path.write_bytes(volume.path.read_bytes()[:-9])
    else:
        np.save(volume.path, np.arange(60).reshape(4, 3, 5))
    found = prepare_series(volume, modality(size=(4, 4, 4)), tmp_path / "cache")
    assert (found.grids, found.unusable) == ({}, {reason: 1})


def test_colour_gives_one_channel_of_luminance(save, tmp_path) -> None:  # type: ignore[no-untyped-def]
    array = np.zeros((1, 2, 2, 3), dtype=np.uint8)
    array[0, 0, 1] = (100, 0, 0)
    array[0, 1, 0] = (0, 100, 0)
    array[0, 1, 1] = (100, 100, 100)
    found = prepare_series(save(array), modality(spatial_dims=2, size=(2, 2)), tmp_path)
    tensor = read_tensor(tmp_path, found.key, 0)
    assert tensor is not None
    np.testing.assert_allclose(tensor[0], [[0, 0.299], [0.587, 1]], atol=STEP)


def test_a_volume_is_the_same_in_runs_as_whole(save, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    array = np.random.default_rng(3).integers(-50, 150, (13, 10, 12)).astype(np.int16)
    settings = modality(size=(5, 7, 9))
    whole = prepare_series(save(array), settings, tmp_path / "a")
    monkeypatch.setattr(intensity, "_CHUNK_VOXELS", 240)  # two slices
    parts = prepare_series(save(array), settings, tmp_path / "b")
    a, b = read_tensor(tmp_path / "a", whole.key, 0), read_tensor(tmp_path / "b", parts.key, 0)
    assert a is not None
    assert b is not None
    np.testing.assert_allclose(a, b, atol=STEP)


def test_settings_that_decide_the_tensors_give_another_key_and_others_do_not(save, tmp_path) -> None:  # type: ignore[no-untyped-def]
    volume = save(np.arange(64, dtype=np.int16).reshape(4, 4, 4), header_window=(30.0, 60.0))
    base = {"size": (3, 3, 3)}

    def key(**changes: Any) -> str:
        return prepare_series(volume, modality(**(base | changes)), tmp_path).key

    first = key()
    others = [
        key(size=(3, 3, 4)),
        key(spacing_mm=(1, 1, 1)),
        key(window_hu=(0, 99)),
        key(intensity="header", window_hu=None),
        key(intensity="percentile", window_hu=None),
        key(spatial_dims=2, size=(3, 3)),
        key(spatial_dims=2, size=(3, 3), slices_per_series=2),
    ]
    assert len({first, *others}) == len(others) + 1
    same = key(augment=False, network="DenseNet169", learning_rate=0.1, max_series=4, min_slices=2)
    assert same == first


def test_content_and_geometry_that_decide_the_tensors_give_another_key(save, tmp_path) -> None:  # type: ignore[no-untyped-def]
    array = np.arange(64, dtype=np.int16).reshape(4, 4, 4)
    resized, spaced = modality(size=(3, 3, 3)), modality(size=(3, 3, 3), spacing_mm=(1, 1, 1))

    def key(settings: ImageModality, values: np.ndarray = array, **changes: Any) -> str:
        return prepare_series(save(values, **changes), settings, tmp_path).key

    assert key(resized) == key(
        resized, spacing_mm=(2.0, 1.0, 1.0)
    )  # the whole field, whatever its size in mm
    assert key(spaced) != key(spaced, spacing_mm=(2.0, 1.0, 1.0))
    assert key(resized) != key(resized, array + 1)
    assert key(resized) != key(resized, is_inverted=True)
    assert key(resized) == key(resized, header_window=(1.0, 2.0))


def test_an_emptied_or_damaged_cache_gives_the_same_tensors_again(save, tmp_path) -> None:  # type: ignore[no-untyped-def]
    volume = save(np.random.default_rng(5).integers(0, 100, (6, 7, 8)).astype(np.int16))
    settings, folder = modality(size=(4, 4, 4)), tmp_path / "cache"
    first = prepare_series(volume, settings, folder)
    expected = read_tensor(folder, first.key, 0)
    assert expected is not None
    assert prepare_series(volume, settings, folder).is_hit
    (array,) = folder.rglob("*.npy")

    def truncate() -> None:
        array.write_bytes(array.read_bytes()[:-1])

    for damage in (
        lambda: shutil.rmtree(folder),
        truncate,
        array.unlink,
        array.with_suffix(".json").unlink,
    ):
        damage()
        again = prepare_series(volume, settings, folder)
        assert not again.is_hit
        found = read_tensor(folder, again.key, 0)
        assert found is not None
        np.testing.assert_array_equal(found, expected)
