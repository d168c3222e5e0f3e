"""Arrays in the store's cache: written whole, found by content hash, memory-mapped.

What they hold does not belong here.
"""

import io
import math
import mmap
import os
import uuid
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_HEADER_BYTES = 128
"""Of every .npy file of few dimensions (NumPy pads headers to 64 bytes); others are read, too, more slowly."""


def cache_path(folder: Path, key: str) -> Path:
    """Where the array of a key lies: 256 folders keep each of them small."""
    return folder / key[:2] / f"{key}.npy"


def read_array(path: Path) -> npt.NDArray[Any] | None:
    """The array, memory-mapped and not to be written to, or None where it is missing or was not written whole.

    As `np.lib.format.open_memmap`, at a tenth of its time: epochs open each array anew.
    """
    try:
        with path.open("rb") as file:
            layout = _layout(file.read(_HEADER_BYTES))
            if layout is None or os.fstat(file.fileno()).st_size < _HEADER_BYTES + layout.n_bytes:
                return _read_other(path)
            if layout.n_bytes == 0:
                return np.empty(layout.shape, layout.dtype)
            mapped = mmap.mmap(file.fileno(), _HEADER_BYTES + layout.n_bytes, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        return None
    return np.ndarray(layout.shape, layout.dtype, mapped, _HEADER_BYTES)


@dataclass(frozen=True)
class _Layout:
    """What a header of `_HEADER_BYTES` says, of an array in C order."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    n_bytes: int


@lru_cache(maxsize=256)  # the arrays of one setting have one header
def _layout(header: bytes) -> _Layout | None:
    """The layout of an array; None where the header is damaged, or is another than those that are written here."""
    file = io.BytesIO(header)
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            return None
        shape, is_fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    except ValueError:
        return None
    if is_fortran_order or dtype.hasobject or file.tell() != _HEADER_BYTES:
        return None
    return _Layout(shape, dtype, math.prod(shape) * dtype.itemsize)


def _read_other(path: Path) -> npt.NDArray[Any] | None:
    try:
        return np.lib.format.open_memmap(path, mode="r")  # of .npy alone: `np.load` opens archives, too
    except (
        ValueError,
        EOFError,
    ):  # a header or a length that does not fit: the disk was full, or power failed
        return None


def write_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write an array aside and rename it. It is not synced: what a crash leaves is not read, and is made again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.npy")
    try:
        np.save(aside, array, allow_pickle=False)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
