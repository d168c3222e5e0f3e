"""The store: where everything that is made lies, and how it gets there whole.

What a stage makes is a *snapshot*: a folder that is written aside, synced and renamed to its fingerprint; then one
small file, `current.json`, is replaced atomically and points to it. A crash at any moment leaves the snapshot as it
was before or as it is after. What the tables mean does not belong here.
"""

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from clinical_mm.errors import StoreError

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_POINTER = "current.json"
_COMMANDS = {"features": "train"}  # stages that have no command of their own, by the one that runs them


def content_hash(*parts: object) -> str:
    """SHA-256, in hex, of parts that are bytes, text, or JSON values; equal parts give equal hashes everywhere."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True, default=str).encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256, in hex, of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def safe_name(name: str) -> str:
    """The name where it can be a path's part, else an error.

    Raises:
        StoreError: it is empty, too long, or holds anything but letters, digits, dot, dash and underscore.
    """
    if not _SAFE.fullmatch(name):
        raise StoreError(
            "a name for the store may hold only letters, digits, '.', '_' and '-', and 128 of them"
        )
    return name


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole: aside, synced, renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        sync_directory(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, keys sorted, whole."""
    write_file(path, json.dumps(value, indent=2, sort_keys=True, default=str).encode() + b"\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        StoreError: the file is missing or is no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise StoreError(f"{path.name} is missing in {path.parent}: run the stage that makes it") from None
    except ValueError:
        raise StoreError(f"{path} is no JSON: it was damaged; remove it and run its stage again") from None


def sync_directory(path: Path) -> None:
    """Have the system write down which files a folder holds, so that a crash does not undo a rename."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Store:
    """Paths and snapshots below one folder.

    Layout::

        deliveries/<delivery>/<stage>/   snapshots of ingest: one a delivery and stage
        volumes/                         decoded image volumes, named by content hash, shared by all deliveries
        linked/                          snapshot: links, over all deliveries
        tasks/<task>/<stage>/            snapshots of cohort, features, evaluation, explanations, reports
        tasks/<task>/models/<version>/   one folder a trained model
        text_encoder/                    snapshot: the study's own pretrained encoder
        cache/                           by content hash; may be deleted at any time
        locks/
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            root.mkdir(parents=True, exist_ok=True)
            probe = root / f".probe-{uuid.uuid4().hex}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StoreError(
                f"the store {root} cannot be written ({error.strerror}): check `store` and its rights"
            ) from None

    def delivery(self, delivery: str, stage: str) -> Path:
        """Folder of the snapshots of an ingest stage of a delivery."""
        return self.root / "deliveries" / safe_name(delivery) / safe_name(stage)

    def task(self, task: str, stage: str) -> Path:
        """Folder of the snapshots of a stage of a task."""
        return self.root / "tasks" / safe_name(task) / safe_name(stage)

    @property
    def linked(self) -> Path:
        """Folder of the snapshots of linkage."""
        return self.root / "linked"

    @property
    def text_encoder(self) -> Path:
        """Folder of the snapshots of the study's own text encoder."""
        return self.root / "text_encoder"

    @property
    def volumes(self) -> Path:
        """Folder of decoded image volumes."""
        return self.root / "volumes"

    def cache(self, name: str) -> Path:
        """Folder of a cache, made when missing."""
        path = self.root / "cache" / safe_name(name)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def delivery_names(self) -> list[str]:
        """Names of the deliveries of which anything was ingested, in order: the later one corrects the earlier."""
        folder = self.root / "deliveries"
        return sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []

    @contextmanager
    def lock(self, name: str, timeout_s: float = 0.0) -> Iterator[None]:
        """Hold a lock over processes.

        Raises:
            StoreError: another process holds it for longer than the timeout.
        """
        path = self.root / "locks" / f"{safe_name(name)}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=timeout_s)
        try:
            lock.acquire()
        except Timeout:
            raise StoreError(f"another run is working on {name}: wait until it has ended") from None
        try:
            yield
        finally:
            lock.release()


@contextmanager
def snapshot(folder: Path, fingerprint: str, about: Mapping[str, Any] | None = None) -> Iterator[Path]:
    """Write a snapshot: yields an empty folder; when the block ends well, it becomes the current one.

    Args:
        folder: the folder of the snapshots (`Store.task(…)`).
        fingerprint: what it was made from; names the snapshot.
        about: JSON values to keep in the pointer beside the fingerprint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".writing-{uuid.uuid4().hex}"
    aside.mkdir()
    try:
        yield aside
        for path in aside.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        target = folder / f"{fingerprint[:16]}-{uuid.uuid4().hex[:8]}"
        aside.rename(target)
        sync_directory(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    write_json(folder / _POINTER, {"snapshot": target.name, "fingerprint": fingerprint, **(about or {})})
    for old in folder.iterdir():
        if old.is_dir() and old != target:
            shutil.rmtree(old, ignore_errors=True)
        elif old.name.startswith(f".{_POINTER}."):  # of a run that was killed before it could rename it
            old.unlink(missing_ok=True)


def current(folder: Path) -> Path | None:
    """The current snapshot of a folder, or None where there is none."""
    about = current_about(folder)
    return None if about is None else folder / about["snapshot"]


def current_about(folder: Path) -> dict[str, Any] | None:
    """What `snapshot` kept beside the current one: `snapshot`, `fingerprint` and the `about` values."""
    pointer = folder / _POINTER
    return read_json(pointer) if pointer.is_file() else None


def require_current(folder: Path, stage: str) -> Path:
    """The current snapshot of a folder.

    Raises:
        StoreError: there is none; names the stage to run.
    """
    path = current(folder)
    if path is None:
        command = _COMMANDS.get(stage, stage)
        raise StoreError(f"nothing was made by the stage `{stage}` yet: run `clinical-mm {command}` first")
    return path
