"""Where the content of a FHIR attachment is: inline, contained, a Binary of the same delivery, or a file beside.

Nothing is fetched, and no file is opened but those that the source's pattern matches. Size and hash are checked where
they are given. How content becomes text is for `attachments`.

https://hl7.org/fhir/R4/datatypes.html#Attachment
"""

import base64
import binascii
import hashlib
import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from clinical_mm.ingest.delivery import Delivery, leads_out
from clinical_mm.ingest.documents import READABLE_TYPES, media_type_of_file
from clinical_mm.ingest.ledger import RecordRefusedError
from clinical_mm.ingest.opening import UnreadableFileError, open_bytes
from clinical_mm.ingest.resources import Attachment, Binary

MISSING = "attachment_missing"
"""Reason code: the content is not in the delivery."""

_BINARY = re.compile(r"(?:^|/)(Binary/[A-Za-z0-9.-]{1,64})(?:/_history/[A-Za-z0-9.-]{1,64})?$")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([A-Za-z0-9_.:-]+)", re.IGNORECASE)
_SHA1_BYTES = 20


@dataclass(frozen=True)
class AttachedContent:
    """Bytes, their media type without parameters, and the character set that stands beside them."""

    data: bytes
    media_type: str
    charset: str | None


@dataclass
class AttachedFiles:
    """What a delivery holds beside its notes.

    Attributes:
        delivery: the delivery.
        files: paths of the files that may be opened, by their path within the delivery.
        binaries: the Binary resources that notes want, by `binary_key`; None where several differ.
    """

    delivery: Delivery
    files: dict[str, Path]
    binaries: dict[str, Binary | None] = field(default_factory=dict)

    def add(self, key: str, binary: Binary) -> None:
        """A Binary of the delivery is there under a key."""
        known = self.binaries.setdefault(key, binary)
        if known is not binary and (
            known is None or (known.data, known.contentType) != (binary.data, binary.contentType)
        ):
            self.binaries[key] = None

    def content_of(self, attachment: Attachment, contained: Iterable[Binary]) -> AttachedContent:
        """The content of an attachment that has data or a URL.

        Raises:
            RecordRefusedError: it is not in the delivery, leads out of it, is damaged, or is not of the size or hash
                that the attachment gives.
        """
        if attachment.data is not None:
            content = _content(_decoded(attachment.data), attachment.contentType or "")
        else:
            content = self._linked(attachment, contained)
        _check(attachment, content.data)
        return content

    def _linked(self, attachment: Attachment, contained: Iterable[Binary]) -> AttachedContent:
        url = attachment.url or ""
        key = binary_key(url)
        if url.startswith("#"):
            inside = {b.id: b for b in contained if b.resourceType == "Binary"}
            if url[1:] not in inside:
                raise RecordRefusedError(MISSING, "the document is said to be contained, and is not")
            return _of_binary(inside[url[1:]], attachment)
        if key is not None and key in self.binaries:
            binary = self.binaries[key]
            if binary is None:
                raise RecordRefusedError(
                    "conflicting_records", "Binary resources of the same id differ: none of them is read"
                )
            return _of_binary(binary, attachment)
        return self._beside(url, attachment)

    def _beside(self, url: str, attachment: Attachment) -> AttachedContent:
        path = path_of(url)
        if path is None:
            if url.lower().startswith("file:"):
                raise _outside()
            raise RecordRefusedError(
                MISSING, "the document is only linked, and neither it nor such a Binary is in the delivery"
            )
        if path not in self.files:
            if leads_out(path, self.delivery):
                raise _outside()
            raise RecordRefusedError(
                MISSING,
                "no Binary, and no file that the source's `attachments` matches, is where the URL says",
            )
        try:
            with open_bytes(self.files[path]) as stream:
                data = stream.read()
        except UnreadableFileError as error:
            raise RecordRefusedError(error.reason_code, error.sentence) from None
        return _content(data, attachment.contentType or media_type_of_file(self.files[path]))


def is_readable(attachment: Attachment) -> bool:
    """Whether its media type, if it has one, is read."""
    declared = media_type_of(attachment.contentType)
    return declared in READABLE_TYPES or (not declared and attachment.data is None)


def media_type_of(content_type: str | None) -> str:
    """`text/plain` of `Text/Plain; charset=utf-8`; "" of nothing."""
    return (content_type or "").split(";")[0].strip().lower()


def binary_key(url: str | None) -> str | None:
    """How a Binary is known that a URL may name: `Binary/7` whatever its server, or a URN as it is.

    >>> binary_key("https://fhir.example.org/r4/Binary/7/_history/2")
    'Binary/7'
    """
    if not url:
        return None
    if url.startswith("urn:"):
        return url
    found = _BINARY.search(url)
    return found.group(1) if found else None


def path_of(url: str | None) -> str | None:
    """The path, normalised, of a URL that is relative; None of any other."""
    if not url or url.startswith("#"):
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.scheme and not re.fullmatch("[A-Za-z]", parts.scheme):  # one letter is a drive
        return None
    if parts.netloc:
        return None
    return posixpath.normpath(unquote(url))


def _outside() -> RecordRefusedError:
    return RecordRefusedError(
        "outside_delivery", "the URL of an attachment leads out of the delivery, and is not followed"
    )


def _of_binary(binary: Binary, attachment: Attachment) -> AttachedContent:
    return _content(_decoded(binary.data or ""), attachment.contentType or binary.contentType or "")


def _content(data: bytes, content_type: str) -> AttachedContent:
    declared = _CHARSET.search(content_type)
    return AttachedContent(data, media_type_of(content_type), declared.group(1) if declared else None)


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        raise RecordRefusedError("malformed_attachment", "the data of an attachment is no base64") from None


def _check(attachment: Attachment, data: bytes) -> None:
    if attachment.size is not None and attachment.size != len(data):
        raise RecordRefusedError("attachment_mismatch", "an attachment is not of the size that is given")
    if attachment.hash is None:
        return
    digest = hashlib.sha1(data, usedforsecurity=False).digest()
    if digest != _given_digest(attachment.hash):
        raise RecordRefusedError("attachment_mismatch", "an attachment does not have the hash that is given")


def _given_digest(text: str) -> bytes:
    """SHA-1 in base64, as the standard has it, or in hex, as the standard's own examples do."""
    text = "".join(text.split())
    for decode in (bytes.fromhex, base64.b64decode):
        try:
            digest = decode(text)
        except ValueError:
            continue
        if len(digest) == _SHA1_BYTES:
            return digest
    raise RecordRefusedError("malformed_attachment", "the hash of an attachment is no SHA-1")
