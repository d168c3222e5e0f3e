import json
import subprocess
import sys
from pathlib import Path

import pytest

from clinical_mm.errors import StoreError
from clinical_mm.store import Store, content_hash, current, current_about, safe_name, snapshot, write_json


def test_a_snapshot_becomes_current_and_replaces_the_one_before(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with snapshot(tmp_path / "s", content_hash(text)) as folder:
            (folder / "value").write_text(text)
    found = current(tmp_path / "s")
    assert found is not None
    assert (found / "value").read_text() == "second"
    assert len([p for p in (tmp_path / "s").iterdir() if p.is_dir()]) == 1


def test_a_snapshot_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    with snapshot(tmp_path / "s", "a" * 16) as folder:
        (folder / "value").write_text("first")
    with pytest.raises(FileNotFoundError), snapshot(tmp_path / "s", "b" * 16) as folder:
        (folder / "missing" / "value").write_text("half")
    found = current(tmp_path / "s")
    assert found is not None
    assert (found / "value").read_text() == "first"


def test_a_process_killed_while_it_writes_leaves_the_snapshot_before(tmp_path: Path) -> None:
    with snapshot(tmp_path / "s", "a" * 16) as folder:
        (folder / "value").write_text("first")
    script = (
        "import os, signal, sys, pathlib\n"
        "from clinical_mm.store import snapshot\n"
        "with snapshot(pathlib.Path(sys.argv[1]), 'b' * 16) as folder:\n"
        "    (folder / 'value').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path / "s")], check=False)
    assert ended.returncode == -9
    found = current(tmp_path / "s")
    assert found is not None
    assert (found / "value").read_text() == "first"
    with snapshot(tmp_path / "s", "c" * 16) as folder:
        (folder / "value").write_text("third")
    assert len([p for p in (tmp_path / "s").iterdir() if p.is_dir()]) == 1


def test_what_a_snapshot_was_made_from_is_kept_beside_it(tmp_path: Path) -> None:
    with snapshot(tmp_path / "s", "f" * 64, {"n": 3}):
        pass
    about = current_about(tmp_path / "s")
    assert about is not None
    assert (about["fingerprint"], about["n"]) == ("f" * 64, 3)


def test_a_lock_that_another_process_holds_is_a_sentence(tmp_path: Path) -> None:
    store = Store(tmp_path)
    script = (
        "import sys, pathlib\n"
        "from clinical_mm.store import Store\n"
        "with Store(pathlib.Path(sys.argv[1])).lock('ingest'):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match="another run is working on ingest"), store.lock("ingest"):
            pass
        holder.communicate("")
    with store.lock("ingest"):
        pass


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".hidden", "a b", "x" * 129, "a\n"])
def test_names_that_could_leave_the_store_are_refused(name: str) -> None:
    with pytest.raises(StoreError):
        safe_name(name)


def test_a_store_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        Store(tmp_path / "file" / "store")


def test_equal_parts_hash_alike_and_joined_parts_do_not() -> None:
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    assert content_hash("ab", "c") != content_hash("a", "bc")


def test_json_is_written_whole_and_sorted(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"b": 1, "a": 2})
    assert list(json.loads((tmp_path / "x.json").read_text())) == ["a", "b"]
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
