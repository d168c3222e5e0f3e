"""Whether a study fits its files: all that does not, at once, each with its line."""

import gzip
import sqlite3
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from clinical_mm.check import check_study
from clinical_mm.errors import StudyError
from clinical_mm.summary import StageSummary

STUDY = """\
study: clinic
deliveries: {quiet_period_s: 3600}
sources:
  letters: {kind: notes_table, path: letters*.csv, patient_id: mrn, text: body, available_time: stored}
  scans: {kind: dicom, path: ct/*, is_required: false}
  expression: {kind: genomics_matrix, path: rna.parquet, samples: rows, sample_id: sample}
  mutations: {kind: genomics_maf, path: calls.maf, is_required: false}
  labs: {kind: clinical, path: labs.csv, patient_id: mrn, available_time: drawn, variables: {crp: {column: CRP}}}
  registry:
    kind: outcomes
    path: registry.csv.gz
    patient_id: mrn
    index_time: seen
    variables: {relapse: {type: category, levels: ["yes", "no"]}}
linkage:
  rules:
    - {rule: exact, sources: [letters, labs, registry, scans, mutations]}
    - {rule: crosswalk, sources: [expression], path: codes.csv, source_id: code, patient_id: mrn}
tasks:
  relapse:
    question: Does it come back?
    outcome: {kind: binary, variable: relapse, positive: "yes"}
    modalities: {genomics: {}, clinical: {}}
"""
HEADERS = {"letters.csv": "mrn,body,stored\n", "labs.csv": "mrn,drawn,CRP\n"}


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    """A study and one complete delivery that fit each other."""
    (tmp_path / "study.yaml").write_text(STUDY, encoding="utf-8")
    (tmp_path / "codes.csv").write_text("code,mrn\n", encoding="utf-8")
    delivery = tmp_path / "landing" / "d1"
    delivery.mkdir(parents=True)
    for name, header in HEADERS.items():
        (delivery / name).write_text(header, encoding="utf-8")
    (delivery / "registry.csv.gz").write_bytes(gzip.compress(b"mrn,seen,relapse\n"))
    pd.DataFrame({"sample": ["s1"], "TP53": [0.5]}).to_parquet(delivery / "rna.parquet")
    (delivery / "_SUCCESS").touch()
    return tmp_path


def checked(directory: Path) -> StageSummary:
    return check_study(directory / "study.yaml", time.time())


def problems(directory: Path) -> list[str]:
    """What is wrong, without the folder that every sentence begins with."""
    return [c.sentence.removeprefix(f"{directory}/") for c in checked(directory).failed_checks]


def change(directory: Path, before: str, after: str) -> None:
    path = directory / "study.yaml"
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1
    path.write_text(text.replace(before, after), encoding="utf-8")


def line_of(directory: Path, part: str) -> int:
    lines = (directory / "study.yaml").read_text(encoding="utf-8").splitlines()
    return next(i for i, line in enumerate(lines, 1) if part in line)


def test_a_study_that_fits_its_files_has_no_problem_and_says_what_there_is(clinic: Path) -> None:
    (clinic / "landing" / "d2").mkdir()
    (clinic / "landing" / "d2" / "letters_b.csv").write_text(HEADERS["letters.csv"], encoding="utf-8")
    summary = checked(clinic)
    assert not summary.failed_checks
    assert summary.facts["deliveries"] == 2
    assert summary.facts["of these complete"] == 1
    counts = summary.tables["files by source"].set_index("source")["files"].to_dict()
    assert counts == {
        "letters": 2,
        "scans": 0,
        "expression": 1,
        "mutations": 0,
        "labs": 1,
        "registry": 1,
    }


def test_a_quiet_delivery_is_complete(clinic: Path) -> None:
    (clinic / "landing" / "d1" / "_SUCCESS").unlink()
    assert checked(clinic).facts["of these complete"] == 0
    later = check_study(clinic / "study.yaml", time.time() + 3601)
    assert later.facts["of these complete"] == 1


def test_all_that_is_wrong_is_said_at_once_in_the_order_of_the_file(clinic: Path) -> None:
    delivery = clinic / "landing" / "d1"
    (delivery / "labs.csv").write_text("mrn,drawn,crp\n", encoding="utf-8")
    (delivery / "letters.csv").unlink()
    (clinic / "codes.csv").write_text("code,patient\n", encoding="utf-8")
    change(clinic, "index_time: seen", "index_time: sen")
    found = problems(clinic)
    assert [int(sentence.split(":")[1]) for sentence in found] == [
        line_of(clinic, "letters: {"),
        line_of(clinic, "labs: {"),
        line_of(clinic, "registry:"),
        line_of(clinic, "rule: crosswalk"),
    ]
    assert "no delivery holds a file that matches 'letters*.csv'" in found[0]
    assert "there is no column 'CRP': the file has mrn, drawn, crp" in found[1]
    assert "there is no column 'sen': the file has mrn, seen, relapse; did you mean 'seen'?" in found[2]
    assert "there is no column 'mrn': the file has code, patient" in found[3]


def test_the_same_problem_of_many_files_is_one(clinic: Path) -> None:
    for name in ("letters.csv", "letters_b.csv", "letters_c.csv"):
        (clinic / "landing" / "d1" / name).write_text("mrn,text,stored\n", encoding="utf-8")
    assert len(problems(clinic)) == 1


def test_a_column_is_looked_for_in_parquet_too(clinic: Path) -> None:
    change(clinic, "sample_id: sample}", "sample_id: smple}")
    (found,) = problems(clinic)
    assert "there is no column 'smple'" in found


def test_columns_that_have_defaults_are_looked_for(clinic: Path) -> None:
    maf = clinic / "landing" / "d1" / "calls.maf"
    maf.write_text("Hugo_Symbol\tTumor_Sample_Barcode\tVariant\n", encoding="utf-8")
    (found,) = problems(clinic)
    assert "there is no column 'Variant_Classification'" in found


def test_a_first_line_that_is_no_header_is_not_quoted(clinic: Path) -> None:
    (clinic / "landing" / "d1" / "labs.csv").write_text("Smith,2020-01-01,12\n", encoding="utf-8")
    found = problems(clinic)
    assert len(found) == 3
    assert "its first line holds none of the declared columns in 3 fields" in found[0]
    assert not [sentence for sentence in found if "Smith" in sentence]


@pytest.mark.parametrize("content", [b"", b"PK no parquet, no text \xff\xfe"])
def test_a_file_that_cannot_be_read_is_left_to_quarantine(clinic: Path, content: bytes) -> None:
    (clinic / "landing" / "d1" / "letters_broken.csv").write_bytes(content)
    (clinic / "landing" / "d1" / "rna.parquet").write_bytes(content)
    assert problems(clinic) == []


def test_before_any_delivery_nothing_is_missing_from_one(clinic: Path) -> None:
    (clinic / "landing" / "d1").rename(clinic / "elsewhere")
    change(clinic, "path: codes.csv,", "path: codes.csv, within_delivery: true,")
    assert problems(clinic) == []


def test_without_a_landing_folder_the_line_of_deliveries_is_named(clinic: Path) -> None:
    (clinic / "landing").rename(clinic / "elsewhere")
    (found,) = problems(clinic)
    assert found.startswith(f"study.yaml:{line_of(clinic, 'deliveries:')}: there is no landing folder")


@pytest.mark.parametrize(
    ("change_of", "expected"),
    [
        (("path: labs.csv", "path: /data/labs.csv"), "'/data/labs.csv' leads out of the delivery"),
        (("path: labs.csv", "path: ../labs.csv"), "'../labs.csv' leads out of the delivery"),
        (
            ("available_time: drawn", "available_time: drawn, time: {timezone: Berlin}"),
            "'Berlin' is no IANA time zone",
        ),
        (
            ("available_time: drawn", "available_time: drawn, table: {encoding: utf-9}"),
            "'utf-9' is no encoding that Python knows",
        ),
        (
            ("available_time: drawn", "available_time: drawn, table: {delimiter: ';;'}"),
            "delimiter ';;' is not one character",
        ),
        (("sample_id: sample}", "sample_id: sample, features: '('}"), "features is no regular expression"),
        (("path: codes.csv", "path: code.csv"), "there is no crosswalk 'code.csv'"),
        (
            ("path: codes.csv", "within_delivery: true, path: /codes.csv"),
            "'/codes.csv' leads out of the delivery",
        ),
        (
            ("path: codes.csv", "within_delivery: true, path: codes.csv"),
            "there is no crosswalk 'codes.csv'",
        ),
        (
            (
                "{genomics: {}, clinical: {}}",
                "{image: {weights: w.safetensors}, clinical: {}}",
            ),
            "there is no file 'w.safetensors'",
        ),
    ],
)
def test_what_a_study_names_and_is_not_there_is_a_sentence(
    clinic: Path, change_of: tuple[str, str], expected: str
) -> None:
    change(clinic, *change_of)
    (found,) = problems(clinic)
    assert expected in found


@pytest.mark.parametrize(
    ("before", "after", "place"),
    [
        ("genomics: {},", "genomics: {features: '['},", "genomics.features"),
        ("genomics: {},", "image: {description: '(a'},", "image.description"),
        (
            "{rule: exact, sources: [letters, labs, registry, scans, mutations]}",
            "{rule: pattern, pattern: '*'}",
            "rules[0].pattern",
        ),
    ],
)
def test_a_regular_expression_that_is_none_is_refused_with_the_study(
    clinic: Path, before: str, after: str, place: str
) -> None:
    change(clinic, before, after)
    with pytest.raises(StudyError, match="is not a regular expression") as caught:
        checked(clinic)
    assert place in str(caught.value)


def test_a_store_that_cannot_be_written_is_a_problem_of_the_study(clinic: Path) -> None:
    (clinic / "store").write_text("a file", encoding="utf-8")
    (found,) = problems(clinic)
    assert "cannot be written" in found


def test_checking_reads_no_record(clinic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clinical_mm.ingest import delimited

    read: list[int] = []
    plain = delimited.read_delimited

    def counted(*arguments: Any) -> Any:
        for record in plain(*arguments):
            read.append(record.number)
            yield record

    monkeypatch.setattr("clinical_mm.check.read_delimited", counted)
    (clinic / "landing" / "d1" / "labs.csv").write_text("mrn,drawn,CRP\n1,2020-01-01,3\n", encoding="utf-8")
    assert problems(clinic) == []
    assert set(read) == {0}


def test_an_encoder_directory_is_looked_for(clinic: Path) -> None:
    encoder = clinic / "encoder"
    change(clinic, "modalities: {genomics", "modalities: {text: {encoder: ./encoder}, genomics")
    (found,) = problems(clinic)
    assert f"there is no encoder directory {encoder}" in found
    assert found.startswith(f"study.yaml:{line_of(clinic, 'modalities: {text')}:")
    encoder.mkdir()
    (found,) = problems(clinic)
    assert f"the encoder {encoder} has no config.json" in found


def test_an_encoder_that_is_still_to_be_pretrained_is_no_problem(clinic: Path) -> None:
    change(clinic, "modalities: {genomics", "modalities: {text: {encoder: pretrained}, genomics")
    change(clinic, "tasks:\n", "pretrain_text: {}\ntasks:\n")
    assert problems(clinic) == []
    change(clinic, "pretrain_text: {}", "pretrain_text: {start_from: ./base}")
    (found,) = problems(clinic)
    assert f"there is no encoder directory {clinic / 'base'}" in found


def _with_reports(directory: Path) -> None:
    reports = "{kind: notes_files, path: reports/*, manifest: reports.csv, file: pth, patient_id: mrn"
    change(directory, "  scans: {", f"  reports: {reports}, is_timeless: true}}\n  scans: {{")
    change(directory, "[letters, labs", "[reports, letters, labs")
    (directory / "landing" / "d1" / "reports").mkdir()
    (directory / "landing" / "d1" / "reports" / "1.txt").write_text("unremarkable", encoding="utf-8")


def test_the_manifest_of_notes_in_files_is_looked_for_and_its_columns_compared(clinic: Path) -> None:
    _with_reports(clinic)
    (found,) = problems(clinic)
    assert "no delivery holds a file that matches 'reports.csv': mend the manifest" in found
    (clinic / "landing" / "d1" / "reports.csv").write_text("mrn,path\n", encoding="utf-8")
    (found,) = problems(clinic)
    assert found.startswith(f"study.yaml:{line_of(clinic, 'reports: {')}: ")
    assert "there is no column 'pth': the file has mrn, path; did you mean 'path'?" in found
    change(clinic, "file: pth", "file: path, encoding: utf-9")
    (found,) = problems(clinic)
    assert "'utf-9' is no encoding that Python knows" in found


def test_the_columns_of_an_omop_database_are_looked_for(clinic: Path) -> None:
    change(clinic, "  scans: {", "  warehouse: {kind: notes_omop, path: omop.db}\n  scans: {")
    change(clinic, "[letters, labs", "[warehouse, letters, labs")
    connection = sqlite3.connect(clinic / "landing" / "d1" / "omop.db")
    connection.execute(
        "CREATE TABLE NOTE (note_id, person_id, note_date, note_datetime, note_type_concept_id, note_title, note_txt)"
    )
    (found,) = problems(clinic)
    assert found.startswith(f"study.yaml:{line_of(clinic, 'warehouse: {')}: ")
    assert "there is no column 'note_text': the file has note_id, person_id" in found
    assert found.endswith("did you mean 'note_txt'?")
    connection.execute("DROP TABLE note")
    connection.close()
    (found,) = problems(clinic)
    assert "the database has no table note" in found
    (clinic / "landing" / "d1" / "omop.db").write_bytes(b"no database")
    assert problems(clinic) == []


def test_a_table_of_sites_that_is_missing_or_wrong_is_named_at_its_line(clinic: Path) -> None:
    source = "  snps: {kind: genomics_vcf, path: '*.vcf', is_required: false, build: GRCh38, sites: {path: s.csv}}\n"
    change(clinic, "  labs: {kind", f"{source}  labs: {{kind")
    line = line_of(clinic, "snps:")
    [problem] = problems(clinic)
    assert problem.startswith(f"study.yaml:{line}: source snps: the table of sites 's.csv' does not exist")
    (clinic / "s.csv").write_text("chrom,pos,ref,alt,name\n1,x,A,G,rs1\n", encoding="utf-8")
    [problem] = problems(clinic)
    assert "row 1" in problem
    (clinic / "s.csv").write_text("chrom,pos,ref,alt,name\n1,10,A,G,rs1\n", encoding="utf-8")
    assert not problems(clinic)


def test_tables_that_decide_genomic_features_are_named_at_their_line_where_they_are_missing(
    clinic: Path,
) -> None:
    options = "spectrum: {context: C, signatures: sbs.tsv}, symbols: {path: hgnc.tsv}"
    matrix = (
        "{kind: genomics_matrix, path: x.csv, is_required: false, samples: rows, gene_sets: {path: h.gmt}}"
    )
    source = (
        f"  maf2: {{kind: genomics_maf, path: none.maf, is_required: false, {options}}}\n  sets: {matrix}\n"
    )
    change(clinic, "  labs: {kind", f"{source}  labs: {{kind")
    found = problems(clinic)
    line = line_of(clinic, "maf2:")
    assert sorted(p.split(":")[1] for p in found) == [str(line), str(line), str(line + 1)]
    assert all(any(what in p for p in found) for what in ("gene symbols", "signatures", "'h.gmt'"))


def test_a_maf_may_begin_with_its_version(clinic: Path) -> None:
    source = "  maf2: {kind: genomics_maf, path: v.maf}\n"
    change(clinic, "  labs: {kind", f"{source}  labs: {{kind")
    head = "#version 2.4\t\t\nHugo_Symbol\tVariant_Classification\tTumor_Sample_Barcode\n"
    (clinic / "landing" / "d1" / "v.maf").write_text(head, encoding="utf-8")
    assert not problems(clinic)
