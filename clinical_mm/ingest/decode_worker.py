"""The process in which untrusted DICOM bytes are parsed and decoded: `python -m clinical_mm.ingest.decode_worker`.

Native decoders abort, panic, hang and take all memory on hostile bytes. Here that costs one file: the process has a
limit on its address space and on what it writes, an alarm that ends it when an answer takes too long even if nobody
is left to end it, and no standard output or error on which a decoder could print what it read. It reads requests
from standard input and answers on what was standard output; `decode_pool` is the other end. Linux, as the limits are.
"""

import logging
import os
import signal
import struct
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from clinical_mm.ingest.decoding import decode_file
from clinical_mm.ingest.dicom_header import read_header
from clinical_mm.ingest.dicom_wire import (
    Answer,
    Decoded,
    DecodeRequest,
    HeadersAnswer,
    HeadersRequest,
    InstanceHeader,
    Ready,
    Refusal,
    Request,
)
from clinical_mm.ingest.isolation import shut_in
from clinical_mm.ingest.pixel_extent import MAX_DECODED_BYTES

LENGTH = struct.Struct("<Q")
"""Every message is preceded by its length."""

_ALARM_GRACE_S = 10
_T = TypeVar("_T", InstanceHeader, Decoded)


def main() -> None:
    """Answer requests until standard input ends."""
    requests, answers = shut_in(int(sys.argv[1]), file_bytes=MAX_DECODED_BYTES)
    logging.disable()  # pydicom quotes values that it finds odd
    warnings.simplefilter("ignore")
    _send(answers, Ready())
    decoder = msgspec.msgpack.Decoder(Request)
    while begin := requests.read(LENGTH.size):
        request = decoder.decode(requests.read(LENGTH.unpack(begin)[0]))
        signal.alarm(int(request.deadline_s) + _ALARM_GRACE_S)
        _send(answers, _answer(request))
        signal.alarm(0)


def _answer(request: HeadersRequest | DecodeRequest) -> Answer:
    if isinstance(request, HeadersRequest):
        return HeadersAnswer(tuple(_header(Path(os.fsdecode(path))) for path in request.paths))
    path, output = Path(os.fsdecode(request.path)), Path(os.fsdecode(request.output))
    return _guarded(lambda: decode_file(path, output), "decode_failed", "the pixel data cannot be decoded")


def _header(path: Path) -> InstanceHeader | Refusal:
    return _guarded(lambda: read_header(path), "unreadable_file", "the header cannot be read")


def _guarded(read: Callable[[], _T | Refusal], reason_code: str, sentence: str) -> _T | Refusal:
    try:
        return read()
    except MemoryError:
        return Refusal(reason_code, f"{sentence}: it needs more memory than a decoding worker may take")
    except OSError as error:
        # The operating system's own words; without the path, which may name the patient.
        return Refusal(reason_code, f"{sentence}: {error.strerror or type(error).__name__}")
    except BaseException as error:  # noqa: BLE001 - parsers raise anything, and Rust's panics are no Exception
        # The kind alone: messages of parsers quote what they read.
        return Refusal(reason_code, f"{sentence} ({type(error).__name__})")


def _send(answers: BinaryIO, answer: Answer) -> None:
    data = msgspec.msgpack.encode(answer)
    answers.write(LENGTH.pack(len(data)) + data)
    answers.flush()


if __name__ == "__main__":
    main()
