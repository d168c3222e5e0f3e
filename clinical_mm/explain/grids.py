"""The attribution of an image on its own tensor grid, with the way back to its series and to the patient.

Arrays are [depth, height, width] (depth 1 for a single slice); a grid's affine takes (d, r, c, 1) to patient LPS mm.
Which slices a page shows does not belong here.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage


@dataclass(frozen=True)
class ImagePeak:
    """Where an image contributed most.

    Attributes:
        source: the source of the series.
        item_id: the series and stack.
        place: which of the patient's images, from 0.
        voxel: (d, r, c) on the tensor grid.
        position_mm: patient LPS, or None where the image has no geometry.
        value: the smoothed magnitude there.
    """

    source: str
    item_id: str
    place: int
    voxel: tuple[int, int, int]
    position_mm: tuple[float, float, float] | None
    value: float


@dataclass(frozen=True)
class ImageAttribution:
    """What every voxel of one image contributed, channels summed.

    Attributes:
        source: the source of the series.
        item_id: the series and stack.
        place: which of the patient's images, from 0.
        values: [depth, height, width], in units of the explained output.
        grid_to_volume: [4, 4] (d, r, c, 1) to the series' own (slice, row, column, 1).
        grid_affine: [4, 4] (d, r, c, 1) to patient LPS mm, or None.
    """

    source: str
    item_id: str
    place: int
    values: npt.NDArray[np.float32]
    grid_to_volume: npt.NDArray[np.float64]
    grid_affine: npt.NDArray[np.float64] | None

    @property
    def total(self) -> float:
        """The contribution of the image."""
        return float(self.values.sum(dtype=np.float64))

    @property
    def spacing_mm(self) -> npt.NDArray[np.float64] | None:
        """Distance of neighbouring voxels along depth, height and width."""
        return None if self.grid_affine is None else np.linalg.norm(self.grid_affine[:3, :3], axis=0)

    def smoothed(
        self, smoothing_mm: float | None = None, smoothing_voxels: float = 1.0
    ) -> npt.NDArray[np.float32]:
        """Magnitudes under a Gaussian of that standard deviation, in mm where given and known, else in voxels.

        Gradients of convolutions alternate from voxel to voxel: a single one says little.
        """
        spacing = self.spacing_mm
        if smoothing_mm is None or spacing is None:
            sigma = [smoothing_voxels] * 3
        else:
            sigma = [smoothing_mm / step if step > 0 else 0.0 for step in spacing]
        magnitude = np.abs(self.values).astype(np.float32)
        return np.asarray(ndimage.gaussian_filter(magnitude, sigma, mode="constant"), dtype=np.float32)

    def peak(self, smoothing_mm: float | None = None, smoothing_voxels: float = 1.0) -> ImagePeak:
        """The place of the largest smoothed magnitude."""
        smooth = self.smoothed(smoothing_mm, smoothing_voxels)
        d, r, c = (int(i) for i in np.unravel_index(int(smooth.argmax()), smooth.shape))
        position = None
        if self.grid_affine is not None:
            x, y, z, _ = self.grid_affine @ np.array([d, r, c, 1.0])
            position = (float(x), float(y), float(z))
        return ImagePeak(self.source, self.item_id, self.place, (d, r, c), position, float(smooth[d, r, c]))


def on_grid(attribution: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Attributions of one image tensor [channel, *size] as [depth, height, width]."""
    summed = attribution.sum(axis=0)
    return summed[np.newaxis] if summed.ndim == 2 else summed
