"""Deliveries: which folders stand in the landing folder, which files of them a source reads, and whether all is there.

A file counts when it is a regular file inside its delivery: a link that leads out of it is refused. What the files
hold does not belong here.
"""

import os
import re
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Protocol

from clinical_mm.errors import DeliveryError
from clinical_mm.store import content_hash
from clinical_mm.study.root import Study

SUCCESS_MARK = "_SUCCESS"
"""An empty file of this name says that a delivery is complete; no source reads it."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Delivery:
    """A folder of the landing folder; its name orders it among the others, the later correcting the earlier."""

    name: str
    path: Path

    def relative(self, path: Path) -> str:
        """A file's path within the delivery, with forward slashes: the beginning of every locator.

        Bytes of a name that are no UTF-8 are written as escapes, since no table can hold them.
        """
        return os.fsencode(path.relative_to(self.path).as_posix()).decode("utf-8", "backslashreplace")


class _HasPath(Protocol):
    @property
    def path(self) -> str: ...


def find_deliveries(study: Study) -> list[Delivery]:
    """Every delivery in the landing folder, in the order of their names; hidden folders are none.

    Raises:
        DeliveryError: there is no landing folder, or a folder's name cannot be that of a delivery.
    """
    landing = study.landing_path
    if not landing.is_dir():
        raise DeliveryError(
            f"there is no landing folder {landing}: make it, or name another under deliveries.landing"
        )
    folders = sorted(p for p in landing.iterdir() if p.is_dir() and not p.name.startswith("."))
    for folder in folders:
        if not _NAME.fullmatch(folder.name):
            raise DeliveryError(
                f"the folder {folder.name!r} in {landing} cannot be a delivery: a name has at most 100 letters, "
                "digits, '.', '_' and '-'; rename it"
            )
    return [Delivery(folder.name, folder) for folder in folders]


def delivery_name(name: str) -> str:
    """The name where a delivery can have it.

    Raises:
        DeliveryError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise DeliveryError(
            f"{name!r} cannot be the name of a delivery: it has at most 100 letters, digits, '.', '_' and '-', "
            "and begins with a letter or digit"
        )
    return name


def find_delivery(study: Study, name: str) -> Delivery:
    """The delivery of a name.

    Raises:
        DeliveryError: the landing folder has none of that name.
    """
    for delivery in find_deliveries(study):
        if delivery.name == name:
            return delivery
    raise DeliveryError(f"there is no delivery {name!r} in {study.landing_path}: was it moved or renamed?")


def complete_deliveries(study: Study) -> list[Delivery]:
    """The deliveries that are complete now, in the order of their names."""
    now_s = time.time()
    quiet_period_s = study.deliveries.quiet_period_s
    return [d for d in find_deliveries(study) if is_complete(d, quiet_period_s, now_s)]


def is_complete(delivery: Delivery, quiet_period_s: float, now_s: float) -> bool:
    """Whether `_SUCCESS` stands in the delivery, or nothing in it has changed for the quiet period.

    Args:
        delivery: the delivery.
        quiet_period_s: how long nothing may have changed.
        now_s: seconds since the epoch, as file times are.
    """
    if (delivery.path / SUCCESS_MARK).is_file():
        return True
    newest_s = delivery.path.stat().st_mtime
    for folder, _, files in os.walk(delivery.path):
        for path in (Path(folder), *(Path(folder, f) for f in files)):
            try:
                newest_s = max(newest_s, path.lstat().st_mtime)
            except FileNotFoundError:
                return False  # it is being written to at this moment
    return now_s - newest_s >= quiet_period_s


def matching_files(delivery: Delivery, source: _HasPath) -> list[Path]:
    """The files of a delivery that a source reads, sorted by path.

    Raises:
        DeliveryError: as for `files_of_pattern`.
    """
    return files_of_pattern(delivery, source.path)


def files_of_pattern(delivery: Delivery, pattern: str) -> list[Path]:
    """The regular files of a delivery that match a glob pattern, sorted by path.

    Raises:
        DeliveryError: the pattern leads out of the delivery, or a link that matches it does.
    """
    if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        raise DeliveryError(
            f"the pattern {pattern!r} leads out of the delivery: patterns are relative to its folder"
        )
    try:
        candidates = sorted(delivery.path.glob(pattern), key=lambda path: path.parts)
    except (ValueError, NotImplementedError):
        raise DeliveryError(f"{pattern!r} is no glob pattern: '**' stands alone between slashes") from None
    root = os.path.realpath(delivery.path)
    files = []
    n_outside = 0
    is_inside: dict[str, bool] = {}  # by folder: a delivery has thousands of files in some hundred folders
    for path in candidates:
        name = os.fspath(path)
        if path.name == SUCCESS_MARK or not os.path.isfile(name):
            continue
        folder = os.path.dirname(name)
        if folder not in is_inside:
            is_inside[folder] = _is_within(os.path.realpath(folder), root)
        is_link = os.path.islink(name)
        if not (_is_within(os.path.realpath(name), root) if is_link else is_inside[folder]):
            n_outside += 1
            continue
        files.append(path)
    if n_outside:
        raise DeliveryError(
            f"delivery {delivery.name}: {n_outside} links that match {pattern!r} lead out of the delivery, "
            "and are not followed: deliver the files themselves"
        )
    return files


def leads_out(path: str, delivery: Delivery) -> bool:
    """Whether a path, normalised, is absolute or above the delivery, or passes through a link out of it."""
    windows = PureWindowsPath(path)
    if path.startswith("/") or windows.drive or windows.root or ".." in windows.parts:
        return True
    if "\0" in path:
        return False  # no file has such a name
    root = os.path.realpath(delivery.path)
    return os.path.commonpath([root, os.path.realpath(delivery.path / path)]) != root


def delivery_fingerprint(delivery: Delivery, patterns: Iterable[str]) -> str:
    """A hash of path, size and time of change of the matching files: cheap, and other when one of them is.

    Raises:
        DeliveryError: as for `files_of_pattern`, or a file went while it was looked at.
    """
    root = os.fspath(delivery.path)
    found: dict[str, tuple[int, int]] = {}
    for pattern in patterns:
        for path in files_of_pattern(delivery, pattern):
            name = os.fspath(path)
            if name in found:
                continue
            try:
                about = os.stat(name)
            except FileNotFoundError:
                raise DeliveryError(
                    f"delivery {delivery.name}: a file was removed or renamed while it was looked at: wait until the "
                    "delivery is complete, and run again"
                ) from None
            assert stat.S_ISREG(about.st_mode)
            found[name] = (about.st_size, about.st_mtime_ns)
    return content_hash([(name[len(root) + 1 :], *about) for name, about in sorted(found.items())])


def _is_within(path: str, root: str) -> bool:
    return path == root or path.startswith(root + os.sep)
