"""The small things that the features stand on: arrays in the cache, named matrices, items, and the count of losses."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clinical_mm.errors import CohortError
from clinical_mm.features.cache import cache_path, read_array, write_array
from clinical_mm.features.items import joined, used_items
from clinical_mm.features.left_out import LeftOut
from clinical_mm.features.matrix import create_matrix, name_matrix, read_matrix


@pytest.mark.parametrize("shape", [(0, 3), (1,), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [np.float16, np.int32])
def test_an_array_comes_back_as_it_was(tmp_path: Path, shape: tuple[int, ...], dtype: type) -> None:
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    path = cache_path(tmp_path, "abcdef")
    assert read_array(path) is None
    write_array(path, array)
    found = read_array(path)
    assert found is not None
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found, array)
    assert path == tmp_path / "ab" / "abcdef.npy"
    assert os.listdir(path.parent) == [path.name]  # nothing is left aside


def test_an_array_that_was_not_written_whole_is_missing_at_whatever_byte_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    write_array(path, np.arange(40))
    whole = path.read_bytes()
    for n in range(len(whole)):
        path.write_bytes(whole[:n])
        assert read_array(path) is None


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_bytes_that_are_no_array_are_a_missing_one(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(data)
    assert read_array(path) is None


@pytest.mark.parametrize(
    "data", [b"PK\x03\x04 not an archive", b"\x80\x04K\x01.", b"\x93NUMPY\x01\x00\xff\xff{"]
)
def test_archives_and_pickles_are_not_opened(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(data)
    assert read_array(path) is None


def test_an_array_that_cannot_be_written_leaves_the_one_before(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "a" / "a.npy"
    write_array(path, np.arange(3))

    def fail(file: Path, *_: object, **__: object) -> None:
        Path(file).write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(OSError, match="no space"):
        write_array(path, np.arange(9))
    np.testing.assert_array_equal(read_array(path), [0, 1, 2])
    assert os.listdir(path.parent) == ["a.npy"]


def test_a_matrix_is_nan_until_it_is_filled_and_keeps_only_the_rows_that_count(tmp_path: Path) -> None:
    matrix = create_matrix(tmp_path, "m", ["001", "b", "c"], ["x", "y"])
    assert np.isnan(matrix).all()
    matrix[0], matrix[2, 1] = (1, 2), 5
    name_matrix(
        tmp_path,
        "m",
        patients=["001", "b", "c"],
        features=["x", "y"],
        is_kept=np.array([True, False, True]),
        categories=["y"],
    )
    frame, categories = read_matrix(tmp_path, "m")
    assert frame.index.tolist() == ["001", "c"]
    assert frame.index.name == "patient_id"
    assert frame.columns.tolist() == ["x", "y"]
    np.testing.assert_array_equal(frame.to_numpy(), [[1, 2], [np.nan, 5]])
    assert categories == {"y"}


@pytest.mark.parametrize(("patients", "features"), [([], ["x"]), (["a"], []), ([], [])])
def test_an_empty_matrix_is_read_as_such(tmp_path: Path, patients: list[str], features: list[str]) -> None:
    matrix = create_matrix(tmp_path, "m", patients, features)
    assert matrix.shape == (len(patients), len(features))
    is_kept = np.zeros(len(patients), dtype=bool)
    name_matrix(tmp_path, "m", patients=patients, features=features, is_kept=is_kept)
    frame, _ = read_matrix(tmp_path, "m")
    assert frame.shape == (0, len(features))


def items(*rows: tuple[str, str, int, bool]) -> pd.DataFrame:
    """Rows of patient, item, rank, is_used; modality text, source s, delivery d1."""
    frame = pd.DataFrame(rows, columns=["patient_id", "item_id", "rank", "is_used"])
    return frame.assign(modality="text", source="s", delivery="d1")


def test_used_items_come_patient_by_patient_in_reading_order() -> None:
    table = items(
        ("b", "1", 1, True),
        ("a", "2", 1, True),
        ("b", "3", 0, True),
        ("a", "4", -1, False),
        ("a", "5", 0, True),
    )
    other = items(("a", "6", 0, True)).assign(modality="image")
    found = used_items(pd.concat([table, other]), "text")
    assert found["item_id"].tolist() == ["5", "2", "3", "1"]
    assert used_items(other, "text").empty


def test_items_get_the_columns_of_their_rows_and_keep_their_order() -> None:
    rows = pd.DataFrame({"source": "s", "delivery": "d1", "text": ["one", "two"], "rank": [7, 8]})
    chosen = items(("a", "2", 0, True), ("b", "1", 1, True))
    found = joined(chosen, rows, pd.Series(["1", "2"]))
    assert found["text"].tolist() == ["two", "one"]
    assert found["rank"].tolist() == [0, 1]  # an item's own


def test_an_item_of_another_delivery_or_source_is_refused_by_count() -> None:
    rows = pd.DataFrame({"source": ["s", "other"], "delivery": ["d2", "d1"]})
    with pytest.raises(CohortError, match="2 of 2 items"):
        joined(items(("a", "1", 0, True), ("a", "2", 1, True)), rows, pd.Series(["1", "2"]))


def test_losses_add_up_by_patient_modality_and_reason() -> None:
    left_out = LeftOut()
    for patient, modality, reason, n in [
        ("b", "text", "windows_over_max", 3),
        ("a", "text", "windows_over_max", 1),
        ("b", "text", "windows_over_max", 4),
        ("b", "image", "no_contrast", 1),
        ("c", "text", "no_tokens", 0),
        ("c", "text", "no_tokens", -1),
    ]:
        left_out.add(patient, modality, reason, n)
    assert left_out.table().to_numpy().tolist() == [
        ["a", "text", "windows_over_max", 1],
        ["b", "image", "no_contrast", 1],
        ["b", "text", "windows_over_max", 7],
    ]
    assert LeftOut().table().columns.tolist() == ["patient_id", "modality", "reason", "n"]
