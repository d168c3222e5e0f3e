"""The tables of a synthetic cohort: clinical covariates, outcomes, and the crosswalk from the PACS to the patients.

Every row is entered in the tally of its source with what has to become of it.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from clinical_mm.synthetic.patients import Patient, stream
from clinical_mm.synthetic.truth import Tally

CLINICAL, OUTCOMES = "clinical", "outcomes"
"""The sources."""

_CLINICAL_COLUMNS = ("mrn", "recorded_at", "age_years", "sex", "crp_mg_l")
_OUTCOME_COLUMNS = ("mrn", "seen_at", "relapse", "grade", "survival_months", "died")


@dataclass
class ClinicalTable:
    """`clinical/covariates.csv` of one delivery."""

    rng: np.random.Generator
    rows: list[list[str]] = field(default_factory=list)
    tally: Tally = field(default_factory=lambda: Tally("row"))

    def add(self, seed: int, patient: Patient) -> None:
        """Add a patient's row from before the index time; one in five has no CRP."""
        rng = stream(seed, "clinical", patient.number)
        crp = f"{rng.lognormal(1.8, 0.8):.1f}"
        recorded = patient.index_time - timedelta(
            days=int(rng.integers(1, 15)), minutes=int(rng.integers(1, 300))
        )
        values = [str(patient.age_years), patient.sex, "" if rng.random() < 0.2 else crp]
        self.add_row(patient.patient_id, recorded, values)

    def add_row(self, patient_id: str, recorded: datetime, values: Sequence[str], reason: str = "") -> None:
        """Add a row of age, sex and CRP; with a reason, one that has to be quarantined."""
        self.rows.append([patient_id, _time(recorded), *values])
        if reason:
            self.tally.quarantined[reason] += 1
        else:
            self.tally.accepted += 1

    def add_leak(self, patient: Patient) -> None:
        """Add a row of after the index time whose CRP gives the outcome away."""
        crp = "180.0" if patient.relapse else "0.5"
        later = patient.index_time + timedelta(days=90)
        self.add_row(patient.patient_id, later, [str(patient.age_years), patient.sex, crp])

    def add_unusable(self, strangers: Iterable[str]) -> None:
        """Spoil cells of rows added before, repeat two rows, and add rows of nobody, `strangers` among them."""
        age, sex, crp = 2, 3, 4
        for place, column, value, reason in (
            (0, age, "178", "out_of_range"),
            (1, age, "-4", "out_of_range"),
            (2, sex, "unspecified", "unknown_level"),
            (3, crp, "see report", "not_a_number"),
        ):
            self.rows[place][column] = value
            self.tally.cells[reason] += 1
        for row in (self.rows[4], self.rows[5]):
            self.rows.append(list(row))
            self.tally.duplicate += 1
        some_day = datetime(2024, 5, 6, 7, 8)
        self.add_row("", some_day, ["50", "male", "3.0"], "missing_patient_id")
        self.add_row(self.rows[6][0], some_day, ["50", "male", "3.0"], "unreadable_time")
        self.rows[-1][1] = "31/02/2024"
        for stranger in strangers:
            self.add_row(stranger, some_day, ["61", "female", "4.0"])

    def write(self, directory: Path) -> None:
        """Write the table below the folder of a delivery, in random order."""
        _write(directory / "clinical" / "covariates.csv", _CLINICAL_COLUMNS, self.rows, self.rng)


@dataclass
class OutcomesTable:
    """`outcomes/outcomes.csv` of one delivery."""

    rng: np.random.Generator
    rows: list[list[str]] = field(default_factory=list)
    tally: Tally = field(default_factory=lambda: Tally("row"))

    def add(self, patient: Patient, *, is_known: bool, relapse: bool | None = None) -> None:
        """Add a patient's row; values stay empty while the outcome is not known."""
        relapse = patient.relapse if relapse is None else relapse
        values = ["", "", "", ""]
        if is_known:
            death = "yes" if patient.is_event else "no"
            values = ["yes" if relapse else "no", patient.grade, f"{patient.survival_months:.1f}", death]
        self.add_row(patient.patient_id, patient.index_time, values)

    def add_row(self, patient_id: str, index_time: datetime, values: Sequence[str]) -> None:
        """Add a row of relapse, grade, survival and death."""
        self.rows.append([patient_id, _time(index_time), *values])
        self.tally.accepted += 1

    def add_unusable(self, repeated: str, unclear: str, unreadable: str) -> None:
        """Repeat the row of one patient, spoil the relapse of another, and add one of nobody with a broken time."""
        self.rows.append(list(next(row for row in self.rows if row[0] == repeated)))
        self.tally.duplicate += 1
        next(row for row in self.rows if row[0] == unclear)[2] = "unclear"
        self.tally.cells["unknown_level"] += 1
        self.rows.append([unreadable, "2024-13-45 10:00", "yes", "low", "12.0", "no"])
        self.tally.quarantined["unreadable_time"] += 1

    def write(self, directory: Path) -> None:
        """Write the table below the folder of a delivery, in random order."""
        _write(directory / "outcomes" / "outcomes.csv", _OUTCOME_COLUMNS, self.rows, self.rng)


def write_crosswalk(directory: Path, pairs: Iterable[tuple[str, str]], rng: np.random.Generator) -> None:
    """Write `crosswalk.csv`, the PatientID of the PACS and the patient it stands for, below a delivery's folder."""
    _write(directory / "crosswalk.csv", ("pacs_id", "mrn"), [list(p) for p in pairs], rng)


def _time(time: datetime) -> str:
    return time.isoformat(sep=" ", timespec="minutes")


def _write(path: Path, columns: Sequence[str], rows: list[list[str]], rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows[i] for i in rng.permutation(len(rows)))
    path.write_bytes(text.getvalue().encode("utf-8"))
