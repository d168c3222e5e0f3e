"""Running transformers within a library call: no bars, no prints, a given number of threads; then all as before."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers.utils import logging as transformers_logging


@contextmanager
def quiet(threads: int | None = None) -> Iterator[None]:
    """Silence transformers below errors, and set torch's CPU threads, within a block.

    Args:
        threads: of torch on the CPU; default: as they are. The same seed gives other weights with another number.
    """
    n_threads = torch.get_num_threads()
    verbosity = transformers_logging.get_verbosity()
    has_bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
        transformers_logging.set_verbosity(verbosity)
        if has_bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
