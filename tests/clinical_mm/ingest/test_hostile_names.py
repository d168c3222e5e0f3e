"""What a delivery calls its files, and what it puts where a file was expected, is never trusted with a path."""

import contextlib
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from clinical_mm import tables
from clinical_mm.errors import DeliveryError
from clinical_mm.ingest import delivery as delivery_module
from clinical_mm.ingest.delivery import Delivery, files_of_pattern, find_delivery
from clinical_mm.ingest.run import ingest_delivery, ingest_stage
from clinical_mm.store import Store
from clinical_mm.study.root import Study
from clinical_mm.summary import StageSummary
from ingest_support import study_of, table_source

CT = Path(pydicom.data.__file__).parent / "test_files" / "CT_small.dcm"
LABS = "id,y\na,1\n"
HOSTILE = {
    "newline": b"a\nb",
    "escape": b"\x1b]0;x\x07",
    "no_utf8": b"\xff\xfe\x80",
    "surrogate": b"\xed\xa0\x80",
    "dots": b"..x",
    "hash": b"a#row 1",
    "percent": b"%2e%2e%2fetc",
    "backslash": b"..\\..\\x",
    "blank": b" ",
    "glob": b"[a]*?",
    "longest": b"n" * 250,
    "right_to_left": "a\u202egnp.csv".encode(),
}


def _study(folder: Path) -> Study:
    (folder / "landing" / "d1").mkdir(parents=True)
    labs = {**table_source("clinical"), "path": "labs/*"}
    notes = {"kind": "notes_fhir", "path": "fhir/*"}
    scans = {"kind": "dicom", "path": "scans/**/*", "is_timeless": True}
    sources = {"labs": labs, "outcomes": table_source("outcomes"), "scans": scans, "notes": notes}
    return study_of(sources, "clinical").placed_in(folder)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return _study(tmp_path)


@pytest.fixture
def store(study: Study) -> Store:
    return Store(study.store_path)


def _put(study: Study, folder: str, name: bytes, content: bytes) -> Path:
    path = os.path.join(os.fsencode(study.landing_path / "d1" / folder), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)
    return Path(os.fsdecode(path))


def _outside(study: Study, root: Path) -> set[Path]:
    """Everything that lies neither in the store nor in the landing folder."""
    inside = (study.store_path, study.landing_path)
    return {p for p in root.rglob("*") if not any(p.is_relative_to(i) for i in inside)}


def _found(summaries: list[StageSummary]) -> int:
    assert not any(s.failed_checks for s in summaries)
    return sum(int(s.tables["counts"]["found"].sum()) for s in summaries)


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_file_of_any_name_is_read_and_found_again_and_nothing_is_written_outside_the_store(
    study: Study, store: Store, tmp_path: Path, name: bytes
) -> None:
    _put(study, "labs", name, LABS.encode())
    _put(study, "scans", name, CT.read_bytes())
    _put(study, "fhir", name, b"no json\n")
    before = _outside(study, tmp_path)
    delivery = find_delivery(study, "d1")
    summaries = {s.stage.removeprefix("ingest "): s for s in ingest_delivery(study, store, delivery)}
    assert _found(list(summaries.values())) == 3
    labs = tables.read_table(tables.CLINICAL, summaries["clinical"].path)
    printed = name.decode("utf-8", "backslashreplace")
    assert list(labs["locator"]) == [f"labs/{printed}#row 1"]
    series = tables.read_table(tables.SERIES, summaries["imaging"].path)
    assert list(series["locator"]) == [f"scans/{printed}"]
    assert list(tables.read_table(tables.RECORDS, summaries["notes"].path)["reason_code"]) == [
        "malformed_json"
    ]
    assert _outside(study, tmp_path) == before
    assert all(s.is_unchanged for s in ingest_delivery(study, store, delivery))


def test_names_that_differ_in_case_alone_are_two_files(study: Study, store: Store) -> None:
    _put(study, "labs", b"a.csv", b"id,y\na,1\n")
    _put(study, "labs", b"A.csv", b"id,y\nb,2\n")
    summary = ingest_stage(study, store, find_delivery(study, "d1"), "clinical")
    labs = tables.read_table(tables.CLINICAL, summary.path)
    assert dict(zip(labs["locator"], labs["value_number"], strict=True)) == {
        "labs/a.csv#row 1": 1.0,
        "labs/A.csv#row 1": 2.0,
    }


@pytest.mark.parametrize("uid", ["../../x", "/etc/passwd", "..\\x", "1.2/../../../x", "a\nb", "con", "."])
def test_a_uid_is_no_path(study: Study, store: Store, tmp_path: Path, uid: str) -> None:
    with pydicom.config.disable_value_validation():
        dataset = pydicom.dcmread(CT)
        for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID"):
            setattr(dataset, keyword, uid)
        dataset.file_meta.MediaStorageSOPInstanceUID = uid
        (study.landing_path / "d1" / "scans").mkdir()
        dataset.save_as(study.landing_path / "d1" / "scans" / "a", enforce_file_format=False)
    before = _outside(study, tmp_path)
    summary = ingest_stage(study, store, find_delivery(study, "d1"), "imaging")
    assert not summary.failed_checks
    assert _outside(study, tmp_path) == before
    series = tables.read_table(tables.SERIES, summary.path)
    assert all(
        (store.root / volume).resolve().parent == store.volumes.resolve() for volume in series["volume"]
    )


def test_pipes_sockets_devices_and_folders_are_no_files_and_never_opened(study: Study, store: Store) -> None:
    folder = study.landing_path / "d1" / "labs"
    folder.mkdir()
    os.mkfifo(folder / "pipe.csv")
    (folder / "folder.csv").mkdir()
    (folder / "gone.csv").symlink_to("nowhere.csv")
    (folder / "loop.csv").symlink_to("loop.csv")
    with contextlib.suppress(PermissionError):  # only root may make a device, and not in every container
        os.mknod(folder / "zero.csv", 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    _put(study, "labs", b"good.csv", LABS.encode())
    assert _found([ingest_stage(study, store, find_delivery(study, "d1"), "clinical")]) == 1


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_link_out_of_the_delivery_reads_nothing_and_does_not_say_where_it_leads(
    study: Study, store: Store, tmp_path: Path, *, is_folder: bool
) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "labs.csv").write_text(LABS)
    target = tmp_path / "secret" if is_folder else tmp_path / "secret" / "labs.csv"
    link = study.landing_path / "d1" / "labs"
    if not is_folder:
        link.mkdir()
        link = link / "labs.csv"
    link.symlink_to(target)
    with pytest.raises(DeliveryError, match="lead out of the delivery") as caught:
        ingest_stage(study, store, find_delivery(study, "d1"), "clinical")
    assert "secret" not in str(caught.value)


@pytest.fixture
def folder_of_nobody() -> Iterator[Path]:
    """A folder outside of root's; where the tests run as root, to whom nothing is unreadable, they are nobody in it."""
    folder = Path(tempfile.mkdtemp(prefix="nobody-", dir="/tmp"))
    is_root = os.geteuid() == 0
    if is_root:
        shutil.chown(folder, "nobody")
        os.seteuid(folder.stat().st_uid)
    try:
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
        shutil.rmtree(folder)


def test_a_file_that_may_not_be_read_is_quarantined(folder_of_nobody: Path) -> None:
    study = _study(folder_of_nobody)
    _put(study, "labs", b"a.csv", LABS.encode()).chmod(0)
    summary = ingest_stage(study, Store(study.store_path), find_delivery(study, "d1"), "clinical")
    assert list(summary.tables["quarantined by reason"]["reason_code"]) == ["unreadable_file"]


@pytest.fixture
def replacing(study: Study) -> Iterator[Path]:
    """A file that another process replaces by a longer one, over and over, while the test runs."""
    path = _put(study, "labs", b"a.csv", LABS.encode())
    is_over = threading.Event()

    def replace() -> None:
        aside = path.parents[1] / ".aside"
        for n in range(1, 1_000_000):
            if is_over.is_set():
                return
            aside.write_text("id,y\n" + "".join(f"p{i},{i}\n" for i in range(n % 50)))
            aside.replace(path)

    thread = threading.Thread(target=replace)
    thread.start()
    yield path
    is_over.set()
    thread.join()


def test_a_file_replaced_while_it_is_read_gives_one_of_its_states_and_the_next_run_the_last(
    study: Study, store: Store, replacing: Path
) -> None:
    delivery = find_delivery(study, "d1")
    for _ in range(8):
        try:
            summary = ingest_stage(study, store, delivery, "clinical")
        except DeliveryError as error:
            assert "was removed or renamed while it was looked at" in str(error)  # noqa: PT017 - by chance, not always
            continue
        assert not summary.failed_checks
        labs = tables.read_table(tables.CLINICAL, summary.path)
        numbers = sorted(labs["value_number"])
        assert numbers == list(range(len(numbers))) or numbers == [1.0]


def test_what_changed_after_it_was_looked_at_is_read_again(study: Study, store: Store) -> None:
    path = _put(study, "labs", b"a.csv", LABS.encode())
    delivery = find_delivery(study, "d1")
    ingest_stage(study, store, delivery, "clinical")
    path.write_text("id,y\na,2\nb,3\n")
    summary = ingest_stage(study, store, delivery, "clinical")
    assert list(tables.read_table(tables.CLINICAL, summary.path)["value_number"]) == [2.0, 3.0]


def test_a_file_that_goes_while_it_is_looked_at_is_a_sentence(
    study: Study, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _put(study, "labs", b"a.csv", LABS.encode())
    listed = files_of_pattern

    def removing(delivery: Delivery, pattern: str) -> list[Path]:
        found = listed(delivery, pattern)
        path.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(delivery_module, "files_of_pattern", removing)
    with pytest.raises(DeliveryError, match="removed or renamed while it was looked at"):
        ingest_stage(study, store, find_delivery(study, "d1"), "clinical")
