"""What the training patients of one fold say about genomic and clinical features: which to use, their mean and scale.

No other patient's value enters. Nothing is learned from labels.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from clinical_mm.errors import CohortError, ModelError

if TYPE_CHECKING:
    from clinical_mm.features.loaded import TaskFeatures

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

_CHUNK_FEATURES = 2048


@dataclass(frozen=True)
class FeatureStatistics:
    """Mean and scale of the features of one table, over the training patients who have a value.

    Attributes:
        features: [k] those that the model reads, in the order in which it reads them.
        mean: [k]; 0 for the level of a category.
        scale: [k] standard deviation; 1 for the level of a category.
        dropped: features without two different values among the training patients.
    """

    features: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    dropped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.features) == len(self.mean) == len(self.scale):
            raise ModelError(
                "the feature statistics of the model are damaged: names and numbers differ in length"
            )
        if not all(math.isfinite(number) for number in (*self.mean, *self.scale)):
            raise ModelError("the feature statistics of the model are damaged: a mean or scale is no number")
        if not all(s > 0 for s in self.scale):
            raise ModelError("the feature statistics of the model are damaged: a scale is not above 0")

    @classmethod
    def fit(
        cls,
        frame: pd.DataFrame,
        ids: Sequence[str],
        categories: frozenset[str] = frozenset(),
        top_variance: int | None = None,
    ) -> "FeatureStatistics":
        """Statistics of the given patients alone.

        Args:
            frame: [patients, features], NaN where missing; may hold more patients, and be memory-mapped.
            ids: the patients.
            categories: features that are levels of a category: used as they are.
            top_variance: keep so many features, those that vary most (in their own units).
        """
        rows = frame.index.get_indexer(pd.Index(ids, dtype=object))
        rows = np.sort(rows[rows >= 0])
        n_features = frame.shape[1]
        matrix = frame.to_numpy()
        mean, variance = np.zeros(n_features), np.zeros(n_features)
        varies = np.zeros(n_features, dtype=bool)
        for first in range(0, n_features, _CHUNK_FEATURES):
            run = slice(first, first + _CHUNK_FEATURES)
            values = np.ma.masked_invalid(matrix[rows, run].astype(np.float64))
            mean[run] = values.mean(axis=0).filled(0) if len(rows) else 0
            variance[run] = values.var(axis=0).filled(0) if len(rows) else 0
            # Not by the variance: that of equal values is not exactly 0.
            varies[run] = (values.max(axis=0) > values.min(axis=0)).filled(False) if len(rows) else False
        varies &= variance > 0
        kept = np.flatnonzero(varies)
        if top_variance is not None and len(kept) > top_variance:
            kept = np.sort(kept[np.argsort(-variance[kept], kind="stable")[:top_variance]])
        names = [str(name) for name in frame.columns]
        is_level = [names[i] in categories for i in kept]
        return cls(
            features=tuple(names[i] for i in kept),
            mean=tuple(0.0 if level else float(mean[i]) for i, level in zip(kept, is_level, strict=True)),
            scale=tuple(
                1.0 if level else float(np.sqrt(variance[i])) for i, level in zip(kept, is_level, strict=True)
            ),
            dropped=tuple(names[i] for i in np.flatnonzero(~varies)),
        )

    def standardise(self, frame: pd.DataFrame, ids: Sequence[str]) -> tuple[Floats, Flags]:
        """Values [n, k] as (value − mean) / scale, 0 where missing; and [n, k] whether each was measured."""
        rows = frame.index.get_indexer(pd.Index(ids, dtype=object))
        columns = frame.columns.get_indexer(pd.Index(self.features, dtype=object))
        values = np.full((len(rows), len(columns)), np.nan, dtype=np.float64)
        has_row, has_column = rows >= 0, columns >= 0
        if has_row.any() and has_column.any():
            of_patients = frame.to_numpy()[rows[has_row]]
            values[np.ix_(has_row, has_column)] = of_patients[:, columns[has_column]]
        observed = np.isfinite(values)
        standardised = (values - np.array(self.mean)) / np.array(self.scale)
        return np.where(observed, standardised, 0).astype(np.float32), observed


@dataclass(frozen=True)
class Statistics:
    """The statistics of one fold's training patients.

    Attributes:
        genomics: of genomic features; empty where the task does not read them.
        clinical: of clinical features; empty where the task does not read them.
    """

    genomics: FeatureStatistics = FeatureStatistics()
    clinical: FeatureStatistics = FeatureStatistics()

    @classmethod
    def fit(cls, features: "TaskFeatures", ids: Sequence[str]) -> "Statistics":
        """Statistics of the training patients of one fold.

        Raises:
            CohortError: a declared table has no feature that varies among them: nothing could be learned from it.
        """
        modalities = features.task.modalities
        genomics, clinical = FeatureStatistics(), FeatureStatistics()
        if modalities.genomics is not None:
            top = modalities.genomics.top_variance
            genomics = FeatureStatistics.fit(features.genomics(), ids, top_variance=top)
            _require(genomics, "genomics", len(ids))
        if modalities.clinical is not None:
            clinical = FeatureStatistics.fit(features.clinical(), ids, features.clinical_categories)
            _require(clinical, "clinical", len(ids))
        return cls(genomics, clinical)

    def standardise_genomics(self, features: "TaskFeatures", ids: Sequence[str]) -> tuple[Floats, Flags]:
        """Genomic features [n, g] of the patients, standardised, 0 where missing; and which were measured [n, g]."""
        return self.genomics.standardise(features.genomics(), ids)

    def standardise_clinical(self, features: "TaskFeatures", ids: Sequence[str]) -> tuple[Floats, Flags]:
        """Clinical features [n, k], as `standardise_genomics`."""
        return self.clinical.standardise(features.clinical(), ids)

    @property
    def genomics_features(self) -> tuple[str, ...]:
        """Names of the genomic features, in the model's order."""
        return self.genomics.features

    @property
    def genomics_mean(self) -> npt.NDArray[np.float64]:
        """[g] of `genomics_features`."""
        return np.array(self.genomics.mean)

    @property
    def genomics_scale(self) -> npt.NDArray[np.float64]:
        """[g] of `genomics_features`."""
        return np.array(self.genomics.scale)

    @property
    def clinical_features(self) -> tuple[str, ...]:
        """Names of the clinical features, in the model's order."""
        return self.clinical.features

    @property
    def clinical_mean(self) -> npt.NDArray[np.float64]:
        """[k] of `clinical_features`."""
        return np.array(self.clinical.mean)

    @property
    def clinical_scale(self) -> npt.NDArray[np.float64]:
        """[k] of `clinical_features`."""
        return np.array(self.clinical.scale)

    def to_json(self) -> str:
        """The statistics as JSON text; every number comes back bit by bit."""
        value = {
            name: {
                "features": table.features,
                "mean": table.mean,
                "scale": table.scale,
                "dropped": table.dropped,
            }
            for name, table in (("genomics", self.genomics), ("clinical", self.clinical))
        }
        return json.dumps(value, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Statistics":
        """Back from `to_json`.

        Raises:
            ModelError: it is not what `to_json` wrote.
        """
        try:
            value = json.loads(text)
            tables = {
                name: FeatureStatistics(**{key: tuple(items) for key, items in value[name].items()})
                for name in ("genomics", "clinical")
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(
                f"the feature statistics of the model are damaged ({type(error).__name__}): train it again"
            ) from None
        return cls(**tables)


def _require(table: FeatureStatistics, modality: str, n_patients: int) -> None:
    if not table.features:
        raise CohortError(
            f"no {modality} feature varies among the {n_patients} training patients of a fold: take "
            f"modalities.{modality} out of the task, or bring its data"
        )
