"""DICOM in, series out: every file of a delivery ends in a row of the series table or in the ledger.

Headers are read first, pixels afterwards, both in worker processes (`decode_pool`). Files become series (`instances`),
series become stacks (`stacks`), stacks become volumes (`volumes`); this module leads a file through them and keeps
its fate. One series is on its way at a time, and the next is being decoded.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from clinical_mm import tables
from clinical_mm.ingest.decode_pool import DecodeLimits, DecoderPool
from clinical_mm.ingest.dicom_wire import Decoded, Refusal
from clinical_mm.ingest.instances import Instance, Series, collect_series
from clinical_mm.ingest.ledger import Ledger
from clinical_mm.ingest.stacks import Slice, Stack, Stacks, divide
from clinical_mm.ingest.volumes import DecodedFile, scratch_folder, volume_notes, write_volume
from clinical_mm.progress import track
from clinical_mm.store import content_hash
from clinical_mm.study.sources import DicomSource

if TYPE_CHECKING:
    from clinical_mm.ingest.delivery import Delivery

VERSION = 1
"""Part of every volume's name: raised when decoding gives other values than before."""


def read_dicom(  # noqa: PLR0917 - what all readers take, and the folder of volumes
    name: str,
    source: DicomSource,
    delivery: "Delivery",
    files: list[Path],
    ledger: Ledger,
    volumes: Path,
    limits: DecodeLimits | None = None,
) -> pd.DataFrame:
    """Read the DICOM files of a source in a delivery.

    Args:
        name: of the source.
        source: its declaration.
        delivery: where the files lie.
        files: all files of the source in it; their names and order say nothing.
        ledger: is told the fate of each file, once.
        volumes: folder for decoded volumes, `<content hash>.npy`: int16 or float32 [slices, rows, columns] in the
            units of the modality LUT, or uint8 [slices, rows, columns, 3] in RGB.
        limits: what a file may take in time and memory; default `DecodeLimits()`.

    Returns:
        Rows of `tables.SERIES`: one for each consistent stack of slices.

    Raises:
        DeliveryError: the decoding workers do not start.
        StoreError: a volume cannot be written.
    """
    ledger.found(len(files))
    rows: list[dict[str, Any]] = []
    with DecoderPool(limits) as pool, scratch_folder(volumes) as scratch:
        headers = zip(files, pool.read_headers(files), strict=True)
        located = ((_locator(path, delivery), path, header) for path, header in headers)
        series = collect_series(
            track(located, "DICOM headers", total=len(files)),
            source.modalities,
            source.is_timeless,
            ledger,
            pool.content_hashes,
        )
        for work in _one_ahead(series, pool, scratch, volumes):
            done = work.finish(ledger)
            for number, (stack, volume, notes) in enumerate(done):
                origin = {"source": name, "delivery": delivery.name, "stack": number}
                rows.append(origin | _row(work.series, stack, volume, [*notes, *_left_out(work.n_left_out)]))
    frame = pd.DataFrame(rows, columns=tables.SERIES.columns)
    return tables.to_pandas(tables.to_arrow(tables.SERIES, frame)) if rows else tables.empty(tables.SERIES)


def _locator(path: Path, delivery: "Delivery") -> str:
    """The path within the delivery; a name that is no valid text is written with escapes."""
    return os.fsencode(path.relative_to(delivery.path).as_posix()).decode("utf-8", "backslashreplace")


def _one_ahead(
    series: Sequence[Series], pool: DecoderPool, scratch: Path, volumes: Path
) -> Iterator["_SeriesWork"]:
    """The work on each series, begun while the one before it is finished."""
    before: _SeriesWork | None = None
    for one in track(series, "DICOM series"):
        work = _SeriesWork(one, pool, scratch, volumes)
        work.begin()
        if before is not None:
            yield before
        before = work
    if before is not None:
        yield before


@dataclass
class _SeriesWork:
    """A series on its way to volumes: divided, decoded, and divided again without the files that do not decode."""

    series: Series
    pool: DecoderPool
    scratch: Path
    volumes: Path
    _usable: dict[str, Instance] = field(default_factory=dict)
    _unread: dict[str, Refusal] = field(default_factory=dict)
    _hashes: dict[str, str] = field(default_factory=dict)
    _stacks: Stacks = field(default_factory=lambda: Stacks((), ()))
    _decoding: dict[str, tuple[Path, Future[Decoded | Refusal]]] = field(default_factory=dict)
    _n_refused: int = 0

    @property
    def n_left_out(self) -> int:
        """Files of the series that are in quarantine."""
        return self.series.n_left_out + self._n_refused

    def begin(self) -> None:
        """Divide the series and start to decode what no volume holds yet."""
        self._usable = {instance.locator: instance for instance in self.series.instances}
        # Here and not with the headers: to index reads no pixels, and what is hashed is still in memory for decoding.
        hashes = self.pool.content_hashes([instance.path for instance in self.series.instances])
        for locator, found in zip(list(self._usable), hashes, strict=True):
            if isinstance(found, Refusal):
                self._unread[locator] = found
                del self._usable[locator]
            else:
                self._hashes[locator] = found
        self._divide()

    def finish(self, ledger: Ledger) -> list[tuple[Stack, str, tuple[str, ...]]]:
        """The stacks, each with the name of its volume, which is on disk, and what was changed in decoding.

        The fate of every file is told.
        """
        for locator, refusal in self._unread.items():
            ledger.quarantine(locator, refusal.reason_code, refusal.sentence)
        self._n_refused += len(self._unread)
        while refused := self._refused():
            for locator, refusal in refused.items():
                ledger.quarantine(locator, refusal.reason_code, refusal.sentence)
                del self._usable[locator]
                self._decoding.pop(locator)[0].unlink(missing_ok=True)
            self._n_refused += len(refused)
            self._divide()
        done = [(stack, self._volume(stack), self._write(stack)) for stack in self._stacks.stacks]
        accepted = {item.locator for stack, _, _ in done for item in stack.slices}
        ledger.accept(len(accepted))
        sentence = "several images lie at the same position and nothing in the header tells them apart"
        for locator in sorted({item.locator for item in self._stacks.unresolved}):
            self._n_refused += locator not in accepted
            if locator in accepted:
                ledger.quarantine_cell(
                    f"{locator}#frames", "inconsistent_geometry", f"of some frames: {sentence}"
                )
            else:
                ledger.quarantine(locator, "inconsistent_geometry", sentence)
        for output, _ in self._decoding.values():
            output.unlink(missing_ok=True)
        return done

    def _divide(self) -> None:
        self._stacks = divide(
            [
                Slice(instance.locator, instance.header, frame)
                for instance in self._usable.values()
                for frame in range(len(instance.header.frames))
            ]
        )
        for stack in self._stacks.stacks:
            if volume_notes(self.volumes, self._volume(stack)) is None:
                for locator in dict.fromkeys(item.locator for item in stack.slices):
                    self._decode(self._usable[locator])

    def _volume(self, stack: Stack) -> str:
        """What a volume is named by: the bytes of its files, the frames taken of them, their order, and `VERSION`."""
        return content_hash(
            "volume", VERSION, [[self._hashes[item.locator], item.frame] for item in stack.slices]
        )

    def _decode(self, instance: Instance) -> None:
        if instance.locator not in self._decoding:
            # Neither a UID nor the file's own name: what a delivery calls itself is not trusted with a path.
            output = self.scratch / f"{content_hash(instance.locator)}.raw"
            self._decoding[instance.locator] = (
                output,
                self.pool.decode(instance.path, output, instance.header.decoded_bytes),
            )

    def _refused(self) -> dict[str, Refusal]:
        answers = {locator: future.result() for locator, (_, future) in self._decoding.items()}
        return {locator: answer for locator, answer in answers.items() if isinstance(answer, Refusal)}

    def _write(self, stack: Stack) -> tuple[str, ...]:
        notes = volume_notes(self.volumes, self._volume(stack))
        if notes is not None:
            return notes
        slices: list[tuple[DecodedFile, int]] = []
        for item in stack.slices:
            output, future = self._decoding[item.locator]
            decoded = future.result()
            assert isinstance(decoded, Decoded)
            slices.append((DecodedFile(output, decoded), item.frame))
        return write_volume(self.volumes, self._volume(stack), slices)


def _left_out(n_files: int) -> list[str]:
    return [f"{n_files} more files of the series are in quarantine"] if n_files else []


def _row(series: Series, stack: Stack, volume: str, notes: list[str]) -> dict[str, Any]:
    """A row of `tables.SERIES`, but for its origin and the number of the stack."""
    first, geometry = stack.slices[0], stack.geometry
    header = first.header
    window = stack.slices[len(stack.slices) // 2].plane  # of the middle slice, where the object is
    return {
        "locator": first.locator,
        "source_patient_id": header.patient_id,
        "series_instance_uid": series.series_instance_uid,
        "study_instance_uid": header.study_instance_uid,
        "modality": header.modality,
        "body_part": header.body_part,
        "description": header.description,
        "manufacturer": header.manufacturer,
        "scanner": header.scanner,
        "available_time": _available_time(stack) or series.available_time,
        "unit": header.unit,
        "photometric_interpretation": header.photometric_interpretation,
        "is_inverted": header.photometric_interpretation == "MONOCHROME1",
        "window_center": window.window_center,
        "window_width": window.window_width,
        "is_volume": geometry.is_volume,
        "geometry": "; ".join([stack.sentence, *notes]),
        "shape": [len(stack.slices), header.rows, header.columns],
        "channels": 3 if header.is_colour else 1,
        "spacing_mm": [] if geometry.spacing_mm is None else list(geometry.spacing_mm),
        "affine": [] if geometry.affine is None else [float(v) for v in geometry.affine.ravel()],
        "slice_locators": [item.locator for item in stack.slices],
        "slice_sop_instance_uids": [item.header.sop_instance_uid for item in stack.slices],
        "slice_frames": [item.frame for item in stack.slices],
        "volume": f"volumes/{volume}.npy",
        "content_hash": volume,
    }


def _available_time(stack: Stack) -> datetime | None:
    """When the last of a stack's images could be read; a stack is not there before it is complete."""
    return max((t for item in stack.slices if (t := item.header.available_time) is not None), default=None)
