"""The image modality: a patient's series as tensors, each with the way back to its volume and to the patient.

How a series becomes tensors stands in `series_tensors`; here stands which tensors a patient has, in which order.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from clinical_mm import tables
from clinical_mm.cohort.candidates import series_item_id
from clinical_mm.cohort.current import current_rows
from clinical_mm.errors import StoreError
from clinical_mm.features.items import joined, named_rows
from clinical_mm.features.left_out import LeftOut
from clinical_mm.features.schemas import IMAGES
from clinical_mm.features.series_tensors import SeriesVolume, prepare_series, read_tensor
from clinical_mm.progress import track
from clinical_mm.store import Store
from clinical_mm.study.tasks import ImageModality

CACHE = "images"


@dataclass(frozen=True, eq=False)
class ImageTensor:
    """One image of a patient, as the model reads it.

    Attributes:
        source: the source of the series.
        item_id: series_instance_uid#stack.
        tensor: [channel, depth, height, width] or [channel, height, width] float16 in [0, 1], memory-mapped: whoever
            computes with it converts it first.
        grid_to_volume: [4, 4] (d, r, c, 1) of the tensor to (slice, row, column, 1) of the volume, by voxel centres;
            d is 0 in two dimensions.
        grid_affine: [4, 4] (d, r, c, 1) to patient LPS mm; None where the series has no geometry.
        series: its row of `tables.SERIES`.
    """

    source: str
    item_id: str
    tensor: npt.NDArray[np.float16]
    grid_to_volume: npt.NDArray[np.float64]
    grid_affine: npt.NDArray[np.float64] | None
    series: pd.Series


@dataclass(frozen=True)
class ImageCounts:
    """What was made: series read, image tensors, and series that the cache had already."""

    n_series: int
    n_images: int
    n_hits: int


def build_images(
    store: Store, items: pd.DataFrame, directory: Path, settings: ImageModality, left_out: LeftOut
) -> ImageCounts:
    """Make the tensors of the used series, one series at a time, and lay out every patient's images.

    Args:
        store: where the series were ingested to.
        items: used items of the image modality, in reading order.
        directory: the snapshot that is being written.
        settings: of the modality.
        left_out: takes the series and slices that give no image.

    Raises:
        CohortError: a series is no longer the current one.
    """
    rows = current_rows(store, tables.SERIES, "imaging")
    # The series' own: what an item calls its modality is "image", not "CT".
    series = joined(items.drop(columns=["available_time", "modality"]), rows, series_item_id(rows))
    folder = store.cache(CACHE)
    images: list[tuple[object, ...]] = []
    n_of_patient: dict[str, int] = {}
    n_series = n_hits = 0
    for row in track(named_rows(series), "preparing images", len(series)):
        tensors = prepare_series(SeriesVolume.of(row._asdict(), store.root), settings, folder)
        n_hits += tensors.is_hit
        n_series += bool(tensors.grids)
        for member, grid in tensors.grids.items():
            place = n_of_patient.get(row.patient_id, 0)
            n_of_patient[row.patient_id] = place + 1
            matrix = grid.to_volume.ravel().tolist()
            images.append((row.patient_id, place, row.source, row.item_id, tensors.key, member, matrix))
        for reason, n in tensors.unusable.items():
            left_out.add(row.patient_id, "image", reason, n)
        left_out.add(row.patient_id, "image", "slices_not_taken", tensors.n_slices_not_taken)
    frame = pd.DataFrame(images, columns=IMAGES.columns)
    tables.write_table(IMAGES, frame, directory)
    read = pd.MultiIndex.from_frame(frame[["source", "item_id"]])
    is_read = pd.MultiIndex.from_frame(series[["source", "item_id"]]).isin(read)
    tables.write_table(tables.SERIES, series.loc[is_read, tables.SERIES.columns], directory)
    return ImageCounts(n_series, len(images), n_hits)


class ImageReader:
    """Image tensors of patients, out of the cache that a snapshot points to."""

    def __init__(self, directory: Path, store: Store, settings: ImageModality) -> None:
        self._root, self._folder, self._settings = store.root, store.cache(CACHE), settings
        self._images = tables.read_table(IMAGES, directory)
        self._rows = self._images.groupby("patient_id", sort=False).indices
        series = tables.read_table(tables.SERIES, directory)
        self._keys, self._members = self._images["cache_key"].tolist(), self._images["member"].tolist()
        self._series = series.set_index(pd.MultiIndex.from_arrays([series["source"], series_item_id(series)]))

    def images(self, patient_id: str) -> list[ImageTensor]:
        """The patient's images, in order.

        Raises:
            StoreError: the cache was emptied, and the volume is not there any more to fill it again.
        """
        if patient_id not in self._rows:
            return []
        found = []
        for row in named_rows(self._images.iloc[self._rows[patient_id]]):
            series = self._series.loc[(row.source, row.item_id)]
            to_volume = np.array(row.grid_to_volume, dtype=np.float64).reshape(4, 4)
            affine = np.array(series["affine"], dtype=np.float64)
            found.append(
                ImageTensor(
                    source=row.source,
                    item_id=row.item_id,
                    tensor=self._tensor(row.cache_key, row.member, series),
                    grid_to_volume=to_volume,
                    grid_affine=affine.reshape(4, 4) @ to_volume if affine.size == 16 else None,
                    series=series,
                )
            )
        return found

    def tensors(self, patient_id: str) -> list[npt.NDArray[np.float16]]:
        """The tensors of `images` alone: an epoch reads them without the rows of their series.

        Raises:
            StoreError: as `images`.
        """
        found = []
        for row in self._rows.get(patient_id, ()):
            tensor = read_tensor(self._folder, self._keys[row], self._members[row])
            if tensor is None:
                return [image.tensor for image in self.images(patient_id)]
            found.append(tensor)
        return found

    def _tensor(self, key: str, member: int, series: pd.Series) -> npt.NDArray[np.float16]:
        tensor = read_tensor(self._folder, key, member)
        if tensor is None:  # a cache may be emptied at any time: it is filled again from the volume
            volume = SeriesVolume.of({str(k): v for k, v in series.items()}, self._root)
            prepare_series(volume, self._settings, self._folder)
            tensor = read_tensor(self._folder, key, member)
        if tensor is None:
            raise StoreError(
                "an image is neither in the cache nor in the volumes of the store any more: ingest its delivery again, "
                "then run `clinical-mm train`"
            )
        return tensor
