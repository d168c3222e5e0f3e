"""Asks a process of its own to read a VCF, and outlives whatever becomes of it.

One process a file: it starts in a fraction of a second, and a file that kills it takes no other with it. What the
process does is in `vcf_worker`.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import msgspec

from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.isolation import PACKAGE, worker_command, worker_environment
from clinical_mm.ingest.vcf_wire import READY, Answer, ReadRequest, Refusal

_ALARM_GRACE_S = 10


@dataclass(frozen=True)
class VcfLimits:
    """What a file may take.

    Attributes:
        deadline_s: for any file, and
        deadline_s_per_mb: so much more for every MB of it. Compressed, a MB takes about a second.
        address_space_bytes: of the process.
    """

    deadline_s: float = 60.0
    deadline_s_per_mb: float = 10.0
    address_space_bytes: int = 8 << 30


def ask_to_read(path: Path, request: ReadRequest, limits: VcfLimits) -> Answer:
    """Have a file read.

    Args:
        path: the file, whose size gives the deadline.
        request: what is to be read of it.
        limits: what it may take.

    Returns:
        The answer; a refusal where the process ended without one or was late.

    Raises:
        DeliveryError: the process does not start.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        return Refusal("unreadable_file", f"the file cannot be read: {error.strerror}")
    deadline_s = limits.deadline_s + limits.deadline_s_per_mb * size / 1e6
    arguments = (limits.address_space_bytes, int(deadline_s) + _ALARM_GRACE_S)
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter and this package
            worker_command("clinical_mm.ingest.vcf_worker", *arguments),
            cwd=PACKAGE,
            env=worker_environment(),
            input=msgspec.msgpack.encode(request),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=deadline_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Refusal("unreadable_file", "reading the file took longer than the deadline")
    if not done.stdout.startswith(READY):
        raise DeliveryError(
            "the process that reads VCF does not start: run "
            "`python -m clinical_mm.ingest.vcf_worker 8589934592 60 < /dev/null` to see why"
        )
    if done.returncode != 0:
        return Refusal("unreadable_file", "the file ended the process that read it")
    return msgspec.msgpack.decode(done.stdout[len(READY) :], type=Answer)
