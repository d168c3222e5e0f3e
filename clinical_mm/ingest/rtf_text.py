r"""RTF to text, through striprtf; a document of which that would say something else than its reader saw is refused.

Follows the Rich Text Format specification 1.9.1. The document is brought into a plain form first: embedded binary data,
hidden text and tracked deletions are gone, the font table holds only character sets, each control word ends in a space.
Left out with them is what stands beside the text: headers, footers, footnotes, comments, text boxes, pictures.
"""

import codecs
import re
from collections.abc import Iterator
from typing import NamedTuple

from striprtf.striprtf import rtf_to_text as strip_rtf

from clinical_mm.ingest.ledger import RecordRefusedError

_TOKEN = re.compile(
    r"\\(?P<word>[A-Za-z]{1,32})(?P<number>-?[0-9]{1,10})?(?P<end> ?)|\\'(?P<byte>[0-9A-Fa-f]{2})"
    r"|\\(?P<symbol>[^A-Za-z])|(?P<brace>[{}])|[\r\n\0]+|(?P<text>[^\\{}\r\n\0]+)|(?P<stray>\\)"
)
_CHARACTER_SETS = {"ansi": "cp1252", "mac": "mac_roman", "pc": "cp437", "pca": "cp850"}
_NO_ENCODING = "ascii"  # of a document that names an unknown code page: what is beyond does not decode
_SIGNS = frozenset({"emdash", "endash", "bullet", "lquote", "rquote", "ldblquote", "rdblquote"})
_PLACED = {"cell": "tab", "nestcell": "tab", "nestrow": "line"}
"""Cells are parted by tabs, as in HTML: a bar might be the note's own."""

_SYMBOL_CHARSET = 2
_BULLETS = frozenset({0xB7, 0xA7})  # of Symbol and of Wingdings, before the entries of a list
_PRIVATE_USE = 0xF000  # where programs put the bytes of a symbol font


def rtf_to_text(data: bytes) -> str:
    r"""The text of a document.

    Raises:
        RecordRefusedError: it is no RTF, ends too early, names no known code page or does not decode in it, or sets
            text in a symbol font, where an `m` may stand for a micro sign.

    >>> rtf_to_text(rb"{\rtf1\ansi\ansicpg1252 K\'f6rper: 38\u8201?\'b0C\par Hb\cell 7.1\cell\row}")
    'Körper: 38\u2009°C\nHb\t7.1'
    """
    plain, encoding = _plain(data.decode("latin-1"))
    try:
        text: str = strip_rtf(plain, encoding=encoding, errors="strict")  # type: ignore[no-untyped-call]  # it has none
        text = text.encode("utf-16", "surrogatepass").decode("utf-16")
    except (UnicodeError, LookupError):
        raise RecordRefusedError(
            "unknown_encoding", "the RTF does not decode in the code pages that it names"
        ) from None
    text = text.replace("\u00a0", " ").replace("\u00ad", "").replace("\r", "\n")
    return "\n".join(line.rstrip(" \t") for line in text.split("\n")).strip()


class _Group(NamedTuple):
    """The state that a group inherits, and its end restores."""

    is_hidden: bool
    is_font_table: bool
    font: int | None
    n_skipped: int  # characters after a `\u` that stand for it where Unicode is not known


def _plain(rtf: str) -> tuple[str, str]:
    """The document in its plain form, and the encoding of bytes in fonts that name none."""
    rtf = rtf.removeprefix("\xef\xbb\xbf").lstrip()
    if not rtf.startswith("{\\rtf"):
        raise RecordRefusedError("malformed_rtf", "the document is no RTF: it does not begin with {\\rtf")
    return _Plainer().read(rtf)


class _Plainer:
    """One reading of a document, token by token."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._groups: list[_Group] = []
        self._now = _Group(is_hidden=False, is_font_table=False, font=None, n_skipped=1)
        self._encoding = "cp1252"
        self._charsets: dict[int, int] = {}
        self._listed_font: int | None = None
        self._default_font: int | None = 0
        self._to_skip = 0

    def read(self, rtf: str) -> tuple[str, str]:
        for token in _tokens(rtf):
            if token["brace"]:
                self._to_skip = 0
                self._brace(token["brace"])
                if not self._groups:
                    return "".join(self._parts), self._encoding
            elif token["word"]:
                self._to_skip = 0
                self._word(token["word"], token["number"])
            elif token["stray"]:
                break
            else:
                self._content(token)
        raise RecordRefusedError("truncated_file", "the RTF ends before its last group is closed")

    def _brace(self, brace: str) -> None:
        if brace == "{":
            self._groups.append(self._now)
            if not self._now.is_font_table:
                self._parts.append(brace)
            return
        was_font_table = self._now.is_font_table
        self._now = self._groups.pop()
        if was_font_table and not self._now.is_font_table:
            self._write_fonts()
        elif not was_font_table:
            self._parts.append(brace)

    def _write_fonts(self) -> None:
        """Close the group of the font table with what is known of the fonts; their names are of no use."""
        fonts = [f"{{\\f{font}\\fcharset{charset} x;}}\n" for font, charset in self._charsets.items()]
        self._parts += [*fonts, "}"]
        self._set_font(self._default_font)

    def _set_font(self, font: int | None) -> None:
        self._now = self._now._replace(font=font)
        if font is not None:
            self._parts.append(f"\\f{font} ")

    def _word(self, word: str, number: str | None) -> None:
        value = None if number is None else int(number)
        if self._now.is_font_table:
            if word == "f":
                self._listed_font = value
            elif word == "fcharset" and value is not None and self._listed_font is not None:
                self._charsets[self._listed_font] = value
            return
        if word in {"v", "deleted"}:
            self._now = self._now._replace(is_hidden=value != 0)
        elif word == "plain":
            self._now = self._now._replace(is_hidden=False)
            self._set_font(self._default_font)
        elif word == "f":
            self._set_font(value)
        elif word == "fonttbl":
            self._parts.append("\\fonttbl ")
            self._now = self._now._replace(is_font_table=True)
        elif word == "deff":
            self._default_font = value
        elif word in _CHARACTER_SETS:
            self._encoding = _CHARACTER_SETS[word]
        elif word == "ansicpg":
            self._encoding = _code_page(value)
        elif word == "uc":
            self._now = self._now._replace(n_skipped=max(value or 0, 0))
        elif word == "u":
            self._unicode(value)
        elif not (self._now.is_hidden and word in _SIGNS):
            self._parts.append(f"\\{_PLACED.get(word, word)}{'' if value is None else value} ")

    def _unicode(self, value: int | None) -> None:
        if value is None:
            raise RecordRefusedError("malformed_rtf", "the RTF holds a Unicode character without its number")
        code = value + 0x10000 if value < 0 else value
        if not 0 <= code <= 0xFFFF:
            raise RecordRefusedError("malformed_rtf", "the RTF holds a Unicode character beyond 16 bits")
        self._to_skip = self._now.n_skipped
        if self._now.is_hidden:
            return
        if self._is_symbol() or _PRIVATE_USE <= code <= _PRIVATE_USE + 0xFF:
            self._symbol(code & 0xFF)
        else:
            self._parts.append(f"\\uc0\\u{code} ")

    def _content(self, token: re.Match[str]) -> None:
        """Text, bytes and symbols, less what only stands in for a Unicode character."""
        byte, symbol, text = token["byte"], token["symbol"], token["text"]
        if text:
            n_skipped = min(self._to_skip, len(text))
            self._to_skip -= n_skipped
            text = text[n_skipped:]
        elif (byte or symbol) and self._to_skip:
            self._to_skip -= 1
            return
        if self._now.is_font_table or (self._now.is_hidden and symbol != "*"):
            return
        if symbol == "'":
            raise RecordRefusedError("malformed_rtf", "the RTF holds an escaped byte without its two digits")
        if symbol:
            # An escaped backslash before a word must not look like a control word to what comes after.
            self._parts.append("\\uc0\\u92 " if symbol == "\\" else token[0])
        elif byte:
            self._byte(int(byte, 16))
        elif text:
            self._text(text)

    def _byte(self, byte: int) -> None:
        if self._is_symbol():
            self._symbol(byte)
        else:
            self._parts.append(f"\\'{byte:02x}")

    def _text(self, text: str) -> None:
        if not text.isascii():
            raise RecordRefusedError(
                "unknown_encoding",
                "the RTF holds bytes beyond ASCII that are not escaped, in no sure encoding",
            )
        if self._is_symbol():
            for character in text:
                self._symbol(ord(character))
        else:
            self._parts.append(text)

    def _is_symbol(self) -> bool:
        return self._now.font is not None and self._charsets.get(self._now.font) == _SYMBOL_CHARSET

    def _symbol(self, byte: int) -> None:
        if byte in _BULLETS:
            self._parts.append("\\bullet ")
        elif byte in {ord(" "), ord("\t")}:
            self._parts.append(" ")
        else:
            raise RecordRefusedError(
                "unsupported_symbol_font",
                "the RTF sets text in a symbol font, whose letters mean other signs",
            )


def _code_page(value: int | None) -> str:
    try:
        return codecs.lookup(f"cp{value}").name
    except LookupError:
        return _NO_ENCODING


def _tokens(rtf: str) -> Iterator[re.Match[str]]:
    """The tokens of a document without embedded binary data and its control words."""
    place = 0
    while (token := _TOKEN.match(rtf, place)) is not None:
        place = token.end()
        if token["word"] == "bin":
            place += max(int(token["number"] or 0), 0)
        elif not (token["word"] or "").startswith("bin"):
            yield token
