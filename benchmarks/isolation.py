"""DICOM decoded in shut-in worker processes, against the same decoding in the process that ingests."""

import shutil
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import JPEGLSLossless, RLELossless, generate_uid

from benchmarks.harness import Benchmark, Side
from clinical_mm.ingest.decode_pool import DecodeLimits, DecoderPool
from clinical_mm.ingest.decoding import decode_file
from clinical_mm.ingest.dicom_header import read_header
from clinical_mm.ingest.dicom_wire import Decoded, InstanceHeader

_FILES = 800
_SIDE = 512
_SYNTAXES = (None, RLELossless, JPEGLSLossless)
"""Uncompressed, and two compressed transfer syntaxes, by turns."""


def _prepare(folder: Path, scale: float) -> None:
    (folder / "files").mkdir(parents=True)
    like = Path(pydicom.data.__file__).parent / "test_files" / "CT_small.dcm"
    rng = np.random.default_rng(5)
    smooth = np.add.outer(np.arange(_SIDE), np.arange(_SIDE))
    for number in range(max(12, round(_FILES * scale))):
        dataset = pydicom.dcmread(like)
        pixels = (smooth + rng.integers(0, 200, (_SIDE, _SIDE))).astype(np.int16)
        dataset.Rows = dataset.Columns = _SIDE
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[str(number)])
        dataset.PixelData = pixels.tobytes()
        syntax = _SYNTAXES[number % len(_SYNTAXES)]
        if syntax is not None:
            dataset.compress(syntax, generate_instance_uid=False)
        dataset.save_as(folder / "files" / f"{number:05}.dcm")


def _without_outputs(folder: Path) -> None:
    shutil.rmtree(folder / "out", ignore_errors=True)
    (folder / "out").mkdir()


def _paths(folder: Path) -> list[Path]:
    return sorted((folder / "files").iterdir())


def _in_workers(folder: Path) -> int:
    """One worker, so that both sides have one core."""
    paths = _paths(folder)
    with DecoderPool(DecodeLimits(workers=1)) as pool:
        headers = list(pool.read_headers(paths))
        futures = [
            pool.decode(path, folder / "out" / path.name, header.decoded_bytes)
            for path, header in zip(paths, headers, strict=True)
            if isinstance(header, InstanceHeader)
        ]
        for future in futures:
            assert isinstance(future.result(), Decoded)
    return sum(path.stat().st_size for path in (folder / "out").iterdir())


def _in_process(folder: Path) -> int:
    for path in _paths(folder):
        assert isinstance(read_header(path), InstanceHeader)
        assert isinstance(decode_file(path, folder / "out" / path.name), Decoded)
    return sum(path.stat().st_size for path in (folder / "out").iterdir())


def _agree(ours: int, other: int) -> None:
    assert ours == other, "both sides decode the same bytes"


BENCHMARK = Benchmark(
    what="headers and pixels of 800 CT images of 512 × 512 (uncompressed, RLE, JPEG-LS) in one shut-in worker",
    bar="0.9×",
    prepare=_prepare,
    ours=Side("in a worker", _in_workers, before=_without_outputs),
    other=Side("in the process itself", _in_process, before=_without_outputs),
    agree=_agree,
    note="ours starts the worker within the time; the worker's memory counts as ours",
)
