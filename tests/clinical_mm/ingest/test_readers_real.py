"""Real notes, matrices, mutations, FHIR and clinical tables that nobody here wrote, against csv, json and pandas."""

import base64
import csv
import gzip
import io
import json
import tarfile
import zipfile
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from clinical_mm import tables
from clinical_mm.ingest.clinical import read_clinical
from clinical_mm.ingest.delivery import Delivery
from clinical_mm.ingest.fhir import read_notes_fhir
from clinical_mm.ingest.genomics import read_genomics_matrix
from clinical_mm.ingest.ledger import Ledger, is_conserved
from clinical_mm.ingest.maf import read_genomics_maf
from clinical_mm.ingest.notes import read_notes_table
from clinical_mm.ingest.notes_files import read_notes_files
from clinical_mm.ingest.notes_omop import read_notes_omop
from clinical_mm.ingest.outcomes import read_outcomes
from clinical_mm.ingest.samples import GenomicTables
from clinical_mm.study.sources import (
    ClinicalSource,
    GenomicsMafSource,
    GenomicsMatrixSource,
    NotesFhirSource,
    NotesFilesSource,
    NotesOmopSource,
    NotesTableSource,
    OutcomesSource,
)

pytestmark = pytest.mark.real_data

READERS = {
    "notes_table": (NotesTableSource, read_notes_table, tables.NOTES),
    "notes_fhir": (NotesFhirSource, read_notes_fhir, tables.NOTES),
    "notes_omop": (NotesOmopSource, read_notes_omop, tables.NOTES),
    "genomics_matrix": (GenomicsMatrixSource, read_genomics_matrix, tables.GENOMIC_SAMPLES),
    "genomics_maf": (GenomicsMafSource, read_genomics_maf, tables.GENOMIC_SAMPLES),
    "clinical": (ClinicalSource, read_clinical, tables.CLINICAL),
    "outcomes": (OutcomesSource, read_outcomes, tables.OUTCOMES),
}


def _read(folder: Path, path: str, **declared: Any) -> tuple[Any, Ledger]:
    model, reader, table = READERS[declared["kind"]]
    source = model.model_validate({"path": path, **declared})
    ledger = Ledger("s", "d", "record")
    files = sorted(folder.glob(path))
    assert files
    found = reader("s", source, Delivery("d", folder), files, ledger)
    tables.to_arrow(table, found.samples if isinstance(found, GenomicTables) else found)
    tables.to_arrow(tables.RECORDS, ledger.records())
    assert is_conserved(ledger.counts())
    return found, ledger


def _fates(ledger: Ledger) -> tuple[int, ...]:
    fates = ["found", "accepted", "duplicate", "superseded", "quarantined"]
    return tuple(int(n) for n in ledger.counts()[fates].iloc[0])


def _rows(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    csv.field_size_limit(2**31 - 1)
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


@pytest.mark.parametrize(
    ("site", "found", "n_empty", "n_utf_16"),
    [("KIDNEY", 947, 89, 14), ("BLADDER", 412, 0, 0), ("LIVER", 421, 0, 0)],
)
def test_every_pathology_report_is_read_whole_or_quarantined_as_empty_or_misread(
    real_data: Path, site: str, found: int, n_empty: int, n_utf_16: int
) -> None:
    """Of the kidney reports 14 are UTF-16 that was taken for another encoding before: NULs between letters."""
    folder = real_data / "tcga_reports_genomics" / "reports"
    column = "pdf_file_name_path"
    notes, ledger = _read(
        folder,
        f"{site}.csv",
        kind="notes_table",
        patient_id=column,
        note_id=column,
        text="ocr_text",
        is_timeless=True,
    )
    n_bad = n_empty + n_utf_16
    assert _fates(ledger) == (found, found - n_bad, 0, 0, n_bad)
    reasons = Counter(ledger.records()["reason_code"])
    assert (reasons["empty_text"], reasons["control_characters"]) == (n_empty, n_utf_16)
    rows = _rows(folder / f"{site}.csv")
    assert dict(zip(notes["note_id"], notes["text"], strict=True)) == {
        row[column].strip(): row["ocr_text"]
        for row in rows
        if row["ocr_text"].strip() and "\0" not in row["ocr_text"]
    }
    for locator in ledger.records()["locator"]:
        text = rows[int(locator.split("#row ")[1]) - 1]["ocr_text"]
        assert not text.strip() or "\0" in text
    assert notes["source_patient_id"].str.match(r"TCGA-\w\w-\w{4}").all()


def test_rows_without_a_barcode_have_no_text_either_and_are_counted(real_data: Path) -> None:
    rows = _rows(real_data / "tcga_reports_genomics" / "reports" / "KIDNEY.csv")
    nameless = [i for i, row in enumerate(rows, 1) if not row["pdf_file_name_path"].startswith("TCGA-")]
    assert len(nameless) == 3
    _, ledger = _read(
        real_data / "tcga_reports_genomics" / "reports",
        "KIDNEY.csv",
        kind="notes_table",
        patient_id="pdf_file_name_path",
        text="ocr_text",
        is_timeless=True,
    )
    assert {f"KIDNEY.csv#row {i}" for i in nameless} <= set(ledger.records()["locator"])


def _wide(real_data: Path, cancer: str) -> pd.DataFrame:
    path = real_data / "tcga_reports_genomics" / "genomics" / f"tcga_{cancer}_all_clean.csv.zip"
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as file:
        return pd.read_csv(file, dtype={"case_id": str, "slide_id": str}, float_precision="round_trip")


@pytest.mark.parametrize(
    ("cancer", "n_slides", "n_cases", "n_features"),
    [
        ("kirc", 350, 345, 2503),
        ("kirp", 284, 260, 1577),
        ("blca", 437, 373, 2181),
        ("lihc", 347, 333, 2574),
    ],
)
def test_a_patient_with_several_slides_is_one_sample_with_the_values_that_pandas_reads(
    real_data: Path, cancer: str, n_slides: int, n_cases: int, n_features: int
) -> None:
    genomic, ledger = _read(
        real_data / "tcga_reports_genomics" / "genomics",
        f"tcga_{cancer}_all_clean.csv.zip",
        kind="genomics_matrix",
        samples="rows",
        patient_id="case_id",
        features="_(rnaseq|cnv|mut)$",
    )
    assert _fates(ledger) == (n_slides, n_cases, n_slides - n_cases, 0, 0)
    frame = _wide(real_data, cancer).drop_duplicates("case_id").sort_values("case_id")
    assert list(genomic.samples["source_patient_id"]) == list(frame["case_id"])
    names = genomic.values.column_names[1:]
    assert len(names) == n_features
    values = genomic.values.drop_columns("sample_id").to_pandas().to_numpy()
    assert np.array_equal(values, frame[names].to_numpy(dtype=np.float64).astype(np.float32))
    assert (genomic.samples["n_features"] == n_features).all()


def test_all_cancers_together_are_joined_and_a_gene_that_one_lacks_is_missing_in_it(real_data: Path) -> None:
    genomic, ledger = _read(
        real_data / "tcga_reports_genomics" / "genomics",
        "tcga_kir?_all_clean.csv.zip",
        kind="genomics_matrix",
        samples="rows",
        patient_id="case_id",
        features="_(rnaseq|cnv|mut)$",
    )
    kirc, kirp = (_wide(real_data, cancer) for cancer in ("kirc", "kirp"))
    assert _fates(ledger) == (634, 605, 29, 0, 0)
    features = {c for c in (*kirc, *kirp) if c.endswith(("_rnaseq", "_cnv", "_mut"))}
    assert set(genomic.values.column_names[1:]) == features
    assert "VHL_mut" not in kirp
    is_known = dict(
        zip(genomic.samples["sample_id"], genomic.values["VHL_mut"].is_valid().to_pylist(), strict=True)
    )
    assert {case for case, known in is_known.items() if known} == set(kirc["case_id"])


def test_a_slide_is_a_sample_where_the_study_says_so(real_data: Path) -> None:
    genomic, ledger = _read(
        real_data / "tcga_reports_genomics" / "genomics",
        "tcga_kirc*.zip",
        kind="genomics_matrix",
        samples="rows",
        sample_id="slide_id",
        patient_id="case_id",
        features="_rnaseq$",
    )
    assert _fates(ledger) == (350, 350, 0, 0, 0)
    assert genomic.samples["source_patient_id"].nunique() == 345


def test_genes_of_a_real_maf_have_the_counts_counted_by_hand(real_data: Path) -> None:
    folder = real_data / "genomics" / "maftools"
    genomic, ledger = _read(folder, "tcga_laml.maf.gz", kind="genomics_maf", sequenced="tcga_laml_annot.tsv")
    assert _fates(ledger) == (2207, 2207, 0, 0, 0)
    values = genomic.values.to_pandas().set_index("sample_id")
    assert len(values) == 200  # 193 with a variant, and seven that were sequenced and have none
    assert not values.isna().any(axis=None)
    assert int((values == 0).all(axis=1).sum()) >= 7
    summary = {"FLT3": (52, 52), "DNMT3A": (54, 48), "IDH2": (20, 20), "TP53": (19, 15)}
    assert {g: (int(values[g].sum()), int((values[g] > 0).sum())) for g in summary} == summary
    silent = {"Silent", "Intron", "3'UTR", "5'UTR", "3'Flank", "5'Flank", "IGR", "RNA"}
    rows = _rows(folder / "tcga_laml.maf.gz", "\t")
    counted = Counter(
        (row["Tumor_Sample_Barcode"], row["Hugo_Symbol"])
        for row in rows
        if row["Variant_Classification"] not in silent
    )
    assert values.to_numpy().sum() == sum(counted.values()) == 2207 - 475
    assert set(values.columns) == {gene for _, gene in counted}
    stacked = values.stack()
    assert {key: int(n) for key, n in stacked[stacked > 0].items()} == dict(counted)


def test_without_the_list_only_samples_with_a_variant_are_known(real_data: Path) -> None:
    genomic, _ = _read(real_data / "genomics" / "maftools", "tcga_laml.maf.gz", kind="genomics_maf")
    assert len(genomic.samples) == 193


def test_a_maf_of_cbioportal_begins_with_a_version_and_is_read(real_data: Path) -> None:
    folder = real_data / "genomics" / "cbioportal_study_es_0"
    genomic, ledger = _read(folder, "data_mutations_extended.maf", kind="genomics_maf")
    assert _fates(ledger) == (36, 36, 0, 0, 0)
    values = genomic.values.to_pandas().set_index("sample_id")
    assert len(values) == 21
    assert values.to_numpy().sum() == 36 - 2  # two are silent


@pytest.mark.parametrize(
    ("file", "excluded", "shape", "n_bad"),
    [
        ("data_expression_median.txt", ("Entrez_Gene_Id",), (526, 6), 0),
        ("data_cna_log2.txt", ("Entrez_Gene_Id",), (778, 7), 0),
        ("data_methylation_hm27.txt", ("Entrez_Gene_Id",), (311, 8), 0),
        ("data_gsva_scores.txt", (), (5, 7), 0),
        # `>8` is no number: 24 cells, and one record for each of the two features that are nothing else
        ("data_treatment_ic50.txt", ("NAME", "DESCRIPTION", "URL"), (8, 10), 24 + 2),
    ],
)
def test_a_cbioportal_matrix_has_a_column_a_sample_and_is_read_as_pandas_does(
    real_data: Path, file: str, excluded: tuple[str, ...], shape: tuple[int, int], n_bad: int
) -> None:
    n_samples, n_features = shape
    folder = real_data / "genomics" / "cbioportal_study_es_0"
    genomic, ledger = _read(folder, file, kind="genomics_matrix", samples="columns", excluded=excluded)
    assert _fates(ledger) == (n_samples, n_samples, 0, 0, 0)
    frame = pd.read_csv(folder / file, sep="\t", index_col=0, na_values=[">8"]).drop(columns=list(excluded))
    assert frame.shape == (n_features, n_samples)
    values = genomic.values.to_pandas().set_index("sample_id")
    assert list(values.columns) == list(frame.index)
    expected = frame.T.loc[values.index].to_numpy(dtype=np.float64).astype(np.float32)
    assert np.array_equal(values.to_numpy(), expected, equal_nan=True)
    assert Counter(ledger.records()["reason_code"]) == ({"not_a_number": n_bad} if n_bad else {})


def test_cbioportal_words_for_yes_and_no_are_no_numbers(real_data: Path) -> None:
    genomic, ledger = _read(
        real_data / "genomics" / "cbioportal_study_es_0",
        "data_generic_assay_binary.txt",
        kind="genomics_matrix",
        samples="columns",
        excluded=["name", "description"],
    )
    assert _fates(ledger) == (2, 0, 0, 0, 2)
    assert len(genomic.samples) == 0


def test_cbioportal_outcomes_behind_four_lines_of_comment(real_data: Path) -> None:
    folder = real_data / "genomics" / "cbioportal_study_es_0"
    outcomes, ledger = _read(
        folder,
        "data_clinical_patients.txt",
        kind="outcomes",
        patient_id="PATIENT_ID",
        table={"comment": "#"},
        missing_values=["", "[Not Available]"],
        variables={
            "OS_STATUS": {"type": "category", "levels": ["0:LIVING", "1:DECEASED"]},
            "OS_MONTHS": {"unit": "months", "minimum": 0},
        },
    )
    assert _fates(ledger) == (841, 841, 0, 0, 0)
    assert ledger.records().empty
    status = outcomes[outcomes["variable"] == "OS_STATUS"]["value_text"]
    assert Counter(status.fillna("unknown")) == {"0:LIVING": 721, "1:DECEASED": 87, "unknown": 33}
    assert outcomes[outcomes["variable"] == "OS_MONTHS"]["value_number"].isna().sum() == 33


def test_an_infinite_follow_up_is_not_known_and_on_record(real_data: Path) -> None:
    outcomes, ledger = _read(
        real_data / "genomics" / "maftools",
        "tcga_laml_annot.tsv",
        kind="outcomes",
        patient_id="Tumor_Sample_Barcode",
        variables={"days_to_last_followup": {"unit": "d"}, "Overall_Survival_Status": {}},
    )
    assert _fates(ledger) == (200, 200, 0, 0, 0)
    assert Counter(ledger.records()["reason_code"]) == {"not_a_number": 12}  # `-Inf`
    died = outcomes[outcomes["variable"] == "Overall_Survival_Status"]["value_number"]
    assert Counter(died) == {1.0: 133, 0.0: 67}
    assert np.isfinite(outcomes["value_number"].dropna()).all()


def _documents(folder: Path) -> list[dict[str, Any]]:
    lines = (line for path in sorted(folder.glob("*.ndjson")) for line in path.read_text().splitlines())
    return [json.loads(line) for line in lines if line.strip()]


def test_document_references_of_cumulus_are_read_where_they_say_when_they_could_be(real_data: Path) -> None:
    folder = real_data / "ehr_standards" / "cumulus_etl_docref"
    notes, ledger = _read(folder, "*.ndjson", kind="notes_fhir", time={"timezone": "America/New_York"})
    documents = _documents(folder)
    dated = [d for d in documents if "date" in d]
    assert _fates(ledger) == (len(documents), len(dated), 0, 0, len(documents) - len(dated))
    assert set(ledger.records()["reason_code"]) == {"missing_time"}
    texts = {d["id"]: base64.b64decode(d["content"][0]["attachment"]["data"]).decode() for d in dated}
    assert len(texts) == 5
    assert dict(zip(notes["note_id"].str.removeprefix("DocumentReference/"), notes["text"], strict=True)) == (
        texts
    )
    assert set(notes["source_patient_id"]) == {"A"}
    # 2022-12-05T15:33:59.978-05:00 is that very hour in New York
    assert set(notes["available_time"]) == {datetime(2022, 12, 5, 15, 33, 59, 978_000)}


def _line(resource: dict[str, Any]) -> str:
    return json.dumps(resource) + "\n"


@pytest.mark.parametrize("layout", ["json", "ndjson"])
def test_every_example_of_the_standard_has_a_fate_and_none_raises(
    real_data: Path, tmp_path: Path, layout: str
) -> None:
    folder = real_data / "ehr_standards" / "hl7_r4_examples"
    examples = [json.loads(p.read_text(encoding="utf-8-sig")) for p in sorted(folder.glob("*.json"))]
    if layout == "ndjson":
        folder = tmp_path
        (folder / "examples.ndjson").write_text("".join(map(_line, examples)))
    notes, ledger = _read(folder, f"*.{layout}", kind="notes_fhir")
    kinds = Counter(example["resourceType"] for example in examples)
    assert (kinds["DocumentReference"], kinds["DiagnosticReport"], kinds["Binary"]) == (1, 5, 1)
    assert _fates(ledger) == (53, 2, 0, 0, 51)
    # Two reports have results and no text, one a PDF; the document is on a server; no note names the Binary.
    assert Counter(ledger.records()["reason_code"]) == {
        "wrong_resource": 46,
        "empty_text": 2,
        "unsupported_content_type": 2,
        "not_referenced": 1,
    }
    said = {e["id"]: e["conclusion"] for e in examples if "conclusion" in e}
    texts = dict(zip(notes["note_id"], notes["text"], strict=True))
    assert texts == {f"DiagnosticReport/{i}": text for i, text in said.items()}


@pytest.mark.parametrize(
    ("patient", "n_entries", "n_reports"),
    [("Antonio", 83, 2), ("Chauncey", 90, 3), ("Chet", 117, 3), ("Garrett", 111, 2), ("Joie", 109, 4)],
)
def test_every_entry_of_a_synthea_bundle_has_a_fate(
    real_data: Path, patient: str, n_entries: int, n_reports: int
) -> None:
    """These reports are of laboratories: they have results, and no text."""
    folder = real_data / "ehr_standards" / "synthea_bundles"
    notes, ledger = _read(folder, f"{patient}*.json", kind="notes_fhir")
    assert _fates(ledger) == (n_entries, 0, 0, 0, n_entries)
    assert notes.empty
    entries = json.loads(next(folder.glob(f"{patient}*.json")).read_text())["entry"]
    reasons = dict(zip(ledger.records()["locator"], ledger.records()["reason_code"], strict=True))
    by_entry = {int(locator.split("#entry ")[1]): reason for locator, reason in reasons.items()}
    are_reports = [e["resource"]["resourceType"] == "DiagnosticReport" for e in entries]
    assert sum(are_reports) == n_reports
    assert by_entry == {
        number: "empty_text" if is_report else "wrong_resource"
        for number, is_report in enumerate(are_reports, start=1)
    }


def test_the_note_table_of_synthea_in_omop_has_every_column_and_no_record(
    real_data: Path, tmp_path: Path
) -> None:
    """Its tables are Parquet; the columns are as OMOP CDM 5.4 names them."""
    with zipfile.ZipFile(real_data / "ehr_standards" / "Synthea27NjParquet_5.4.zip") as archive:
        note = pd.read_parquet(io.BytesIO(archive.read("Synthea27NjParquet/note.parquet")))
    assert (len(note), len(note.columns)) == (0, 16)
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'omop.db'}")
    note.to_sql("note", engine, index=False)
    engine.dispose()
    notes, ledger = _read(tmp_path, "omop.db", kind="notes_omop")
    assert notes.empty
    assert _fates(ledger) == (0, 0, 0, 0, 0)


def test_the_note_table_of_synthea_is_read_as_parquet_too(real_data: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(real_data / "ehr_standards" / "Synthea27NjParquet_5.4.zip") as archive:
        (tmp_path / "note.parquet").write_bytes(archive.read("Synthea27NjParquet/note.parquet"))
    notes, ledger = _read(tmp_path, "note.parquet", kind="notes_omop")
    assert notes.empty
    assert _fates(ledger) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("file", "columns", "found", "n_empty"),
    [
        ("notes/mtsamples_test500.csv", {"patient_id": "label", "text": "text"}, 500, 0),
        (
            "notes/pmc_patients_1000.csv",
            {"patient_id": "patient_uid", "note_id": "patient_uid", "text": "patient"},
            *(1000, 0),
        ),
        (
            "iu_cxr/indiana_reports.csv",
            {"patient_id": "uid", "note_id": "uid", "text": "findings"},
            *(3851, 514),
        ),
        (
            "iu_cxr/indiana_reports.csv",
            {"patient_id": "uid", "note_id": "uid", "text": "impression"},
            *(3851, 31),
        ),
        ("medpix_ct_mr/cases.csv", {"patient_id": "U_id", "note_id": "U_id", "text": "findings"}, 602, 16),
        ("medpix_ct_mr/cases.csv", {"patient_id": "U_id", "note_id": "U_id", "text": "history"}, 602, 6),
    ],
)
def test_every_real_text_is_read_whole_or_is_empty(
    real_data: Path, file: str, columns: dict[str, str], found: int, n_empty: int
) -> None:
    path = real_data / file
    notes, ledger = _read(path.parent, path.name, kind="notes_table", is_timeless=True, **columns)
    rows = [row for row in _rows(path) if row[columns["text"]].strip()]
    texts = Counter(row[columns["text"]] for row in rows)
    # A note without an id is the same as another of the same patient and text.
    n_repeated = len(rows) - len({(row[columns["patient_id"]], row[columns["text"]]) for row in rows})
    assert _fates(ledger) == (found, found - n_empty - n_repeated, n_repeated, 0, n_empty)
    assert Counter(notes["text"]) == texts if n_repeated == 0 else set(notes["text"]) == set(texts)


def test_the_xml_of_open_i_is_no_text_that_is_read(real_data: Path, tmp_path: Path) -> None:
    """Its reports are in the table beside it; a file of another type is quarantined, not stripped of its tags."""
    with tarfile.open(real_data / "iu_cxr" / "NLMCXR_reports.tgz") as archive:
        members = [m for m in archive.getmembers() if m.isfile()][:20]
        for member in members:
            stream = archive.extractfile(member)
            assert stream is not None
            (tmp_path / Path(member.name).name).write_bytes(stream.read())
    names = sorted(Path(m.name).name for m in members)
    rows = [f"{Path(name).stem},{name}\n" for name in names]
    (tmp_path / "manifest.csv").write_text("patient,file\n" + "".join(rows))
    source = NotesFilesSource(
        kind="notes_files",
        path="*.xml",
        manifest="manifest.csv",
        patient_id="patient",
        file="file",
        is_timeless=True,
    )
    ledger = Ledger("s", "d", "file")
    files = sorted(tmp_path.glob("*.xml"))
    assert read_notes_files("s", source, Delivery("d", tmp_path), files, ledger).empty
    assert _fates(ledger) == (20, 0, 0, 0, 20)
    assert set(ledger.records()["reason_code"]) == {"unsupported_content_type"}


def test_patients_of_hancock_keep_their_zeros_in_every_table(real_data: Path) -> None:
    folder = real_data / "hancock"
    clinical, ledger = _read(
        folder,
        "clinical.csv",
        kind="clinical",
        patient_id="patient_id",
        is_timeless=True,
        variables={
            "sex": {"type": "category", "levels": ["0", "1"]},
            "age": {"column": "age_at_initial_diagnosis", "unit": "years", "minimum": 0, "maximum": 120},
            "smoking_status": None,
        },
    )
    assert _fates(ledger) == (763, 763, 0, 0, 0)
    rows = _rows(folder / "clinical.csv")
    assert set(clinical["source_patient_id"]) == {row["patient_id"] for row in rows}
    assert {"001", "010", "100"} <= set(clinical["source_patient_id"])
    assert clinical["source_patient_id"].str.fullmatch(r"\d{3}").all()
    ages = clinical[clinical["variable"] == "age"].set_index("source_patient_id")["value_number"]
    assert ages.to_dict() == {
        row["patient_id"]: float(row["age_at_initial_diagnosis"])
        for row in rows
        if row["age_at_initial_diagnosis"]
    }
    targets, ledger = _read(
        folder,
        "targets.csv",
        kind="outcomes",
        patient_id="patient_id",
        variables={
            "survival_status": {"type": "category", "levels": ["living", "deceased"]},
            "days_to_last_information": {"unit": "d"},
            "days_to_recurrence": {"unit": "d"},
        },
    )
    assert _fates(ledger) == (763, 763, 0, 0, 0)
    assert set(targets["source_patient_id"]) == set(clinical["source_patient_id"])
    days = targets[targets["variable"] == "days_to_recurrence"].set_index("source_patient_id")["value_number"]
    assert days.dropna().to_dict() == {
        row["patient_id"]: float(row["days_to_recurrence"])
        for row in _rows(folder / "targets.csv")
        if row["days_to_recurrence"]
    }


def test_cell_densities_of_hancock_are_a_matrix_whose_blanks_are_missing(real_data: Path) -> None:
    genomic, ledger = _read(
        real_data / "hancock", "tma_cell_density.csv", kind="genomics_matrix", samples="rows"
    )
    frame = pd.read_csv(real_data / "hancock" / "tma_cell_density.csv", dtype={"patient_id": str})
    frame = frame.dropna(thresh=2).sort_values("patient_id")
    assert _fates(ledger) == (736, len(frame), 0, 0, 736 - len(frame))
    assert list(genomic.samples["source_patient_id"]) == list(frame["patient_id"])
    values = genomic.values.drop_columns("sample_id").to_pandas().to_numpy()
    assert np.array_equal(values, frame.iloc[:, 1:].to_numpy().astype(np.float32), equal_nan=True)
    assert np.isnan(values).any()
