"""Reading a delivery of HL7 FHIR R4 for its notes: which records there are, and which attachments they wait for.

Two passes: the first meets every resource, the second only the files of Binaries, of which those that a note names are
kept. What a resource says is for `fhir_record`, how files hold resources for `fhir_files`.
"""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pandas as pd

from clinical_mm.ingest.attached import AttachedFiles, binary_key, is_readable, path_of
from clinical_mm.ingest.delivery import Delivery, files_of_pattern
from clinical_mm.ingest.fhir_files import MALFORMED_JSON, FoundResource, resources_of
from clinical_mm.ingest.fhir_record import KINDS, NoteResource, decoded, deletion, note_record
from clinical_mm.ingest.ledger import Ledger, RecordRefusedError
from clinical_mm.ingest.note_versions import NoteRecord, note_rows, settle
from clinical_mm.ingest.opening import UnreadableFileError
from clinical_mm.ingest.resources import Binary, ExportManifest
from clinical_mm.ingest.times import TimeReader
from clinical_mm.progress import track
from clinical_mm.study.sources import NotesFhirSource

_BINARY = msgspec.json.Decoder(Binary)


@dataclass(frozen=True)
class _Waiting:
    """A resource whose text is in a Binary that is still to be read."""

    found: FoundResource
    resource: NoteResource


class _Reading:
    """What was found in the files of a source so far."""

    def __init__(
        self, source: NotesFhirSource, delivery: Delivery, reader: TimeReader, ledger: Ledger
    ) -> None:
        beside = files_of_pattern(delivery, source.attachments) if source.attachments is not None else []
        self.attached = AttachedFiles(delivery, {delivery.relative(path): path for path in beside})
        self.records: list[NoteRecord] = []
        self._delivery = delivery
        self._reader = reader
        self._ledger = ledger
        self._waiting: list[_Waiting] = []
        self._named: set[str] = set()  # keys of Binaries and paths of files that a note names
        self._wanted: set[str] = set()  # keys of those Binaries among them that may hold text
        self._of_binaries: list[Path] = []
        self._manifests: list[tuple[str, ExportManifest]] = []
        self._kinds: Counter[str] = Counter()

    def read(self, path: Path) -> None:
        """Read a file: all of its resources count, or where it is damaged none does."""
        place = self._delivery.relative(path)
        fates: list[tuple[str, NoteRecord | _Waiting | RecordRefusedError]] = []
        kinds: Counter[str] = Counter()
        manifests: list[tuple[str, ExportManifest]] = []
        try:
            for found in resources_of(path, place):
                kinds[found.kind] += 1
                if found.manifest is not None:
                    manifests.append((found.locator, found.manifest))
                elif found.kind != "Binary":
                    fates.append((found.locator, self._fate(found)))
        except UnreadableFileError as error:
            self._ledger.found()
            self._ledger.quarantine(place, error.reason_code, error.sentence)
            return
        if kinds["Binary"]:
            self._of_binaries.append(path)
        self._kinds += kinds
        self._manifests += manifests
        self._ledger.found(len(fates))
        for locator, fate in fates:
            self._keep(locator, fate)

    def _keep(self, locator: str, fate: NoteRecord | _Waiting | RecordRefusedError) -> None:
        if isinstance(fate, RecordRefusedError):
            self._ledger.quarantine(locator, fate.reason_code, fate.sentence)
        elif isinstance(fate, _Waiting):
            self._waiting.append(fate)
        else:
            self.records.append(fate)

    def _fate(self, found: FoundResource) -> NoteRecord | _Waiting | RecordRefusedError:
        try:
            if found.problem is not None:
                return found.problem
            if found.deleted is not None:
                return deletion(found)
            resource = decoded(found)
            for attachment in resource.attachments:
                if attachment.data is None and attachment.url:
                    key, path = binary_key(attachment.url), path_of(attachment.url)
                    self._named |= {name for name in (key, path) if name is not None}
                    if key is not None and is_readable(attachment):
                        self._wanted.add(key)
            if any(binary_key(a.url) in self._wanted for a in resource.attachments if a.data is None):
                return _Waiting(replace(found, content=b""), resource)
            return note_record(found, resource, self._reader, self.attached)
        except RecordRefusedError as refusal:
            return refusal

    def finish(self) -> None:
        """Read the Binaries that notes want, then those notes; what no note names is quarantined."""
        for path in self._of_binaries:
            for found in resources_of(path, self._delivery.relative(path)):
                if found.kind == "Binary":
                    self._read_binary(found)
        for waiting in self._waiting:
            try:
                record = note_record(waiting.found, waiting.resource, self._reader, self.attached)
            except RecordRefusedError as refusal:
                self._keep(waiting.found.locator, refusal)
            else:
                self.records.append(record)
        for beside in self.attached.files:
            if beside not in self._named:
                self._unaccounted(beside, "not_referenced", "no note of the delivery names the file")
        self._compare_with_manifests()

    def _read_binary(self, found: FoundResource) -> None:
        try:
            binary = _BINARY.decode(found.content)
        except MALFORMED_JSON:
            self._unaccounted(
                found.locator, "malformed_resource", "an element of the Binary is of another type"
            )
            return
        keys = {f"Binary/{binary.id}"} if binary.id else set()
        if found.full_url is not None and (key := binary_key(found.full_url)) is not None:
            keys.add(key)
        for key in keys & self._wanted:
            self.attached.add(key, binary)
        if not keys & self._named:
            self._unaccounted(found.locator, "not_referenced", "no note of the delivery names the Binary")

    def _compare_with_manifests(self) -> None:
        """A manifest that says how many resources were exported finds out a file that did not arrive."""
        for locator, manifest in self._manifests:
            for kind in (*KINDS, "Binary"):
                counts = [file.count for file in manifest.output if file.type == kind]
                known = [count for count in counts if count is not None]
                if len(known) == len(counts) and self._kinds[kind] < sum(known):
                    sentence = (
                        f"the manifest says that {sum(known)} {kind} were exported, and the files of the source "
                        f"hold {self._kinds[kind]}: deliver all of them"
                    )
                    self._unaccounted(f"{locator} {kind}", "incomplete_export", sentence)

    def _unaccounted(self, locator: str, reason_code: str, sentence: str) -> None:
        self._ledger.found()
        self._ledger.quarantine(locator, reason_code, sentence)


def read_notes_fhir(
    name: str, source: NotesFhirSource, delivery: Delivery, files: list[Path], ledger: Ledger
) -> pd.DataFrame:
    """Read the notes of a source of kind `notes_fhir`.

    A note's id is the resource's type and id, `DocumentReference/43`, since an id is unique within its type alone. A
    record is a resource of any type; a Binary or a file that a note names is a part of that note. What a Bundle says
    was deleted is retracted.

    Args:
        name: of the source.
        source: its declaration.
        delivery: where the files lie.
        files: NDJSON files, Bundles, single resources; compressed or not.
        ledger: is told the fate of each record, once.

    Returns:
        Rows of `tables.NOTES`; notes that are retracted, superseded or replaced stand there without text, so that what
        earlier deliveries said of them does not stand either.

    Raises:
        DeliveryError: there is no such time zone.
    """
    reading = _Reading(source, delivery, TimeReader(source.time, name), ledger)
    for path in track(files, f"reading {name}"):
        if delivery.relative(path) not in reading.attached.files:
            reading.read(path)
    reading.finish()
    return note_rows(name, delivery.name, settle(reading.records, ledger))
