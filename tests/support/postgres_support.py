"""A PostgreSQL server of the tests' own: a cluster in a folder, on a socket in it, gone when the tests are."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

REQUIRED = "CLINICAL_MM_REQUIRE_POSTGRES"
"""Where this environment variable is set, tests fail without PostgreSQL; elsewhere they are skipped."""


def _programs() -> Path | None:
    """The folder of `initdb` and `pg_ctl`; Debian keeps it off the path."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders else None


@contextmanager
def postgres_server() -> Iterator[str]:
    """Start a server; yields the URL of its database, without a password, of its own user `postgres`."""
    programs = _programs()
    if programs is None:
        reason = "no PostgreSQL here: install the package postgresql"
        if os.environ.get(REQUIRED):
            pytest.fail(reason)
        pytest.skip(reason)
    # A short path of its own: sockets allow 107 bytes, and the folders of pytest are closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    user = None
    if os.geteuid() == 0:  # as whom PostgreSQL does not start
        user = _other_user()
        shutil.chown(folder, user)
    data = folder / "data"
    options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off"
    try:
        _run(
            user, programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"
        )
        _run(user, programs / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start")
        try:
            yield f"postgresql://postgres@/postgres?host={folder}"
        finally:
            _run(user, programs / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def _other_user() -> str:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise AssertionError("no user but root to run PostgreSQL as")


def _run(user: str | None, *command: object) -> None:
    # Into a file: a server that was started keeps a pipe open.
    with tempfile.TemporaryFile() as said:
        outcome = subprocess.run(
            [str(part) for part in command],
            user=user,
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=120,
        )
        said.seek(0)
        assert outcome.returncode == 0, said.read().decode()
