"""Images of patients: in order, in millimetres, and back out of an emptied cache."""

import shutil

import numpy as np
import pytest
from monai.transforms import SpatialResample

from clinical_mm.errors import StoreError

STEP = 1 / 1024
"""Of what is stored as float16 in [0, 1], twice the widest gap between two numbers."""


def oblique(spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """(slice, row, column, 1) to patient LPS mm, of a tilted and turned gantry."""
    a, b = 0.3, -0.2
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    axes = (turn @ tilt)[:, [2, 1, 0]]  # slices along z, rows along y, columns along x
    affine[:3, :3] = axes * np.array(spacing_mm)
    affine[:3, 3] = (-120.0, 35.5, 410.25)
    return affine


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("spacing_mm", [None, [4.0, 2.0, 2.0]])
def test_a_voxel_lies_in_the_patient_where_its_affine_says(world, built, axis, spacing_mm) -> None:  # type: ignore[no-untyped-def]
    # Each voxel's value is a coordinate of its own centre in the patient: what a tensor shows says where it is.
    spacing, shape = (5.0, 0.8, 0.9), (24, 40, 44)
    affine = oblique(spacing)
    centres = np.stack([*np.indices(shape), np.ones(shape)], axis=-1) @ affine.T
    world.patient("p")
    world.image("p", centres[..., axis], affine=affine.ravel().tolist(), spacing_mm=list(spacing))
    low, high = float(centres[..., axis].min()), float(centres[..., axis].max())
    image = {"size": [10, 12, 14], "intensity": "window", "window_hu": [low, high]}
    (found,) = built({"image": image | ({} if spacing_mm is None else {"spacing_mm": spacing_mm})}).images(
        "p"
    )
    shown_mm = found.tensor[0] * (high - low) + low
    grid = np.stack([*np.indices((10, 12, 14)), np.ones((10, 12, 14))], axis=-1)
    said_mm = (grid @ found.grid_affine.T)[..., axis]
    in_volume = (grid @ found.grid_to_volume.T)[..., :3]
    reach = np.maximum(np.diag(found.grid_to_volume)[:3], 1) / 2
    is_inner = ((in_volume > reach) & (in_volume < np.array(shape) - 1 - reach)).all(axis=-1)
    assert is_inner.sum() > 100
    np.testing.assert_allclose(shown_mm[is_inner], said_mm[is_inner], atol=2 * STEP * (high - low))
    if spacing_mm is not None:
        np.testing.assert_allclose(np.linalg.norm(found.grid_affine[:3, :3], axis=0), spacing_mm)


def test_a_finer_grid_is_monais_resampling_to_the_same_affine(world, built) -> None:  # type: ignore[no-untyped-def]
    volume = np.random.default_rng(2).random((9, 10, 11)) * 100
    affine = oblique((3.0, 1.5, 1.5))
    world.patient("p")
    world.image("p", volume, affine=affine.ravel().tolist(), spacing_mm=[3.0, 1.5, 1.5])
    image = {"size": [9, 9, 9], "spacing_mm": [1, 1, 1], "intensity": "window", "window_hu": [0, 100]}
    (found,) = built({"image": image}).images("p")
    from monai.data import MetaTensor

    source = MetaTensor(volume[None].astype(np.float32), affine=affine)
    resample = SpatialResample(mode="bilinear", padding_mode="border", align_corners=True, dtype=np.float64)
    expected = resample(source, dst_affine=found.grid_affine, spatial_size=(9, 9, 9))
    np.testing.assert_allclose(found.tensor[0], np.asarray(expected)[0] / 100, atol=2 * STEP)


def test_images_come_in_reading_order_with_the_row_of_their_series(world, built) -> None:  # type: ignore[no-untyped-def]
    ramp = np.arange(64, dtype=np.int16).reshape(4, 4, 4)
    world.patient("p")
    world.patient("q")
    first = world.image("p", ramp, modality="CT", description="arterial")
    other = world.image("q", ramp[::-1].copy(), modality="MR", affine=[], spacing_mm=[])
    second = world.image("p", 64 - ramp, modality="CT", description="venous")
    for item in world.items:  # the cohort prefers the later one
        item["rank"] = 1 - item["rank"] if item["patient_id"] == "p" else 0
    features = built({"image": {"size": [4, 4, 4], "max_series": 2}})
    assert [i.item_id for i in features.images("p")] == [second, first]
    assert [i.series["description"] for i in features.images("p")] == ["venous", "arterial"]
    assert features.images("p")[0].series["modality"] == "CT"
    (image,) = features.images("q")
    assert (image.item_id, image.series["modality"], image.grid_affine) == (other, "MR", None)
    assert features.images("nobody") == []


def test_what_gives_no_image_is_left_out_by_reason(world, built) -> None:  # type: ignore[no-untyped-def]
    ramp = np.arange(64, dtype=np.int16).reshape(4, 4, 4)
    for patient in "abc":
        world.patient(patient)
    world.image("a", ramp)
    world.image("a", np.full((4, 4, 4), 7, dtype=np.int16))
    world.image("b", None)
    world.image("c", ramp, content_hash="other", shape=[4, 4, 5])
    features = built({"image": {"size": [4, 4, 4], "max_series": 2}})
    left_out = {(r.patient_id, r.reason): r.n for r in features.left_out().itertuples()}
    assert left_out == {("a", "no_contrast"): 1, ("b", "volume_missing"): 1, ("c", "volume_damaged"): 1}
    assert len(features.images("a")) == 1
    assert [features.present(p).tolist() for p in "abc"] == [[True], [False], [False]]


def test_slices_that_are_not_taken_are_left_out_by_count(world, built) -> None:  # type: ignore[no-untyped-def]
    world.patient("p")
    world.image("p", np.random.default_rng(0).integers(0, 9, (10, 4, 4)).astype(np.int16))
    features = built({"image": {"spatial_dims": 2, "size": [4, 4], "slices_per_series": 3}})
    (row,) = features.left_out().itertuples()
    assert (row.reason, row.n, len(features.images("p"))) == ("slices_not_taken", 7, 3)
    # Slices 1, 5 and 8 of 10: the affine of each is that of its own slice.
    assert [i.grid_affine[0, 3] for i in features.images("p")] == [1, 5, 8]


def test_an_emptied_cache_gives_the_same_images_again(world, built) -> None:  # type: ignore[no-untyped-def]
    world.patient("p")
    world.image("p", np.random.default_rng(1).integers(0, 900, (6, 7, 8)).astype(np.int16))
    features = built({"image": {"spatial_dims": 2, "size": [5, 5], "slices_per_series": 2}})
    before = [np.array(i.tensor) for i in features.images("p")]
    np.testing.assert_array_equal(features.image_tensors("p"), before)
    shutil.rmtree(world.store.cache("images"))
    alone = features.image_tensors("p")
    shutil.rmtree(world.store.cache("images"))
    after = [i.tensor for i in features.images("p")]
    np.testing.assert_array_equal(alone, before)
    np.testing.assert_array_equal(after, before)


def test_an_image_neither_cached_nor_in_the_store_is_an_error_that_says_what_to_do(world, built) -> None:  # type: ignore[no-untyped-def]
    world.patient("p")
    world.image("p", np.arange(64).reshape(4, 4, 4))
    features = built({"image": {"size": [4, 4, 4]}})
    shutil.rmtree(world.store.cache("images"))
    shutil.rmtree(world.store.volumes)
    with pytest.raises(StoreError, match="ingest its delivery again"):
        features.images("p")


def test_the_same_volume_of_two_patients_is_prepared_once(world, built) -> None:  # type: ignore[no-untyped-def]
    ramp = np.arange(64, dtype=np.int16).reshape(4, 4, 4)
    for patient in "ab":
        world.patient(patient)
        world.image(patient, ramp)
    built({"image": {"size": [4, 4, 4]}})
    assert len(list(world.store.cache("images").rglob("*.npy"))) == 1
