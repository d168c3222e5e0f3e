"""Real CT files of TCGA patients with genomics and survival: three of 27 have neither, and are there to be scored."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from clinical_mm.cohort.build import CohortTables, build_cohort, load_cohort
from clinical_mm.ingest.delivery import complete_deliveries
from clinical_mm.ingest.run import ingest_delivery
from clinical_mm.store import Store
from clinical_mm.study.file import load_study
from clinical_mm.summary import StageSummary

pytestmark = pytest.mark.real_data

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def lung(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[StageSummary, CohortTables]:
    """The cohort of `examples/lung_ct`, made of the files themselves."""
    directory = tmp_path_factory.mktemp("lung")
    subprocess.run(
        [sys.executable, REPOSITORY / "examples" / "lung_ct" / "prepare.py", directory],
        env={"CLINICAL_MM_REAL_DATA": str(real_data)},
        check=True,
        capture_output=True,
    )
    study = load_study(directory / "study.yaml")
    store = Store(study.store_path)
    for delivery in complete_deliveries(study):
        assert not [c for s in ingest_delivery(study, store, delivery) for c in s.failed_checks]
    summary = build_cohort(study, store, "survival")
    assert not summary.failed_checks
    return summary, load_cohort(store, "survival")


@pytest.fixture(scope="module")
def table(real_data: Path) -> pd.DataFrame:
    """What the delivered table says of each patient."""
    return pd.read_csv(real_data / "lung_ct" / "genomics_survival_24.csv").set_index("case_id")


def test_every_patient_with_a_scan_is_in_the_cohort(lung, table):
    made = lung[1]
    assert len(made.cohort) == 27
    assert made.cohort["n_image"].tolist() == [1] * 27
    assert set(table.index) < set(made.cohort["patient_id"])


def test_three_have_no_genomics_no_outcome_and_no_split(lung, table):
    summary, made = lung
    rows = made.cohort.set_index("patient_id")
    unlabelled = rows[rows["label"].isna()]
    assert set(unlabelled.index) == set(rows.index) - set(table.index)
    assert len(unlabelled) == 3
    assert unlabelled["duration"].isna().all()
    assert unlabelled["modality_pattern"].tolist() == ["image"] * 3
    assert set(made.splits["patient_id"]) == set(table.index)
    assert summary.facts["patients to be scored"] == 3
    last = made.flow.iloc[-1]
    assert (last["n_in"], last["n_out"]) == (27, 24)
    assert last["reason"] == "in the cohort, to be scored: no outcome record 3"


def test_labels_and_durations_are_those_of_the_delivered_table(lung, table):
    rows = lung[1].cohort.set_index("patient_id").loc[table.index]
    assert rows["duration"].tolist() == table["survival_months"].tolist()
    assert rows["label"].tolist() == (1.0 - table["censorship"]).tolist()  # 0 means that the death was seen
    assert set(rows["modality_pattern"]) == {"image+genomics+clinical"}
