"""The flow table: how many patients, and how many records, each step lets through, and why not the others.

CONSORT-style (Moher et al., 2010). What the steps are is for those who take them.
"""

from collections.abc import Hashable, Mapping

import pandas as pd

from clinical_mm import tables


class Flow:
    """Steps in the order in which they were taken."""

    def __init__(self) -> None:
        self._steps: list[tuple[str, int, int, str]] = []

    def add(
        self,
        name: str,
        n_in: float,
        n_out: float,
        reasons: Mapping[Hashable, int] | Mapping[str, int] | str = "",
    ) -> None:
        """One step: of `n_in`, `n_out` go on; the reasons of the others, if any, in words or with their counts."""
        if not isinstance(reasons, str):
            reasons = ", ".join(f"{reason} {n}" for reason, n in reasons.items() if n)
        self._steps.append((name, int(n_in), int(n_out), reasons if n_in != n_out else ""))

    def frame(self) -> pd.DataFrame:
        """As `tables.FLOW`."""
        rows = [(place, *step) for place, step in enumerate(self._steps)]
        return pd.DataFrame(rows, columns=tables.FLOW.columns)
