"""The text of FHIR attachments: inline base64 of text/plain or text/html, in the character set that they name.

Documents that are only linked, and other formats (PDF, RTF, CDA), are refused with a reason, never passed over.
"""

import base64
import binascii
import re

from clinical_mm.ingest.html_text import html_to_text
from clinical_mm.ingest.opening import known_encoding
from clinical_mm.ingest.resources import Attachment

_HTML_TYPES = ("text/html", "application/xhtml+xml")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([A-Za-z0-9_.:-]+)", re.IGNORECASE)
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?([A-Za-z0-9_.:-]+)", re.IGNORECASE)


class AttachmentError(Exception):
    """The text of an attachment cannot be had: reason code and sentence."""

    def __init__(self, reason_code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason_code = reason_code
        self.sentence = sentence


def text_of(attachments: list[Attachment]) -> str:
    """The text of a document that stands in one or more formats.

    Plain text is taken before HTML. Several different plain texts are parts, joined by an empty line; of HTML
    likewise.

    Returns:
        The text; "" where there is no attachment, or an empty one.

    Raises:
        AttachmentError: no attachment is inline text, or one does not decode.
    """
    inline = [a for a in attachments if a.data is not None]
    for types in (("text/plain",), _HTML_TYPES):
        parts = [_decoded(a) for a in inline if _media_type(a) in types]
        if any(part.strip() for part in parts):
            return "\n\n".join(dict.fromkeys(part for part in parts if part.strip()))
    if any(_media_type(a) not in ("text/plain", *_HTML_TYPES) for a in inline):
        raise AttachmentError(
            "unsupported_content_type", "no attachment is text/plain or text/html, which alone are read"
        )
    if any(a.url for a in attachments if a.data is None):
        raise AttachmentError("text_not_inline", "the document is only linked: its text must stand inline")
    return ""


def _media_type(attachment: Attachment) -> str:
    return (attachment.contentType or "").split(";")[0].strip().lower()


def _decoded(attachment: Attachment) -> str:
    try:
        data = base64.b64decode("".join((attachment.data or "").split()), validate=True)
    except (binascii.Error, ValueError):
        raise AttachmentError("malformed_attachment", "the data of an attachment is no base64") from None
    is_html = _media_type(attachment) in _HTML_TYPES
    declared = _CHARSET.search(attachment.contentType or "")
    charset = declared.group(1) if declared else "utf-8"
    if declared is None and is_html:
        in_document = _META_CHARSET.search(data[:1024])
        charset = in_document.group(1).decode("ascii") if in_document else charset
    codec = known_encoding(charset)
    if codec is None:
        raise AttachmentError("unknown_encoding", "an attachment names a character set that is not known")
    try:
        text = data.decode(codec)
        text.encode("utf-8")  # refuses surrogates, which some codecs let pass and no table can hold
    except UnicodeError:
        raise AttachmentError(
            "unknown_encoding", "an attachment does not decode in the character set that it names"
        ) from None
    return html_to_text(text) if is_html else text
