"""Which character set bytes are in, as far as they say so themselves: by a byte order mark.

Nothing is guessed for use. Where bytes do not decode as declared, `likely_encoding` says what they may be, for the
sentence that a person reads. Whether text that did decode reads as text is for `note_text`.
"""

import codecs

import charset_normalizer

_MARKS = (  # that of UTF-32 before that of UTF-16, with which it begins
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
LONGEST_MARK = 4
"""Bytes of the longest byte order mark."""

_OF_HOSPITALS = (
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1257", "cp850", "mac_roman"),
    *("shift_jis", "euc_jp", "gb18030", "big5", "euc_kr"),
)
_SAMPLE = 16_384
_MOST_CHAOS = 10.0  # percent of suspicious characters in what was decoded


def marked_encoding(beginning: bytes) -> str | None:
    """The codec that a byte order mark names, and reads past; None where there is no mark.

    >>> marked_encoding("\ufeffHb 7.1".encode("utf-16-le"))
    'utf-16'
    """
    return next((codec for mark, codec in _MARKS if beginning.startswith(mark)), None)


def hint_of(data: bytes) -> str:
    """The end of a sentence on bytes that do not decode as declared: what they may be, or nothing."""
    likely = likely_encoding(data)
    return "" if likely is None else f"; it may be {likely}: declare it, if its letters are then right"


def likely_encoding(data: bytes) -> str | None:
    """The encoding that a sample of text is probably in, for a person to try; None where nothing is likely."""
    best = charset_normalizer.from_bytes(data[:_SAMPLE], cp_isolation=list(_OF_HOSPITALS)).best()
    if best is None or best.percent_chaos > _MOST_CHAOS or not best.percent_coherence:
        return None
    # Several encodings may give the very same text: the one that is most in use is named.
    return next((name for name in _OF_HOSPITALS if name in best.could_be_from_charset), best.encoding)
