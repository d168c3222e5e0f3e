"""Bad input through the real command: quarantined with a reason and counted, or one sentence and a status.

Every run is a process of its own, as a user starts it; none of them may end in a traceback. The clinic has 16
patients, each with a note, one CT slice, a sample and covariates; half of them relapsed.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedSRStorage, ExplicitVRLittleEndian

N_PATIENTS = 16
STUDY = """\
study: clinic
deliveries: {quiet_period_s: 3600}
sources:
  notes: {kind: notes_table, path: notes*.csv, patient_id: mrn, note_id: id, text: body, available_time: stored}
  ct: {kind: dicom, path: ct/**/*}
  rna: {kind: genomics_matrix, path: rna.csv, samples: rows, sample_id: mrn}
  covariates:
    kind: clinical
    path: covariates.csv
    patient_id: mrn
    is_timeless: true
    variables: {age: {}}
  outcomes:
    kind: outcomes
    path: outcomes.csv
    patient_id: mrn
    index_time: seen
    variables: {relapse: {type: category, levels: ["yes", "no"]}}
tasks:
  relapse:
    question: Does it come back?
    outcome: {kind: binary, variable: relapse, positive: "yes"}
    modalities:
      text: {encoder: encoder, window_tokens: 16, overlap_tokens: 0}
      image: {spatial_dims: 2, size: [16, 16]}
      genomics: {}
      clinical: {}
"""


def ct_slice(patient: str, uid: str) -> Dataset:
    """A CT slice of 8 by 8 pixels."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, f"{uid}.1.1"
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID = f"{uid}.1", uid
    dataset.PatientID, dataset.Modality, dataset.StudyDate = patient, "CT", "20200101"
    dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 0]
    dataset.PixelSpacing, dataset.SliceThickness = [1, 1], 1
    dataset.Rows = dataset.Columns = 8
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation, dataset.RescaleSlope, dataset.RescaleIntercept = 0, 1, -1024
    dataset.PixelData = np.arange(64, dtype=np.uint16).tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def save(dataset: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_clinic(directory: Path) -> Path:
    """Study and one complete delivery, all of it good."""
    delivery = directory / "landing" / "d1"
    delivery.mkdir(parents=True)
    patients = [f"p{i:02}" for i in range(N_PATIENTS)]
    notes = {"mrn": patients, "id": [f"n-{p}" for p in patients], "stored": "2020-02-01 08:00"}
    pd.DataFrame({**notes, "body": [f"Seen on the ward, bed {p}." for p in patients]}).to_csv(
        delivery / "notes.csv", index=False
    )
    for i, patient in enumerate(patients):
        save(ct_slice(patient, f"1.2.{i + 1}"), delivery / "ct" / f"{i:03}.dcm")
    values = np.random.default_rng(0).normal(size=(N_PATIENTS, 3)).round(3)
    rna = pd.DataFrame(values, columns=["TP53", "KRAS", "EGFR"])
    rna.insert(0, "mrn", patients)
    rna.to_csv(delivery / "rna.csv", index=False)
    ages = pd.DataFrame({"mrn": patients, "age": range(40, 40 + N_PATIENTS)})
    ages.to_csv(delivery / "covariates.csv", index=False)
    relapse = ["yes" if i % 2 else "no" for i in range(N_PATIENTS)]
    outcomes = pd.DataFrame({"mrn": patients, "seen": "2020-03-01 12:00", "relapse": relapse})
    outcomes.to_csv(delivery / "outcomes.csv", index=False)
    (delivery / "_SUCCESS").touch()
    (directory / "study.yaml").write_text(STUDY, encoding="utf-8")
    return directory


def command(directory: Path, *arguments: str) -> tuple[list[str], dict[str, str]]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    stage, *rest = arguments
    study = ["--study", str(directory / "study.yaml")]
    return [sys.executable, "-m", "clinical_mm.cli", stage, *study, *rest], environment


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command on a clinic's study, to its end; whatever it is, it is no traceback."""
    words, environment = command(directory, *arguments)
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return done


def refused(directory: Path, *arguments: str) -> tuple[int, str]:
    """Status and sentence of a command that has to fail."""
    done = run(directory, *arguments)
    assert done.returncode != 0, done.stdout
    return done.returncode, " ".join(done.stderr.split())


def change(path: Path, before: str, after: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")


def append(path: Path, line: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def kept(directory: Path, table: str) -> pd.DataFrame:
    """A table of the ledger, over all stages."""
    found = sorted((directory / "store" / "deliveries" / "d1").glob(f"*/*/{table}.parquet"))
    assert len(found) == 5
    return pd.concat([pd.read_parquet(path) for path in found], ignore_index=True)


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    return write_clinic(tmp_path)


# ---- records -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clinic with one of every bad record, ingested and made a cohort by the command."""
    directory = write_clinic(tmp_path_factory.mktemp("messy"))
    delivery = directory / "landing" / "d1"
    (delivery / "ct" / "noise.dcm").write_bytes(np.random.default_rng(1).bytes(4096))
    (delivery / "ct" / "empty.dcm").touch()
    (delivery / "ct" / "README.txt").write_text("exported by the PACS", encoding="utf-8")
    whole = save(ct_slice("p00", "1.3.1"), delivery / "ct" / "cut.dcm").read_bytes()
    (delivery / "ct" / "cut.dcm").write_bytes(whole[:-32])
    (delivery / "ct" / "cut_in_header.dcm").write_bytes(whole[:300])
    report = ct_slice("p00", "1.3.2")
    report.SOPClassUID, report.Modality = EnhancedSRStorage, "SR"
    for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated"):
        delattr(report, keyword)
    save(report, delivery / "ct" / "report.dcm")
    (delivery / "ct" / "zz_copy.dcm").write_bytes((delivery / "ct" / "000.dcm").read_bytes())
    save(ct_slice("scan-only", "1.3.3"), delivery / "ct" / "stranger.dcm")
    latin = "mrn,id,body,stored\np00,n-latin,Übelkeit,2020-02-01 08:00\n".encode("latin-1")
    (delivery / "notes_latin.csv").write_bytes(latin)
    append(delivery / "notes.csv", "p00,n-untimed,,No time is given.")
    append(delivery / "rna.csv", "p-empty,,,")
    append(delivery / "outcomes.csv", "outcome-only,2020-03-01 12:00,yes")
    done = run(directory, "ingest")
    assert done.returncode == 0, done.stderr
    done = run(directory, "cohort")
    assert done.returncode == 0, done.stderr
    return directory


BAD_RECORDS = [
    ("ct", "ct/noise.dcm", "quarantined", "unreadable_file"),
    ("ct", "ct/empty.dcm", "quarantined", "unreadable_file"),
    ("ct", "ct/README.txt", "quarantined", "unreadable_file"),
    ("ct", "ct/cut.dcm", "quarantined", "truncated_file"),
    ("ct", "ct/cut_in_header.dcm", "quarantined", "truncated_file"),
    ("ct", "ct/report.dcm", "quarantined", "not_an_image"),
    ("ct", "ct/zz_copy.dcm", "duplicate", "identical_record"),
    ("notes", "notes_latin.csv", "quarantined", "unknown_encoding"),
    ("notes", "notes.csv#row 17", "quarantined", "missing_time"),
    ("rna", "rna.csv#row 17", "quarantined", "empty_row"),
]


@pytest.mark.parametrize(("source", "locator", "disposition", "reason_code"), BAD_RECORDS)
def test_a_bad_record_is_on_record_with_its_place_and_its_reason(
    messy: Path, source: str, locator: str, disposition: str, reason_code: str
) -> None:
    records = kept(messy, "records")
    found = records[(records["source"] == source) & (records["locator"] == locator)]
    assert found[["disposition", "reason_code"]].to_numpy().tolist() == [[disposition, reason_code]]
    sentence = found.iloc[0]["sentence"]
    assert sentence
    assert "p00" not in sentence


def test_every_record_has_a_fate_and_no_other_is_lost(messy: Path) -> None:
    counts = kept(messy, "counts").set_index("source")
    assert len(kept(messy, "records")) == len(BAD_RECORDS)
    by_source = counts[["found", "accepted", "duplicate", "superseded", "quarantined"]]
    assert by_source.to_dict("index") == {
        # 16 good slices, the stranger's, six that are none, one copy
        "ct": {"found": 24, "accepted": 17, "duplicate": 1, "superseded": 0, "quarantined": 6},
        # a file that does not decode counts as one record
        "notes": {"found": 18, "accepted": 16, "duplicate": 0, "superseded": 0, "quarantined": 2},
        "rna": {"found": 17, "accepted": 16, "duplicate": 0, "superseded": 0, "quarantined": 1},
        "covariates": {"found": 16, "accepted": 16, "duplicate": 0, "superseded": 0, "quarantined": 0},
        "outcomes": {"found": 17, "accepted": 17, "duplicate": 0, "superseded": 0, "quarantined": 0},
    }


def test_a_patient_in_one_source_alone_is_unlinked_or_left_out_and_counted(messy: Path) -> None:
    cohort = next((messy / "store" / "tasks" / "relapse" / "cohort").glob("*/cohort.parquet"))
    assert len(pd.read_parquet(cohort)) == N_PATIENTS
    flow = pd.read_parquet(cohort.with_name("flow.parquet")).set_index("name")
    steps = flow[["n_in", "n_out", "reason"]].apply(tuple, axis=1)
    assert steps["image: linked to a patient"] == (17, 16, "unlinked 1")
    assert steps["patients with a modality"] == (17, 16, "an outcome alone")
    links = pd.read_parquet(next((messy / "store" / "linked").glob("*/links.parquet")))
    stranger = links[links["source_patient_id"] == "scan-only"].iloc[0]
    assert (stranger["status"], stranger["patient_id"]) == ("unlinked", None)
    assert stranger["sentence"] == "the rule's answer is no patient of outcomes"


def test_what_the_command_prints_names_no_patient_and_quotes_no_note(messy: Path) -> None:
    shown = ""
    for stage in ("ingest", "cohort"):
        done = run(messy, stage)
        assert done.returncode == 0
        shown += done.stdout + done.stderr
    assert "unknown_encoding" in shown
    for secret in ("p00", "p-empty", "scan-only", "outcome-only", "Seen on the ward", "No time is given"):
        assert secret not in shown


# ---- the study file ----------------------------------------------------------------------------------------


def line_of(directory: Path, part: str) -> int:
    lines = (directory / "study.yaml").read_text(encoding="utf-8").splitlines()
    return next(i for i, line in enumerate(lines, 1) if part in line)


@pytest.mark.parametrize("stage", ["check", "ingest", "cohort", "train"])
def test_a_wrong_key_is_named_with_its_line_and_the_nearest_key(clinic: Path, stage: str) -> None:
    change(clinic / "study.yaml", "index_time: seen", "index_tme: seen")
    status, sentence = refused(clinic, stage)
    assert status == 2
    assert f"study.yaml:{line_of(clinic, 'index_tme')}: sources.outcomes.index_tme" in sentence
    assert "did you mean 'index_time'?" in sentence


def test_what_is_no_yaml_is_named_with_its_line(clinic: Path) -> None:
    append(clinic / "study.yaml", "broken: [1, 2")
    status, sentence = refused(clinic, "check")
    assert status == 2
    assert "study.yaml:" in sentence
    assert "is no YAML" in sentence


def test_a_study_file_that_is_not_there_says_how_to_write_one(tmp_path: Path) -> None:
    status, sentence = refused(tmp_path, "ingest")
    assert (status, "`clinical-mm init` writes one" in sentence) == (2, True)


def test_a_task_that_the_study_lacks_is_named_with_those_it_has(clinic: Path) -> None:
    status, sentence = refused(clinic, "cohort", "--task", "survival")
    assert (status, sentence) == (2, "the study has no task survival: its tasks are relapse")


# ---- deliveries --------------------------------------------------------------------------------------------


def test_a_missing_column_is_named_with_the_nearest_one(clinic: Path) -> None:
    change(clinic / "landing" / "d1" / "notes.csv", "mrn,id,stored", "mrn,id,stored_")
    expected = "there is no column 'stored': the file has mrn, id, stored_, body; did you mean 'stored_'?"
    status, sentence = refused(clinic, "ingest")
    assert (status, expected in sentence) == (4, True)
    status, sentence = refused(clinic, "check")
    assert (status, expected in sentence) == (2, True)
    assert f"study.yaml:{line_of(clinic, 'notes:')}:" in sentence


def test_a_delivery_that_does_not_exist_is_named_with_those_that_do(clinic: Path) -> None:
    status, sentence = refused(clinic, "ingest", "--delivery", "d7")
    assert status == 2
    assert "no delivery d7 in" in sentence
    assert sentence.endswith("there is d1")


def test_without_a_complete_delivery_it_says_what_makes_one(clinic: Path) -> None:
    (clinic / "landing" / "d1" / "_SUCCESS").unlink()
    status, sentence = refused(clinic, "ingest")
    assert status == 4
    assert sentence.endswith("one needs _SUCCESS, or 3600 s of quiet")


def test_without_a_landing_folder_it_says_to_make_one(clinic: Path) -> None:
    (clinic / "landing").rename(clinic / "elsewhere")
    status, sentence = refused(clinic, "ingest")
    assert (status, "make it, or name another under deliveries.landing" in sentence) == (4, True)


def test_an_encoding_that_does_not_exist_is_the_studys_fault_not_the_files(clinic: Path) -> None:
    change(clinic / "study.yaml", "text: body,", "text: body, table: {encoding: utf-9},")
    status, sentence = refused(clinic, "ingest")
    assert (status, "'utf-9' is no encoding that Python knows: see table.encoding" in sentence) == (4, True)


# ---- the store ---------------------------------------------------------------------------------------------


def test_a_store_that_cannot_be_written_is_a_sentence(clinic: Path) -> None:
    store = clinic / "store"
    if os.geteuid() == 0:  # rights do not bind root
        store.write_text("a file", encoding="utf-8")
    else:
        store.mkdir(mode=0o500)
    status, sentence = refused(clinic, "ingest")
    assert status == 3
    assert f"the store {store} cannot be written" in sentence
    assert "check `store` and its rights" in sentence


def test_a_damaged_pointer_says_what_to_remove(clinic: Path) -> None:
    assert run(clinic, "ingest").returncode == 0
    pointer = clinic / "store" / "deliveries" / "d1" / "notes" / "current.json"
    pointer.write_text("{", encoding="utf-8")
    status, sentence = refused(clinic, "cohort")
    assert (status, "remove it and run its stage again" in sentence) == (3, True)
    pointer.unlink()
    assert run(clinic, "ingest").returncode == 0
    assert run(clinic, "cohort").returncode == 0


# ---- stages in the wrong order -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "expected", "first"),
    [
        ("cohort", 6, "ingest"),
        pytest.param("train", 3, "cohort", marks=pytest.mark.slow),
        pytest.param("explain", 3, "train", marks=pytest.mark.slow),
        pytest.param("report", 3, "explain", marks=pytest.mark.slow),
    ],
)
def test_a_stage_before_the_one_it_needs_names_that_one(
    clinic: Path, stage: str, expected: int, first: str
) -> None:
    status, sentence = refused(clinic, stage)
    assert status == expected
    assert f"run `clinical-mm {first}` first" in sentence


@pytest.mark.slow
def test_evaluating_before_training_names_the_training(clinic: Path) -> None:
    status, sentence = refused(clinic, "evaluate")
    assert status == 3
    assert "run `clinical-mm train` first" in sentence


# ---- encoders ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "expected"),
    [
        ("./encoder", "there is no encoder directory"),
        ("someone/some-encoder", "it is unknown, or this machine is offline"),
    ],
)
def test_an_encoder_that_cannot_be_had_is_a_sentence(clinic: Path, encoder: str, expected: str) -> None:
    change(clinic / "study.yaml", "encoder: encoder,", f"encoder: {encoder},")
    status, sentence = refused(clinic, "check")
    assert (status, expected in sentence) == (2, True)
    assert f"study.yaml:{line_of(clinic, 'encoder:')}:" in sentence
    assert run(clinic, "ingest").returncode == 0
    assert run(clinic, "cohort").returncode == 0
    status, sentence = refused(clinic, "train")
    assert (status, expected in sentence) == (7, True)


# ---- interruption ------------------------------------------------------------------------------------------


def interrupted(directory: Path, *arguments: str, when: Callable[[], bool]) -> tuple[int, str]:
    """Ctrl-C at the moment at which `when` holds."""
    words, environment = command(directory, *arguments)
    process = subprocess.Popen(
        words,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job ignores Ctrl-C and hands that on: the tests may run as one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    try:
        deadline = time.monotonic() + 60
        while not when():
            assert process.poll() is None, "it had ended before it could be interrupted"
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "Traceback" not in errors, errors
    return process.returncode, " ".join(errors.split())


def files_of(store: Path) -> dict[str, bytes]:
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for path in store.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


@pytest.mark.parametrize("moment", ["reading headers", "decoding"])
def test_an_interrupted_ingest_is_a_sentence_and_the_next_run_carries_on(clinic: Path, moment: str) -> None:
    delivery, store = clinic / "landing" / "d1", clinic / "store"
    for i in range(300):  # long enough to be interrupted
        save(ct_slice(f"p{i % N_PATIENTS:02}", f"1.4.{i + 1}"), delivery / "ct" / f"more{i:03}.dcm")
    if moment == "decoding":
        status, sentence = interrupted(clinic, "ingest", when=lambda: any((store / "volumes").glob("*.npy")))
    else:
        lock = store / "locks" / "ingest-d1-imaging.lock"
        status, sentence = interrupted(clinic, "ingest", when=lock.exists)
    assert (status, sentence) == (1, "interrupted: the store is as it was; the same command carries on")

    left = files_of(store)
    assert not [name for name in left if ".writing-" in name or "scratch" in name]
    assert "deliveries/d1/notes/current.json" in left
    assert "deliveries/d1/imaging/current.json" not in left

    assert run(clinic, "ingest").returncode == 0
    carried_on = files_of(store)
    assert all(carried_on[name] == content for name, content in left.items())
    counts = kept(clinic, "counts").set_index("source")
    assert counts.loc["ct", ["found", "accepted"]].tolist() == [316, 316]
    assert run(clinic, "cohort").returncode == 0
