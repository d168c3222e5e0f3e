"""A matrix of samples by features with its bad places: repeated features told apart, values transformed, put on record.

Both ways in which samples may lie in a file come together here. Which samples stand is for `samples`.
"""

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np

from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.gene_symbols import Renaming
from clinical_mm.ingest.ledger import Ledger
from clinical_mm.ingest.numeric_files import NumericFile
from clinical_mm.ingest.samples import Samples

NEGATIVE_SHARE = 0.01
"""Share of the cells above which a matrix with negative values is none of counts: its log2(x + 1) means nothing."""


@dataclass(frozen=True)
class Oriented:
    """Samples of one file.

    Attributes:
        path: of the file within the delivery.
        sample_places: [n] `row 7` or `column 7`.
        feature_places: [f] `column 9` or `row 9`.
        features: [f] names.
        values: [n, f] float32, NaN where nothing was measured or the cell is bad.
        bad: [k, 2] sample and feature of the cells that are no finite number.
        negative: [k, 2] sample and feature of the cells that the transform could not take.
    """

    path: str
    sample_places: list[str]
    feature_places: list[str]
    features: list[str]
    values: np.ndarray
    bad: np.ndarray
    negative: np.ndarray

    def locator(self, place: str) -> str:
        """Where a row or column of the file is found again."""
        return f"{self.path}#{place}"


def samples_in_rows(file: NumericFile, path: str) -> Oriented:
    """A file whose rows are samples."""
    places = file.layout.values
    return Oriented(
        path,
        [f"row {n}" for n in file.numbers],
        [f"column {p + 1}" for p in places],
        [file.header[p] for p in places],
        file.values,
        file.bad,
        _none(),
    )


def samples_in_columns(file: NumericFile, path: str, names: np.ndarray, is_chosen: np.ndarray) -> Oriented:
    """A file whose columns are samples; `names` [r] and `is_chosen` [r] are of its rows, the features."""
    place_of_row = np.cumsum(is_chosen) - 1
    bad = file.bad[is_chosen[file.bad[:, 0]]]
    return Oriented(
        path,
        [f"column {p + 1}" for p in file.layout.values],
        [f"row {n}" for n in file.numbers[is_chosen]],
        list(names[is_chosen]),
        np.ascontiguousarray(file.values[is_chosen].T),
        np.stack([bad[:, 1], place_of_row[bad[:, 0]]], axis=1),
        _none(),
    )


def with_single_features(matrix: Oriented, ledger: Ledger) -> Oriented:
    """The matrix with every feature once: of those repeated with other values, none is kept, and all are on record."""
    by_name: dict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(matrix.features):
        by_name[name].append(place)
    if len(by_name) == len(matrix.features):
        return matrix
    keep = np.ones(len(matrix.features), dtype=bool)
    for places in by_name.values():
        first = matrix.values[:, places[0]]
        if all(np.array_equal(matrix.values[:, p], first, equal_nan=True) for p in places[1:]):
            keep[places[1:]] = False
            continue
        keep[places] = False
        for place in places:
            sentence = "the feature stands several times with different values, and is missing"
            locator = matrix.locator(matrix.feature_places[place])
            ledger.quarantine_cell(locator, "conflicting_records", sentence)
    return with_features(matrix, keep)


def with_current_symbols(matrix: Oriented, renaming: Renaming, ledger: Ledger) -> Oriented:
    """The matrix with genes under their current symbols.

    Where a feature bears the current symbol already, it is the gene, and one that would become it goes on record. Where
    two become a gene that none was called, `with_single_features` decides.
    """
    features = [renaming.current(feature) for feature in matrix.features]
    if features == matrix.features:
        return matrix
    written_so = set(features) & set(matrix.features)  # a current symbol is its own
    keep = np.array(
        [s == w or s not in written_so for s, w in zip(features, matrix.features, strict=True)], dtype=bool
    )
    for place in np.flatnonzero(~keep):
        sentence = (
            "the feature is another symbol of a gene that stands under its current one, and is left out"
        )
        ledger.quarantine_cell(matrix.locator(matrix.feature_places[place]), "other_symbol_of_gene", sentence)
    return with_features(replace(matrix, features=features), keep)


def with_features(matrix: Oriented, keep: np.ndarray) -> Oriented:
    """The features of a mask [f]."""
    new_place = np.cumsum(keep) - 1
    bad = matrix.bad[keep[matrix.bad[:, 1]]]
    return replace(
        matrix,
        feature_places=[p for p, k in zip(matrix.feature_places, keep, strict=True) if k],
        features=[f for f, k in zip(matrix.features, keep, strict=True) if k],
        values=matrix.values[:, keep],
        bad=np.stack([bad[:, 0], new_place[bad[:, 1]]], axis=1),
    )


def with_log2p1(matrix: Oriented, source: str) -> Oriented:
    """The matrix with log2(x + 1) for x; single negative cells are missing.

    Raises:
        DeliveryError: more than `NEGATIVE_SHARE` of the cells are negative.
    """
    with np.errstate(invalid="ignore"):
        is_negative = matrix.values < 0
    share = is_negative.mean() if is_negative.size else 0.0
    if share > NEGATIVE_SHARE:
        raise DeliveryError(
            f"source {source}: {share:.0%} of the values are negative, and transform: log2p1 is for values from 0 on: "
            "use transform: none if they are logarithms or z-scores already"
        )
    values = np.where(is_negative, np.float32(np.nan), matrix.values)
    return replace(matrix, values=np.log2(values + np.float32(1)), negative=np.argwhere(is_negative))


def as_samples(  # noqa: PLR0917 - what a sample is made of
    matrix: Oriented,
    ids: np.ndarray,
    patients: np.ndarray,
    times: np.ndarray,
    problems: list[tuple[np.ndarray, str, str]],
    ledger: Ledger,
) -> Samples:
    """The usable samples of a matrix; the others, and the bad cells of usable ones, are put on record.

    Args:
        matrix: [n, f].
        ids: [n] of the samples.
        patients: [n].
        times: [n] datetime64[us].
        problems: masks [n] with reason code and sentence, the first that holds counts.
        ledger: is told.
    """
    is_usable = np.ones(len(ids), dtype=bool)
    is_empty = np.isnan(matrix.values).all(axis=1)
    for is_bad, reason_code, sentence in [*problems, (is_empty, "empty_row", "no feature was measured")]:
        for place in np.flatnonzero(is_usable & is_bad):
            ledger.quarantine(matrix.locator(matrix.sample_places[place]), reason_code, sentence)
        is_usable &= ~is_bad
    _report_cells(matrix, is_usable, ledger)
    locators = np.array([matrix.locator(p) for p in matrix.sample_places], dtype=object)
    return Samples(locators, ids, patients, times, matrix.features, matrix.values).take(is_usable)


def _report_cells(matrix: Oriented, is_usable: np.ndarray, ledger: Ledger) -> None:
    """One record a cell; a feature that is a number in no sample has one alone."""
    usable_bad = matrix.bad[is_usable[matrix.bad[:, 0]]]
    n_bad = np.bincount(usable_bad[:, 1], minlength=len(matrix.features))
    is_text = (n_bad > 1) & np.isnan(matrix.values[is_usable]).all(axis=0)
    for place in np.flatnonzero(is_text):
        sentence = "the feature is a number in no sample, and is missing"
        ledger.quarantine_cell(matrix.locator(matrix.feature_places[place]), "not_a_number", sentence)
    reasons = (
        (
            usable_bad[~is_text[usable_bad[:, 1]]],
            "not_a_number",
            "the value is no finite number, and is missing",
        ),
        (
            matrix.negative[is_usable[matrix.negative[:, 0]]],
            "out_of_range",
            "the value is negative, where log2(x + 1) wants none, and is missing",
        ),
    )
    for cells, reason_code, sentence in reasons:
        for sample, feature in cells:
            locator = f"{matrix.locator(matrix.sample_places[sample])} {matrix.feature_places[feature]}"
            ledger.quarantine_cell(locator, reason_code, sentence)


def _none() -> np.ndarray:
    return np.empty((0, 2), dtype=np.int64)
