"""A synthetic cohort in a folder: deliveries, the study file that fits them, and the truth beside.

`generate_cohort` writes the first delivery, `add_second_delivery` a later one that brings new patients, amends notes
and corrects outcomes. The same seed gives the same bytes. What stands in which delivery is in their modules.
"""

from pathlib import Path

from clinical_mm.synthetic.first_delivery import FirstDelivery
from clinical_mm.synthetic.second_delivery import SecondDelivery
from clinical_mm.synthetic.truth import GroundTruth

STUDY_FILE = "study.yaml"
LANDING = "landing"
_LEAST_PATIENTS = 40
_MOST_PATIENTS = 3000


def generate_cohort(
    directory: Path, seed: int = 7, n_patients: int = 240, *, second_delivery: bool = False
) -> GroundTruth:
    """Write `study.yaml`, `landing/2026-01-05/…` and `truth.json` into a new or empty directory.

    Args:
        directory: made where it is missing.
        seed: the same seed gives the same bytes.
        n_patients: patients with an outcome or the hope of one; some strangers come with them.
        second_delivery: write `landing/2026-02-02/…` too.

    Raises:
        ValueError: fewer than 40 or more than 3,000 patients.
        FileExistsError: the delivery stands there already.
    """
    if not _LEAST_PATIENTS <= n_patients <= _MOST_PATIENTS:
        raise ValueError(f"n_patients must lie in {_LEAST_PATIENTS} to {_MOST_PATIENTS}, not {n_patients}")
    directory.mkdir(parents=True, exist_ok=True)
    truth = FirstDelivery(directory / LANDING, seed, n_patients).write()
    template = Path(__file__).with_name(STUDY_FILE)
    (directory / STUDY_FILE).write_bytes(template.read_bytes())
    truth.write(directory)
    return add_second_delivery(directory) if second_delivery else truth


def add_second_delivery(directory: Path) -> GroundTruth:
    """Write `landing/2026-02-02/…` beside the first delivery, and the truth after both into `truth.json`.

    It brings one new patient for every eight, a third of them without an outcome yet; images of two patients that
    were late; outcomes of patients who had none and the correction of two; notes that were amended, one of them
    only after the index time; and two notes that were delivered before.

    Raises:
        FileNotFoundError: no first delivery was written there.
        FileExistsError: the second delivery stands there already.
    """
    first = GroundTruth.read(directory)
    truth = SecondDelivery(directory / LANDING, first).write()
    truth.write(directory)
    return truth
