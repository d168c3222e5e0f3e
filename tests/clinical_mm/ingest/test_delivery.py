"""Deliveries: names, completeness, and which files of them are read."""

import os
from pathlib import Path

import pytest

from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.delivery import (
    Delivery,
    complete_deliveries,
    delivery_fingerprint,
    files_of_pattern,
    find_deliveries,
    find_delivery,
    is_complete,
)
from clinical_mm.study.root import Study


def _study(directory: Path) -> Study:
    outcomes = {"kind": "outcomes", "path": "o.csv", "patient_id": "id", "variables": {"y": {}}}
    covariates = {
        "kind": "clinical",
        "path": "c.csv",
        "patient_id": "id",
        "is_timeless": True,
        "variables": {"x": {}},
    }
    task = {
        "question": "?",
        "outcome": {"kind": "binary", "variable": "y"},
        "index_time": "none",
        "modalities": {"clinical": {}},
    }
    study = Study.model_validate(
        {"study": "s", "sources": {"outcomes": outcomes, "covariates": covariates}, "tasks": {"t": task}}
    )
    return study.placed_in(directory)


def test_deliveries_come_in_the_order_of_their_names_and_hidden_folders_are_none(tmp_path: Path) -> None:
    for name in ("2026-02-01", "2026-01-05", ".partial"):
        (tmp_path / "landing" / name).mkdir(parents=True)
    (tmp_path / "landing" / "readme.txt").touch()
    study = _study(tmp_path)
    assert [d.name for d in find_deliveries(study)] == ["2026-01-05", "2026-02-01"]
    assert find_delivery(study, "2026-01-05").path == tmp_path / "landing" / "2026-01-05"
    with pytest.raises(DeliveryError, match="no delivery"):
        find_delivery(study, "2026-03-01")


def test_a_missing_landing_folder_and_an_unsafe_name_are_errors_that_name_them(tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match="landing"):
        find_deliveries(_study(tmp_path))
    (tmp_path / "landing" / "from clinic").mkdir(parents=True)
    with pytest.raises(DeliveryError, match="from clinic"):
        find_deliveries(_study(tmp_path))


def test_a_delivery_is_complete_with_its_mark_or_after_the_quiet_period(tmp_path: Path) -> None:
    folder = tmp_path / "landing" / "d"
    (folder / "deep").mkdir(parents=True)
    file = folder / "deep" / "notes.csv"
    file.touch()
    for path in (file, file.parent, folder):
        os.utime(path, (1000.0, 1000.0))
    delivery = Delivery("d", folder)
    assert not is_complete(delivery, quiet_period_s=60, now_s=1059.0)
    assert is_complete(delivery, quiet_period_s=60, now_s=1060.0)
    os.utime(file, (1050.0, 1050.0))
    assert not is_complete(delivery, quiet_period_s=60, now_s=1060.0)
    (folder / "_SUCCESS").touch()
    assert is_complete(delivery, quiet_period_s=60, now_s=1060.0)
    assert [d.name for d in complete_deliveries(_study(tmp_path))] == ["d"]


def test_only_regular_files_are_read_in_order_and_never_the_mark(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "_SUCCESS"):
        (tmp_path / name).write_text("x")
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    delivery = Delivery("d", tmp_path)
    assert [p.name for p in files_of_pattern(delivery, "*.csv")] == ["a.csv", "b.csv"]
    assert [p.name for p in files_of_pattern(delivery, "**/*")] == ["a.csv", "b.csv"]


def test_a_link_out_of_the_delivery_is_refused_and_one_within_it_is_followed(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "a.csv").write_text("x")
    (folder / "same.csv").symlink_to("a.csv")
    delivery = Delivery("d", folder)
    assert len(files_of_pattern(delivery, "*.csv")) == 2
    (tmp_path / "secret.csv").write_text("x")
    (folder / "link.csv").symlink_to(tmp_path / "secret.csv")
    with pytest.raises(DeliveryError, match="lead out of the delivery") as caught:
        files_of_pattern(delivery, "*.csv")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("pattern", ["../*.csv", "/etc/*", "a/../../b"])
def test_a_pattern_that_leads_out_of_the_delivery_is_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(DeliveryError, match="leads out"):
        files_of_pattern(Delivery("d", tmp_path), pattern)


def test_the_fingerprint_changes_with_name_size_and_time_of_a_matching_file_alone(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("x")
    os.utime(file, (1000.0, 1000.0))
    delivery = Delivery("d", tmp_path)
    first = delivery_fingerprint(delivery, ["*.csv"])
    (tmp_path / "other.txt").write_text("x")
    assert delivery_fingerprint(delivery, ["*.csv", "a.*"]) == first
    os.utime(file, (1001.0, 1001.0))
    second = delivery_fingerprint(delivery, ["*.csv"])
    file.write_text("xy")
    os.utime(file, (1001.0, 1001.0))
    third = delivery_fingerprint(delivery, ["*.csv"])
    file.rename(tmp_path / "b.csv")
    assert len({first, second, third, delivery_fingerprint(delivery, ["*.csv"])}) == 4
