"""Genomic matrices: expression, copy number, methylation or indicators, samples in rows or in columns.

A record is a sample. How a matrix lies in its file is for `numeric_files`, how samples are compared for `samples`;
mutations are in `maf`.
"""

import re
from pathlib import Path

import numpy as np

from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.delivery import Delivery
from clinical_mm.ingest.gene_sets import with_gene_sets
from clinical_mm.ingest.gene_symbols import Renaming
from clinical_mm.ingest.ledger import Ledger
from clinical_mm.ingest.long_matrix import read_long
from clinical_mm.ingest.numeric_files import Layout, NumericFile, read_numeric
from clinical_mm.ingest.opening import UnreadableFileError
from clinical_mm.ingest.oriented import (
    Oriented,
    as_samples,
    samples_in_columns,
    samples_in_rows,
    with_current_symbols,
    with_features,
    with_log2p1,
    with_single_features,
)
from clinical_mm.ingest.samples import GenomicTables, Samples, genomic_tables, joined, settle_samples
from clinical_mm.ingest.tabular import place_of
from clinical_mm.ingest.times import TimeReader
from clinical_mm.progress import track
from clinical_mm.study.sources import GenomicsMatrixSource


def read_genomics_matrix(  # noqa: PLR0917 - what all readers take, and the renaming
    name: str,
    source: GenomicsMatrixSource,
    delivery: Delivery,
    files: list[Path],
    ledger: Ledger,
    renaming: Renaming | None = None,
    gene_sets: dict[str, tuple[str, ...]] | None = None,
) -> GenomicTables:
    """Read the samples of a source of kind `genomics_matrix`.

    Args:
        name: of the source.
        source: its declaration.
        delivery: where the files lie.
        files: the source's files in it; features that only some have are missing in the others' samples.
        ledger: is told the fate of each sample, once; cells that are no number are put on record by the place of
            their column and row, and are missing.
        renaming: of genes to current symbols; default none.
        gene_sets: genes by set, where `source.gene_sets` names them.

    Returns:
        Rows of `tables.GENOMIC_SAMPLES` and their values, transformed.

    Raises:
        DeliveryError: a column is missing, no column is a feature, or values that the transform cannot take.
    """
    reader = TimeReader(source.time, name)
    is_feature = _pattern(source, name)
    if source.samples == "columns" and (source.available_time is not None or source.patient_id is not None):
        raise DeliveryError(
            f"source {name}: available_time and patient_id name columns, and its samples lie in columns: leave them out"
        )

    def layout(header: list[str]) -> Layout:
        if source.samples == "rows":
            return _layout_of_rows(header, source, name, is_feature)
        return _layout_of_columns(header, source, name)

    renaming = renaming or Renaming()
    parts = []
    for path in track(files, f"reading {name}"):
        place = delivery.relative(path)
        if source.samples == "long":
            parts += _long(
                read_long(name, source, delivery, path, ledger), source, is_feature, ledger, name, renaming
            )
            continue
        try:
            file = read_numeric(path, source.table, name, layout)
            if source.samples == "rows":
                parts.append(_in_rows(file, place, source, reader, ledger, name, renaming))
            else:
                parts.append(_in_columns(file, place, source, is_feature, ledger, name, renaming))
        except UnreadableFileError as error:
            ledger.found()
            ledger.quarantine(place, error.reason_code, error.sentence)
    samples, hashes = settle_samples(joined(parts), ledger)
    if source.gene_sets is not None and gene_sets is not None:
        samples = with_gene_sets(samples, gene_sets, source.gene_sets.minimum, renaming)
    return genomic_tables(name, delivery.name, samples, hashes)


def _pattern(source: GenomicsMatrixSource, name: str) -> re.Pattern[str]:
    try:
        return re.compile(source.features)
    except re.error:
        raise DeliveryError(
            f"source {name}: features is no regular expression: {source.features!r}"
        ) from None


def _layout_of_rows(
    header: list[str], source: GenomicsMatrixSource, name: str, is_feature: re.Pattern[str]
) -> Layout:
    named = [c for c in (source.sample_id, source.patient_id, source.available_time) if c is not None]
    by_role = {
        "sample": source.sample_id or source.patient_id,
        "patient": source.patient_id,
        "time": source.available_time,
    }
    labels = {r: place_of(c, header, name, named) for r, c in by_role.items() if c is not None}
    labels.setdefault("sample", 0)
    labels.setdefault("patient", labels["sample"])
    taken = {*labels.values(), *(i for i, c in enumerate(header) if c in source.excluded)}
    values = [i for i, c in enumerate(header) if i not in taken and c and is_feature.search(c)]
    if not values:
        raise DeliveryError(
            f"source {name}: none of the {len(header)} columns is a feature: features is {source.features!r}"
        )
    return Layout(labels, values)


def _layout_of_columns(header: list[str], source: GenomicsMatrixSource, name: str) -> Layout:
    place = 0
    if source.sample_id is not None:
        place = place_of(source.sample_id, header, name, ())
    values = [i for i, c in enumerate(header) if i != place and c not in source.excluded]
    return Layout({"feature": place}, values)


def _in_rows(  # noqa: PLR0917
    file: NumericFile,
    path: str,
    source: GenomicsMatrixSource,
    reader: TimeReader,
    ledger: Ledger,
    name: str,
    renaming: Renaming,
) -> Samples:
    ledger.found(len(file.numbers) + len(file.malformed))
    for number, problem in file.malformed:
        ledger.quarantine(f"{path}#row {number}", "malformed_row", problem)
    ids, patients = _stripped(file.labels["sample"]), _stripped(file.labels["patient"])
    has_time = "time" in file.labels
    times = reader.read(file.labels["time"] if has_time else [""] * len(ids))
    # `is_timeless` has a default: a source that names a column of times means it, unless it says both.
    is_timeless = source.is_timeless and (not has_time or "is_timeless" in source.model_fields_set)
    is_undated = times.is_missing & (not is_timeless)
    problems = [
        (ids == "", "missing_sample_id", "the row names no sample"),
        (patients == "", "missing_patient_id", "the row names no patient"),
        (times.is_unreadable, "unreadable_time", "the available time is not in the declared form"),
        (is_undated, "missing_time", "the row does not say when its values could be known"),
    ]
    matrix = _prepared(samples_in_rows(file, path), source, ledger, name, renaming)
    return as_samples(matrix, ids, patients, times.values, problems, ledger)


def _in_columns(  # noqa: PLR0917
    file: NumericFile,
    path: str,
    source: GenomicsMatrixSource,
    is_feature: re.Pattern[str],
    ledger: Ledger,
    name: str,
    renaming: Renaming,
) -> Samples:
    ids = _stripped([file.header[p] for p in file.layout.values])
    ledger.found(len(ids))
    for number, problem in file.malformed:
        ledger.quarantine_cell(f"{path}#row {number}", "malformed_row", f"{problem}: the feature is missing")
    names = _stripped(file.labels["feature"])
    for number in file.numbers[names == ""]:
        ledger.quarantine_cell(f"{path}#row {number}", "missing_value", "the row names no feature")
    is_chosen = np.array([n != "" and is_feature.search(n) is not None for n in names], dtype=bool)
    is_undated = np.full(len(ids), not source.is_timeless)
    problems = [
        (ids == "", "missing_sample_id", "the column names no sample"),
        (is_undated, "missing_time", "the samples carry no time, and are not declared timeless"),
    ]
    matrix = _prepared(samples_in_columns(file, path, names, is_chosen), source, ledger, name, renaming)
    no_time = np.full(len(ids), np.datetime64("NaT", "us"))
    return as_samples(matrix, ids, ids, no_time, problems, ledger)


def _long(  # noqa: PLR0917
    read: tuple[Oriented, np.ndarray] | None,
    source: GenomicsMatrixSource,
    is_feature: re.Pattern[str],
    ledger: Ledger,
    name: str,
    renaming: Renaming,
) -> list[Samples]:
    if read is None:
        return []
    matrix, ids = read
    is_chosen = np.array(
        [is_feature.search(f) is not None and f not in source.excluded for f in matrix.features], dtype=bool
    )
    matrix = _prepared(with_features(matrix, is_chosen), source, ledger, name, renaming)
    is_undated = np.full(len(ids), not source.is_timeless)
    problems = [(is_undated, "missing_time", "the samples carry no time, and are not declared timeless")]
    no_time = np.full(len(ids), np.datetime64("NaT", "us"))
    return [as_samples(matrix, ids, ids, no_time, problems, ledger)]


def _prepared(
    matrix: Oriented, source: GenomicsMatrixSource, ledger: Ledger, name: str, renaming: Renaming
) -> Oriented:
    matrix = with_single_features(with_current_symbols(matrix, renaming, ledger), ledger)
    return with_log2p1(matrix, name) if source.transform == "log2p1" else matrix


def _stripped(cells: list[object]) -> np.ndarray:
    return np.array([str(c).strip() for c in cells], dtype=object)
