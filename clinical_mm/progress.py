"""Progress of long work: silent in a library call, a bar where the command switches it on.

Bars go to standard error and show counts, never identifiers.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_Item = TypeVar("_Item")
_current: ContextVar[Progress | None] = ContextVar("progress", default=None)


@contextmanager
def progress_bars() -> Iterator[None]:
    """Show a bar for every `track` within the block."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        token = _current.set(progress)
        try:
            yield
        finally:
            _current.reset(token)


def track(items: Iterable[_Item], description: str, total: int | None = None) -> Iterator[_Item]:
    """The items, one by one, with a bar where bars are shown."""
    progress = _current.get()
    if progress is None:
        yield from items
        return
    yield from progress.track(items, total=total, description=description)
