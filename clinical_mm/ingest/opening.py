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
from typing import IO, TYPE_CHECKING, cast

from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.character_sets import LONGEST_MARK, hint_of, marked_encoding

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

COMPRESSIONS = (".gz", ".zip", ".bz2", ".xz")
"""Endings that say how a file is compressed."""

FREE_BYTES = 4 << 20
"""So much may come of any compressed file, however small."""

FREE_BYTES_SPARSE = 8 << 20
"""So much may come of a compressed matrix, which may honestly hold nearly nothing but zeros."""

MOST_MALFORMED = 200_000
"""More malformed records are kept one by one only where they are the lesser part of a file."""

MAX_UNFOLDING = 100
"""Beyond that, a file that unfolds to more than so many times its size is refused. Tables of records reach a tenth of
it; a matrix with one 1 in a thousand zeros reaches 400, and a bomb 1,032, where deflate ends."""

_NO_DOCUMENT_ENCODINGS = {"idna", "punycode", "undefined"}
"""Codecs for names of hosts, which take hours for a long text, and for no text at all."""

_PIECE = 1 << 18


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


class _Unfolding(io.RawIOBase):
    """A decompressed stream that ends with an error where more comes of what was read than can be meant.

    Compared with what was read so far, so that a bomb is refused after some megabytes and not at the end of its own.
    """

    def __init__(self, stream: IO[bytes], packed: IO[bytes], free_bytes: int, times: int) -> None:
        self._stream = stream
        self._packed = packed
        self._left = free_bytes
        self._times = times
        self._n_read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        data = self._stream.read(len(view))
        n_read = max(self._n_read, self._packed.tell())
        self._left += self._times * (n_read - self._n_read) - len(data)
        self._n_read = n_read
        if self._left < 0:
            raise UnreadableFileError(
                "too_large",
                f"the compressed file unfolds to more than {self._times} times its size: deliver it uncompressed",
            )
        view[: len(data)] = data
        return len(data)


def bounded(
    stream: IO[bytes], packed: IO[bytes], free_bytes: int = FREE_BYTES, times: int = MAX_UNFOLDING
) -> io.BufferedReader:
    """A decompressed stream that is no bomb.

    Args:
        stream: what is decompressed.
        packed: the open file that it is decompressed of.
        free_bytes: so much may come of it in any case, and
        times: so many bytes more for each byte of the file.

    Returns:
        The stream; reading it raises `UnreadableFileError` (`too_large`) where more comes of it.
    """
    return io.BufferedReader(_Unfolding(stream, packed, free_bytes, times), _PIECE)


def check_malformed(n_malformed: int, n_records: int) -> None:
    """Refuse a file of which nearly nothing is a record: a bomb may hold millions of lines that each want an entry.

    Raises:
        UnreadableFileError: malformed_file.
    """
    if n_malformed > MOST_MALFORMED and 2 * n_malformed > n_records:
        raise UnreadableFileError(
            "malformed_file",
            f"more than {MOST_MALFORMED} of its records are malformed: is it such a file at all?",
        )


@contextmanager
def open_bytes(path: Path, free_bytes: int = FREE_BYTES) -> Iterator[IO[bytes]]:
    """Open a file to read its content, decompressed.

    Args:
        path: the file.
        free_bytes: so much may come of it where it is compressed, however small it is.

    Raises:
        UnreadableFileError: it cannot be opened, is no such archive, is damaged, cut off or a bomb; also when that
            shows only while the block reads.
    """
    try:
        with _decompressed(path, free_bytes) as stream:
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
def _decompressed(path: Path, free_bytes: int) -> Iterator[IO[bytes]]:
    with path.open("rb") as packed:
        match path.suffix.lower():
            case ".zip":
                with zipfile.ZipFile(packed) as archive, archive.open(_only_member(archive)) as stream:
                    yield bounded(stream, packed, free_bytes)
            case ".gz":
                with gzip.open(packed, "rb") as stream:
                    yield bounded(cast(IO[bytes], stream), packed, free_bytes)
            case ".bz2":
                with bz2.open(packed, "rb") as stream:
                    yield bounded(stream, packed, free_bytes)
            case ".xz":
                with lzma.open(packed, "rb") as stream:
                    yield bounded(stream, packed, free_bytes)
            case _:
                yield packed


def _only_member(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    members = [m for m in archive.infolist() if not m.is_dir() and "__MACOSX" not in m.filename]
    if len(members) != 1:
        raise UnreadableFileError(
            "unreadable_file", f"the archive holds {len(members)} files, and one was expected"
        )
    if members[0].flag_bits & 0x1:
        raise UnreadableFileError("unreadable_file", "the archive is encrypted")
    return members[0]


@contextmanager
def open_text(path: Path, encoding: str, source: str, free_bytes: int = FREE_BYTES) -> Iterator[IO[str]]:
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
    with open_bytes(path, free_bytes) as stream:
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
        if codec in _NO_DOCUMENT_ENCODINGS:
            return None
        io.TextIOWrapper(io.BytesIO(), encoding=codec)  # some codecs turn bytes into bytes
    except (LookupError, ValueError):
        return None
    return "utf-8-sig" if codec == "utf-8" else codec
