"""The ledger of a source in a delivery: what became of every record that was found.

Conservation: found = accepted + duplicate + superseded + quarantined. Readers tell the ledger the fate of each
record exactly once; it counts what it was told against what the reader says it found.
"""

from dataclasses import dataclass, field

import pandas as pd

from clinical_mm import tables


class RecordRefusedError(Exception):
    """A record, or a document in it, cannot be used; its reader quarantines it under `reason_code`."""

    def __init__(self, reason_code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason_code = reason_code
        self.sentence = sentence


@dataclass
class Ledger:
    """Fates of the records of one source in one delivery."""

    source: str
    delivery: str
    record_kind: str
    n_found: int = 0
    n_accepted: int = 0
    _records: list[dict[str, str]] = field(default_factory=list)
    _counted: dict[str, int] = field(
        default_factory=lambda: {"duplicate": 0, "superseded": 0, "quarantined": 0}
    )

    def found(self, n: int = 1) -> None:
        """So many records were found."""
        self.n_found += n

    def accept(self, n: int = 1) -> None:
        """So many of them are in the table."""
        self.n_accepted += n

    def duplicate(self, locator: str, sentence: str, reason_code: str = "identical_record") -> None:
        """The record says what another says already."""
        self._add(locator, "duplicate", reason_code, sentence)

    def supersede(self, locator: str, sentence: str, reason_code: str = "newer_version") -> None:
        """A newer version of the record stands in the same delivery."""
        self._add(locator, "superseded", reason_code, sentence)

    def quarantine(self, locator: str, reason_code: str, sentence: str) -> None:
        """The record cannot be used; the sentence says why, without content and without identifiers."""
        self._add(locator, "quarantined", reason_code, sentence)

    def quarantine_cell(self, locator: str, reason_code: str, sentence: str) -> None:
        """A part of a record cannot be used, the rest is accepted: kept on record, not counted as a record."""
        self._records.append(self._row(locator, "quarantined", reason_code, sentence))

    def _add(self, locator: str, disposition: str, reason_code: str, sentence: str) -> None:
        self._counted[disposition] += 1
        self._records.append(self._row(locator, disposition, reason_code, sentence))

    def _row(self, locator: str, disposition: str, reason_code: str, sentence: str) -> dict[str, str]:
        return {
            "source": self.source,
            "delivery": self.delivery,
            "locator": locator,
            "disposition": disposition,
            "reason_code": reason_code,
            "sentence": sentence,
        }

    def records(self) -> pd.DataFrame:
        """The records that were not accepted, as `tables.RECORDS`."""
        return pd.DataFrame(self._records, columns=tables.RECORDS.columns)

    def counts(self) -> pd.DataFrame:
        """One row of `tables.COUNTS`."""
        row = {
            "source": self.source,
            "delivery": self.delivery,
            "record_kind": self.record_kind,
            "found": self.n_found,
            "accepted": self.n_accepted,
            **self._counted,
        }
        return pd.DataFrame([row], columns=tables.COUNTS.columns)


def is_conserved(counts: pd.DataFrame) -> bool:
    """Whether found = accepted + duplicate + superseded + quarantined in every row of a `tables.COUNTS`."""
    accounted = counts[["accepted", "duplicate", "superseded", "quarantined"]].sum(axis=1)
    return bool((counts["found"] == accounted).all())
