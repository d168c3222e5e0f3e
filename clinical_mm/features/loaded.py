"""The features of a task as later stages read them: cheap to open, one patient at a time, nothing read until asked.

How they are made stands in `build`; how they become batches of tensors in `dataset`.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from clinical_mm import tables
from clinical_mm.cohort.build import load_cohort
from clinical_mm.errors import StoreError, StudyError
from clinical_mm.features import clinical, genomics
from clinical_mm.features.build import ABOUT, STAGE, feature_settings
from clinical_mm.features.image import ImageReader, ImageTensor
from clinical_mm.features.matrix import read_matrix
from clinical_mm.features.schemas import LEFT_OUT, PRESENCE
from clinical_mm.features.text import Note, TextReader, TextWindow
from clinical_mm.store import Store, current_about, read_json, require_current
from clinical_mm.study.root import Study
from clinical_mm.study.tasks import Task

__all__ = ["ImageTensor", "Note", "TaskFeatures", "TextWindow"]


class TaskFeatures:
    """The features of every patient of a task's cohort.

    It pickles as the path of its snapshot: a worker process opens the files itself.

    Attributes:
        task: the task.
        modalities: those that it declares, in the order of `MODALITIES`.
        cohort: `tables.COHORT`, index patient_id.
        splits: `tables.SPLITS`.
        fingerprint: of the features.
        directory: the snapshot.
    """

    def __init__(
        self,
        task: Task,
        *,
        cohort: pd.DataFrame,
        splits: pd.DataFrame,
        fingerprint: str,
        directory: Path,
        root: Path,
    ) -> None:
        self.task = task
        self.modalities = task.modalities.names
        self.cohort = cohort
        self.splits = splits
        self.fingerprint = fingerprint
        self.directory = directory
        self._root = root

    @classmethod
    def load(cls, study: Study, store: Store, task: str) -> "TaskFeatures":
        """The current features of a task.

        Raises:
            StudyError: the study has no such task.
            StoreError: there are none yet, or the cohort or the study's settings have changed since they were made.
        """
        if task not in study.tasks:
            raise StudyError(f"the study has no task {task!r}: it has {', '.join(study.tasks)}")
        folder = store.task(task, STAGE)
        directory = require_current(folder, STAGE)
        about = current_about(folder)
        made = load_cohort(store, task)
        if about is None or about["cohort"] != made.fingerprint:
            raise StoreError(
                f"the cohort of task {task} has changed since its features were made: run `clinical-mm train` again"
            )
        made_with = read_json(directory / ABOUT).get("settings", {})
        wanted = feature_settings(study.tasks[task])
        changed = [name for name in wanted if made_with.get(name) != wanted[name]]
        if changed or set(made_with) != set(wanted):
            what = ", ".join(changed) or "its modalities"
            raise StoreError(
                f"the study's settings of {what} in task {task} changed since its features were made: run "
                "`clinical-mm train` to make them again"
            )
        cohort = made.cohort.set_index("patient_id", drop=False)
        fingerprint = str(about["fingerprint"])
        return cls(
            study.tasks[task],
            cohort=cohort,
            splits=made.splits,
            fingerprint=fingerprint,
            directory=directory,
            root=store.root,
        )

    def __getstate__(self) -> dict[str, Any]:
        lazy = {name for name, value in vars(type(self)).items() if isinstance(value, cached_property)}
        return {name: value for name, value in self.__dict__.items() if name not in lazy}

    def patients(self, fold: int, split: str) -> list[str]:
        """Ids of a fold's `train`, `validation` or `test` patients, sorted."""
        rows = self.splits[(self.splits["fold"] == fold) & (self.splits["split"] == split)]
        return sorted(rows["patient_id"])

    def labels(self, ids: list[str]) -> npt.NDArray[np.float64]:
        """[n] labels as in `tables.COHORT`, NaN where not yet known."""
        return self.cohort.loc[list(ids), "label"].to_numpy(dtype=np.float64)

    def durations(self, ids: list[str]) -> npt.NDArray[np.float64]:
        """[n] durations (survival), NaN where not known."""
        return self.cohort.loc[list(ids), "duration"].to_numpy(dtype=np.float64)

    def present(self, patient_id: str) -> npt.NDArray[np.bool_]:
        """[m] of which modalities the patient has usable features, in the order of `modalities`."""
        return np.array([patient_id in self._presence[name] for name in self.modalities], dtype=bool)

    def notes(self, patient_id: str) -> list[Note]:
        """The used notes in reading order, those that no window reaches included."""
        return [] if self.task.modalities.text is None else self._text.notes(patient_id)

    def windows(self, patient_id: str) -> list[TextWindow]:
        """The windows of tokens that the model reads, in order."""
        return [] if self.task.modalities.text is None else self._text.windows(patient_id)

    def window_ids(self, patient_id: str) -> list[npt.NDArray[np.int64]]:
        """The token ids of `windows` alone, [l] each."""
        return [] if self.task.modalities.text is None else self._text.window_ids(patient_id)

    def images(self, patient_id: str) -> list[ImageTensor]:
        """The image tensors that the model reads, in order."""
        return [] if self.task.modalities.image is None else self._images.images(patient_id)

    def image_tensors(self, patient_id: str) -> list[npt.NDArray[np.float16]]:
        """The tensors of `images` alone, memory-mapped."""
        return [] if self.task.modalities.image is None else self._images.tensors(patient_id)

    def genomics(self) -> pd.DataFrame:
        """[patients, features] float32 of the patients who have any; NaN where not measured. Not to be changed."""
        return self._genomics

    def clinical(self) -> pd.DataFrame:
        """[patients, features] float32, categories as one 0 or 1 a level (`sex=female`). Not to be changed."""
        return self._clinical[0]

    @property
    def clinical_categories(self) -> frozenset[str]:
        """The clinical features that are levels of a category."""
        return self._clinical[1]

    @property
    def form(self) -> dict[str, str]:
        """By modality a hash of how items become features: a model reads features of its own form alone."""
        return dict(self._about["form"])

    @property
    def pad_token_id(self) -> int:
        """The token that fills windows of a batch; 0 without text."""
        return int(self._about["text"]["pad_token_id"]) if self._about["text"] else 0

    @property
    def mask_token_id(self) -> int | None:
        """The token that stands for a hidden word; None without text, and where the tokenizer has none."""
        return self._about["text"]["mask_token_id"] if self._about["text"] else None

    def left_out(self) -> pd.DataFrame:
        """What the cohort chose and the model does not read: columns patient_id, modality, reason, n."""
        return tables.read_table(LEFT_OUT, self.directory)

    @cached_property
    def _about(self) -> dict[str, Any]:
        return dict(read_json(self.directory / ABOUT))

    @cached_property
    def _presence(self) -> dict[str, frozenset[str]]:
        table = tables.read_table(PRESENCE, self.directory)
        return {
            name: frozenset(table.loc[table["modality"] == name, "patient_id"]) for name in self.modalities
        }

    @cached_property
    def _text(self) -> TextReader:
        about = self._about["text"]
        return TextReader(self.directory, tuple(about["prefix"]), tuple(about["suffix"]))

    @cached_property
    def _images(self) -> ImageReader:
        settings = self.task.modalities.image
        assert settings is not None
        return ImageReader(self.directory, Store(self._root), settings)

    @cached_property
    def _genomics(self) -> pd.DataFrame:
        if self.task.modalities.genomics is None:
            return pd.DataFrame(index=pd.Index([], name="patient_id", dtype=object))
        return read_matrix(self.directory, genomics.NAME)[0]

    @cached_property
    def _clinical(self) -> tuple[pd.DataFrame, frozenset[str]]:
        if self.task.modalities.clinical is None:
            return pd.DataFrame(index=pd.Index([], name="patient_id", dtype=object)), frozenset()
        return read_matrix(self.directory, clinical.NAME)
