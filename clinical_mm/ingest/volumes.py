"""Decoded volumes on disk: `<content hash>.npy`, written whole, shared by all deliveries, memory-mappable.

A volume is named by what it was made of, so one that is there is the right one and is never written again. Beside it
stands `<content hash>.json` with what was changed in decoding, in words. What the values mean does not belong here.
"""

import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from clinical_mm.errors import StoreError
from clinical_mm.ingest.dicom_wire import Decoded
from clinical_mm.store import read_json, write_json

_SCRATCH = ".decoding-"
_ABANDONED_S = 24 * 3600.0


@dataclass(frozen=True)
class DecodedFile:
    """A file of decoded frames."""

    path: Path
    decoded: Decoded

    def frame(self, index: int) -> npt.NDArray[np.generic]:
        """One frame, read from disk: [rows, columns], or [rows, columns, 3]."""
        pixels = int(np.prod(self.decoded.shape))
        dtypes = [np.dtype(name) for name in self.decoded.dtypes]
        offset = sum(dtype.itemsize for dtype in dtypes[:index]) * pixels
        values = np.fromfile(self.path, dtype=dtypes[index], count=pixels, offset=offset)
        return values.reshape(self.decoded.shape)


def volume_notes(volumes: Path, content_hash: str) -> tuple[str, ...] | None:
    """What was changed in decoding a volume; None where the volume is not there."""
    if not (volumes / f"{content_hash}.npy").is_file():
        return None
    return tuple(read_json(volumes / f"{content_hash}.json")["notes"])


def write_volume(
    volumes: Path, content_hash: str, slices: Sequence[tuple[DecodedFile, int]]
) -> tuple[str, ...]:
    """Write a volume slice by slice: int16, uint8, or float32 where one slice is.

    Args:
        volumes: the folder of volumes.
        content_hash: names the volume.
        slices: for each slice the decoded file and the frame in it.

    Returns:
        What was changed in decoding, in words.

    Raises:
        StoreError: the disk does not take it.
    """
    shape = slices[0][0].decoded.shape
    names = {file.decoded.dtypes[frame] for file, frame in slices}
    dtype = np.dtype(names.pop() if len(names) == 1 else "float32")
    notes = tuple(sorted({note for file, _ in slices for note in file.decoded.notes}))
    path = volumes / f"{content_hash}.npy"
    aside = volumes / f".{content_hash}.{uuid.uuid4().hex}"
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": (len(slices), *shape),
    }
    write_json(
        path.with_suffix(".json"), {"notes": notes}
    )  # first: the volume's name is what others look for
    try:
        with aside.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for decoded, frame in slices:
                file.write(np.ascontiguousarray(decoded.frame(frame).astype(dtype, copy=False)).data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        raise StoreError(
            f"a volume cannot be written to {volumes} ({error.strerror}): check its space"
        ) from None
    finally:
        aside.unlink(missing_ok=True)
    return notes


@contextmanager
def scratch_folder(volumes: Path) -> Iterator[Path]:
    """A folder beside the volumes for decoded frames, gone afterwards; those that a crash left are removed too."""
    volumes.mkdir(parents=True, exist_ok=True)
    for old in volumes.glob(f"{_SCRATCH}*"):
        if time.time() - old.stat().st_mtime > _ABANDONED_S:
            shutil.rmtree(old, ignore_errors=True)
    with TemporaryDirectory(prefix=_SCRATCH, dir=volumes) as folder:
        yield Path(folder)
