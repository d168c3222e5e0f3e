"""The resources that FHIR files hold: NDJSON, single resources, Bundles, and the folder of a bulk export.

A line of NDJSON, a JSON file and an entry of a Bundle each hold one resource. Nothing is kept: a file is read as it is
asked for, one line or, where it is one JSON document, one document at a time. What a resource says is for `fhir`.

https://hl7.org/fhir/R4/bundle.html, https://hl7.org/fhir/uv/bulkdata/STU2/export.html
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from clinical_mm.ingest.ledger import RecordRefusedError
from clinical_mm.ingest.opening import check_malformed, content_ending, open_bytes
from clinical_mm.ingest.resources import Bundle, BundleEntry, ExportManifest, ResourceHead

MALFORMED_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises on bytes that are no JSON; its `ValidationError`, a kind of the first, says that they are."""

_HEAD = msgspec.json.Decoder(ResourceHead)
_BUNDLE = msgspec.json.Decoder(Bundle)
_ENTRY = msgspec.json.Decoder(BundleEntry)
_MANIFEST = msgspec.json.Decoder(ExportManifest)
_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class FoundResource:
    """A resource, or what stands where one was expected.

    Attributes:
        locator: the path within the delivery, then `#line 7`, `#entry 3` of a Bundle, or both.
        kind: its resourceType; "" where `problem` says why there is none, and of a deletion.
        content: its JSON.
        full_url: as its Bundle names it.
        deleted: the URL that a Bundle says was deleted.
        manifest: where it is no resource, but the manifest of a bulk export.
        problem: why it is nothing.
    """

    locator: str
    kind: str = ""
    content: bytes = b""
    full_url: str | None = None
    deleted: str | None = None
    manifest: ExportManifest | None = None
    problem: RecordRefusedError | None = None


def resources_of(path: Path, place: str) -> Iterator[FoundResource]:
    """Every resource of a file, in its order.

    Args:
        path: the file, compressed or not. One that ends in `.json` may be a whole JSON document, or lines for all that.
        place: the path within the delivery: the locators begin with it.

    Raises:
        UnreadableFileError: as `open_bytes`, or nearly no line holds a resource; also after some were yielded.
    """
    with open_bytes(path) as stream:
        n_read = 0
        if content_ending(path) == ".json":
            n_read, beginning = _first_line(stream)
            if not _is_json(beginning):
                yield from _found(place, f"{place}#", beginning + stream.read())
                return
            yield from _found(f"{place}#line {n_read}", f"{place}#line {n_read} ", beginning)
        n_malformed = 0
        for number, line in enumerate(stream, start=n_read + 1):
            content = (line.removeprefix(_MARK) if number == 1 else line).strip()
            if content:
                for found in _found(f"{place}#line {number}", f"{place}#line {number} ", content):
                    n_malformed += found.problem is not None
                    yield found
                check_malformed(n_malformed, number)


def _first_line(stream: IO[bytes]) -> tuple[int, bytes]:
    """Number and content of the first line that is not blank; the last number and nothing where there is none."""
    number = 0
    for number, line in enumerate(stream, start=1):
        content = (line.removeprefix(_MARK) if number == 1 else line).strip()
        if content:
            return number, content
    return number, b""


def _is_json(content: bytes) -> bool:
    """Whether a line is JSON by itself: the first line of one document over several lines is not."""
    try:
        _HEAD.decode(content)
    except msgspec.ValidationError:
        return True
    except MALFORMED_JSON:
        return False
    return True


def _found(locator: str, of_entries: str, content: bytes) -> Iterator[FoundResource]:
    """The resource in some JSON, or those in a Bundle."""
    try:
        kind = _HEAD.decode(content).resourceType
    except msgspec.ValidationError:
        yield FoundResource(locator, manifest=_manifest(content), problem=_refused("wrong_resource"))
        return
    except MALFORMED_JSON:
        yield FoundResource(locator, problem=_refused("malformed_json"))
        return
    if kind != "Bundle":
        yield FoundResource(locator, kind, content)
        return
    try:
        entries = _BUNDLE.decode(content).entry
    except MALFORMED_JSON as error:
        is_json = isinstance(error, msgspec.ValidationError)
        yield FoundResource(locator, problem=_refused("malformed_resource" if is_json else "malformed_json"))
        return
    for number, entry in enumerate(entries, start=1):
        yield _of_entry(f"{of_entries}entry {number}", entry)


def _of_entry(locator: str, raw: msgspec.Raw) -> FoundResource:
    try:
        entry = _ENTRY.decode(raw)
        if entry.request is not None and entry.request.method == "DELETE":
            return FoundResource(locator, deleted=entry.request.url or "")
        if not len(entry.resource):
            return FoundResource(locator, problem=_refused("wrong_resource"))
        content = bytes(entry.resource)
        return FoundResource(locator, _HEAD.decode(content).resourceType, content, entry.fullUrl)
    except msgspec.ValidationError:
        return FoundResource(locator, problem=_refused("wrong_resource"))
    except MALFORMED_JSON:
        return FoundResource(locator, problem=_refused("malformed_json"))


def _manifest(content: bytes) -> ExportManifest | None:
    """https://hl7.org/fhir/uv/bulkdata/STU2/export.html#response---complete-status."""
    try:
        return _MANIFEST.decode(content)
    except MALFORMED_JSON:
        return None


_SENTENCES = {
    "wrong_resource": "there is no FHIR resource",
    "malformed_json": "there is no JSON",
    "malformed_resource": "an element is not of the type that Bundle declares",
}


def _refused(reason_code: str) -> RecordRefusedError:
    return RecordRefusedError(reason_code, _SENTENCES[reason_code])
