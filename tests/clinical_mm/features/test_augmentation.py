"""Augmentation: random, repeatable, and harmless to what it was given."""

import numpy as np
import pytest

from clinical_mm.features.augmentation import ImageAugmentation, WordDropout
from clinical_mm.features.text import TextWindow

SHAPES = {2: (1, 12, 14), 3: (1, 8, 12, 14)}


def picture(spatial_dims: int) -> np.ndarray:
    return np.random.default_rng(0).random(SHAPES[spatial_dims]).astype(np.float32)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_a_draw_depends_on_seed_epoch_patient_and_place_alone(spatial_dims: int) -> None:
    image = picture(spatial_dims)
    used, fresh = ImageAugmentation(spatial_dims, 5), ImageAugmentation(spatial_dims, 5)
    for place in range(20):
        used(image, 0, 0, place)  # what came before does not matter
    keys = [(e, p, i) for e in range(3) for p in range(3) for i in range(3)]
    first = [used(image, *key) for key in keys]
    for key, expected in reversed(list(zip(keys, first, strict=True))):
        np.testing.assert_array_equal(fresh(image, *key), expected)
    # One in 32 (2D) or fewer draws changes nothing; most are unlike one another.
    assert len({a.tobytes() for a in first}) > 20
    other = ImageAugmentation(spatial_dims, 6)
    n_same = sum(np.array_equal(other(image, *key), a) for key, a in zip(keys, first, strict=True))
    assert n_same < 5


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_an_image_keeps_its_shape_and_range_and_is_not_changed_itself(spatial_dims: int) -> None:
    image = picture(spatial_dims)
    image.flags.writeable = True
    before = image.copy()
    augmentation = ImageAugmentation(spatial_dims, 0)
    for place in range(30):
        found = augmentation(image, 0, 0, place)
        assert (found.shape, found.dtype) == (image.shape, np.float32)
        assert 0 <= found.min() <= found.max() <= 1
        np.testing.assert_array_equal(image, before)


def test_what_is_shown_stays_within_ten_degrees_of_a_flip() -> None:
    # A disc off the middle: flipped or turned, its centre keeps its distance from the middle of the image.
    y, x = np.mgrid[:65, :65] - 32
    disc = (((y - 16) ** 2 + (x - 8) ** 2) < 30).astype(np.float32)[None]
    augmentation = ImageAugmentation(2, 1)
    angles = []
    for place in range(60):
        found = augmentation(disc, 0, 0, place)[0]
        weight = np.where(found > 0.5, 1.0, 0.0)
        centre = np.array([(weight * y).sum(), (weight * x).sum()]) / weight.sum()
        assert np.hypot(*centre) == pytest.approx(np.hypot(16, 8), abs=0.6)
        angles.append(np.degrees(np.arctan2(abs(centre[0]), abs(centre[1]))))
    upright = np.degrees(np.arctan2(16, 8))
    assert np.abs(np.array(angles) - upright).max() < 11.5
    assert np.ptp(angles) > 8  # it does turn


def test_augmentations_of_a_worker_do_not_touch_the_global_random_state() -> None:
    np.random.seed(3)
    expected = np.random.get_state()[1].copy()  # type: ignore[index]
    ImageAugmentation(2, 0)(picture(2), 0, 0, 0)
    np.testing.assert_array_equal(np.random.get_state()[1], expected)  # type: ignore[index]


def window(n_words: int) -> TextWindow:
    ids = np.r_[2, np.arange(10, 10 + n_words), 3].astype(np.int64)
    starts = np.r_[-1, np.arange(n_words), -1].astype(np.int64)
    return TextWindow("letters", "1", ids, starts, np.where(starts < 0, -1, starts + 1))


def test_as_many_words_as_declared_are_hidden_and_no_special_token() -> None:
    long = window(2000)
    read = WordDropout(0.3, 4, seed=1)(long, 0, 0, 0)
    is_hidden = read == 4
    assert is_hidden[1:-1].mean() == pytest.approx(0.3, abs=0.04)  # four standard deviations
    assert read[[0, -1]].tolist() == [2, 3]
    np.testing.assert_array_equal(read[~is_hidden], long.input_ids[~is_hidden])
    assert long.input_ids[1:-1].min() == 10


def test_which_words_are_hidden_depends_on_seed_epoch_patient_and_window_alone() -> None:
    hide, keys = (
        WordDropout(0.5, 4, seed=1),
        [(e, p, w) for e in range(2) for p in range(2) for w in range(2)],
    )
    first = [hide(window(40), *key) for key in keys]
    for key, expected in reversed(list(zip(keys, first, strict=True))):
        np.testing.assert_array_equal(WordDropout(0.5, 4, seed=1)(window(40), *key), expected)
    assert len({read.tobytes() for read in first}) == len(keys)
    assert WordDropout(0.5, 4, seed=2)(window(40), 0, 0, 0).tolist() != first[0].tolist()
