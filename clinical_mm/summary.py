"""What every stage hands back to whoever started it: the command prints it, the Dagster asset attaches it.

No identifier, name or note text of a patient stands in a summary: counts, figures and pseudonymous names of things.
"""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd


@dataclass(frozen=True)
class Check:
    """A check that a stage made of its own result."""

    name: str
    is_passed: bool
    sentence: str
    is_blocking: bool = True


@dataclass(frozen=True)
class StageSummary:
    """The outcome of one stage.

    Attributes:
        stage: name of the stage.
        facts: what an operator wants to see at once, in order.
        tables: small tables by title.
        curves: named series of numbers (a loss per epoch).
        checks: checks of the result.
        path: the snapshot or folder that was made.
        is_unchanged: nothing had changed since the last time, so nothing was done.
    """

    stage: str
    facts: dict[str, str | int | float] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    path: Path | None = None
    is_unchanged: bool = False

    @property
    def failed_checks(self) -> tuple[Check, ...]:
        """Blocking checks that did not pass."""
        return tuple(c for c in self.checks if c.is_blocking and not c.is_passed)
