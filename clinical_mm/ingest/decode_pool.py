"""A pool of decoding workers: started once an ingest, replaced where one dies, each file given a deadline.

A worker is a plain child process rather than one of `multiprocessing`: it works from daemonic processes and notebooks
alike, imports nothing of the program that started it, and its answers are typed data, never pickles.
"""

import os
import select
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.dicom_wire import (
    Answer,
    Decoded,
    DecodeRequest,
    HeadersAnswer,
    HeadersRequest,
    InstanceHeader,
    Ready,
    Refusal,
)
from clinical_mm.ingest.isolation import PACKAGE, worker_command, worker_environment
from clinical_mm.store import file_hash

_LENGTH_BYTES = 8
_START_DEADLINE_S = 120.0
_HEADERS_A_REQUEST = (
    64  # one message costs as much as a header; larger batches cost more when a file kills one
)


@dataclass(frozen=True)
class DecodeLimits:
    """What a file may take.

    Attributes:
        header_deadline_s: for the headers of one request.
        decode_deadline_s: for one file, and
        decode_deadline_s_per_mb: so much more for every MB that it decodes to. The slowest decoder writes 5 MB/s.
        address_space_bytes: of a worker; its own libraries take about 1 GiB of it.
        workers: processes; default: one a core, at most 4.
    """

    header_deadline_s: float = 30.0
    decode_deadline_s: float = 60.0
    decode_deadline_s_per_mb: float = 1.0
    address_space_bytes: int = 4 << 30
    workers: int | None = None


class _WorkerLostError(Exception):
    """A worker died, or was ended because it was late; `reason_code` is decode_failed or decode_timeout."""

    def __init__(self, reason_code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason_code = reason_code


class _Worker:
    """One child process, spoken to by one thread."""

    def __init__(self, limits: DecodeLimits) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter and this package
            worker_command("clinical_mm.ingest.decode_worker", limits.address_space_bytes),
            cwd=PACKAGE,
            env=worker_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # an interrupt is for the pool, which then ends its workers
        )
        self._decoder = msgspec.msgpack.Decoder(Answer)
        try:
            is_ready = isinstance(self._receive(time.monotonic() + _START_DEADLINE_S), Ready)
        except _WorkerLostError:
            is_ready = False
        if not is_ready:
            self.stop()
            raise DeliveryError(
                "a decoding worker does not start: run `python -m clinical_mm.ingest.decode_worker 4294967296` to see "
                "why"
            )

    def ask(self, request: HeadersRequest | DecodeRequest) -> Answer:
        """Send a request and wait for its answer.

        Raises:
            _WorkerLostError: it did not come; the worker is ended.
        """
        data = msgspec.msgpack.encode(request)
        pipe = self._process.stdin
        assert pipe is not None
        try:
            pipe.write(len(data).to_bytes(_LENGTH_BYTES, "little") + data)
            pipe.flush()
            return self._receive(time.monotonic() + request.deadline_s)
        except BrokenPipeError:
            self.stop()
            raise _WorkerLostError("decode_failed", "the decoder ended its process") from None
        except _WorkerLostError:
            self.stop()
            raise

    def _receive(self, until: float) -> Answer:
        length = int.from_bytes(self._read(_LENGTH_BYTES, until), "little")
        return self._decoder.decode(self._read(length, until))

    def _read(self, count: int, until: float) -> bytes:
        pipe = self._process.stdout
        assert pipe is not None
        parts: list[bytes] = []
        while count:
            ready, _, _ = select.select([pipe], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise _WorkerLostError("decode_timeout", "the decoder took longer than the deadline")
            part = os.read(pipe.fileno(), min(count, 1 << 20))
            if not part:
                raise _WorkerLostError("decode_failed", "the decoder ended its process")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def kill(self) -> None:
        """End the process; whoever waits for its answer learns of it."""
        self._process.kill()

    def stop(self) -> None:
        """End the process and close the pipes to it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                # What was still to be flushed to the dead process has no reader; the descriptor is closed all the same.
                continue


def _content_hash(path: Path) -> str | Refusal:
    try:
        return file_hash(path)
    except OSError as error:
        # Without the path, which may name the patient.
        return Refusal(
            "unreadable_file", f"the file cannot be read: {error.strerror or type(error).__name__}"
        )


class DecoderPool:
    """Workers that read headers and decode files; a context manager.

    Attributes:
        limits: what a file may take.
    """

    def __init__(self, limits: DecodeLimits | None = None) -> None:
        self.limits = limits or DecodeLimits()
        self.n_workers = self.limits.workers or min(4, len(os.sched_getaffinity(0)))
        self._threads = ThreadPoolExecutor(self.n_workers, thread_name_prefix="decode")
        self._own = threading.local()
        self._workers: set[_Worker] = set()
        self._guard = threading.Lock()
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            # Nobody waits for what is still being decoded: the threads see their workers end.
            self._threads.shutdown(wait=False, cancel_futures=True)
            with self._guard:
                self._is_closed = True
                for worker in self._workers:
                    worker.kill()
        self._threads.shutdown(wait=True)
        for worker in self._workers:
            worker.stop()

    def read_headers(self, paths: Sequence[Path]) -> Iterator[InstanceHeader | Refusal]:
        """The header of each file, or why it has none, in the order of the paths."""
        batches = [paths[i : i + _HEADERS_A_REQUEST] for i in range(0, len(paths), _HEADERS_A_REQUEST)]
        pending: deque[Future[list[InstanceHeader | Refusal]]] = deque()
        for batch in batches:
            pending.append(self._threads.submit(self._headers, batch))
            if len(pending) > 2 * self.n_workers:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()

    def decode(self, path: Path, output: Path, decoded_bytes: int) -> "Future[Decoded | Refusal]":
        """Decode a file into another; the future holds what was written, or why nothing was."""
        return self._threads.submit(self._decode, path, output, decoded_bytes)

    def content_hashes(self, paths: Sequence[Path]) -> list[str | Refusal]:
        """The hash of each file's bytes, or why they cannot be read, in the order of the paths; nothing is decoded."""
        return list(self._threads.map(_content_hash, paths))

    def _headers(self, paths: Sequence[Path]) -> list[InstanceHeader | Refusal]:
        try:
            # `resolve` asks the disk about every folder of every path, which costs as much as a header.
            absolute = tuple(os.fsencode(os.path.abspath(path)) for path in paths)
            answer = self._ask(HeadersRequest(absolute, self.limits.header_deadline_s))
        except _WorkerLostError as error:
            if len(paths) == 1:
                reason_code = "unreadable_file" if error.reason_code == "decode_failed" else error.reason_code
                return [Refusal(reason_code, str(error))]
            # One of them did it: alone, each answers for itself.
            return [header for path in paths for header in self._headers([path])]
        assert isinstance(answer, HeadersAnswer)
        return list(answer.headers)

    def _decode(self, path: Path, output: Path, decoded_bytes: int) -> Decoded | Refusal:
        deadline_s = (
            self.limits.decode_deadline_s + self.limits.decode_deadline_s_per_mb * decoded_bytes / 1e6
        )
        request = DecodeRequest(os.fsencode(path.resolve()), os.fsencode(output.resolve()), deadline_s)
        try:
            answer = self._ask(request)
        except _WorkerLostError as error:
            return Refusal(error.reason_code, str(error))
        assert isinstance(answer, Decoded | Refusal)
        return answer

    def _ask(self, request: HeadersRequest | DecodeRequest) -> Answer:
        worker: _Worker | None = getattr(self._own, "worker", None)
        if worker is None:
            with self._guard:
                if self._is_closed:
                    raise _WorkerLostError("decode_failed", "the ingest was interrupted")
            worker = _Worker(self.limits)
            with self._guard:
                self._workers.add(worker)
            self._own.worker = worker
        try:
            return worker.ask(request)
        except _WorkerLostError:
            self._own.worker = None
            with self._guard:
                self._workers.discard(worker)
            raise
