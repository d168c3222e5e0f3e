"""A child process in which untrusted bytes are parsed: how it is started, and how it shuts itself in.

What such a process reads, and what it answers, stands in `decode_worker` and `vcf_worker`; who waits for it, in
`decode_pool` and `vcf_process`. Linux, as the limits are.
"""

import os
import resource
import sys
from pathlib import Path
from typing import BinaryIO

import clinical_mm

PACKAGE = Path(clinical_mm.__file__).resolve().parent.parent
"""Where to start it: `-m` looks there first, so that the child is of the same version as its parent."""


def worker_command(module: str, *arguments: int) -> list[str]:
    """The command that runs a module of this package by this interpreter."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def worker_environment() -> dict[str, str]:
    """This process's environment, with one thread a library: several workers share the cores."""
    return {**os.environ, **{f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}}


def shut_in(address_space_bytes: int, file_bytes: int) -> tuple[BinaryIO, BinaryIO]:
    """Limit this process, and take standard input, output and error from it: native code prints what it reads.

    Args:
        address_space_bytes: memory that it may map.
        file_bytes: the largest file that it may write.

    Returns:
        What were standard input and standard output.
    """
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    resource.setrlimit(resource.RLIMIT_AS, (address_space_bytes, address_space_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold patient data
    return requests, answers
