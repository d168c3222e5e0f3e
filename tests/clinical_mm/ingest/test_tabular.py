"""Rows of delimited text and Parquet: counted, never shifted, text as it stands."""

import bz2
import csv
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

import hypothesis.strategies as st
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from clinical_mm.errors import ClinicalMMError, DeliveryError
from clinical_mm.ingest.delimited import read_delimited
from clinical_mm.ingest.delivery import Delivery
from clinical_mm.ingest.ledger import Ledger, is_conserved
from clinical_mm.ingest.opening import UnreadableFileError
from clinical_mm.ingest.tabular import Rows, read_rows
from clinical_mm.study.sources import TableFormat


def _read(
    folder: Path, columns: dict[str, str], *, table: TableFormat | None = None, has_digest: bool = False
) -> tuple[Rows, Ledger]:
    ledger = Ledger("s", "d", "row")
    files = sorted(p for p in folder.iterdir() if p.is_file())
    rows = read_rows(
        "s", table or TableFormat(), columns, Delivery("d", folder), files, ledger, has_digest=has_digest
    )
    return rows, ledger


def _records(
    path: Path, content: bytes, table: TableFormat | None = None
) -> list[tuple[int, list[str], bool]]:
    path.write_bytes(content)
    return [
        (r.number, r.fields, r.problem is None) for r in read_delimited(path, table or TableFormat(), "s")
    ]


def test_ids_and_words_that_look_missing_stay_the_text_that_they_are(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,name\n007,NA\n1e5,null\n 12 ,nan\n")
    rows, ledger = _read(tmp_path, {"patient": "id", "name": "name"})
    assert list(rows.cells["patient"]) == ["007", "1e5", " 12 "]
    assert list(rows.text("patient")) == ["007", "1e5", "12"]
    assert list(rows.cells["name"]) == ["NA", "null", "nan"]
    assert ledger.n_found == 3


def test_a_quoted_note_of_several_lines_is_one_row_and_keeps_its_line_ends(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b'id,text\r\n1,"a\r\nb, ""c""\n\nd"\r\n2,e\r\n')
    rows, _ = _read(tmp_path, {"id": "id", "text": "text"})
    assert list(rows.cells["text"]) == ['a\r\nb, "c"\n\nd', "e"]
    assert rows.locators() == ["t.csv#row 1", "t.csv#row 2"]


def test_a_row_with_too_few_or_too_many_fields_is_quarantined_by_its_number_and_shifts_nothing(
    tmp_path: Path,
) -> None:
    (tmp_path / "t.csv").write_text("id,a,b\n1,2,3\n4,5\n6,7,8,9\n10,11,12\n")
    rows, ledger = _read(tmp_path, {"id": "id", "b": "b"})
    assert list(rows.cells["id"]) == ["1", "10"]
    assert list(rows.cells["b"]) == ["3", "12"]
    assert rows.locators() == ["t.csv#row 1", "t.csv#row 4"]
    records = ledger.records()
    assert list(records["locator"]) == ["t.csv#row 2", "t.csv#row 3"]
    assert set(records["reason_code"]) == {"malformed_row"}
    assert list(records["sentence"]) == [
        "the row has 2 fields and the header 3",
        "the row has 4 fields and the header 3",
    ]
    assert ledger.n_found == 4


def test_a_quote_that_is_never_closed_costs_one_row_and_not_all_that_follow(tmp_path: Path) -> None:
    content = b'id,text\n1,a\n2,"open\n3,c\n4,d""\n5,""\n6,f\n'
    found = _records(tmp_path / "t.csv", content)
    assert found[0] == (0, ["id", "text"], True)
    assert [(n, f[0]) for n, f, is_good in found[1:] if is_good] == [
        (1, "1"),
        (3, "3"),
        (4, "4"),
        (5, "5"),
        (6, "6"),
    ]
    assert [n for n, _, is_good in found if not is_good] == [2]


def test_text_after_a_closing_quote_makes_its_row_malformed_and_no_other(tmp_path: Path) -> None:
    found = _records(tmp_path / "t.csv", b'id,text\n1,"a"b\n2,5" wide\n')
    assert [(f, is_good) for _, f, is_good in found[1:]] == [([], False), (["2", '5" wide'], True)]


def test_comment_lines_are_skipped_between_records_and_kept_within_a_quoted_note(tmp_path: Path) -> None:
    content = b'# head\n#\nid,text\n1,"a\n# not a comment\nb"\n# between\n2,c # kept\n'
    found = _records(tmp_path / "t.csv", content, TableFormat(comment="#"))
    assert [f for _, f, _ in found] == [["id", "text"], ["1", "a\n# not a comment\nb"], ["2", "c # kept"]]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    assert _records(tmp_path / "t.csv", b"\xef\xbb\xbfid\n1\n")[0][1] == ["id"]


def test_notes_longer_than_the_csv_modules_own_limit_are_read_whole(tmp_path: Path) -> None:
    note = "word " * 200_000
    (tmp_path / "t.csv").write_text(f'id,text\n1,"{note}"\n')
    rows, _ = _read(tmp_path, {"text": "text"})
    assert rows.cells["text"][0] == note


@pytest.mark.parametrize(
    ("ending", "compress"),
    [
        (".csv", lambda b: b),
        (".csv.gz", gzip.compress),
        (".csv.bz2", bz2.compress),
        (".csv.xz", lzma.compress),
        (".csv.zip", lambda b: _zipped({"./inside.csv": b})),
    ],
)
def test_compression_follows_the_ending(
    tmp_path: Path, ending: str, compress: Callable[[bytes], bytes]
) -> None:
    (tmp_path / f"t{ending}").write_bytes(compress(b"id,x\n1,2\n"))
    rows, _ = _read(tmp_path, {"x": "x"})
    assert list(rows.cells["x"]) == ["2"]


@pytest.mark.parametrize("ending", [".tsv", ".txt.gz", ".maf"])
def test_the_delimiter_is_a_tab_where_the_ending_says_so(tmp_path: Path, ending: str) -> None:
    content = b"id\tx\n1\t2,5\n"
    (tmp_path / f"t{ending}").write_bytes(gzip.compress(content) if ending.endswith(".gz") else content)
    rows, _ = _read(tmp_path, {"x": "x"})
    assert list(rows.cells["x"]) == ["2,5"]


def _zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "reason_code"),
    [
        ("t.csv", b"", "unreadable_file"),
        ("t.csv", b"\n\n", "unreadable_file"),
        ("t.csv", b'"id\n1\n', "unreadable_file"),
        ("t.csv", b"id,x\n1,\xff\xfe\n", "unknown_encoding"),
        ("t.csv.gz", gzip.compress(b"id,x\n" + b"1,2\n" * 5000)[:-12], "truncated_file"),
        ("t.csv.gz", b"id,x\n1,2\n", "unreadable_file"),
        ("t.csv.xz", b"id,x\n1,2\n", "unreadable_file"),
        ("t.csv.bz2", b"id,x\n1,2\n", "unreadable_file"),
        ("t.csv.zip", b"id,x\n1,2\n", "unreadable_file"),
        ("t.csv.zip", _zipped({"a.csv": b"id,x\n", "b.csv": b"id,x\n"}), "unreadable_file"),
        ("t.parquet", b"id,x\n1,2\n", "unreadable_file"),
        ("t.parquet", b"PAR1" + b"\x00" * 40 + b"PAR1", "unreadable_file"),
    ],
)
def test_a_file_that_cannot_be_read_as_a_whole_is_one_quarantined_record(
    tmp_path: Path, name: str, content: bytes, reason_code: str
) -> None:
    (tmp_path / name).write_bytes(content)
    rows, ledger = _read(tmp_path, {"x": "x"})
    assert len(rows) == 0
    assert list(ledger.records()[["locator", "reason_code"]].itertuples(index=False, name=None)) == [
        (name, reason_code)
    ]
    assert is_conserved(ledger.counts())


def test_an_encrypted_archive_is_quarantined(tmp_path: Path) -> None:
    data = bytearray(_zipped({"a.csv": b"id,x\n1,2\n"}))
    for signature, offset in (
        (b"PK\x03\x04", 6),
        (b"PK\x01\x02", 8),
    ):  # the flag that says that it is encrypted
        data[data.index(signature) + offset] |= 1
    (tmp_path / "t.csv.zip").write_bytes(bytes(data))
    _, ledger = _read(tmp_path, {"x": "x"})
    assert ledger.records()["sentence"][0] == "the archive is encrypted"


def test_a_bad_file_does_not_keep_the_others_from_being_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"id,x\n1,\xff\n")
    (tmp_path / "b.csv").write_bytes(b"id,x\n1,2\n")
    rows, ledger = _read(tmp_path, {"x": "x"})
    assert rows.locators() == ["b.csv#row 1"]
    ledger.accept(len(rows))
    assert is_conserved(ledger.counts())


def test_another_encoding_is_read_where_it_is_declared(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("id,x\n1,Größe\n".encode("latin-1"))
    rows, _ = _read(tmp_path, {"x": "x"}, table=TableFormat(encoding="latin-1"))
    assert rows.cells["x"][0] == "Größe"
    (tmp_path / "t.csv").write_bytes("id,x\n1,Größe\n".encode("utf-16"))
    rows, _ = _read(tmp_path, {"x": "x"}, table=TableFormat(encoding="UTF-16"))
    assert rows.cells["x"][0] == "Größe"


@pytest.mark.parametrize("table", [TableFormat(encoding="utf-99"), TableFormat(encoding="hex")])
def test_an_encoding_that_python_does_not_know_is_an_error_of_the_study(
    tmp_path: Path, table: TableFormat
) -> None:
    (tmp_path / "t.csv").write_bytes(b"id\n1\n")
    with pytest.raises(DeliveryError, match="no encoding that Python knows"):
        _read(tmp_path, {"x": "id"}, table=table)


@pytest.mark.parametrize("delimiter", ["::", '"', "\n"])
def test_a_delimiter_that_is_none_is_an_error_of_the_study(tmp_path: Path, delimiter: str) -> None:
    (tmp_path / "t.csv").write_bytes(b"id\n1\n")
    with pytest.raises(DeliveryError, match="delimiter"):
        _read(tmp_path, {"x": "id"}, table=TableFormat.model_construct(delimiter=delimiter, encoding="utf-8"))


def test_surrogates_that_a_codec_lets_pass_are_refused_as_undecodable(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"id,x\n1,\\ud800\n")
    _, ledger = _read(tmp_path, {"x": "x"}, table=TableFormat(encoding="unicode_escape"))
    assert list(ledger.records()["reason_code"]) == ["unknown_encoding"]


def test_a_missing_column_is_named_with_the_source_the_columns_and_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("patient_id,note_txt\n1,a\n")
    with pytest.raises(DeliveryError) as caught:
        _read(tmp_path, {"patient": "patient_id", "text": "note_text"})
    message = str(caught.value)
    assert "source s" in message
    assert "'note_text'" in message
    assert "patient_id, note_txt" in message
    assert "did you mean 'note_txt'" in message


def test_the_first_line_of_a_file_without_a_header_is_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("4711,Jane Doe,biopsy shows adenocarcinoma\n")
    with pytest.raises(DeliveryError) as caught:
        _read(tmp_path, {"patient": "patient_id", "text": "text"})
    assert "3 fields" in str(caught.value)
    for secret in ("4711", "Jane", "adenocarcinoma"):
        assert secret not in str(caught.value)


def test_a_column_that_stands_twice_is_an_error_and_never_a_guess(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,x,x\n1,2,3\n")
    with pytest.raises(DeliveryError, match="stands 2 times"):
        _read(tmp_path, {"x": "x"})


def test_two_roles_may_share_a_column(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("barcode\nTCGA-1\n")
    rows, _ = _read(tmp_path, {"patient_id": "barcode", "note_id": "barcode"})
    assert rows.cells.iloc[0].to_dict() == {"patient_id": "TCGA-1", "note_id": "TCGA-1"}


def test_parquet_cells_are_the_text_that_a_csv_would_have(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": pa.array([7, None], pa.int64()),
            "age": pa.array([65.0, 65.5]),
            "level": pa.array(["a", None]).dictionary_encode(),
            "flag": pa.array([True, False]),
            "day": pa.array([date(2024, 1, 5), None]),
            "time": pa.array([datetime(2024, 1, 5, 10), None], pa.timestamp("us")),
            "none": pa.nulls(2),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    rows, ledger = _read(tmp_path, {c: c for c in table.column_names})
    first, second = rows.cells.iloc[0].to_dict(), rows.cells.iloc[1].to_dict()
    assert (first["id"], first["age"], first["level"], first["flag"]) == ("7", "65", "a", "true")
    assert (first["day"], first["time"]) == (date(2024, 1, 5), datetime(2024, 1, 5, 10))
    assert second == {
        "id": "",
        "age": "65.5",
        "level": "",
        "flag": "false",
        "day": "",
        "time": "",
        "none": "",
    }
    assert ledger.n_found == 2


def test_a_parquet_column_of_lists_is_an_error_that_names_it(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": pa.array([[1, 2]])}), tmp_path / "t.parquet")
    with pytest.raises(DeliveryError, match="'x' holds list"):
        _read(tmp_path, {"x": "x"})


def test_whole_rows_are_told_apart_by_their_digest(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,x,y\n1,2,3\n1,2,4\n1,2,3\n")
    rows, _ = _read(tmp_path, {"x": "x"}, has_digest=True)
    assert rows.digest[0] == rows.digest[2] != rows.digest[1]


_cells = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)


@given(st.lists(st.lists(_cells, min_size=3, max_size=3), max_size=8))
@settings(max_examples=150, deadline=None)
def test_whatever_the_csv_writer_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list
) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([["a", "b", "c"], *rows])
    path = tmp_path_factory.mktemp("t") / "t.csv"
    found = _records(path, text.getvalue().encode("utf-8"))
    assert [f for _, f, _ in found] == [["a", "b", "c"], *rows]
    assert all(is_good for _, _, is_good in found)


_pieces = st.lists(
    st.sampled_from(
        [b"a", b"b", b'"', b'""', b",", b"\n", b"\r\n", b"\r", b"\x00", b"\xff", b"#", b" ", b"id", b"x"]
    ),
    max_size=40,
)


@given(_pieces, st.booleans(), st.booleans())
@settings(max_examples=400, deadline=None)
def test_no_bytes_at_all_raise_anything_but_an_error_for_the_user_and_all_rows_are_counted(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], has_header: bool, has_comment: bool
) -> None:
    folder = tmp_path_factory.mktemp("t")
    (folder / "t.csv").write_bytes((b"id,x\n" if has_header else b"") + b"".join(pieces))
    table = TableFormat(comment="#") if has_comment else TableFormat()
    try:
        rows, ledger = _read(folder, {"id": "id", "x": "x"}, table=table)
    except ClinicalMMError:
        return
    ledger.accept(len(rows))
    assert is_conserved(ledger.counts())
    assert ledger.records()["locator"].is_unique
    assert isinstance(rows.cells, pd.DataFrame)
    assert not set(rows.locators()) & set(ledger.records()["locator"])


@given(_pieces)
@settings(max_examples=200, deadline=None)
def test_every_line_without_a_quote_is_a_record_of_its_own(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]
) -> None:
    content = b"".join(p for p in pieces if p not in {b'"', b'""', b"\xff"})
    path = tmp_path_factory.mktemp("t") / "t.csv"
    lines = [line for line in content.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n") if line]
    try:
        found = _records(path, content)
    except UnreadableFileError:
        assert not lines
        return
    assert len(found) == len(lines)
