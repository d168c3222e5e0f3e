"""Small files that ask for much: refused as one record before they unfold, and honest ones beside them read."""

import bz2
import gzip
import io
import lzma
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clinical_mm.ingest.delimited import read_delimited
from clinical_mm.ingest.fhir_files import resources_of
from clinical_mm.ingest.html_text import html_to_text
from clinical_mm.ingest.ledger import RecordRefusedError
from clinical_mm.ingest.numeric_files import Layout, read_numeric
from clinical_mm.ingest.omop import NOTE_COLUMNS, note_cells, note_header
from clinical_mm.ingest.opening import UnreadableFileError, known_encoding, open_bytes
from clinical_mm.ingest.tabular import readable_parquet
from clinical_mm.study.sources import TableFormat


def _zipped(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", data)
    return buffer.getvalue()


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zip": _zipped,
}


@pytest.mark.parametrize("ending", PACK)
def test_a_compressed_bomb_is_refused_after_some_megabytes(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.csv{ending}"
    path.write_bytes(PACK[ending](bytes(64 << 20)))
    pieces: list[int] = []

    def read() -> None:
        with open_bytes(path) as stream:
            while piece := stream.read(1 << 16):
                pieces.append(len(piece))

    with pytest.raises(UnreadableFileError) as caught:
        read()
    assert caught.value.reason_code == "too_large"
    assert "deliver it uncompressed" in caught.value.sentence
    assert sum(pieces) <= 12 << 20


@pytest.mark.parametrize("ending", PACK)
def test_what_compresses_as_tables_do_is_read_whole(tmp_path: Path, ending: str) -> None:
    rng = np.random.default_rng(0)
    rows = b"".join(b"%06d,2024-01-%02d,%.1f,mg/dL\n" % (i, i % 28 + 1, rng.random()) for i in range(300_000))
    path = tmp_path / f"a.csv{ending}"
    path.write_bytes(PACK[ending](rows))
    with open_bytes(path) as stream:
        assert stream.read() == rows


def test_a_matrix_of_nearly_nothing_but_zeros_is_read(tmp_path: Path) -> None:
    values = (np.random.default_rng(0).random((150, 20_000)) < 0.003).astype(int)
    lines = ["sample," + ",".join(f"G{i}" for i in range(20_000))]
    lines += [f"s{i}," + ",".join(map(str, row)) for i, row in enumerate(values)]
    path = tmp_path / "m.csv.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    read = read_numeric(path, TableFormat(), "s", lambda h: Layout({"sample": 0}, list(range(1, len(h)))))
    assert np.array_equal(read.values, values)


def test_a_table_of_nothing_but_malformed_rows_is_one_record(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n" + b"x\n" * 300_000)
    with pytest.raises(UnreadableFileError) as caught:
        list(read_delimited(path, TableFormat(), "s"))
    assert caught.value.reason_code == "malformed_file"


@pytest.mark.parametrize("line", [b'"\n', b"{}\n"])
def test_a_fhir_file_of_nothing_but_malformed_lines_is_one_record(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "a.ndjson"
    path.write_bytes(line * 300_000)
    with pytest.raises(UnreadableFileError) as caught:
        for _ in resources_of(path, "a.ndjson"):
            pass
    assert caught.value.reason_code == "malformed_file"


def test_a_fhir_file_whose_lesser_part_is_malformed_keeps_its_resources(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_bytes((b'{"resourceType": "Patient"}\n' * 2 + b"{}\n") * 210_000)
    kinds = [found.kind for found in resources_of(path, "a.ndjson")]
    assert (kinds.count("Patient"), kinds.count("")) == (420_000, 210_000)
    path.write_bytes(b"a,b\n" + b"x\n" * 1000 + b"1,2\n")
    assert sum(record.problem is not None for record in read_delimited(path, TableFormat(), "s")) == 1000


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"id": pa.nulls(30_000_000, pa.float32())}),
        pa.table({"id": ["A" * (64 << 20)]}),
    ],
    ids=["rows", "text"],
)
def test_parquet_that_declares_more_than_its_size_can_mean_is_refused(
    tmp_path: Path, table: pa.Table
) -> None:
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd")
    with pytest.raises(UnreadableFileError) as caught, readable_parquet(tmp_path / "a.parquet"):
        pass
    assert caught.value.reason_code == "too_large"


def _database(path: Path, *statements: str) -> Path:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    return path


def test_a_column_that_a_database_computes_is_not_computed(tmp_path: Path) -> None:
    stored = ", ".join(NOTE_COLUMNS[:-1])
    path = _database(
        tmp_path / "a.sqlite",
        f"CREATE TABLE note ({stored}, note_text GENERATED ALWAYS AS (hex(zeroblob(4 * note_id))))",
    )
    with pytest.raises(UnreadableFileError, match="computes a column"):
        note_header(path, "s")


def test_a_default_that_every_row_repeats_is_refused_before_memory_is_full(tmp_path: Path) -> None:
    stored = ", ".join(NOTE_COLUMNS[:-1])
    rows = [f"INSERT INTO note VALUES ({i}, 'p', '2024-01-01', NULL, 0, 'x')" for i in range(200)]
    path = _database(
        tmp_path / "a.sqlite",
        f"CREATE TABLE note ({stored})",
        *rows,
        f"ALTER TABLE note ADD COLUMN note_text DEFAULT '{'A' * 500_000}'",
    )
    assert path.stat().st_size < 1 << 20
    with pytest.raises(UnreadableFileError) as caught:
        list(note_cells(path))
    assert caught.value.reason_code == "too_large"


def test_a_database_whose_schema_is_no_text_is_quarantined(tmp_path: Path) -> None:
    path = _database(tmp_path / "a.sqlite", f"CREATE TABLE note ({', '.join(NOTE_COLUMNS)})")
    path.write_bytes(path.read_bytes().replace(b"note_title", b"note_tit\xa3\xa3"))
    with pytest.raises(UnreadableFileError):
        note_header(path, "s")


@pytest.mark.parametrize("start", ["<!--", "<![", "</", "<?", "<a b='"])
def test_html_whose_tags_never_end_is_refused_and_some_are_text(start: str) -> None:
    with pytest.raises(RecordRefusedError) as caught:
        html_to_text(start * 100_000)
    assert caught.value.reason_code == "malformed_html"
    assert html_to_text(f"<p>fever</p>{start}").startswith("fever")


def test_a_character_beyond_unicode_is_a_replacement_as_in_a_browser() -> None:
    assert html_to_text(f"a&#{'9' * 5000};b&#xFFFFFFFFF;c&#65;") == "a\ufffdb\ufffdcA"


@pytest.mark.parametrize("name", ["punycode", "idna", "undefined", "hex"])
def test_codecs_that_no_document_is_written_in_are_no_encodings(name: str) -> None:
    assert known_encoding(name) is None
    assert known_encoding("cp1252") == "cp1252"
