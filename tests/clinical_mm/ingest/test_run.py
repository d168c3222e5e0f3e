"""Ingest of whole deliveries: every record of every source has one fate, and doing it again changes nothing."""

import json
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pydicom
import pytest

from clinical_mm import tables
from clinical_mm.errors import DeliveryError, StoreError
from clinical_mm.ingest import run, source_reading
from clinical_mm.ingest.delivery import Delivery, find_delivery
from clinical_mm.ingest.ledger import Ledger
from clinical_mm.ingest.omop import NOTE_COLUMNS
from clinical_mm.ingest.run import ingest_delivery, ingest_stage
from clinical_mm.store import Store
from clinical_mm.study.root import Study
from clinical_mm.study.sources import STAGES, OutcomesSource
from clinical_mm.summary import StageSummary
from ingest_support import study_of, table_source

NAME = "2026-01-05"
CT = Path(pydicom.data.__file__).parent / "test_files" / "CT_small.dcm"
SOURCES: dict[str, dict[str, Any]] = {
    "letters": {
        "kind": "notes_table",
        "path": "letters.csv",
        "patient_id": "id",
        "text": "text",
        "note_id": "note",
        "available_time": "time",
    },
    "documents": {"kind": "notes_fhir", "path": "fhir/*.ndjson"},
    "reports": {
        "kind": "notes_files",
        "path": "reports/*",
        "manifest": "manifest.csv",
        "file": "path",
        "patient_id": "id",
        "is_timeless": True,
    },
    "warehouse": {"kind": "notes_omop", "path": "omop.sqlite"},
    "scans": {"kind": "dicom", "path": "scans/**/*"},
    "expression": {"kind": "genomics_matrix", "path": "expression/*.csv", "samples": "rows"},
    "mutations": {"kind": "genomics_maf", "path": "*.maf", "sequenced": "sequenced.txt"},
    "labs": table_source("clinical"),
    "outcomes": table_source("outcomes"),
}
STAGE_OF = {
    "letters": "notes",
    "documents": "notes",
    "reports": "notes",
    "warehouse": "notes",
    "scans": "imaging",
    "expression": "genomics",
    "mutations": "genomics",
    "labs": "clinical",
    "outcomes": "outcomes",
}
EXPECTED = {  # found, accepted, duplicate, superseded, quarantined: counted in the files below by hand
    "letters": (6, 2, 1, 1, 2),
    "documents": (3, 1, 0, 0, 2),
    "reports": (4, 1, 1, 0, 2),
    "warehouse": (2, 1, 0, 0, 1),
    "scans": (3, 1, 1, 0, 1),
    "expression": (6, 2, 1, 0, 3),
    "mutations": (4, 2, 1, 0, 1),
    "labs": (5, 1, 1, 0, 3),
    "outcomes": (3, 2, 0, 0, 1),
}
SECRET = "Jane-Doe-4711"


def _resource(note: str, **elements: Any) -> str:
    attachment = {"contentType": "text/plain", "data": "Tm8gY2hhbmdlLg=="}
    resource = {
        "resourceType": "DocumentReference",
        "id": note,
        "status": "current",
        "subject": {"reference": f"Patient/{SECRET}"},
        "date": "2024-01-05T10:00:00Z",
        "content": [{"attachment": attachment}],
        **elements,
    }
    return json.dumps(resource) + "\n"


def _write_delivery(folder: Path) -> None:
    folder.mkdir(parents=True)
    letters = (
        *("id,note,time,text", f"{SECRET},1,2024-01-05,first", f"{SECRET},1,2024-01-05,first"),
        *("b,2,2024-01-05,old", "b,2,2024-01-06,new", "c,3,,no time", "d,4,2024-01-05"),
    )
    (folder / "letters.csv").write_text("\n".join(letters) + "\n")
    (folder / "fhir").mkdir()
    documents = _resource("1") + _resource("2", status="banana") + "no json\n"
    (folder / "fhir" / "d.ndjson").write_text(documents)
    (folder / "reports").mkdir()
    (folder / "reports" / "1.rtf").write_text(r"{\rtf1 one}")
    (folder / "reports" / "2.txt").write_text("two")
    manifest = ("path,id", *2 * [f"reports/1.rtf,{SECRET}"], "reports/3.txt,b")
    (folder / "manifest.csv").write_text("\n".join(manifest) + "\n")
    connection = sqlite3.connect(folder / "omop.sqlite")
    connection.execute(f"CREATE TABLE note ({', '.join(NOTE_COLUMNS)})")
    notes = [(1, SECRET, "2024-01-05", None, 0, None, "stored"), (2, None, "2024-01-05", None, 0, None, "x")]
    connection.executemany("INSERT INTO note VALUES (?, ?, ?, ?, ?, ?, ?)", notes)
    connection.commit()
    connection.close()
    (folder / "scans" / "deep").mkdir(parents=True)
    shutil.copy(CT, folder / "scans" / "a")
    shutil.copy(CT, folder / "scans" / "deep" / "b")
    (folder / "scans" / "c").write_text("no image")
    (folder / "expression").mkdir()
    (folder / "expression" / "1.csv").write_text(f"sample,A,B\n{SECRET},1,2\nx,,NA\ny,1\nz,3,\n")
    (folder / "expression" / "2.csv").write_text("sample,A,C\nz,3,\n")
    (folder / "expression" / "3.csv").write_bytes(b"sample,A\n\xff,1\n")
    maf = (
        *("#version 2.4", "Hugo_Symbol\tVariant_Classification\tTumor_Sample_Barcode"),
        *("VHL\tMissense_Mutation\tx", "VHL\tMissense_Mutation\tx", "KIT\tSilent\ty", "KIT\tSilent\t"),
    )
    (folder / "m.maf").write_text("\n".join(maf) + "\n")
    (folder / "sequenced.txt").write_text(f"x\ny\n{SECRET}\n")
    (folder / "labs.csv").write_text("id,y\na,1\na,1\nb,1\nb,2\n,3\n")
    (folder / "outcomes.csv").write_text(f"id,y\n{SECRET},1\nb,-1\n,3\n")
    (folder / "_SUCCESS").touch()


def _study(directory: Path, **changes: dict[str, Any]) -> Study:
    sources = {name: {**source, **changes.get(name, {})} for name, source in SOURCES.items()}
    return study_of(sources, "clinical").placed_in(directory)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    _write_delivery(tmp_path / "landing" / NAME)
    return _study(tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def delivery(study: Study) -> Delivery:
    return find_delivery(study, NAME)


def _files(root: Path) -> dict[str, bytes]:
    """Every file that ingest made, without the random part of a snapshot's name, and the pointer to it."""
    files = {}
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if path.is_file() and "locks" not in parts and path.name != "current.json":
            files["/".join(p.split("-")[0] if len(p) == 25 else p for p in parts)] = path.read_bytes()
    return files


def _bytes(path: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in path.iterdir()}


def _counts(summaries: list[StageSummary]) -> dict[str, tuple[int, ...]]:
    counts = pd.concat([s.tables["counts"] for s in summaries])
    fates = counts[["found", "accepted", "duplicate", "superseded", "quarantined"]]
    return dict(zip(counts["source"], fates.itertuples(index=False, name=None), strict=True))


def test_every_record_of_every_source_has_the_fate_that_was_counted_by_hand(
    study: Study, store: Store, delivery: Delivery
) -> None:
    summaries = ingest_delivery(study, store, delivery)
    assert [s.stage for s in summaries] == [f"ingest {stage}" for stage in STAGES]
    counts = _counts(summaries)
    assert counts == EXPECTED
    for found, *fates in counts.values():
        assert found == sum(fates)
    assert all(not s.failed_checks and s.checks[0].name == "conservation" for s in summaries)
    assert not any(s.is_unchanged for s in summaries)
    for summary in summaries:
        records = tables.read_table(tables.RECORDS, summary.path)
        is_cell = records["locator"].str.contains(" y$")  # the value of an outcome, not the row
        told = records[~is_cell].groupby(["source", "disposition"]).size()
        for source in summary.tables["counts"]["source"]:
            _, _, *others = EXPECTED[source]
            fates = ("duplicate", "superseded", "quarantined")
            assert [told.get((source, fate), 0) for fate in fates] == others


def test_what_was_accepted_stands_in_the_tables_and_its_values_beside_it(
    study: Study, store: Store, delivery: Delivery
) -> None:
    paths = {s.stage.removeprefix("ingest "): s.path for s in ingest_delivery(study, store, delivery)}
    notes = tables.read_table(tables.NOTES, paths["notes"])
    assert sorted(notes["text"]) == ["No change.", "first", "new", "one", "stored"]
    samples = tables.read_table(tables.GENOMIC_SAMPLES, paths["genomics"])
    for source in ("expression", "mutations"):
        values = pq.read_table(paths["genomics"] / f"genomics_{source}.parquet")
        of_source = samples[samples["source"] == source]
        assert values["sample_id"].to_pylist() == list(of_source["sample_id"])
    assert set(of_source["sample_id"]) == {"x", "y", SECRET}
    series = tables.read_table(tables.SERIES, paths["imaging"])
    assert (store.root / series["volume"][0]).is_file()
    assert len(tables.read_table(tables.CLINICAL, paths["clinical"])) == 1
    assert len(tables.read_table(tables.OUTCOMES, paths["outcomes"])) == 2


def test_the_same_delivery_again_does_nothing_and_says_so(
    study: Study, store: Store, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ingest_delivery(study, store, delivery)
    before = _files(store.root)

    def never(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(run, "read_source", never)
    again = ingest_delivery(study, store, delivery)
    assert all(s.is_unchanged for s in again)
    assert [s.path for s in again] == [s.path for s in first]
    assert _counts(again) == EXPECTED
    assert _files(store.root) == before


def test_the_same_files_in_another_place_give_the_same_bytes(
    study: Study, store: Store, delivery: Delivery, tmp_path: Path
) -> None:
    ingest_delivery(study, store, delivery)
    copy = tmp_path / "elsewhere"
    shutil.copytree(tmp_path / "landing", copy / "landing", copy_function=shutil.copy2)
    other = Store(copy / "store")
    ingest_delivery(_study(copy), other, Delivery(NAME, copy / "landing" / NAME))
    files = _files(store.root)
    assert _files(other.root) == files
    assert sum(path.endswith(".parquet") for path in files) == 5 * 3 + 3


def test_files_that_were_only_touched_are_read_again_to_the_same_bytes(
    study: Study, store: Store, delivery: Delivery
) -> None:
    first = ingest_delivery(study, store, delivery)
    before = [_bytes(s.path) for s in first]
    for path in delivery.path.rglob("*"):
        if path.is_file():
            os.utime(path, (1000.0, 1000.0))
    again = ingest_delivery(study, store, delivery)
    assert not any(s.is_unchanged for s in again)
    assert [_bytes(s.path) for s in again] == before
    assert not any(s.path.exists() for s in first)  # only the current snapshot is kept


@pytest.mark.parametrize("stage", [s for s in STAGES if s != "imaging"])
def test_reading_a_stage_anew_gives_the_same_bytes(
    study: Study, store: Store, delivery: Delivery, stage: str
) -> None:
    first = ingest_stage(study, store, delivery, stage)
    before = _bytes(first.path)
    shutil.rmtree(first.path)  # someone cleaned up
    again = ingest_stage(study, store, delivery, stage)
    assert not again.is_unchanged
    assert _bytes(again.path) == before


def test_only_the_stage_whose_files_changed_is_read_again(
    study: Study, store: Store, delivery: Delivery
) -> None:
    stages = ["genomics", "clinical", "outcomes"]
    for stage in stages:
        ingest_stage(study, store, delivery, stage)
    (delivery.path / "labs.csv").write_text("id,y\na,1\n")
    unchanged = {stage: ingest_stage(study, store, delivery, stage).is_unchanged for stage in stages}
    assert unchanged == {"genomics": True, "clinical": False, "outcomes": True}
    (delivery.path / "sequenced.txt").write_text("x\n")  # no source's path, and still read
    unchanged = {stage: ingest_stage(study, store, delivery, stage).is_unchanged for stage in stages}
    assert unchanged == {"genomics": False, "clinical": True, "outcomes": True}


def test_another_setting_of_the_source_reads_its_stage_again(
    study: Study, store: Store, delivery: Delivery, tmp_path: Path
) -> None:
    ingest_stage(study, store, delivery, "outcomes")
    other = _study(tmp_path, outcomes={"variables": {"y": {"minimum": -5}}})
    summary = ingest_stage(other, store, delivery, "outcomes")
    assert not summary.is_unchanged
    assert -1.0 in list(tables.read_table(tables.OUTCOMES, summary.path)["value_number"])


def test_a_delivery_that_brings_nothing_gives_empty_tables_and_counts_of_zero(
    study: Study, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "landing" / "2026-02-01").mkdir()
    summaries = ingest_delivery(study, store, find_delivery(study, "2026-02-01"))
    assert _counts(summaries) == dict.fromkeys(EXPECTED, (0, 0, 0, 0, 0))
    assert not any(s.failed_checks for s in summaries)


def test_a_reader_that_loses_a_record_fails_the_check(
    study: Study, store: Store, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = source_reading.read_outcomes

    def forgetful(
        name: str, source: OutcomesSource, delivery: Delivery, files: list[Path], ledger: Ledger
    ) -> pd.DataFrame:
        ledger.found()
        return real(name, source, delivery, files, ledger)

    monkeypatch.setattr(source_reading, "read_outcomes", forgetful)
    summary = ingest_stage(study, store, delivery, "outcomes")
    assert [c.name for c in summary.failed_checks] == ["conservation"]
    assert summary.failed_checks[0].sentence == "4 records found, 3 of known fate"
    # also when it is asked for again, and nothing is read
    assert ingest_stage(study, store, delivery, "outcomes").failed_checks


def _without_a_column(folder: Path) -> dict[str, Any]:
    (folder / "labs.csv").write_text(f"id,z\n{SECRET},1\n")
    return {}


def _without_the_list(folder: Path) -> dict[str, Any]:
    (folder / "sequenced.txt").unlink()
    return {}


def _with_no_encoding(_: Path) -> dict[str, Any]:
    return {"labs": {"table": {"encoding": "utf-99"}}}


def _with_a_bad_pattern(_: Path) -> dict[str, Any]:
    return {"labs": {"path": "a**b/*.csv"}}


def _with_a_path_outside(_: Path) -> dict[str, Any]:
    return {"labs": {"path": "../*.csv"}}


@pytest.mark.parametrize(
    ("spoil", "stage", "message"),
    [
        (_without_a_column, "clinical", "source labs: there is no column 'y': the file has id, z"),
        (_without_the_list, "genomics", "source mutations: .* no list of sequenced samples"),
        (_with_no_encoding, "clinical", "source labs: 'utf-99' is no encoding"),
        (_with_a_path_outside, "clinical", "leads out of the delivery"),
        (_with_a_bad_pattern, "clinical", "'a\\*\\*b/\\*.csv' is no glob pattern"),
    ],
)
def test_what_makes_a_delivery_unusable_is_one_sentence_and_the_snapshot_before_stays(
    tmp_path: Path, spoil: Callable[[Path], dict[str, Any]], stage: str, message: str
) -> None:
    study, store = _study(tmp_path), Store(tmp_path / "store")
    _write_delivery(tmp_path / "landing" / NAME)
    delivery = find_delivery(study, NAME)
    before = ingest_stage(study, store, delivery, stage)
    content = _bytes(before.path)
    changes = spoil(delivery.path)
    with pytest.raises(DeliveryError, match=message) as caught:
        ingest_stage(_study(tmp_path, **changes), store, delivery, stage)
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)
    assert _bytes(before.path) == content
    assert [p.name for p in store.delivery(NAME, stage).iterdir() if p.is_dir()] == [before.path.name]


def test_a_file_in_another_encoding_is_quarantined_and_not_guessed(
    study: Study, store: Store, delivery: Delivery, tmp_path: Path
) -> None:
    (delivery.path / "labs.csv").write_bytes("id,y\nMüller,1\n".encode("latin-1"))
    summary = ingest_stage(study, store, delivery, "clinical")
    assert list(summary.tables["quarantined by reason"].itertuples(index=False, name=None)) == [
        ("labs", "unknown_encoding", 1)
    ]
    declared = _study(tmp_path, labs={"table": {"encoding": "latin-1"}})
    summary = ingest_stage(declared, store, delivery, "clinical")
    assert list(tables.read_table(tables.CLINICAL, summary.path)["source_patient_id"]) == ["Müller"]


def test_a_delivery_that_has_gone_and_a_stage_that_is_none_are_errors(
    study: Study, store: Store, delivery: Delivery
) -> None:
    with pytest.raises(DeliveryError, match="no ingest stage 'cohort'"):
        ingest_stage(study, store, delivery, "cohort")
    shutil.rmtree(delivery.path)
    with pytest.raises(DeliveryError, match=f"{NAME} is no longer in the landing folder"):
        ingest_stage(study, store, delivery, "outcomes")
    assert not store.delivery(NAME, "outcomes").exists()


def test_two_runs_of_the_same_stage_exclude_each_other_and_of_others_do_not(
    study: Study, store: Store, delivery: Delivery
) -> None:
    with store.lock(f"ingest-{NAME}-outcomes"):
        with pytest.raises(StoreError, match="another run"):
            ingest_stage(study, store, delivery, "outcomes")
        ingest_stage(study, store, delivery, "clinical")
    ingest_stage(study, store, delivery, "outcomes")


def test_neither_log_nor_summary_nor_record_names_a_patient(
    study: Study, store: Store, delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        summaries = ingest_delivery(study, store, delivery)
    told = [caplog.text, *(str(s.facts) for s in summaries)]
    told += [frame.to_csv() for s in summaries for frame in s.tables.values()]
    told += [tables.read_table(tables.RECORDS, s.path).to_csv() for s in summaries]
    assert "ingested notes of delivery" in caplog.text
    assert not [text for text in told if SECRET in text or "No change" in text]
