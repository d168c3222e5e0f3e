"""Genomic matrices: what was measured stands, what was not is missing and never zero, and every sample has one fate."""

import csv
import gzip
import hashlib
import io
import math
from datetime import datetime
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.delivery import Delivery
from clinical_mm.ingest.genomics import read_genomics_matrix
from clinical_mm.ingest.ledger import Ledger
from clinical_mm.ingest.samples import ABSENT_FEATURE, GenomicTables, write_values
from clinical_mm.study.sources import GenomicsMatrixSource
from ingest_support import checked_samples, reasons_of, values_of


def _read(folder: Path, **options: object) -> tuple[GenomicTables, Ledger]:
    """Every file of a folder as one source, samples in rows of the column `sample` where nothing else is said."""
    declared = {
        "kind": "genomics_matrix",
        "path": "*",
        "samples": "rows",
        "sample_id": "sample" if options.get("samples") != "columns" else None,
        **options,
    }
    source = GenomicsMatrixSource.model_validate(declared)
    ledger = Ledger("s", "d", "sample")
    files = sorted(folder.iterdir())
    genomic = read_genomics_matrix("s", source, Delivery("d", folder), files, ledger)
    assert ledger.n_accepted == len(genomic.samples)
    assert ledger.n_accepted == len(genomic.samples)
    return checked_samples(genomic, ledger)


def _text(folder: Path, content: str, name: str = "m.csv", **options: object) -> tuple[GenomicTables, Ledger]:
    (folder / name).write_text(content)
    return _read(folder, **options)


def test_samples_in_rows_keep_ids_values_and_the_place_where_they_stand(tmp_path: Path) -> None:
    genomic, _ = _text(tmp_path, "sample,TP53,VHL\n007,1.5,-2\nb,0,1e-3\n")
    assert values_of(genomic) == {
        "007": {"TP53": 1.5, "VHL": -2.0},
        "b": {"TP53": 0.0, "VHL": pytest.approx(0.001)},
    }
    assert genomic.values.schema.field("TP53").type == pa.float32()
    assert list(genomic.samples["source_patient_id"]) == ["007", "b"]
    assert list(genomic.samples["locator"]) == ["m.csv#row 1", "m.csv#row 2"]
    assert genomic.samples["available_time"].isna().all()


@pytest.mark.parametrize(
    ("name", "delimiter", "compress"),
    [("m.csv", ",", bytes), ("m.tsv", "\t", bytes), ("m.txt.gz", "\t", gzip.compress)],
)
def test_samples_in_columns_are_the_transposed_matrix(
    tmp_path: Path, name: str, delimiter: str, compress: type
) -> None:
    lines = [["gene", "s1", "s2", "s3"], ["TP53", "1", "2", ""], ["VHL", "4", "5", "6"]]
    content = "\n".join(delimiter.join(line) for line in lines) + "\n"
    (tmp_path / name).write_bytes(compress(content.encode()))
    genomic, ledger = _read(tmp_path, samples="columns")
    assert values_of(genomic) == {
        "s1": {"TP53": 1.0, "VHL": 4.0},
        "s2": {"TP53": 2.0, "VHL": 5.0},
        "s3": {"TP53": None, "VHL": 6.0},
    }
    assert list(genomic.samples["locator"]) == [f"{name}#column {c}" for c in (2, 3, 4)]
    assert ledger.n_found == 3


def test_both_ways_to_lie_and_parquet_give_the_same_content_hashes(tmp_path: Path) -> None:
    names = ("rows.csv", "columns.tsv", "rows.parquet")
    for name in names:
        (tmp_path / name).mkdir()
    rows, _ = _text(tmp_path / names[0], "sample,B,A\nx,1,2.5\ny,,4\n")
    columns, _ = _text(
        tmp_path / names[1], "gene\ty\tx\nA\t4\t2.5\nB\t\t1\n", "columns.tsv", samples="columns"
    )
    table = pa.table({"sample": ["x", "y"], "A": [2.5, 4.0], "B": pa.array([1, None], pa.int64())})
    pq.write_table(table, tmp_path / names[2] / "m.parquet")
    parquet, _ = _read(tmp_path / names[2])
    assert values_of(rows) == values_of(columns) == values_of(parquet)
    hashes = [list(g.samples["content_hash"]) for g in (rows, columns, parquet)]
    assert hashes[0] == hashes[1] == hashes[2]
    # sample y: patient "y", feature A alone, 4.0 as a little-endian float32
    digest = hashlib.sha256(hashlib.sha256(b"A").digest() + b"y\x1f" + b"\x00\x00\x80\x40")
    assert hashes[0][1] == digest.hexdigest()


@pytest.mark.parametrize("cell", ["", "NA", "N/A", "nan", "NaN", "null", "None", " NA "])
def test_a_missing_cell_is_missing_and_never_zero(tmp_path: Path, cell: str) -> None:
    genomic, ledger = _text(tmp_path, f"sample,A,B\nx,{cell},2\ny,0,3\n")
    assert values_of(genomic) == {"x": {"A": None, "B": 2.0}, "y": {"A": 0.0, "B": 3.0}}
    assert list(genomic.samples["n_features"]) == [1, 2]
    assert genomic.values["A"].null_count == 1
    assert ledger.records().empty


@pytest.mark.parametrize("cell", ["high", "1_000", '"1,5"', "inf", "-Infinity", "1e39", "0x10", ">8", "1 2"])
def test_a_cell_that_is_no_finite_number_is_missing_and_on_record(tmp_path: Path, cell: str) -> None:
    genomic, ledger = _text(tmp_path, f"sample,A,B\nx,{cell},2\ny,1,3\n")
    assert values_of(genomic)["x"] == {"A": None, "B": 2.0}
    assert reasons_of(ledger) == {"m.csv#row 1 column 2": "not_a_number"}
    assert ledger.counts()["quarantined"][0] == 0
    assert "high" not in ledger.records()["sentence"][0]


def test_in_columns_a_bad_cell_is_found_by_its_column_and_row(tmp_path: Path) -> None:
    genomic, ledger = _text(tmp_path, "gene,x,y\nA,1,low\nB,2,3\n", samples="columns")
    assert values_of(genomic)["y"] == {"A": None, "B": 3.0}
    assert reasons_of(ledger) == {"m.csv#column 3 row 1": "not_a_number"}


def test_a_column_of_words_is_one_record_and_no_value(tmp_path: Path) -> None:
    genomic, ledger = _text(tmp_path, "sample,site,A\nx,lung,1\ny,liver,2\nz,bone,3\n")
    assert reasons_of(ledger) == {"m.csv#column 2": "not_a_number"}
    assert [row["site"] for row in values_of(genomic).values()] == [None] * 3


def test_a_sample_of_which_nothing_was_measured_is_quarantined_and_no_row_of_zeros(tmp_path: Path) -> None:
    genomic, ledger = _text(tmp_path, "sample,A,B\nx,1,2\nempty,NA,\nwords,a,b\n")
    assert list(values_of(genomic)) == ["x"]
    assert reasons_of(ledger) == {"m.csv#row 2": "empty_row", "m.csv#row 3": "empty_row"}
    assert ledger.counts()["quarantined"][0] == 2


def test_in_columns_an_empty_sample_is_quarantined_and_an_empty_feature_is_missing(tmp_path: Path) -> None:
    content = "gene,x,empty\nA,1,\nB,NA,NA\n"
    genomic, ledger = _text(tmp_path, content, samples="columns")
    assert values_of(genomic) == {"x": {"A": 1.0, "B": None}}
    assert reasons_of(ledger) == {"m.csv#column 3": "empty_row"}
    assert list(genomic.samples["n_features"]) == [1]


def test_a_row_without_a_sample_or_patient_is_quarantined(tmp_path: Path) -> None:
    content = "sample,case,A\nx,p,1\n ,p,2\ny,,3\n"
    genomic, ledger = _text(tmp_path, content, patient_id="case")
    assert list(genomic.samples["source_patient_id"]) == ["p"]
    assert reasons_of(ledger) == {"m.csv#row 2": "missing_sample_id", "m.csv#row 3": "missing_patient_id"}


def test_in_columns_a_sample_without_a_name_is_quarantined_and_a_row_without_one_is_on_record(
    tmp_path: Path,
) -> None:
    genomic, ledger = _text(tmp_path, "gene,x,\nA,1,2\n,3,4\n", samples="columns")
    assert values_of(genomic) == {"x": {"A": 1.0}}
    assert reasons_of(ledger) == {"m.csv#column 3": "missing_sample_id", "m.csv#row 2": "missing_value"}
    assert ledger.counts()["quarantined"][0] == 1


def test_a_ragged_row_shifts_no_value(tmp_path: Path) -> None:
    genomic, ledger = _text(tmp_path, "sample,A,B\nx,1\ny,1,2,3\nz,4,5\n")
    assert values_of(genomic) == {"z": {"A": 4.0, "B": 5.0}}
    assert reasons_of(ledger) == {"m.csv#row 1": "malformed_row", "m.csv#row 2": "malformed_row"}
    assert ledger.n_found == 3


def test_in_columns_a_ragged_row_costs_the_feature_and_no_sample(tmp_path: Path) -> None:
    genomic, ledger = _text(tmp_path, "gene,x,y\nA,1\nB,2,3\n", samples="columns")
    assert values_of(genomic) == {"x": {"B": 2.0}, "y": {"B": 3.0}}
    assert reasons_of(ledger) == {"m.csv#row 1": "malformed_row"}
    assert ledger.n_found == ledger.n_accepted == 2


def test_only_chosen_columns_are_features(tmp_path: Path) -> None:
    content = ",case_id,age,A_rnaseq,B_rnaseq,C_cnv\n0,p,70,1,2,3\n"
    genomic, _ = _text(
        tmp_path, content, sample_id=None, patient_id="case_id", features="_rnaseq$", excluded=["B_rnaseq"]
    )
    assert values_of(genomic) == {"p": {"A_rnaseq": 1.0}}


def test_in_columns_only_chosen_rows_are_features_and_excluded_columns_are_no_samples(tmp_path: Path) -> None:
    content = "Hugo_Symbol\tEntrez_Gene_Id\ts1\ns2\t9\t9\nTP53\t7157\t1.5\n"
    genomic, ledger = _text(
        tmp_path,
        content,
        "m.txt",
        samples="columns",
        sample_id="Hugo_Symbol",
        excluded=["Entrez_Gene_Id"],
        features="^TP",
    )
    assert values_of(genomic) == {"s1": {"TP53": 1.5}}
    assert ledger.n_found == 1


def test_without_a_named_column_the_first_names_the_samples(tmp_path: Path) -> None:
    genomic, _ = _text(tmp_path, ",A\nx,1\n", sample_id=None)
    assert values_of(genomic) == {"x": {"A": 1.0}}


def test_the_same_sample_again_is_a_duplicate_and_one_with_other_values_is_never_guessed(
    tmp_path: Path,
) -> None:
    content = "sample,A\nsame,1\nsame,1.0\ndiffers,1\ndiffers,2\nalone,3\n"
    genomic, ledger = _text(tmp_path, content)
    assert list(values_of(genomic)) == ["alone", "same"]
    records = ledger.records()
    assert dict(zip(records["locator"], records["disposition"], strict=True)) == {
        "m.csv#row 2": "duplicate",
        "m.csv#row 3": "quarantined",
        "m.csv#row 4": "quarantined",
    }
    assert set(reasons_of(ledger).values()) == {"identical_record", "conflicting_records"}


def test_the_same_sample_id_of_two_patients_is_a_conflict(tmp_path: Path) -> None:
    genomic, ledger = _text(tmp_path, "sample,case,A\nx,p,1\nx,q,1\n", patient_id="case")
    assert len(genomic.samples) == 0
    assert set(reasons_of(ledger).values()) == {"conflicting_records"}


def test_of_a_sample_measured_twice_the_later_stands_whatever_the_order_of_rows(tmp_path: Path) -> None:
    content = "sample,time,A\nx,2024-02-01,2\nx,2024-01-01,1\n"
    genomic, ledger = _text(tmp_path, content, available_time="time")
    assert values_of(genomic) == {"x": {"A": 2.0}}
    assert list(genomic.samples["available_time"]) == [datetime(2024, 2, 1)]
    assert list(ledger.records()["disposition"]) == ["superseded"]
    assert reasons_of(ledger) == {"m.csv#row 2": "newer_version"}


def test_the_same_values_measured_again_later_stand_with_the_later_time(tmp_path: Path) -> None:
    content = "sample,time,A\nx,2024-01-01,1\nx,2024-02-01,1\nx,2024-02-01,1\n"
    genomic, ledger = _text(tmp_path, content, available_time="time")
    assert list(genomic.samples["available_time"]) == [datetime(2024, 2, 1)]
    assert list(genomic.samples["locator"]) == ["m.csv#row 2"]
    assert reasons_of(ledger) == {"m.csv#row 3": "identical_record", "m.csv#row 1": "newer_version"}


def test_versions_of_the_same_time_are_never_guessed(tmp_path: Path) -> None:
    content = "sample,time,A\nx,2024-01-01,1\nx,2024-01-01,2\nx,2023-01-01,3\n"
    genomic, ledger = _text(tmp_path, content, available_time="time")
    assert len(genomic.samples) == 0
    assert list(ledger.records()["reason_code"]) == ["conflicting_records"] * 3


def test_a_time_that_is_missing_or_unreadable_quarantines_unless_the_source_is_timeless(
    tmp_path: Path,
) -> None:
    content = "sample,time,A\nx,,1\ny,31/02/2024,2\nz,2024-01-01,3\n"
    genomic, ledger = _text(tmp_path, content, available_time="time")
    assert list(values_of(genomic)) == ["z"]
    assert reasons_of(ledger) == {"m.csv#row 1": "missing_time", "m.csv#row 2": "unreadable_time"}
    genomic, ledger = _text(tmp_path, content, available_time="time", is_timeless=True)
    assert list(values_of(genomic)) == ["x", "z"]
    assert reasons_of(ledger) == {"m.csv#row 2": "unreadable_time"}


@pytest.mark.parametrize("samples", ["rows", "columns"])
def test_without_any_time_samples_are_quarantined_where_the_source_is_not_timeless(
    tmp_path: Path, samples: str
) -> None:
    genomic, ledger = _text(tmp_path, "sample,A\nx,1\n", samples=samples, is_timeless=False)
    assert len(genomic.samples) == 0
    assert list(ledger.records()["reason_code"]) == ["missing_time"]


def test_a_feature_that_stands_twice_is_taken_once_and_missing_where_the_two_differ(tmp_path: Path) -> None:
    content = "gene,x,y\nA,1,2\nA,1,2\nB,1,2\nB,1,3\nC,5,6\n"
    genomic, ledger = _text(tmp_path, content, samples="columns")
    assert values_of(genomic) == {"x": {"A": 1.0, "C": 5.0}, "y": {"A": 2.0, "C": 6.0}}
    assert reasons_of(ledger) == {"m.csv#row 3": "conflicting_records", "m.csv#row 4": "conflicting_records"}
    assert ledger.n_accepted == 2


def test_bad_cells_are_still_found_after_a_repeated_feature_was_left_out(tmp_path: Path) -> None:
    content = "sample,A,A,B\nx,1,1,bad\ny,2,2,3\n"
    genomic, ledger = _text(tmp_path, content)
    assert values_of(genomic)["x"] == {"A": 1.0, "B": None}
    assert reasons_of(ledger) == {"m.csv#row 1 column 4": "not_a_number"}


def test_files_with_other_features_are_joined_and_what_a_file_has_not_is_missing(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("sample,A,B\nx,1,2\n")
    (tmp_path / "b.csv").write_text("sample,B,C\ny,3,0\nx,9,9\n")
    genomic, ledger = _read(tmp_path)
    assert values_of(genomic) == {"y": {"A": None, "B": 3.0, "C": 0.0}}
    assert reasons_of(ledger) == {
        "a.csv#row 1": "conflicting_records",
        "b.csv#row 2": "conflicting_records",
    }


def test_no_file_gives_an_empty_table(tmp_path: Path) -> None:
    genomic, ledger = _read(tmp_path)
    assert len(genomic.samples) == genomic.values.num_rows == ledger.n_found == 0


def test_a_header_alone_gives_an_empty_table_that_knows_its_features(tmp_path: Path) -> None:
    genomic, ledger = _text(tmp_path, "sample,A\n")
    assert genomic.values.column_names == ["sample_id", "A"]
    assert len(genomic.samples) == ledger.n_found == 0


@pytest.mark.parametrize(
    ("name", "content", "reason_code"),
    [
        ("m.csv", b"", "unreadable_file"),
        ("m.csv.gz", gzip.compress(b"sample,A\n" + b"x,1\n" * 5000)[:-12], "truncated_file"),
        ("m.csv.gz", b"sample,A\nx,1\n", "unreadable_file"),
        ("m.csv", b"sample,A\nx\xff,1\n", "unknown_encoding"),
        ("m.parquet", b"sample,A\nx,1\n", "unreadable_file"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_quarantined_record_and_the_others_are_read(
    tmp_path: Path, name: str, content: bytes, reason_code: str
) -> None:
    (tmp_path / name).write_bytes(content)
    genomic, ledger = _text(tmp_path, "sample,A\ny,1\n", "z.csv")
    assert list(values_of(genomic)) == ["y"]
    assert reasons_of(ledger) == {name: reason_code}
    assert ledger.n_found == 2


def test_parquet_of_any_number_type_is_read_and_nothing_else_becomes_a_number(tmp_path: Path) -> None:
    table = pa.table(
        {
            "sample": pa.array(["x", "y"]).dictionary_encode(),
            "int": pa.array([3, None], pa.int16()),
            "half": pa.array([0.5, float("nan")], pa.float16()),
            "double": pa.array([1.25, float("inf")]),
            "text": pa.array(["7", "seven"]),
            "flag": pa.array([True, False]),
        }
    )
    pq.write_table(table, tmp_path / "m.parquet")
    genomic, ledger = _read(tmp_path)
    assert values_of(genomic) == {"x": {"int": 3.0, "half": 0.5, "double": 1.25, "text": 7.0, "flag": None}}
    assert reasons_of(ledger) == {
        "m.parquet#row 2": "empty_row",  # null, NaN, infinity and words
        "m.parquet#row 1 column 6": "not_a_number",
    }


def test_numeric_sample_ids_of_parquet_are_text(tmp_path: Path) -> None:
    pq.write_table(pa.table({"sample": [7, 8], "A": [1.0, 2.0]}), tmp_path / "m.parquet")
    genomic, _ = _read(tmp_path)
    assert list(genomic.samples["source_patient_id"]) == ["7", "8"]


def test_log2p1_is_taken_once_and_a_negative_count_is_missing_and_on_record(tmp_path: Path) -> None:
    rows = [("sample", "A"), *((f"s{i:03}", "3") for i in range(150)), ("t", "-1"), ("u", "0"), ("v", "")]
    content = "".join(f"{a},{b},7\n" if i else f"{a},{b},B\n" for i, (a, b) in enumerate(rows))
    genomic, ledger = _text(tmp_path, content, transform="log2p1")
    values = values_of(genomic)
    assert values["s000"] == {"A": 2.0, "B": 3.0}
    assert values["t"] == {"A": None, "B": 3.0}
    assert values["u"] == {"A": 0.0, "B": 3.0}
    assert values["v"] == {"A": None, "B": 3.0}
    assert reasons_of(ledger) == {"m.csv#row 151 column 2": "out_of_range"}


def test_log2p1_of_values_that_are_logarithms_already_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match="50% of the values are negative"):
        _text(tmp_path, "sample,A\nx,-1\ny,1\n", transform="log2p1")


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("smaple,A\nx,1\n", {}, "did you mean 'smaple'"),
        ("sample,A,A2\nx,1,2\n", {"features": "^B"}, "none of the 3 columns is a feature"),
        ("sample,A\nx,1\n", {"features": "("}, "no regular expression"),
        ("sample,sample,A\nx,y,1\n", {}, "stands 2 times"),
        ("gene,x\nA,1\n", {"samples": "columns", "patient_id": "gene"}, "samples lie in columns"),
        ("id,sample_id,A\nx,1,2\n", {"sample_id": "id"}, "a feature is called 'sample_id'"),
        ("sample,A\nx,1\n", {"table": {"encoding": "utf-99"}}, "no encoding that Python knows"),
        ("sample,A\nx,1\n", {"patient_id": "case"}, "no column 'case'"),
    ],
)
def test_a_declaration_that_does_not_fit_the_file_is_one_sentence_that_names_the_source(
    tmp_path: Path, content: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(DeliveryError, match=message) as caught:
        _text(tmp_path, content, **options)
    assert str(caught.value).startswith("source s: ")
    assert "\n" not in str(caught.value)


def test_values_are_written_as_the_same_bytes_and_say_nothing_of_absent_features(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    genomic, _ = _text(tmp_path / "in", "sample,A\nx,1\n")
    first = write_values("s", genomic.values, tmp_path)
    content = first.read_bytes()
    assert first.name == "genomics_s.parquet"
    assert write_values("s", _read(tmp_path / "in")[0].values, tmp_path).read_bytes() == content
    assert ABSENT_FEATURE not in (pq.read_schema(first).metadata or {})


_cell = st.one_of(
    st.floats(width=32).map(repr),
    st.integers(-(10**6), 10**6).map(str),
    st.sampled_from(["", "NA", "nan", "x", "1_0", "-", "1,5", "١"]),
)


def _expected(cell: str) -> float | None:
    """What a cell means, from the csv text alone."""
    if "_" in cell or cell in {"", "NA", "nan", "x", "-", "1,5"}:
        return None
    with np.errstate(over="ignore"):
        number = float(np.float32(float(cell)))
    return number if math.isfinite(number) else None


@given(st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(_cell, min_size=n, max_size=n), max_size=6)))
@settings(max_examples=100, deadline=None)
def test_any_matrix_is_read_cell_by_cell_in_both_ways_to_lie(
    tmp_path_factory: pytest.TempPathFactory, cells: list[list[str]]
) -> None:
    n_features = len(cells[0]) if cells else 1
    features = [f"F{i}" for i in range(n_features)]
    samples = [f"S{i}" for i in range(len(cells))]
    in_rows = [["sample", *features], *([s, *row] for s, row in zip(samples, cells, strict=True))]
    in_columns = [list(line) for line in zip(*in_rows, strict=True)]
    wanted = {
        s: {f: _expected(c) for f, c in zip(features, row, strict=True)}
        for s, row in zip(samples, cells, strict=True)
    }
    wanted = {s: row for s, row in wanted.items() if any(v is not None for v in row.values())}
    for lines, way in ((in_rows, "rows"), (in_columns, "columns")):
        folder = tmp_path_factory.mktemp("m")
        text = io.StringIO()
        csv.writer(text).writerows(lines)
        (folder / "m.csv").write_text(text.getvalue())
        genomic, ledger = _read(folder, samples=way)
        assert values_of(genomic) == wanted
        assert ledger.n_found == len(samples)
        assert ledger.counts()["quarantined"][0] == len(samples) - len(wanted)
