"""HTML and XHTML to text, with the line breaks that a browser would show and no words glued together.

Follows the rendering of text in the WHATWG HTML standard (innerText), without style sheets.
"""

import re
from html.parser import HTMLParser

from clinical_mm.ingest.ledger import RecordRefusedError

_BLOCKS = frozenset(
    {
        *("address", "article", "aside", "blockquote", "body", "caption", "dd", "details", "div", "dl", "dt"),
        *("fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header"),
        *(
            "hr",
            "html",
            "legend",
            "li",
            "main",
            "nav",
            "ol",
            "p",
            "pre",
            "section",
            "summary",
            "table",
            "tbody",
        ),
        *("tfoot", "thead", "tr", "ul"),
    }
)
_PARAGRAPHS = frozenset(
    {"blockquote", "dl", "h1", "h2", "h3", "h4", "h5", "h6", "ol", "p", "pre", "table", "ul"}
)
_CELLS = frozenset({"td", "th"})
_UNSEEN = frozenset({"head", "script", "style", "template", "title"})
_VOID = frozenset({"br", "hr", "wbr"})
_SPACES = re.compile(r"[ \t\r\n\f\v]+")
_BEYOND_UNICODE = re.compile(r"&#(?:[0-9]{9,}|[xX][0-9a-fA-F]{8,});?")
_MOST_SOUGHT = 5_000_000
"""Characters looked through for the ends of tags and comments that have none: each looks through all the rest."""


def html_to_text(html: str) -> str:
    r"""The text of a document.

    >>> html_to_text("<p>Dose:<br/>5&nbsp;mg</p><ul><li>one</li><li>two</li></ul>")
    'Dose:\n5 mg\n\none\ntwo'
    >>> html_to_text("<table><tr><td>Hb</td><td>7.1</td></tr><tr><td>CRP</td><td>12</td></tr></table>")
    'Hb\t7.1\nCRP\t12'

    Raises:
        RecordRefusedError: `malformed_html` where so many tags or comments never end that to look for their ends would
            take minutes.
    """
    parser = _TextParser()
    parser.feed(_BEYOND_UNICODE.sub("\ufffd", html))
    parser.close()
    return parser.text()


class _TextParser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._parts: list[str] = []
        self._unseen = 0
        self._verbatim = 0
        self._breaks = 0  # line breaks owed before the next text
        self._is_spaced = False  # whether a space is owed
        self._is_cell_owed = False
        self._n_sought = 0

    def _sought(self, begin: int, end: int) -> int:
        """Where something that begins there ends; -1 that it does not, which was found out by reading all the rest."""
        if end < 0:
            self._n_sought += len(self.rawdata) - begin
            if self._n_sought > _MOST_SOUGHT:
                raise RecordRefusedError(
                    "malformed_html", "the HTML is full of tags or comments that never end"
                )
        return end

    def parse_starttag(self, i: int) -> int:
        return self._sought(i, super().parse_starttag(i))

    def parse_endtag(self, i: int) -> int:
        return self._sought(i, super().parse_endtag(i))

    def parse_comment(self, i: int, report: bool = True) -> int:
        return self._sought(i, super().parse_comment(i, report))

    def parse_pi(self, i: int) -> int:
        return self._sought(i, super().parse_pi(i))

    def parse_bogus_comment(self, i: int, report: bool = True) -> int:
        return self._sought(i, super().parse_bogus_comment(i, report))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "body":
            self._unseen = 0  # the end tag of the head may be left out
        if tag in _UNSEEN:
            self._unseen += 1
        elif tag == "br":
            self._line_break()
        elif tag in _BLOCKS:
            self._block(tag)
        elif tag in _CELLS and self._parts and not self._breaks and not self._parts[-1].endswith("\n"):
            self._is_cell_owed = True
        if tag == "pre":
            self._verbatim += 1

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def parse_html_declaration(self, i: int) -> int:
        if self.rawdata.startswith("<![", i):
            # CDATA and the conditions of office programs: a comment in HTML, where the base class would give up.
            return self.parse_bogus_comment(i)
        return super().parse_html_declaration(i)

    def handle_endtag(self, tag: str) -> None:
        if tag in _UNSEEN:
            self._unseen = max(0, self._unseen - 1)
        elif tag in _BLOCKS:
            self._block(tag)
        if tag == "pre":
            self._verbatim = max(0, self._verbatim - 1)

    def handle_data(self, data: str) -> None:
        if self._unseen:
            return
        if self._verbatim:
            self._write(data.replace("\r\n", "\n"))
            return
        text = _SPACES.sub(" ", data)
        if text.startswith(" "):
            self._is_spaced = True
        stripped = text.strip(" ")
        if stripped:
            self._write(stripped)
            self._is_spaced = text.endswith(" ")

    def _write(self, text: str) -> None:
        if self._breaks:
            if self._parts:
                self._parts.append("\n" * self._breaks)
        elif self._is_cell_owed:
            self._parts.append("\t")
        elif self._is_spaced and self._parts and not self._parts[-1].endswith("\n"):
            self._parts.append(" ")
        self._breaks = 0
        self._is_spaced = self._is_cell_owed = False
        self._parts.append(text)

    def _line_break(self) -> None:
        if self._breaks:
            self._breaks += 1
        else:
            self._breaks = 1
        self._is_spaced = False

    def _block(self, tag: str) -> None:
        self._breaks = max(self._breaks, 2 if tag in _PARAGRAPHS else 1)
        self._is_spaced = self._is_cell_owed = False

    def text(self) -> str:
        """What was read, no-break spaces as spaces."""
        return "".join(self._parts).replace("\u00a0", " ").strip()
