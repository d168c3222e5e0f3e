import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clinical_mm import tables
from clinical_mm.cohort.current import counts, current_rows, genomic_values, records, revisions
from clinical_mm.errors import TableError
from clinical_mm.store import snapshot


def fates(hospital, table, stage):
    return revisions(hospital.store, table, stage).set_index("source").to_dict("index")


def test_a_later_delivery_corrects_an_earlier_one(hospital):
    hospital.note("d1", "p1", "n1", "2020-01-01 08:00", text="first")
    hospital.note("d1", "p1", "n2", "2020-01-01 08:00", text="stays")
    hospital.note("d2", "p1", "n1", "2020-01-01 08:00", text="corrected")
    hospital.write()
    rows = current_rows(hospital.store, tables.NOTES, "notes")
    assert dict(zip(rows["note_id"], rows["text"], strict=True)) == {"n1": "corrected", "n2": "stays"}
    assert list(rows.columns) == tables.NOTES.columns
    assert fates(hospital, tables.NOTES, "notes")["notes"] == {
        "rows": 3,
        "current": 2,
        "duplicate": 0,
        "superseded": 1,
        "retracted": 0,
    }


def test_the_same_row_again_is_a_duplicate_and_another_value_supersedes(hospital):
    hospital.value("d1", "p1", "crp", 3.0, "2020-01-01 08:00")
    hospital.value("d1", "p1", "sex", "f", None)
    hospital.value("d2", "p1", "crp", 3.0, "2020-01-01 08:00")
    hospital.value("d2", "p1", "sex", "f", None)
    hospital.value("d3", "p1", "crp", 4.0, "2020-01-01 08:00")
    hospital.write()
    rows = current_rows(hospital.store, tables.CLINICAL, "clinical", ["variable", "delivery", "value_number"])
    assert sorted(rows[["variable", "delivery"]].itertuples(index=False, name=None)) == [
        ("crp", "d3"),
        ("sex", "d2"),
    ]
    # crp of d1 and d2 both differ from the 4.0 that stands; sex of d1 says what d2 says.
    assert fates(hospital, tables.CLINICAL, "clinical")["labs"] == {
        "rows": 5,
        "current": 2,
        "duplicate": 1,
        "superseded": 2,
        "retracted": 0,
    }


def test_deliveries_are_ordered_by_name_not_by_when_they_were_ingested(hospital):
    hospital.outcome("2024-02", "p1", "yes", "2020-01-01")
    hospital.outcome("2024-01", "p1", "no", "2020-01-01")
    hospital.write()
    rows = current_rows(hospital.store, tables.OUTCOMES, "outcomes", ["value_text"])
    assert rows["value_text"].tolist() == ["yes"]


def test_series_are_current_by_stack(hospital):
    hospital.series("d1", "p1", "1.2", "2020-01-01 08:00", stack=0)
    hospital.series("d1", "p1", "1.2", "2020-01-01 08:00", stack=1)
    hospital.series("d2", "p1", "1.2", "2020-01-01 08:00", stack=1, content_hash="other")
    hospital.write()
    rows = current_rows(hospital.store, tables.SERIES, "imaging", ["stack", "delivery"])
    assert sorted(rows.itertuples(index=False, name=None)) == [(0, "d1"), (1, "d2")]
    assert fates(hospital, tables.SERIES, "imaging")["ct"]["superseded"] == 1


def test_a_note_that_a_later_delivery_declares_entered_in_error_stands_no_more(hospital):
    hospital.note("d1", "p1", "n1", "2020-01-01 08:00", status="final")
    hospital.note("d2", "p1", "n1", "2020-01-01 08:00", status="entered-in-error")
    hospital.write()
    assert current_rows(hospital.store, tables.NOTES, "notes").empty
    assert fates(hospital, tables.NOTES, "notes")["notes"] == {
        "rows": 2,
        "current": 0,
        "duplicate": 0,
        "superseded": 1,
        "retracted": 1,
    }


def test_an_empty_store_has_empty_tables(hospital):
    assert current_rows(hospital.store, tables.NOTES, "notes").columns.tolist() == tables.NOTES.columns
    assert counts(hospital.store).empty
    assert records(hospital.store).empty
    assert revisions(hospital.store, tables.NOTES, "notes").empty


def test_counts_and_records_are_of_all_deliveries(hospital):
    hospital.note("d1", "p1", "n1", "2020-01-01")
    hospital.note("d2", "p1", "n2", "2020-01-01")
    hospital.outcome("d2", "p1", "yes", "2020-01-01")
    hospital.write()
    found = counts(hospital.store).groupby("source")["accepted"].sum().to_dict()
    assert found == {"notes": 2, "registry": 1}


def write_matrix(hospital, delivery, columns):
    about = {"d1": ["s1", "s2"], "d2": ["s3"]}[delivery]
    with snapshot(hospital.store.delivery(delivery, "genomics"), delivery) as directory:
        matrix = pa.table({"sample_id": about, **{k: pa.array(v, pa.float32()) for k, v in columns.items()}})
        pq.write_table(matrix, directory / "genomics_rna.parquet")


def test_genomic_values_are_of_the_samples_asked_for_in_their_order(hospital):
    write_matrix(hospital, "d1", {"TP53": [1.5, None], "KRAS": [2.0, 3.0]})
    write_matrix(hospital, "d2", {"KRAS": [9.0], "MYC": [4.0]})
    samples = pd.DataFrame({"delivery": ["d2", "d1"], "sample_id": ["s3", "s2"]})
    values = genomic_values(hospital.store, samples, "rna")
    assert values.index.tolist() == ["s3", "s2"]
    assert values.columns.tolist() == ["TP53", "KRAS", "MYC"]
    assert (values.dtypes == "float32").all()
    assert values["KRAS"].tolist() == [9.0, 3.0]
    assert values["MYC"].isna().tolist() == [False, True]
    assert values["TP53"].isna().all()


def test_a_sample_without_values_is_an_error_and_is_not_named(hospital):
    write_matrix(hospital, "d1", {"TP53": [1.5, 2.0]})
    samples = pd.DataFrame({"delivery": ["d1"], "sample_id": ["absent"]})
    with pytest.raises(TableError, match="values for 0 of 1 samples") as caught:
        genomic_values(hospital.store, samples, "rna")
    assert "absent" not in str(caught.value)
