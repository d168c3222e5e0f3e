"""Augmentation in training: images are flipped, turned a little, brightened or darkened (MONAI); words are hidden.

A draw depends on the seed, the epoch, the patient and the item alone: not on the worker that makes it, nor on what
came before. Test and validation patients are never changed.
"""

import math

import numpy as np
import numpy.typing as npt
import torch
from monai.transforms.compose import Compose
from monai.transforms.intensity.array import RandScaleIntensity, RandShiftIntensity
from monai.transforms.spatial.array import RandFlip, RandRotate

from clinical_mm.features.text import TextWindow

ROTATION_RAD = math.radians(10)
INTENSITY_SCALE = 0.1
INTENSITY_SHIFT = 0.1
_CHANCE = 0.5


class WordDropout:
    """Hides random words of a window behind the mask token, so that no single one can be learned by heart.

    Gal & Ghahramani, 2016, drop words in this way; behind the mask token, as in pretraining, their places stay.

    Args:
        chance: of every token that is not special.
        mask_token_id: what is read in its place.
        seed: of all draws.
    """

    def __init__(self, chance: float, mask_token_id: int, seed: int) -> None:
        self._chance, self._mask_token_id, self._seed = chance, mask_token_id, seed

    def __call__(
        self, window: TextWindow, epoch: int, patient_index: int, place: int
    ) -> npt.NDArray[np.int64]:
        """The token ids [l] of a window, some of them the mask token's."""
        drawn = np.random.default_rng((self._seed, epoch, patient_index, place)).random(len(window.input_ids))
        is_hidden = (drawn < self._chance) & (window.starts >= 0)
        return np.where(is_hidden, self._mask_token_id, window.input_ids)


class ImageAugmentation:
    """Random changes of an image tensor that leave what it shows as it is.

    Args:
        spatial_dims: 2 or 3.
        seed: of all draws.
    """

    def __init__(self, spatial_dims: int, seed: int) -> None:
        self._seed = seed
        rotation = RandRotate(
            range_x=ROTATION_RAD,
            range_y=ROTATION_RAD if spatial_dims == 3 else 0.0,
            range_z=ROTATION_RAD if spatial_dims == 3 else 0.0,
            prob=_CHANCE,
            mode="bilinear",
            padding_mode="zeros",
        )
        self._transform = Compose(
            [
                *(RandFlip(prob=_CHANCE, spatial_axis=axis) for axis in range(spatial_dims)),
                rotation,
                RandScaleIntensity(factors=INTENSITY_SCALE, prob=_CHANCE),
                RandShiftIntensity(offsets=INTENSITY_SHIFT, prob=_CHANCE),
            ]
        )

    def __call__(
        self, image: npt.NDArray[np.float32], epoch: int, patient_index: int, place: int
    ) -> npt.NDArray[np.float32]:
        """The image [channel, *size], changed; intensities stay in [0, 1]."""
        entropy = np.random.SeedSequence((self._seed, epoch, patient_index, place))
        self._transform.set_random_state(seed=int(entropy.generate_state(1)[0]))
        changed = torch.as_tensor(self._transform(torch.from_numpy(np.ascontiguousarray(image))))
        return np.asarray(changed.clamp(0, 1).numpy(), dtype=np.float32)
