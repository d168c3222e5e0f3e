"""From headers to series: which files of a delivery are used, and what becomes of the others.

Every file that is not used is told to the ledger here, once: unreadable, no image, of an unwanted modality, without an
identity or a time, a copy of another, or in conflict with one. Pixels and geometry do not belong here.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from clinical_mm.ingest.dicom_wire import InstanceHeader, Refusal
from clinical_mm.ingest.ledger import Ledger


@dataclass(frozen=True)
class Instance:
    """One file that holds an image.

    Attributes:
        locator: its path within the delivery.
        path: where it lies.
        header: what it says of itself.
        content_hash: of its bytes; None where nobody had to know it yet.
    """

    locator: str
    path: Path
    header: InstanceHeader
    content_hash: str | None = None


@dataclass(frozen=True)
class Series:
    """The usable files of a series, of one patient and one study.

    Attributes:
        instances: in the order of their locators.
        available_time: the latest of its files; None where none has one and the source is timeless.
        n_left_out: files of it that are in quarantine already.
    """

    series_instance_uid: str
    instances: tuple[Instance, ...]
    available_time: datetime | None
    n_left_out: int


def collect_series(
    files: Iterable[tuple[str, Path, InstanceHeader | Refusal]],
    modalities: tuple[str, ...],
    is_timeless: bool,
    ledger: Ledger,
    hashes_of: Callable[[Sequence[Path]], Sequence[str | Refusal]],
) -> list[Series]:
    """Group usable files by series; tell the ledger of all others.

    Args:
        files: locator, path, and header or refusal of every file.
        modalities: (0008,0060) values to use; empty: all.
        is_timeless: a series without a date is used all the same.
        ledger: is told the fate of every file that is in none of the returned series.
        hashes_of: the hash of the bytes of each file, or why it cannot be read; asked of copies alone, the files that
            have a SOP Instance UID in common.

    Returns:
        The series, in the order of their first file's locator.
    """
    left_out: Counter[str] = Counter()
    by_sop: dict[str, list[Instance]] = defaultdict(list)
    for locator, path, header in files:
        refusal = header if isinstance(header, Refusal) else _refusal(header, modalities)
        if refusal is not None:
            ledger.quarantine(locator, refusal.reason_code, refusal.sentence)
            if refusal.series_instance_uid:
                left_out[refusal.series_instance_uid] += 1
        elif isinstance(header, InstanceHeader) and header.sop_instance_uid:
            by_sop[header.sop_instance_uid].append(Instance(locator, path, header))
    by_series: dict[str, list[Instance]] = defaultdict(list)
    for of_one in by_sop.values():
        copies = of_one if len(of_one) == 1 else _readable(of_one, hashes_of, left_out, ledger)
        if not copies:
            continue
        if len({instance.content_hash for instance in copies}) == 1:
            first = copies[0]
            by_series[first.header.series_instance_uid or ""].append(first)
            for copy in copies[1:]:
                ledger.duplicate(copy.locator, "the same instance with the same bytes stands in another file")
            continue
        for instance in copies:
            ledger.quarantine(
                instance.locator,
                "conflicting_records",
                f"{len(copies)} files have the same SOP Instance UID and different content: deliver the right one",
            )
            left_out[instance.header.series_instance_uid or ""] += 1
    series = [
        found
        for uid, instances in by_series.items()
        if (found := _series(uid, instances, left_out[uid], is_timeless, ledger)) is not None
    ]
    return sorted(series, key=lambda s: s.instances[0].locator)


def _readable(
    copies: Sequence[Instance],
    hashes_of: Callable[[Sequence[Path]], Sequence[str | Refusal]],
    left_out: Counter[str],
    ledger: Ledger,
) -> list[Instance]:
    """Those of the copies whose bytes can be read, each with their hash, in the order of their locators."""
    readable = []
    ordered = sorted(copies, key=lambda instance: instance.locator)
    for instance, found in zip(ordered, hashes_of([i.path for i in ordered]), strict=True):
        if isinstance(found, Refusal):
            ledger.quarantine(instance.locator, found.reason_code, found.sentence)
            left_out[instance.header.series_instance_uid or ""] += 1
        else:
            readable.append(replace(instance, content_hash=found))
    return readable


def _refusal(header: InstanceHeader, modalities: tuple[str, ...]) -> Refusal | None:
    """Why an image is not used, whatever series it is of."""
    if modalities and header.modality not in modalities:
        return Refusal(
            "modality_not_wanted", f"the source reads {', '.join(modalities)}, the image is another modality"
        )
    uid = header.series_instance_uid
    if header.patient_id is None:
        return Refusal(
            "missing_patient_id", "the header names no patient: (0010,0020) is absent or empty", uid
        )
    missing = [
        name
        for name, value in (
            ("SOP", header.sop_instance_uid),
            ("Series", uid),
            ("Study", header.study_instance_uid),
        )
        if value is None
    ]
    if missing:
        return Refusal("missing_uid", f"the header has no {' and no '.join(missing)} Instance UID", uid)
    return None


def _series(
    uid: str, instances: list[Instance], n_left_out: int, is_timeless: bool, ledger: Ledger
) -> Series | None:
    instances.sort(key=lambda instance: instance.locator)
    times = [time for instance in instances if (time := instance.header.available_time) is not None]
    reason: tuple[str, str] | None = None
    if len({(i.header.patient_id, i.header.study_instance_uid) for i in instances}) > 1:
        reason = (
            "conflicting_records",
            "files with the same Series Instance UID name different patients or studies: which is right is not known",
        )
    elif not times and not is_timeless:
        if any(instance.header.has_unreadable_time for instance in instances):
            reason = ("unreadable_time", "no date of the series is a date: expected YYYYMMDD")
        else:
            reason = (
                "missing_time",
                "the series has no date: deliver one, or declare the source is_timeless: true",
            )
    if reason is None:
        return Series(uid, tuple(instances), max(times, default=None), n_left_out)
    for instance in instances:
        ledger.quarantine(instance.locator, *reason)
    return None
