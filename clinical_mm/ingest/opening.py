"""Opening a delivered file: decompressed by its ending, and every way in which that fails as one error with a reason.

What the bytes mean does not belong here.
"""

import bz2
import codecs
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.character_sets import LONGEST_MARK, hint_of, marked_encoding

COMPRESSIONS = (".gz", ".zip", ".bz2", ".xz")
"""Endings that say how a file is compressed."""


class UnreadableFileError(DeliveryError):
    """A file cannot be read as a whole; readers quarantine it under `reason_code`."""

    def __init__(self, reason_code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason_code = reason_code
        self.sentence = sentence


def content_ending(path: Path) -> str:
    """The ending in lower case without that of the compression: `.tsv` of `expression.TSV.gz`."""
    endings = [s.lower() for s in path.suffixes]
    while endings and endings[-1] in COMPRESSIONS:
        endings.pop()
    return endings[-1] if endings else ""


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to read its content, decompressed.

    Raises:
        UnreadableFileError: it cannot be opened, is no such archive, is damaged or cut off; also when that shows only
            while the block reads.
    """
    try:
        with _decompressed(path) as stream:
            yield stream
    except EOFError:
        raise UnreadableFileError("truncated_file", "the compressed file ends too early") from None
    except (gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError):
        raise UnreadableFileError(
            "unreadable_file", f"the file is not what its ending {path.suffix} says, or is damaged"
        ) from None
    except UnicodeError:
        raise UnreadableFileError(
            "unknown_encoding", "the file does not decode in the encoding that the source declares"
        ) from None
    except OSError as error:
        kind = error.strerror or type(error).__name__
        raise UnreadableFileError("unreadable_file", f"the file cannot be read: {kind}") from None


@contextmanager
def _decompressed(path: Path) -> Iterator[IO[bytes]]:
    ending = path.suffix.lower()
    if ending == ".zip":
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if not m.is_dir() and "__MACOSX" not in m.filename]
            if len(members) != 1:
                raise UnreadableFileError(
                    "unreadable_file", f"the archive holds {len(members)} files, and one was expected"
                )
            if members[0].flag_bits & 0x1:
                raise UnreadableFileError("unreadable_file", "the archive is encrypted")
            with archive.open(members[0]) as stream:
                yield stream
        return
    with _opened(path, ending) as stream:
        yield stream


def _opened(path: Path, ending: str) -> IO[bytes]:
    if ending == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    if ending == ".bz2":
        return cast(IO[bytes], bz2.open(path, "rb"))
    if ending == ".xz":
        return cast(IO[bytes], lzma.open(path, "rb"))
    return path.open("rb")


@contextmanager
def open_text(path: Path, encoding: str, source: str) -> Iterator[IO[str]]:
    """Open a file as text, decompressed, its line ends as they are.

    A byte order mark is no text, and says more of the file than the declared encoding does.

    Raises:
        DeliveryError: Python knows no such encoding.
        UnreadableFileError: as `open_bytes`, or the file does not decode.
    """
    codec = known_encoding(encoding)
    if codec is None:
        raise DeliveryError(
            f"source {source}: {encoding!r} is no encoding that Python knows: see table.encoding"
        )
    with open_bytes(path) as stream:
        beginning = cast(io.BufferedReader, stream).peek(LONGEST_MARK)  # all that are opened here can
        codec = marked_encoding(beginning) or codec
        try:
            yield io.TextIOWrapper(stream, encoding=codec, errors="strict", newline="")
        except UnicodeDecodeError as error:
            sentence = (
                f"the file does not decode in the encoding that the source declares{hint_of(error.object)}"
            )
            raise UnreadableFileError("unknown_encoding", sentence) from None


def known_encoding(name: str) -> str | None:
    """The codec for a text encoding, or None where there is none of that name."""
    try:
        codec = codecs.lookup(name).name
        io.TextIOWrapper(io.BytesIO(), encoding=codec)  # some codecs turn bytes into bytes
    except (LookupError, ValueError):
        return None
    return "utf-8-sig" if codec == "utf-8" else codec
