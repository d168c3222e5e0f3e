"""A numeric table of patients and features on disk: one .npy, memory-mapped, with the names of its rows and columns.

Parquet with tens of thousands of columns opens some ten times slower. Which features there are does not belong here.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from clinical_mm.store import read_json, write_json


def create_matrix(
    directory: Path, name: str, patients: Sequence[str], features: Sequence[str]
) -> npt.NDArray[np.float32]:
    """A new matrix [patients, features] float32, all NaN, to be filled in place (memory-mapped)."""
    shape = (len(patients), len(features))
    path = directory / f"{name}.npy"
    if 0 in shape:  # a file cannot be mapped where it is empty
        matrix = np.zeros(shape, dtype=np.float32)
        np.save(path, matrix)
        return matrix
    matrix = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    matrix[:] = np.nan
    return matrix


def name_matrix(
    directory: Path,
    name: str,
    *,
    patients: Sequence[str],
    features: Sequence[str],
    is_kept: npt.NDArray[np.bool_],
    categories: Sequence[str] = (),
) -> None:
    """Write the names beside a filled matrix, and which rows count.

    Args:
        directory: where the matrix is.
        name: of the matrix.
        patients: of all its rows.
        features: of its columns.
        is_kept: [patients] whether a patient has any value.
        categories: the features that are levels of a category, 0 or 1.
    """
    about = {
        "patients": [p for p, kept in zip(patients, is_kept, strict=True) if kept],
        "rows": np.flatnonzero(is_kept).tolist(),
        "features": list(features),
        "categories": list(categories),
    }
    write_json(directory / f"{name}.json", about)


def read_matrix(directory: Path, name: str) -> tuple[pd.DataFrame, frozenset[str]]:
    """The matrix as a frame: index patient_id, a column a feature, NaN where missing; and its categories.

    The values stay on disk where every row counts; changing them is an error.
    """
    about = read_json(directory / f"{name}.json")
    path = directory / f"{name}.npy"
    rows = about["rows"]
    is_empty = not rows or not about["features"]
    matrix = np.load(path, mmap_mode=None if is_empty else "r", allow_pickle=False)
    values = matrix if len(rows) == len(matrix) else matrix[rows]
    index = pd.Index(about["patients"], name="patient_id", dtype=object)
    columns = pd.Index(about["features"], dtype=object)
    return pd.DataFrame(values, index=index, columns=columns, copy=False), frozenset(about["categories"])
