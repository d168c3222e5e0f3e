"""Ingest that is killed, or that meets itself: the store reads as before or as after, and the next run carries on."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest

from clinical_mm.ingest.delivery import find_delivery
from clinical_mm.ingest.run import ingest_stage
from clinical_mm.store import Store, current
from clinical_mm.study.file import load_study

CT = Path(pydicom.data.__file__).parent / "test_files" / "CT_small.dcm"
STUDY = """
study: s
sources:
  scans: {kind: dicom, path: scans/*}
  outcomes: {kind: outcomes, path: outcomes.csv, patient_id: id, variables: {y: {minimum: 0}}}
tasks:
  t:
    question: "?"
    outcome: {kind: binary, variable: y}
    index_time: none
    modalities: {image: {sources: [scans]}}
"""
OLD, NEW = "id,y\na,1\n,1\n", "id,y\na,1\nb,0\nb,0\n,1\n"
BEFORE, AFTER = "before", "after"

# What is about to be done for the n-th time when the process is killed, and how the store then has to read.
MOMENTS = {
    ("pyarrow.parquet.write_table", 1): BEFORE,
    ("pyarrow.parquet.write_table", 3): BEFORE,
    ("os.fsync", 1): BEFORE,  # of a table
    ("os.rename", 1): BEFORE,  # of the snapshot
    ("os.fsync", 4): BEFORE,  # of its folder
    ("os.fsync", 5): BEFORE,  # of the pointer, still aside
    ("os.replace", 1): BEFORE,  # of the pointer
    ("os.fsync", 6): AFTER,  # of the pointer's folder
}

# Forks a child for every moment, since starting an interpreter takes longer than ingest does.
KILLER = """
import importlib, json, os, signal, sys
from pathlib import Path
import pyarrow.parquet
from clinical_mm.ingest.delivery import find_delivery
from clinical_mm.ingest.run import ingest_stage
from clinical_mm.store import Store
from clinical_mm.study.file import load_study

def kill_before(target, n):
    module, _, name = target.rpartition(".")
    module = importlib.import_module(module)
    real, called = getattr(module, name), []
    def patched(*args, **kwargs):
        called.append(name)
        if len(called) == n:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    setattr(module, name, patched)

ended = []
for target, n, directory, stage in json.load(sys.stdin):
    pid = os.fork()
    if pid == 0:
        kill_before(target, n)
        study = load_study(Path(directory) / "study.yaml")
        ingest_stage(study, Store(study.store_path), find_delivery(study, "d1"), stage)
        os._exit(0)
    ended.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(json.dumps(ended))
"""

# Ingests, and holds on while it reads until its standard input ends.
HOLDER = """
import sys
from clinical_mm.ingest import run
from clinical_mm import cli

real = run.read_source
def read(*args):
    print("reading", flush=True)
    sys.stdin.read()
    run.read_source = real
    return real(*args)
run.read_source = read
cli.main()
"""


def _make(directory: Path, outcomes: str) -> Path:
    (directory / "landing" / "d1").mkdir(parents=True)
    (directory / "landing" / "d1" / "outcomes.csv").write_text(outcomes)
    (directory / "study.yaml").write_text(STUDY)
    return directory


def _ingest(directory: Path) -> bool:
    """Ingests the outcomes; whether anything was done."""
    study = load_study(directory / "study.yaml")
    delivery = find_delivery(study, "d1")
    return not ingest_stage(study, Store(study.store_path), delivery, "outcomes").is_unchanged


def _outcomes(directory: Path) -> Path:
    return Store(directory / "store").delivery("d1", "outcomes")


def _read(directory: Path) -> dict[str, bytes] | None:
    """The files of the current snapshot; None where there is none."""
    path = current(_outcomes(directory))
    return None if path is None else {p.name: p.read_bytes() for p in path.iterdir()}


@pytest.mark.parametrize("is_first", [True, False])
def test_a_killed_ingest_leaves_the_store_as_before_or_after_and_the_next_one_completes_it(
    tmp_path: Path, *, is_first: bool
) -> None:
    template = _make(tmp_path / "template", OLD)
    if not is_first:
        assert _ingest(template)
    before = _read(template)
    (template / "landing" / "d1" / "outcomes.csv").write_text(NEW)
    whole = shutil.copytree(template, tmp_path / "whole")
    assert _ingest(whole)
    after = _read(whole)
    assert before != after

    copies = [shutil.copytree(template, tmp_path / str(n)) for n in range(len(MOMENTS))]
    work = [(*moment, str(copy), "outcomes") for moment, copy in zip(MOMENTS, copies, strict=True)]
    done = subprocess.run(
        [sys.executable, "-c", KILLER], input=json.dumps(work), capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [-9] * len(MOMENTS)
    for (moment, expected), copy in zip(MOMENTS.items(), copies, strict=True):
        assert _read(copy) == (before if expected == BEFORE else after), moment
        assert _ingest(copy) == (expected == BEFORE), moment
        assert _read(copy) == after, moment
        if expected == BEFORE:  # what the killed one had written aside is gone
            assert len([p for p in _outcomes(copy).iterdir() if p.is_dir()]) == 1, moment
            assert not list(_outcomes(copy).glob(".*.json.*")), moment


# The file of words beside a volume, the volume itself, and the pointer to the snapshot; frames on their way.
IMAGING_MOMENTS = (("os.replace", 1), ("os.replace", 2), ("os.replace", 3), ("os.fsync", 2), ("os.rename", 1))


def _stored(directory: Path) -> dict[str, bytes]:
    """The current snapshot of the images, and every volume."""
    store = Store(directory / "store")
    snapshot = current(store.delivery("d1", "imaging"))
    files = [*(snapshot.iterdir() if snapshot is not None else ()), *store.volumes.glob("[!.]*")]
    return {path.name: path.read_bytes() for path in files}


def test_a_killed_ingest_of_images_is_completed_to_the_same_bytes(tmp_path: Path) -> None:
    template = _make(tmp_path / "template", NEW)
    (template / "landing" / "d1" / "scans").mkdir()
    shutil.copy(CT, template / "landing" / "d1" / "scans" / "a.dcm")
    copies = [shutil.copytree(template, tmp_path / str(n)) for n in range(len(IMAGING_MOMENTS) + 1)]
    work = [(*moment, str(copy), "imaging") for moment, copy in zip(IMAGING_MOMENTS, copies, strict=False)]
    done = subprocess.run(
        [sys.executable, "-c", KILLER], input=json.dumps(work), capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [-9] * len(work)
    for copy in copies:
        study = load_study(copy / "study.yaml")
        store = Store(study.store_path)
        assert current(store.delivery("d1", "imaging")) is None
        ingest_stage(study, store, find_delivery(study, "d1"), "imaging")
    whole = _stored(copies[-1])  # which nobody killed
    assert sum(name.endswith(".npy") for name in whole) == 1
    for moment, copy in zip(IMAGING_MOMENTS, copies, strict=False):
        assert _stored(copy) == whole, moment


def test_of_two_ingests_of_a_delivery_at_once_the_second_leaves_with_a_sentence(tmp_path: Path) -> None:
    both, alone = (_make(tmp_path / name, NEW) for name in ("both", "alone"))
    _ingest(alone)
    arguments = ["ingest", "--study", str(both / "study.yaml"), "--delivery", "d1"]
    second = [sys.executable, "-m", "clinical_mm.cli", *arguments]
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        while (line := first.stdout.readline()) != "reading\n":
            assert line, "the first ingest ended before it read anything"
        refused = subprocess.run(second, capture_output=True, text=True, check=False)
        assert _read(both) is None
        first.communicate("")
    assert first.returncode == 0
    assert refused.returncode == 3
    assert "another run is working on ingest-d1-imaging: wait until it has ended" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert _read(both) == _read(alone)
    assert subprocess.run(second, capture_output=True, check=False).returncode == 0
