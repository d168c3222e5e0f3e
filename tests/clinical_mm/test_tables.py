from pathlib import Path

import pandas as pd
import pytest

from clinical_mm import tables
from clinical_mm.errors import TableError


def split(patient_id: str = "007", fold: int = 0) -> dict[str, object]:
    return {"patient_id": patient_id, "fold": fold, "split": "train"}


def test_ids_stay_text_through_a_file(tmp_path: Path) -> None:
    tables.write_table(tables.SPLITS, pd.DataFrame([split("007"), split("7")]), tmp_path)
    assert tables.read_table(tables.SPLITS, tmp_path)["patient_id"].tolist() == ["007", "7"]


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        tables.write_table(tables.SPLITS, pd.DataFrame([split("007")]), tmp_path / name)
    assert (tmp_path / "a" / "splits.parquet").read_bytes() == (
        tmp_path / "b" / "splits.parquet"
    ).read_bytes()


@pytest.mark.parametrize(
    ("frame", "problem"),
    [
        (pd.DataFrame([split()]).drop(columns="fold"), r"missing \['fold'\]"),
        (pd.DataFrame([split() | {"extra": 1}]), r"unknown \['extra'\]"),
        (pd.DataFrame([split() | {"fold": "zero"}]), "does not convert"),
        (pd.DataFrame([split() | {"split": None}]), r"hold nulls: \['split'\]"),
        (pd.DataFrame([split(), split()]), "1 rows repeat the key"),
        (pd.DataFrame([split() | {"patient_id": 7}]), "does not convert"),
    ],
)
def test_a_frame_that_breaks_the_contract_is_refused(
    tmp_path: Path, frame: pd.DataFrame, problem: str
) -> None:
    with pytest.raises(TableError, match=problem) as caught:
        tables.write_table(tables.SPLITS, frame, tmp_path)
    assert "007" not in str(caught.value)


def test_a_file_of_another_schema_is_refused(tmp_path: Path) -> None:
    pd.DataFrame([{"patient_id": "1", "fold": 0.5, "split": "train"}]).to_parquet(tmp_path / "splits.parquet")
    with pytest.raises(TableError, match="another schema"):
        tables.read_table(tables.SPLITS, tmp_path)


def test_a_missing_table_says_so(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="run the stage"):
        tables.read_table(tables.SPLITS, tmp_path)


def test_the_empty_table_has_the_schema(tmp_path: Path) -> None:
    tables.write_table(tables.SERIES, tables.empty(tables.SERIES), tmp_path)
    assert tables.read_table(tables.SERIES, tmp_path).empty
