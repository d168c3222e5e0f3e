"""Documents of a media type to text: text/plain, text/html and text/rtf, from bytes.

Where the bytes come from, an attachment or a file, does not belong here.
"""

import re
from pathlib import Path

from clinical_mm.ingest.character_sets import hint_of, marked_encoding
from clinical_mm.ingest.html_text import html_to_text
from clinical_mm.ingest.ledger import RecordRefusedError
from clinical_mm.ingest.opening import content_ending, known_encoding
from clinical_mm.ingest.rtf_text import rtf_to_text

PLAIN_TYPES = ("text/plain",)
HTML_TYPES = ("text/html", "application/xhtml+xml")
RTF_TYPES = ("text/rtf", "application/rtf")
READABLE_TYPES = (*PLAIN_TYPES, *HTML_TYPES, *RTF_TYPES)

_TYPES = {
    **dict.fromkeys((".txt", ".text"), "text/plain"),
    **dict.fromkeys((".html", ".htm"), "text/html"),
    ".xhtml": "application/xhtml+xml",
    ".rtf": "text/rtf",
}

_META_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?([A-Za-z0-9_.:-]+)", re.IGNORECASE)


def media_type_of_file(path: Path) -> str:
    """The media type that a file's ending says; "" where it says none that is read."""
    return _TYPES.get(content_ending(path), "")


def document_text(data: bytes, media_type: str, charset: str | None = None, default: str = "utf-8") -> str:
    """The text of a document.

    Args:
        data: the document.
        media_type: one of `READABLE_TYPES`.
        charset: the character set that stands beside the document; RTF names its own, whatever stands there, and a
            byte order mark says more.
        default: the character set where none stands beside it, and HTML names none itself.

    Raises:
        RecordRefusedError: the media type is none of those, the character set is unknown, or the document does not
            decode; or as `rtf_to_text`.
    """
    if media_type in RTF_TYPES:
        return rtf_to_text(data)
    if media_type not in READABLE_TYPES:
        raise RecordRefusedError(
            "unsupported_content_type",
            "the document is not text/plain, text/html or text/rtf, which alone are read",
        )
    is_html = media_type in HTML_TYPES
    if charset is None and is_html:
        in_document = _META_CHARSET.search(data[:1024])
        charset = in_document.group(1).decode("ascii") if in_document else None
    codec = marked_encoding(data) or known_encoding(charset or default)
    if codec is None:
        raise RecordRefusedError("unknown_encoding", "the document names a character set that is not known")
    try:
        text = data.decode(codec)
        text.encode("utf-8")  # refuses surrogates, which some codecs let pass and no table can hold
    except UnicodeError:
        sentence = f"the document does not decode in the character set that is declared{hint_of(data)}"
        raise RecordRefusedError("unknown_encoding", sentence) from None
    return html_to_text(text) if is_html else text
