"""What the classical baselines read: one block of columns a modality, with everything fitted on training patients.

A patient without a modality gets the training mean of its columns and a flag that says so. Which model reads the
blocks does not belong here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from clinical_mm.evaluation.held_out import Floats

Matrix: TypeAlias = "Floats | sparse.csr_matrix"

N_COMPONENTS = 20
"""Components a modality that the Cox model reads: few enough for the few events of a usual cohort."""

_MAX_TERMS = 20_000


class FittedBlock(Protocol):
    """A modality's columns, fitted on training patients."""

    def columns(self, ids: Sequence[str]) -> Matrix:
        """`[n, k]` for penalised linear models; each block has about the same total variance."""

    def components(self, ids: Sequence[str]) -> Floats:
        """`[n, <= N_COMPONENTS + 1]` standardised principal components, and the flag of absence where it varies."""


class Block(Protocol):
    """A modality's data, unfitted."""

    def fit(self, train: Sequence[str], seed: int) -> FittedBlock:
        """Fit on training patients alone."""


@dataclass(frozen=True)
class TextBlock:
    """Notes: TF-IDF of words and pairs of words; `texts` holds only patients who have any."""

    texts: Mapping[str, str]

    def fit(self, train: Sequence[str], seed: int) -> "FittedBlock":
        """Vocabulary, inverse document frequencies and components of the training patients' notes."""
        documents = [self.texts[p] for p in train if p in self.texts]
        if not documents:
            return _NoBlock()
        vectorizer = TfidfVectorizer(
            sublinear_tf=True,
            ngram_range=(1, 2),
            min_df=2 if len(documents) >= 20 else 1,
            max_features=_MAX_TERMS,
            strip_accents="unicode",
        )
        try:
            weights = sparse.csr_matrix(vectorizer.fit_transform(documents))
        except ValueError:  # scikit-learn's only sign of an empty vocabulary: notes without a word
            return _NoBlock()
        mean = np.asarray(weights.mean(axis=0))
        n_components = min(N_COMPONENTS, *(s - 1 for s in weights.shape))
        svd = TruncatedSVD(n_components, random_state=seed).fit(weights) if n_components > 0 else None
        fitted = _FittedText(self.texts, vectorizer, mean, svd, _Flag.fit(train, self.texts), None)
        return fitted.standardised(train)


@dataclass(frozen=True)
class TableBlock:
    """A table of numbers, patients by features, NaN where missing; patients who have none have no row."""

    table: pd.DataFrame

    def fit(self, train: Sequence[str], seed: int) -> "FittedBlock":
        """Means, scales and components of the training patients' rows; features without variance are left out."""
        rows = self.table.loc[[p for p in train if p in self.table.index]].astype(np.float64)
        observed = rows.loc[:, rows.notna().any()]
        mean, scale = observed.mean(), observed.std(ddof=0)
        varying = scale.index[scale > 1e-9 * (1 + mean.abs())]
        if not len(rows) or not len(varying):
            return _NoBlock()
        mean, scale = mean[varying], scale[varying]
        standardised = ((rows[varying] - mean) / scale).fillna(0.0).to_numpy()
        n_components = min(N_COMPONENTS, len(rows) - 1, len(varying))
        pca = PCA(n_components, random_state=seed).fit(standardised) if n_components > 0 else None
        fitted = _FittedTable(self.table, mean, scale, pca, _Flag.fit(train, self.table.index), None)
        return fitted.standardised(train)


@dataclass(frozen=True)
class _Flag:
    """Whether the modality is absent; without variance in training it is left out."""

    present: frozenset[str]
    is_varying: bool

    @classmethod
    def fit(cls, train: Sequence[str], present: Mapping[str, object] | pd.Index) -> "_Flag":
        known = frozenset(p for p in present)
        n_present = sum(p in known for p in train)
        return cls(known, 0 < n_present < len(train))

    def column(self, ids: Sequence[str]) -> Floats:
        if not self.is_varying:
            return np.empty((len(ids), 0))
        return np.array([[float(p not in self.present)] for p in ids])


@dataclass(frozen=True)
class _Standard:
    """Mean and scale of components over the training patients who have the modality."""

    mean: Floats
    scale: Floats

    @classmethod
    def fit(cls, values: Floats) -> "_Standard":
        scale = values.std(axis=0)
        return cls(values.mean(axis=0), np.where(scale > 0, scale, 1.0))

    def apply(self, values: Floats, is_present: Floats) -> Floats:
        return np.asarray((values - self.mean) / self.scale * is_present[:, None])


@dataclass(frozen=True)
class _FittedText:
    texts: Mapping[str, str]
    vectorizer: TfidfVectorizer
    mean: Floats
    svd: TruncatedSVD | None
    flag: _Flag
    standard: _Standard | None

    def standardised(self, train: Sequence[str]) -> "_FittedText":
        if self.svd is None:
            return self
        having = [p for p in train if p in self.texts]
        standard = _Standard.fit(self.svd.transform(self._weights(having)))
        return _FittedText(self.texts, self.vectorizer, self.mean, self.svd, self.flag, standard)

    def columns(self, ids: Sequence[str]) -> Matrix:
        absent = sparse.csr_matrix([[float(p not in self.texts)] for p in ids])
        weights = self._weights(ids) + absent @ sparse.csr_matrix(self.mean)
        return sparse.csr_matrix(sparse.hstack([weights, sparse.csr_matrix(self.flag.column(ids))]))

    def components(self, ids: Sequence[str]) -> Floats:
        flag = self.flag.column(ids)
        if self.svd is None or self.standard is None:
            return flag
        is_present = np.array([float(p in self.texts) for p in ids])
        values = self.standard.apply(self.svd.transform(self._weights(ids)), is_present)
        return np.hstack([values, flag])

    def _weights(self, ids: Sequence[str]) -> sparse.csr_matrix:
        """TF-IDF rows; a patient without notes has an empty one."""
        return sparse.csr_matrix(self.vectorizer.transform([self.texts.get(p, "") for p in ids]))


@dataclass(frozen=True)
class _FittedTable:
    table: pd.DataFrame
    mean: "pd.Series[float]"
    scale: "pd.Series[float]"
    pca: PCA | None
    flag: _Flag
    standard: _Standard | None

    def standardised(self, train: Sequence[str]) -> "_FittedTable":
        if self.pca is None:
            return self
        having = [p for p in train if p in self.table.index]
        standard = _Standard.fit(self.pca.transform(self._values(having)))
        return _FittedTable(self.table, self.mean, self.scale, self.pca, self.flag, standard)

    def columns(self, ids: Sequence[str]) -> Matrix:
        return np.hstack([self._values(ids) / np.sqrt(len(self.mean)), self.flag.column(ids)])

    def components(self, ids: Sequence[str]) -> Floats:
        flag = self.flag.column(ids)
        if self.pca is None or self.standard is None:
            return flag
        is_present = np.array([float(p in self.table.index) for p in ids])
        return np.hstack([self.standard.apply(self.pca.transform(self._values(ids)), is_present), flag])

    def _values(self, ids: Sequence[str]) -> Floats:
        rows = self.table.reindex(index=list(ids), columns=self.mean.index).astype(np.float64)
        return ((rows - self.mean) / self.scale).fillna(0.0).to_numpy()


class _NoBlock:
    """A modality that no training patient has, or that says nothing: no column."""

    def columns(self, ids: Sequence[str]) -> Matrix:
        return np.empty((len(ids), 0))

    def components(self, ids: Sequence[str]) -> Floats:
        return np.empty((len(ids), 0))
