"""Patients as samples, and samples as batches of tensors: the model's input, and nothing that the model does.

Legend: b patients, w windows, l tokens, s images, c channels, g genomic and k clinical features, m modalities.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from clinical_mm.errors import CohortError, StudyError
from clinical_mm.features.augmentation import ImageAugmentation, WordDropout
from clinical_mm.features.loaded import TaskFeatures
from clinical_mm.features.series_tensors import CHANNELS
from clinical_mm.features.statistics import Statistics

Sample = dict[str, Any]


class PatientDataset(Dataset[Sample]):
    """The patients of a split, one sample each. It pickles: workers are spawned.

    Args:
        features: of the task.
        statistics: of the training patients of the fold.
        patient_ids: which patients, in which order.
        augment: whether images are changed at random and words hidden, as far as the study's `image.augment` and
            `text.word_dropout` say so.
        seed: of the augmentation.

    Raises:
        CohortError: a patient is not in the cohort.
        StudyError: words are to be hidden, and the encoder's tokenizer has no mask token.
    """

    def __init__(
        self,
        features: TaskFeatures,
        statistics: Statistics,
        patient_ids: Sequence[str],
        augment: bool = False,
        seed: int = 0,
    ) -> None:
        n_unknown = len(set(patient_ids).difference(features.cohort.index))
        if n_unknown:
            raise CohortError(f"{n_unknown} patients that were asked for are not in the cohort of the task")
        self.features = features
        self.statistics = statistics
        self.patient_ids = list(patient_ids)
        self.epoch = 0
        image = features.task.modalities.image
        is_augmented = augment and image is not None and image.augment
        self._augmentation = ImageAugmentation(image.spatial_dims, seed) if is_augmented and image else None
        self._image_size = (CHANNELS, *image.size) if image is not None else ()
        self._word_dropout = self._hiding(seed) if augment else None
        self._labels = features.labels(self.patient_ids)
        self._durations = features.durations(self.patient_ids)

    def __len__(self) -> int:
        return len(self.patient_ids)

    def set_epoch(self, epoch: int) -> None:
        """Draw other augmentations: those of this epoch, the same every time."""
        self.epoch = epoch

    def __getitem__(self, index: int) -> Sample:
        """One patient.

        Returns:
            text_windows: list of [l] int64, and text_pad_id; image: list of [c, *size] float16, memory-mapped, or
            float32 where augmented; image_size: [c, *size]; genomics and genomics_observed: [g]; clinical and
            clinical_observed: [k]; present: [m] bool; labels, where known;
            patient_index. Keys of modalities that the task does not declare are not there.
        """
        patient_id = self.patient_ids[index]
        modalities = self.features.modalities
        present = self.features.present(patient_id)
        sample: Sample = {"patient_index": index}
        if "text" in modalities:
            sample["text_windows"] = self._windows(patient_id, index)
            sample["text_pad_id"] = self.features.pad_token_id
        if "image" in modalities:
            sample["image"] = self._images(patient_id, index)
            sample["image_size"] = self._image_size
        for name in ("genomics", "clinical"):
            if name not in modalities:
                continue
            standardise = getattr(self.statistics, f"standardise_{name}")
            values, observed = standardise(self.features, [patient_id])
            sample[name], sample[f"{name}_observed"] = values[0], observed[0]
            # Of a patient whose only values are of features that the training patients lack, nothing can be read.
            present[modalities.index(name)] &= bool(observed.any())
        sample["present"] = present
        labels = self._label(index)
        if labels is not None:
            sample["labels"] = labels
        return sample

    def _hiding(self, seed: int) -> WordDropout | None:
        text = self.features.task.modalities.text
        # A frozen encoder's states are computed once a window: with hidden words no window would come twice.
        if text is None or text.word_dropout == 0 or text.fine_tune == "frozen":
            return None
        if self.features.mask_token_id is None:
            raise StudyError(
                "modalities.text.word_dropout hides words behind the mask token, and the encoder's tokenizer has none: "
                "set it to 0"
            )
        return WordDropout(text.word_dropout, self.features.mask_token_id, seed)

    def _windows(self, patient_id: str, index: int) -> list[npt.NDArray[np.int64]]:
        if self._word_dropout is None:
            return self.features.window_ids(patient_id)
        windows = enumerate(self.features.windows(patient_id))
        return [self._word_dropout(window, self.epoch, index, place) for place, window in windows]

    def _images(self, patient_id: str, index: int) -> list[npt.NDArray[np.floating]]:
        images: list[npt.NDArray[np.floating]] = list(self.features.image_tensors(patient_id))
        if self._augmentation is None:
            return images
        whole = [image.astype(np.float32) for image in images]
        return [self._augmentation(t, self.epoch, index, place) for place, t in enumerate(whole)]

    def _label(self, index: int) -> npt.NDArray[np.generic] | None:
        kind = self.features.task.outcome.kind
        label, duration = self._labels[index], self._durations[index]
        if np.isnan(label) or (kind == "survival" and np.isnan(duration)):
            return None
        if kind == "survival":
            return np.array([duration, label], dtype=np.float32)
        return np.array(label, dtype=np.int64 if kind == "multiclass" else np.float32)


def collate(samples: Sequence[Sample]) -> dict[str, Tensor]:
    """A batch of samples; what a patient lacks is padding (zeros, and pad tokens), with masks that say so.

    Returns:
        text_input_ids, text_attention_mask: [b, w, l] long; text_window_mask: [b, w] bool; image: [b, s, c, *size]
        float16, or float32 where augmented: the model converts it on its device; image_mask: [b, s] bool; genomics:
        [b, g] float32; genomics_observed: [b, g] bool; clinical: [b, k]; clinical_observed: [b, k]; present: [b, m]
        bool; labels: [b] float (binary), [b] long (multiclass) or [b, 2] float (survival: duration, event), missing
        where any label is unknown; patient_index: [b] long.
    """
    first = samples[0]
    batch: dict[str, Tensor] = {}
    if "text_windows" in first:
        batch |= _text([s["text_windows"] for s in samples], first["text_pad_id"])
    if "image" in first:
        batch |= _images([s["image"] for s in samples], first["image_size"])
    for name in ("genomics", "genomics_observed", "clinical", "clinical_observed", "present"):
        if name in first:
            batch[name] = torch.from_numpy(np.stack([s[name] for s in samples]))
    if all("labels" in s for s in samples):
        batch["labels"] = torch.from_numpy(np.stack([s["labels"] for s in samples]))
    batch["patient_index"] = torch.tensor([s["patient_index"] for s in samples], dtype=torch.long)
    return batch


def _text(patients: Sequence[Sequence[npt.NDArray[np.int64]]], pad_id: int) -> dict[str, Tensor]:
    """Pad to the batch's own longest, not to the study's window: short notes cost little."""
    n_windows = max(1, *(len(windows) for windows in patients)) if patients else 1
    n_tokens = max([1, *(len(ids) for windows in patients for ids in windows)])
    input_ids = torch.full((len(patients), n_windows, n_tokens), pad_id, dtype=torch.long)
    attention_mask = torch.zeros(input_ids.shape, dtype=torch.long)
    window_mask = torch.zeros(input_ids.shape[:2], dtype=torch.bool)
    for i, windows in enumerate(patients):
        for j, ids in enumerate(windows):
            input_ids[i, j, : len(ids)] = torch.from_numpy(ids)
            attention_mask[i, j, : len(ids)] = 1
            window_mask[i, j] = True
    return {
        "text_input_ids": input_ids,
        "text_attention_mask": attention_mask,
        "text_window_mask": window_mask,
    }


def _images(
    patients: Sequence[Sequence[npt.NDArray[np.floating]]], size: tuple[int, ...]
) -> dict[str, Tensor]:
    """Copied once, from where they are mapped into the batch; only padding is filled with zeros."""
    n_images = max([1, *(len(images) for images in patients)])
    dtype = next((image.dtype for images in patients for image in images), np.dtype(np.float16))
    batch = np.empty((len(patients), n_images, *size), dtype=dtype)
    mask = np.zeros((len(patients), n_images), dtype=bool)
    for i, images in enumerate(patients):
        for j, image in enumerate(images):
            batch[i, j] = image
        batch[i, len(images) :] = 0
        mask[i, : len(images)] = True
    return {"image": torch.from_numpy(batch), "image_mask": torch.from_numpy(mask)}
