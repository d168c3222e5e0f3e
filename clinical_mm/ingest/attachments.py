"""The text of a document that FHIR attachments hold in one or more formats.

Other formats than plain text, HTML and RTF (PDF, CDA) are refused with a reason, never passed over. Where the content
is, is for `attached`; how a format becomes text is for `documents`.
"""

from collections.abc import Callable

from clinical_mm.ingest.attached import MISSING, AttachedContent, is_readable, media_type_of
from clinical_mm.ingest.documents import (
    HTML_TYPES,
    PLAIN_TYPES,
    READABLE_TYPES,
    RTF_TYPES,
    document_text,
)
from clinical_mm.ingest.ledger import RecordRefusedError
from clinical_mm.ingest.resources import Attachment


def text_of(attachments: list[Attachment], content_of: Callable[[Attachment], AttachedContent]) -> str:
    """The text of a document that stands in one or more formats.

    Plain text is taken before HTML, and HTML before RTF. Several different plain texts are parts, joined by an empty
    line; of HTML and RTF likewise. A format of which a part is not in the delivery is left for the next one.

    Args:
        attachments: the document.
        content_of: the content of an attachment that has data or a URL; may raise `RecordRefusedError`.

    Returns:
        The text; "" where there is no attachment, or an empty one.

    Raises:
        RecordRefusedError: no attachment is text that is in the delivery, or one is damaged.
    """
    given = [a for a in attachments if a.data is not None or a.url]
    missing: RecordRefusedError | None = None
    is_unsupported = any(not is_readable(a) for a in given)
    for types in (PLAIN_TYPES, HTML_TYPES, RTF_TYPES):
        parts: list[str] = []
        try:
            for attachment in given:
                if not is_readable(attachment) or media_type_of(attachment.contentType) not in {*types, ""}:
                    continue
                content = content_of(attachment)
                if content.media_type in types:
                    parts.append(document_text(content.data, content.media_type, content.charset))
                is_unsupported |= content.media_type not in READABLE_TYPES
        except RecordRefusedError as error:
            if error.reason_code != MISSING:
                raise
            missing = missing or error
            continue
        if any(part.strip() for part in parts):
            return "\n\n".join(dict.fromkeys(part for part in parts if part.strip()))
    if is_unsupported:
        raise RecordRefusedError(
            "unsupported_content_type",
            "no attachment is text/plain, text/html or text/rtf, which alone are read",
        )
    if missing is not None:
        raise missing
    return ""
