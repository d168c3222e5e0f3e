"""Image augmentation in training: flips, small rotations, and shifts of brightness and contrast, by MONAI.

A draw depends on the seed, the epoch, the patient and the image alone: not on the worker that makes it, nor on what
came before. Test and validation images are never changed.
"""

import math

import numpy as np
import numpy.typing as npt
import torch
from monai.transforms.compose import Compose
from monai.transforms.intensity.array import RandScaleIntensity, RandShiftIntensity
from monai.transforms.spatial.array import RandFlip, RandRotate

ROTATION_RAD = math.radians(10)
INTENSITY_SCALE = 0.1
INTENSITY_SHIFT = 0.1
_CHANCE = 0.5


class Augmentation:
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
