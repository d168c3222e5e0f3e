"""Sampling a volume on another grid, axis by axis, and the exact place of every new voxel in the old volume.

A voxel's index is its centre; it reaches half a voxel to either side, so a volume of n voxels spans [−0.5, n − 0.5].
Along each axis output index o lies at source index `scale · o + offset`. Values are those of the linear interpolation
(beyond the outer centres: of the outer voxel), averaged over a box where the new voxels are larger than the old: a box
of variance (scale² − 1) / 12 widens a source voxel to the new one, so that nothing aliases, and leaves every linear
function as it was: no half-voxel drift. Intensities do not belong here.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_OUTSIDE_TOLERANCE = 1e-6
"""A centre so little beyond the field (in source voxels) is on its edge: rounding, not padding."""


@dataclass(frozen=True)
class Axis:
    """How one axis is sampled: output index o lies at source index `scale · o + offset`."""

    n_in: int
    n_out: int
    scale: float
    offset: float

    @classmethod
    def resized(cls, n_in: int, n_out: int) -> "Axis":
        """The whole of n_in voxels as n_out: the edges of the field coincide, not the centres of the outer voxels."""
        scale = n_in / n_out
        return cls(n_in, n_out, scale, 0.5 * scale - 0.5)

    @classmethod
    def spaced(cls, n_in: int, n_out: int, scale: float) -> "Axis":
        """n_out voxels, each `scale` source voxels apart, about the same middle: cropped or padded."""
        return cls(n_in, n_out, scale, (n_in - 1) / 2 - scale * (n_out - 1) / 2)

    @classmethod
    def single(cls, n_in: int, index: int) -> "Axis":
        """One voxel, as it is."""
        return cls(n_in, 1, 1.0, float(index))

    def weights(self) -> npt.NDArray[np.float32]:
        """[n_out, n_in] share of each source voxel in each new one; rows sum to 1, or to 0 outside the field."""
        centres = self.scale * np.arange(self.n_out) + self.offset
        box = np.sqrt(max(self.scale**2 - 1, 0.0))
        reach = int(np.ceil(box / 2)) + 1
        index = np.arange(-reach, self.n_in + reach)
        distance = np.clip(centres, -0.5, self.n_in - 0.5)[:, None] - index[None, :]
        if box > 1e-9:
            shares = (_hat_integral(distance + box / 2) - _hat_integral(distance - box / 2)) / box
        else:
            shares = np.maximum(1 - np.abs(distance), 0.0)
        weights = shares[:, reach : reach + self.n_in].copy()
        weights[:, 0] += shares[:, :reach].sum(axis=1)
        weights[:, -1] += shares[:, reach + self.n_in :].sum(axis=1)
        is_outside = (centres < -0.5 - _OUTSIDE_TOLERANCE) | (centres > self.n_in - 0.5 + _OUTSIDE_TOLERANCE)
        weights[is_outside] = 0
        return weights.astype(np.float32)


@dataclass(frozen=True)
class Grid:
    """A grid over a volume [slices, rows, columns]: one `Axis` for each."""

    slices: Axis
    rows: Axis
    columns: Axis

    @property
    def to_volume(self) -> npt.NDArray[np.float64]:
        """[4, 4]: the grid's (d, r, c, 1) to the volume's (slice, row, column, 1), both by voxel centres."""
        matrix = np.eye(4)
        for i, axis in enumerate((self.slices, self.rows, self.columns)):
            matrix[i, i], matrix[i, 3] = axis.scale, axis.offset
        return matrix


class Resampler:
    """Samples a volume on a grid, a run of its slices at a time: memory is that of one run and the result."""

    def __init__(self, grid: Grid) -> None:
        self._slices, self._rows, self._columns = (
            torch.from_numpy(axis.weights()) for axis in (grid.slices, grid.rows, grid.columns)
        )
        self._sum = torch.zeros(grid.slices.n_out, grid.rows.n_out * grid.columns.n_out)
        self._shape = (grid.slices.n_out, grid.rows.n_out, grid.columns.n_out)

    def needs(self, run: slice) -> bool:
        """Whether any slice of a run lies on the grid."""
        return bool(self._slices[:, run].any())

    def add(self, run: slice, values: npt.NDArray[np.float32]) -> None:
        """Take the slices of a run: [k, rows, columns]."""
        narrow: Tensor = torch.from_numpy(np.ascontiguousarray(values)) @ self._columns.T
        # One product of two matrices for all slices: a small one for each takes twice as long.
        k, n_rows, n_columns = narrow.shape
        planes = self._rows @ narrow.transpose(0, 1).reshape(n_rows, -1)
        self._sum += self._slices[:, run] @ planes.reshape(-1, k, n_columns).transpose(0, 1).reshape(k, -1)

    def result(self) -> npt.NDArray[np.float32]:
        """[depth, height, width]."""
        return self._sum.reshape(self._shape).numpy()


def _hat_integral(t: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Integral up to t of the hat function max(1 − |x|, 0)."""
    t = np.clip(t, -1, 1)
    return np.where(t < 0, (t + 1) ** 2 / 2, 1 - (1 - t) ** 2 / 2)
