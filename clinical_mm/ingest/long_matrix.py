"""Matrices with a row a sample and feature, as cBioPortal writes discrete copy number (`DISCRETE_LONG`).

A record is a sample still: a row without a usable value is a cell of one. Which samples stand is for `samples`.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from clinical_mm.ingest.delivery import Delivery
from clinical_mm.ingest.ledger import Ledger
from clinical_mm.ingest.numeric_files import MISSING
from clinical_mm.ingest.oriented import Oriented
from clinical_mm.ingest.tabular import read_rows
from clinical_mm.study.sources import GenomicsMatrixSource


def read_long(
    name: str, source: GenomicsMatrixSource, delivery: Delivery, path: Path, ledger: Ledger
) -> tuple[Oriented, np.ndarray] | None:
    """Read one file.

    Args:
        name: of the source.
        source: its declaration, with `samples: long`.
        delivery: where the file lies.
        path: the file.
        ledger: is told of the samples that were found, of rows that are no cells, and of a file that is none.

    Returns:
        The matrix, samples and features in order of first appearance, and the ids of its samples; None where the file
        cannot be read.

    Raises:
        DeliveryError: a column is missing.
    """
    place = delivery.relative(path)
    of_rows = Ledger(name, delivery.name, "row")
    columns = {"sample": source.sample_id, "feature": source.feature, "value": source.value}
    declared = {role: column for role, column in columns.items() if column is not None}
    rows = read_rows(name, source.table, declared, delivery, [path], of_rows)
    for record in of_rows.records().to_dict("records"):
        if record["locator"] == place:
            ledger.found()
            ledger.quarantine(place, record["reason_code"], record["sentence"])
            return None
        ledger.quarantine_cell(
            record["locator"], record["reason_code"], f"{record['sentence']}: it is missing"
        )
    samples, features, cells = rows.text("sample"), rows.text("feature"), rows.text("value")
    locators = np.array(rows.locators(), dtype=object)
    numbers = pd.to_numeric(pd.Series(np.where(np.isin(cells, list(MISSING)), "", cells)), errors="coerce")
    values = numbers.to_numpy(dtype=np.float32)
    has_names = (samples != "") & (features != "")
    is_bad = has_names & ~np.isfinite(values) & ~np.isin(cells, list(MISSING))
    for locator in locators[~has_names]:
        ledger.quarantine_cell(locator, "missing_value", "the row names no sample, or no feature")
    for locator in locators[is_bad]:
        ledger.quarantine_cell(locator, "not_a_number", "the value is no finite number, and is missing")
    values[~np.isfinite(values)] = np.nan
    at_sample, ids = pd.factorize(samples[has_names])
    at_feature, names = pd.factorize(features[has_names])
    ledger.found(len(ids))
    matrix = np.full((len(ids), len(names)), np.nan, dtype=np.float32)
    matrix[at_sample, at_feature] = values[has_names]
    _without_contradictions(matrix, at_sample, at_feature, values[has_names], locators[has_names], ledger)
    none = np.empty((0, 2), dtype=np.int64)
    return (
        Oriented(
            place,
            [f"sample {number + 1}" for number in range(len(ids))],
            [f"feature {number + 1}" for number in range(len(names))],
            [str(feature) for feature in names],
            matrix,
            none,
            none,
        ),
        np.asarray(ids, dtype=object),
    )


def _without_contradictions(  # noqa: PLR0917 - the cells, by column
    matrix: np.ndarray,
    at_sample: np.ndarray,
    at_feature: np.ndarray,
    values: np.ndarray,
    locators: np.ndarray,
    ledger: Ledger,
) -> None:
    """Make cells missing that two rows fill with different values; those rows go on record."""
    cell = at_sample.astype(np.int64) * matrix.shape[1] + at_feature
    n_values = pd.Series(values).groupby(cell).nunique()
    contradicted = n_values.index[n_values > 1].to_numpy()
    if not len(contradicted):
        return
    is_in = np.isin(cell, contradicted)
    matrix[at_sample[is_in], at_feature[is_in]] = np.nan
    for locator in locators[is_in]:
        sentence = "another row says something else of the same sample and feature: it is missing"
        ledger.quarantine_cell(locator, "conflicting_records", sentence)
