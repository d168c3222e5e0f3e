"""Arrays in the store's cache: written whole, found by content hash, memory-mapped.

What they hold does not belong here.
"""

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def cache_path(folder: Path, key: str) -> Path:
    """Where the array of a key lies: 256 folders keep each of them small."""
    return folder / key[:2] / f"{key}.npy"


def read_array(path: Path) -> npt.NDArray[Any] | None:
    """The array, memory-mapped, or None where it is missing or was not written whole."""
    try:
        return np.lib.format.open_memmap(path, mode="r")  # of .npy alone: `np.load` opens archives, too
    except FileNotFoundError:
        return None
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
