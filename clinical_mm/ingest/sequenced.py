"""Lists of sequenced samples: who has no variant was looked at, and who was never looked at is missing.

Three forms: plain text with a sample a line, a case list of cBioPortal (`case_list_ids:`), and its matrix of gene
panels (`SAMPLE_ID`, `mutations`), where NA says that a sample was not sequenced. cBioPortal's forms:
https://docs.cbioportal.org/file-formats/.
"""

from collections.abc import Iterator
from pathlib import Path

from clinical_mm.ingest.opening import open_text

_CASES = "case_list_ids:"
_PANELS = "SAMPLE_ID"
_PROFILE = "mutations"
_NOT_SEQUENCED = {"", "NA"}


def sequenced_samples(path: Path, encoding: str, source: str, heading: str) -> Iterator[tuple[str, int]]:
    """The samples of a list, each with the number of its line, from 1.

    Args:
        path: the list.
        encoding: of it.
        source: name of the source, for errors.
        heading: what the first field of a plain list's header may be.

    Raises:
        UnreadableFileError: it cannot be read.
    """
    with open_text(path, encoding, source) as stream:
        lines = [line.rstrip("\r\n") for line in stream]
    rows = [(number, line.split("\t")) for number, line in enumerate(lines, start=1) if line[:1] != "#"]
    cases = [(number, line) for number, line in enumerate(lines, start=1) if line.startswith(_CASES)]
    if cases:
        for number, line in cases:
            yield from (
                (_plain(cell), number) for cell in line.removeprefix(_CASES).split("\t") if _plain(cell)
            )
        return
    header = rows[0][1] if rows else []
    if header[:1] == [_PANELS] and _PROFILE in header:
        place = header.index(_PROFILE)
        for number, cells in rows[1:]:
            is_sequenced = place < len(cells) and _plain(cells[place]) not in _NOT_SEQUENCED
            if is_sequenced and _plain(cells[0]):
                yield _plain(cells[0]), number
        return
    for number, cells in rows:
        sample = _plain(cells[0])
        if sample and sample != heading and not sample.startswith("#"):
            yield sample, number


def _plain(cell: str) -> str:
    return cell.strip().strip('"')
