"""The cohort as files: repeatable, complete, and as wrong as its truth says."""

import hashlib
from collections import Counter
from pathlib import Path

import pytest

from clinical_mm.study.file import load_study
from clinical_mm.synthetic.cohort import add_second_delivery, generate_cohort
from clinical_mm.synthetic.truth import GroundTruth

BOTH = ("2026-01-05", "2026-02-02")


def _bytes_of(directory: Path) -> dict[str, str]:
    paths = sorted(p for p in directory.rglob("*") if p.is_file())
    return {p.relative_to(directory).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def test_a_seed_always_gives_the_same_bytes_and_another_seed_others(tmp_path):
    generate_cohort(tmp_path / "a", seed=1, n_patients=40, second_delivery=True)
    generate_cohort(tmp_path / "b", seed=1, n_patients=40)
    add_second_delivery(tmp_path / "b")
    generate_cohort(tmp_path / "c", seed=2, n_patients=40)

    first, again, other = (_bytes_of(tmp_path / name) for name in "abc")

    assert first == again
    shared = [p for p in first if p in other and not p.endswith(("study.yaml", "_SUCCESS", "README.txt"))]
    assert shared
    assert all(first[p] != other[p] for p in shared)


def test_nothing_is_overwritten(tmp_path):
    generate_cohort(tmp_path, n_patients=40)
    before = _bytes_of(tmp_path)
    with pytest.raises(FileExistsError):
        generate_cohort(tmp_path, n_patients=40)
    assert _bytes_of(tmp_path) == before


@pytest.mark.parametrize("n_patients", [0, 39, 3001])
def test_a_cohort_too_small_or_too_large_is_refused(tmp_path, n_patients):
    with pytest.raises(ValueError, match="n_patients"):
        generate_cohort(tmp_path, n_patients=n_patients)
    assert not list(tmp_path.iterdir())


def test_the_study_file_is_valid_and_its_paths_match_files_of_every_delivery(files):
    study = load_study(files.directory / "study.yaml")
    for name in BOTH:
        for source in study.sources.values():
            assert list(files.delivery(name).glob(source.path)), (name, source.path)
    assert set(study.tasks) == {"relapse", "survival"}


def test_the_truth_survives_being_written(files):
    assert GroundTruth.read(files.directory) == files.truth


@pytest.mark.parametrize("delivery", BOTH)
def test_as_many_records_lie_in_the_files_as_the_truth_counts(files, delivery):
    folder = files.delivery(delivery)
    maf = [
        line
        for line in (folder / "genomics" / "mutations.maf").read_text().splitlines()
        if not line.startswith(("#", "Hugo_Symbol"))
    ]
    found = {
        # a file that does not decode is one record
        "letters": len(files.rows("notes/letters.csv", delivery)) + (delivery == BOTH[0]),
        "referrals": len(files.rows("notes/referrals.csv", delivery, delimiter=";", encoding="latin-1")),
        "documents": sum(len(p.read_bytes().splitlines()) for p in folder.glob("fhir/*.ndjson")),
        "imaging": sum(p.is_file() for p in folder.glob("imaging/**/*")),
        "expression": len(files.rows("genomics/expression.tsv", delivery, delimiter="\t")),
        "mutations": len(maf),
        "clinical": len(files.rows("clinical/covariates.csv", delivery)),
        "outcomes": len(files.rows("outcomes/outcomes.csv", delivery)),
    }
    assert found == {source: tally.found for source, tally in files.truth.counts[delivery].items()}
    for tally in files.truth.counts[delivery].values():
        assert tally.found == (
            tally.accepted + tally.duplicate + tally.superseded + tally.quarantined.total()
        )


def test_about_one_patient_in_seven_misses_each_of_text_image_and_genomics(files):
    for modality in ("text", "image", "genomics"):
        missing = sum(modality not in p.modalities for p in files.truth.patients.values())
        assert 0.1 < missing / len(files.truth.patients) < 0.2


def test_ids_keep_their_leading_zeros_in_every_file(files):
    ids = set(files.truth.patients)
    assert all(len(i) == 4 for i in ids)
    assert sum(i.startswith("0") for i in ids) > 10
    assert {r["mrn"] for r in files.rows("outcomes/outcomes.csv")} >= {
        i for i, p in files.truth.patients.items() if p.delivery == "2026-01-05"
    }
    subjects = {r["subject"]["reference"] for r in files.resources() if "subject" in r}
    assert subjects <= {f"Patient/{i}" for i in ids}


def test_every_record_of_the_pacs_has_a_foreign_id_that_only_the_crosswalk_explains(files):
    crosswalk: dict[str, set[str]] = {}
    for delivery in BOTH:
        for row in files.rows("crosswalk.csv", delivery):
            crosswalk.setdefault(row["pacs_id"], set()).add(row["mrn"])
    of_series = {uid: slices[0].PatientID for uid, slices in files.series.items()}
    assert all(i.startswith("RAD") for i in of_series.values())
    for patient in files.truth.patients.values():
        if patient.series_instance_uid:
            assert crosswalk[of_series[patient.series_instance_uid]] == {patient.patient_id}
    unknown = {i for i in of_series.values() if not crosswalk.get(i, set()) & set(files.truth.patients)}
    assert unknown == set(files.truth.unlinked["imaging"])
    assert {i for i, mrns in crosswalk.items() if len(mrns) > 1} == set(files.truth.ambiguous["imaging"])


def test_the_second_delivery_brings_new_patients_late_outcomes_and_corrections(files):
    before = {r["mrn"]: r["relapse"] for r in files.rows("outcomes/outcomes.csv")}
    later = {r["mrn"]: r["relapse"] for r in files.rows("outcomes/outcomes.csv", "2026-02-02")}
    known = {"yes": True, "no": False, "": None}
    kinds = Counter(
        "new" if i not in before else "corrected" if before[i] in ("yes", "no") else "late" for i in later
    )
    assert kinds == {"new": 15, "corrected": 2, "late": kinds["late"]}
    assert kinds["late"] >= 1
    assert sum(v == "" for v in later.values()) == 5
    assert all(files.truth.patients[i].relapse is known[value] for i, value in later.items())
    assert all(before[i] != later[i] for i in later if i in before)
