"""The count of what the model does not get to read although the cohort chose it, by patient and reason."""

from collections import Counter

import pandas as pd

from clinical_mm.features.schemas import LEFT_OUT


class LeftOut:
    """Counts by (patient, modality, reason); what was never left out has no row."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()

    def add(self, patient_id: str, modality: str, reason: str, n: int = 1) -> None:
        """So many were left out for the reason (snake_case, a stable code)."""
        if n > 0:
            self._counts[patient_id, modality, reason] += n

    def table(self) -> pd.DataFrame:
        """Rows of `schemas.LEFT_OUT`, sorted."""
        rows = [(*key, n) for key, n in sorted(self._counts.items())]
        return pd.DataFrame(rows, columns=LEFT_OUT.columns)
