"""How much memory a process has taken: its own peak from a moment on, and that of its largest child. Needs Linux."""

import resource
from pathlib import Path


def peak_from_here() -> int:
    """Forget the peak so far; what the process holds now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status_bytes("VmRSS")


def peak_bytes() -> int:
    """The most that the process held since `peak_from_here`."""
    return _status_bytes("VmHWM")


def largest_child_bytes() -> int:
    """The most that any child held that has ended and was waited for."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10


def _status_bytes(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) << 10
    raise RuntimeError(f"/proc/self/status has no {key}")
