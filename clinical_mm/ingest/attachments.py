"""The text of FHIR attachments: inline base64 of plain text, HTML or RTF, in the character set that they name.

Documents that are only linked, and other formats (PDF, CDA), are refused with a reason, never passed over. How a format
becomes text is for `documents`.
"""

import base64
import binascii
import re

from clinical_mm.ingest.documents import (
    HTML_TYPES,
    PLAIN_TYPES,
    READABLE_TYPES,
    RTF_TYPES,
    document_text,
)
from clinical_mm.ingest.ledger import RecordRefusedError
from clinical_mm.ingest.resources import Attachment

_CHARSET = re.compile(r"charset\s*=\s*[\"']?([A-Za-z0-9_.:-]+)", re.IGNORECASE)


def text_of(attachments: list[Attachment]) -> str:
    """The text of a document that stands in one or more formats.

    Plain text is taken before HTML, and HTML before RTF. Several different plain texts are parts, joined by an empty
    line; of HTML and RTF likewise.

    Returns:
        The text; "" where there is no attachment, or an empty one.

    Raises:
        RecordRefusedError: no attachment is inline text, or one does not decode.
    """
    inline = [a for a in attachments if a.data is not None]
    for types in (PLAIN_TYPES, HTML_TYPES, RTF_TYPES):
        parts = [_decoded(a) for a in inline if _media_type(a) in types]
        if any(part.strip() for part in parts):
            return "\n\n".join(dict.fromkeys(part for part in parts if part.strip()))
    if any(_media_type(a) not in READABLE_TYPES for a in inline):
        raise RecordRefusedError(
            "unsupported_content_type",
            "no attachment is text/plain, text/html or text/rtf, which alone are read",
        )
    if any(a.url for a in attachments if a.data is None):
        raise RecordRefusedError("text_not_inline", "the document is only linked: its text must stand inline")
    return ""


def _media_type(attachment: Attachment) -> str:
    return (attachment.contentType or "").split(";")[0].strip().lower()


def _decoded(attachment: Attachment) -> str:
    try:
        data = base64.b64decode("".join((attachment.data or "").split()), validate=True)
    except (binascii.Error, ValueError):
        raise RecordRefusedError("malformed_attachment", "the data of an attachment is no base64") from None
    declared = _CHARSET.search(attachment.contentType or "")
    return document_text(data, _media_type(attachment), declared.group(1) if declared else None)
