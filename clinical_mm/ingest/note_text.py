"""Whether what was decoded reads as text: the one check that the notes of every reader pass.

A wrong encoding often decodes without an error, and leaves other letters (mojibake). Such a note is quarantined: it is
never mended here, since only its producer knows what it said. How bytes are decoded does not belong here.
"""

import re

from ftfy import fix_encoding
from ftfy.badness import is_bad

from clinical_mm.ingest.ledger import RecordRefusedError

_FOREIGN_MARKS = re.compile("[\0\x0e\x0f\x1b]")
"""NUL of UTF-16 and UTF-32, shifts and escape of ISO 2022: no note is written with them, and misread ones have them."""

_LOST = re.compile("[\ufffd\ufffe\uffff]")
_C1 = re.compile("[\x80-\x9f]")
_SUSPECTED = "mojibake_suspected"


def checked_text(text: str) -> str:
    r"""The text of a note, as it is.

    Other control characters pass: form feeds, vertical tabs and stray ones say nothing on the encoding, and
    tokenizers drop them.

    Raises:
        RecordRefusedError: `empty_text`; `control_characters` and `mojibake_suspected` where the text was decoded in
            another encoding than it was written in, or letters were lost before it was delivered.

    >>> checked_text("Größe 3 mm, unverändert – “stabil”")
    'Größe 3 mm, unverändert – “stabil”'
    >>> checked_text("Größe 3 mm".encode().decode("cp1252"))
    Traceback (most recent call last):
    ...
    clinical_mm.ingest.ledger.RecordRefusedError: the text reads as UTF-8 that was decoded in another encoding
    """
    if not text.strip():
        raise RecordRefusedError("empty_text", "the note has no text")
    if _FOREIGN_MARKS.search(text):
        raise RecordRefusedError(
            "control_characters",
            "the text holds NUL, shift or escape characters, as UTF-16 or ISO 2022 do that was decoded as another",
        )
    if text.isascii():
        return text
    if _LOST.search(text):
        raise RecordRefusedError(
            _SUSPECTED,
            "the text holds replacement characters (U+FFFD): letters were lost before it was delivered",
        )
    if _C1.search(text):
        raise RecordRefusedError(
            _SUSPECTED, "the text holds C1 control characters, as cp1252 does that was decoded as ISO 8859-1"
        )
    # Alone, the first takes the noise of OCR for mojibake: the text must also read better as UTF-8.
    if is_bad(text) and fix_encoding(text) != text:
        raise RecordRefusedError(_SUSPECTED, "the text reads as UTF-8 that was decoded in another encoding")
    return text
