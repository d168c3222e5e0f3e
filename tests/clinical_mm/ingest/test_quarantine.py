"""The quarantine worked off: listed without touching data, shown without content, read again on request."""

import csv
import os
import shutil
from pathlib import Path
from typing import Any

import pydicom
import pytest

from clinical_mm import tables
from clinical_mm.cohort.current import ingest_fingerprints
from clinical_mm.errors import DeliveryError
from clinical_mm.ingest import run
from clinical_mm.ingest.delivery import find_delivery
from clinical_mm.ingest.quarantine import COLUMNS, DISPOSITIONS, describe, listing, not_accepted, write_csv
from clinical_mm.ingest.retry import retry_delivery
from clinical_mm.ingest.run import ingest_delivery, ingest_stage
from clinical_mm.store import Store, current
from clinical_mm.study.root import Study
from ingest_support import study_of, table_source

CT = Path(pydicom.data.__file__).parent / "test_files" / "CT_small.dcm"
SECRET = "Jane-Doe-4711"
TRUNCATED, DAMAGED = "scans/cut.dcm", "scans/bad#1.dcm"


def _study(directory: Path) -> Study:
    tables_of = {name: table_source(kind) for name, kind in (("labs", "clinical"), ("outcomes", "outcomes"))}
    scans = {"kind": "dicom", "path": "scans/*"}
    return study_of({"scans": scans, **tables_of}, "clinical").placed_in(directory)


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two deliveries: in the first two broken images, four bad rows, a bad cell, a duplicate; the second is whole."""
    directory = tmp_path_factory.mktemp("study")
    first, second = (directory / "landing" / name for name in ("d1", "d2"))
    (first / "scans").mkdir(parents=True)
    whole = CT.read_bytes()
    (first / TRUNCATED).write_bytes(whole[: len(whole) // 2])
    (first / DAMAGED).write_bytes(b"x" * len(whole))
    (first / "labs.csv").write_text(f"id,y\n{SECRET},1\n{SECRET},1\nb,1\nb,2\n,3\nc,1\nd,1\ne,1\nf,1\n,3\n")
    (first / "outcomes.csv").write_text(f"id,y\n{SECRET},1\nb,-1\n")
    second.mkdir()
    (second / "outcomes.csv").write_text("id,y\nc,1\n")
    study = _study(directory)
    for name in ("d1", "d2"):
        ingest_delivery(study, Store(study.store_path), find_delivery(study, name))
    return directory


@pytest.fixture
def study(ingested: Path, tmp_path: Path) -> Study:
    """A copy for the test, times of change kept; its store holds both deliveries."""
    shutil.copytree(ingested, tmp_path, dirs_exist_ok=True)
    return _study(tmp_path)


@pytest.fixture
def store(study: Study) -> Store:
    return Store(study.store_path)


def _bytes(store: Store) -> dict[str, bytes]:
    return {
        str(path.relative_to(store.root)): path.read_bytes()
        for path in sorted((store.root / "deliveries").rglob("*"))
        if path.is_file()
    }


def _locators(store: Store, **chosen: Any) -> list[str]:
    found: list[str] = not_accepted(store, **chosen)["locator"].to_pylist()
    return found


def test_what_is_in_quarantine_is_listed_with_its_delivery_stage_and_reason(store: Store) -> None:
    entries = not_accepted(store)
    assert entries.column_names == list(COLUMNS)
    rows = {tuple(e[c] for c in COLUMNS[:5]) for e in entries.to_pylist()}
    assert rows == {
        ("d1", "imaging", "scans", TRUNCATED, "quarantined"),
        ("d1", "imaging", "scans", DAMAGED, "quarantined"),
        ("d1", "clinical", "labs", "labs.csv#row 3", "quarantined"),
        ("d1", "clinical", "labs", "labs.csv#row 4", "quarantined"),
        ("d1", "clinical", "labs", "labs.csv#row 5", "quarantined"),
        ("d1", "clinical", "labs", "labs.csv#row 10", "quarantined"),
        ("d1", "outcomes", "outcomes", "outcomes.csv#row 2 y", "quarantined"),
    }
    assert all(entries["sentence"].to_pylist())


def test_deliveries_sources_reasons_and_fates_can_be_chosen(store: Store) -> None:
    assert _locators(store, deliveries=["d2"]) == []
    assert sorted(_locators(store, deliveries=["d1"], sources=["scans"])) == [DAMAGED, TRUNCATED]
    assert _locators(store, reasons=["conflicting_records"]) == ["labs.csv#row 3", "labs.csv#row 4"]
    assert _locators(store, sources=["scans"], reasons=["conflicting_records"]) == []
    assert _locators(store, dispositions=["duplicate"]) == ["labs.csv#row 2"]
    assert len(_locators(store, dispositions=DISPOSITIONS)) == len(_locators(store)) + 1


def test_no_table_but_the_ledger_is_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    read = tables.read_arrow
    seen = set()

    def spy(table: tables.Table, directory: Path, columns: list[str] | None = None) -> Any:
        seen.add((table.name, directory.parent.parent.name))
        return read(table, directory, columns)

    monkeypatch.setattr(tables, "read_arrow", spy)
    not_accepted(store, deliveries=["d1"])
    assert seen == {("records", "d1")}


def test_a_listing_counts_all_and_shows_as_many_as_asked(store: Store) -> None:
    summary = listing(not_accepted(store), limit=3)
    assert summary.facts == {"entries": 7, "listed": 3, "more": 4}
    assert len(summary.tables["entries"]) == 3
    counts = summary.tables["by delivery, source and reason"]
    assert counts["n"].sum() == 7
    assert counts.set_index(["source", "reason_code"])["n"]["labs", "conflicting_records"] == 2
    assert "disposition" not in counts
    everything = listing(not_accepted(store, dispositions=DISPOSITIONS), limit=10)
    fates = everything.tables["by delivery, source and reason"].groupby("disposition")["n"].sum()
    assert dict(fates) == {"quarantined": 7, "duplicate": 1}
    assert listing(not_accepted(store, deliveries=["d2"]), limit=3).tables == {}
    assert set(listing(not_accepted(store), limit=0).tables) == {"by delivery, source and reason"}


def test_a_file_named_to_steer_a_terminal_is_listed_and_found_by_an_escape(
    study: Study, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "landing" / "d2" / "scans").mkdir()
    (tmp_path / "landing" / "d2" / "scans" / "\x1b[2Jx\n").write_bytes(b"no image")
    ingest_stage(study, store, find_delivery(study, "d2"), "imaging")
    summary = listing(not_accepted(store, deliveries=["d2"]), limit=5)
    (printed,) = summary.tables["entries"]["locator"]
    assert printed == "scans/\\x1b[2Jx\\n"
    (shown,) = describe(study, store, printed)
    assert (shown.facts["file stands"], shown.facts["size_bytes"]) == ("yes", 8)
    assert all(str(value).isprintable() for value in shown.facts.values())


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("=1+1|cmd", "'=1+1|cmd"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "\\t=1"),
        ("\r=1", "\\r=1"),
        ("a\n=1", "a\\n=1"),
    ],
)
def test_a_file_named_as_a_formula_is_no_formula_in_the_csv(
    study: Study, store: Store, tmp_path: Path, name: str, written: str
) -> None:
    scans = {"kind": "dicom", "path": "*"}
    study = study_of({"scans": scans, "outcomes": table_source("outcomes")}, "image").placed_in(tmp_path)
    (tmp_path / "landing" / "d2" / name).write_bytes(b"no image")
    ingest_stage(study, store, find_delivery(study, "d2"), "imaging")
    entries = not_accepted(store, deliveries=["d2"])
    assert name in entries["locator"].to_pylist()
    assert write_csv(entries, tmp_path / "out.csv") == written.startswith("'")
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert written in [row["locator"] for row in rows]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows for cell in row.values())


def test_the_csv_holds_every_entry(store: Store, tmp_path: Path) -> None:
    entries = not_accepted(store, dispositions=DISPOSITIONS)
    assert write_csv(entries, tmp_path / "out.csv") == 0
    lines = (tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == ",".join(COLUMNS)
    assert len(lines) == 1 + entries.num_rows


# ---- one record --------------------------------------------------------------------------------------------


def test_a_record_is_shown_with_its_parts_and_its_file(study: Study, store: Store) -> None:
    (cell,) = describe(study, store, "outcomes.csv#row 2")
    file = study.landing_path / "d1" / "outcomes.csv"
    assert cell.stage == "entry 1 of 1"
    assert list(cell.facts.items()) == [
        ("delivery", "d1"),
        ("stage", "outcomes"),
        ("source", "outcomes"),
        ("locator", "outcomes.csv#row 2 y"),
        ("disposition", "quarantined"),
        ("reason_code", "out_of_range"),
        ("sentence", cell.facts["sentence"]),
        ("file", str(file)),
        ("file stands", "yes"),
        ("size_bytes", file.stat().st_size),
    ]
    (duplicate,) = describe(study, store, "labs.csv#row 2")
    assert duplicate.facts["disposition"] == "duplicate"


def test_of_a_file_all_its_rows_are_shown_and_row_1_is_not_row_10(study: Study, store: Store) -> None:
    shown = [str(s.facts["locator"]) for s in describe(study, store, "labs.csv")]
    assert sorted(shown, key=lambda locator: int(locator.split()[-1])) == [
        f"labs.csv#row {n}" for n in (2, 3, 4, 5, 10)
    ]
    with pytest.raises(DeliveryError):  # accepted
        describe(study, store, "labs.csv#row 1")


def test_a_locator_that_stands_in_several_deliveries_is_shown_of_each(
    study: Study, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "landing" / "d2" / "labs.csv").write_text("id,y\n" + ",1\n" * 3)
    ingest_stage(study, store, find_delivery(study, "d2"), "clinical")
    shown = describe(study, store, "labs.csv#row 3")
    assert [s.facts["delivery"] for s in shown] == ["d1", "d2"]
    assert len(describe(study, store, "labs.csv#row 3", ["d2"])) == 1


def test_a_file_that_has_gone_is_said_to_have_gone(study: Study, store: Store, tmp_path: Path) -> None:
    (shown,) = describe(study, store, DAMAGED)
    assert (shown.facts["file stands"], shown.facts["size_bytes"]) == ("yes", CT.stat().st_size)
    (tmp_path / "landing" / "d1" / DAMAGED).unlink()
    (shown,) = describe(study, store, DAMAGED)
    assert str(shown.facts["file stands"]).startswith("no")
    assert "size_bytes" not in shown.facts


def test_a_locator_of_nothing_on_record_is_an_error_that_does_not_repeat_it(
    study: Study, store: Store
) -> None:
    with pytest.raises(DeliveryError, match="nothing is on record") as caught:
        describe(study, store, f"{SECRET}.dcm")
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(DeliveryError):
        describe(study, store, TRUNCATED, ["d2"])


# ---- reading again -----------------------------------------------------------------------------------------


def _mend(path: Path, *, keeps_its_time: bool) -> None:
    about = path.stat()
    shutil.copyfile(CT, path)
    if keeps_its_time:
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


@pytest.mark.parametrize(("locator", "keeps_its_time"), [(TRUNCATED, False), (DAMAGED, True)])
def test_an_image_mended_in_place_leaves_the_quarantine(
    study: Study, store: Store, locator: str, *, keeps_its_time: bool
) -> None:
    delivery = find_delivery(study, "d1")
    _mend(delivery.path / locator, keeps_its_time=keeps_its_time)
    if keeps_its_time:  # of the same size too: ingest cannot see it
        assert ingest_stage(study, store, delivery, "imaging").is_unchanged
    summary = retry_delivery(study, store, delivery)
    assert summary.facts == {"delivery": "d1", "left the quarantine": 1, "new in it": 0, "in quarantine": 6}
    by_source = summary.tables["by source"].set_index("source")
    assert list(by_source.loc["scans"]) == [2, 1, 0, 1, 1]
    assert locator not in _locators(store)
    assert {c.name for c in summary.checks} == {"conservation"}
    assert not summary.failed_checks
    assert not summary.is_unchanged
    path = current(store.delivery("d1", "imaging"))
    assert path is not None
    (counts,) = tables.read_table(tables.COUNTS, path).to_dict("records")
    assert (counts["found"], counts["accepted"], counts["quarantined"]) == (2, 1, 1)
    assert list(tables.read_table(tables.SERIES, path)["locator"]) == [locator]


def test_later_stages_see_what_a_retry_changed_and_ingest_reads_nothing_again(
    study: Study, store: Store
) -> None:
    delivery = find_delivery(study, "d1")
    before = ingest_fingerprints(store)
    _mend(delivery.path / DAMAGED, keeps_its_time=True)
    retry_delivery(study, store, delivery)
    after = ingest_fingerprints(store)
    assert {name for name in before if before[name] != after[name]} == {"d1/imaging"}
    assert all(s.is_unchanged for s in ingest_delivery(study, store, delivery))
    assert ingest_fingerprints(store) == after
    os.utime(delivery.path / DAMAGED)
    assert not ingest_stage(study, store, delivery, "imaging").is_unchanged


def test_a_retry_that_changes_nothing_leaves_the_store_to_the_byte(study: Study, store: Store) -> None:
    before = _bytes(store)
    summary = retry_delivery(study, store, find_delivery(study, "d1"))
    assert summary.is_unchanged
    assert (summary.facts["left the quarantine"], summary.facts["new in it"]) == (0, 0)
    assert _bytes(store) == before
    _mend(study.landing_path / "d1" / DAMAGED, keeps_its_time=True)
    retry_delivery(study, store, find_delivery(study, "d1"))
    before = _bytes(store)
    assert retry_delivery(study, store, find_delivery(study, "d1")).is_unchanged
    assert _bytes(store) == before


def test_only_stages_that_hold_something_in_quarantine_are_read_again(
    study: Study, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = run.read_source
    read = []

    def spy(name: str, *rest: Any) -> Any:
        read.append(name)
        return real(name, *rest)

    monkeypatch.setattr(run, "read_source", spy)
    assert retry_delivery(study, store, find_delivery(study, "d2")).tables == {}
    assert read == []
    retry_delivery(study, store, find_delivery(study, "d1"))
    assert read == ["scans", "labs", "outcomes"]


def test_what_a_retry_finds_broken_is_new_in_quarantine(study: Study, store: Store) -> None:
    path = study.landing_path / "d1" / "outcomes.csv"
    path.write_text(f"id,y\n{SECRET},1\nb,1\n,1\n")
    summary = retry_delivery(study, store, find_delivery(study, "d1"))
    assert (summary.facts["left the quarantine"], summary.facts["new in it"]) == (1, 1)
    assert "outcomes.csv#row 3" in _locators(store)


def test_a_retry_that_fails_leaves_the_store_as_it_was(study: Study, store: Store) -> None:
    before = _bytes(store)
    (study.landing_path / "d1" / "labs.csv").write_text(f"id,z\n{SECRET},1\n")
    with pytest.raises(DeliveryError) as caught:
        retry_delivery(study, store, find_delivery(study, "d1"))
    assert SECRET not in str(caught.value)
    assert _bytes(store) == before


def test_nothing_that_is_listed_shown_or_read_again_names_a_patient(study: Study, store: Store) -> None:
    entries = not_accepted(store, dispositions=DISPOSITIONS)
    summaries = [listing(entries, 100), retry_delivery(study, store, find_delivery(study, "d1"))]
    summaries += [s for locator in ("labs.csv", "outcomes.csv") for s in describe(study, store, locator)]
    told = "".join(
        [*(str(s) for s in summaries), *(t.to_csv() for s in summaries for t in s.tables.values())]
    )
    assert "conflicting_records" in told
    assert SECRET not in told + str(entries.to_pylist())
