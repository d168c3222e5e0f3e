"""Real VCF and BCF that nobody here wrote: each ends in the ledger, and dosages agree with the letters of the file."""

import csv
import gzip
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clinical_mm.ingest.delivery import Delivery
from clinical_mm.ingest.ledger import Ledger, is_conserved
from clinical_mm.ingest.samples import GenomicTables
from clinical_mm.ingest.sites import SiteTable, load_sites
from clinical_mm.ingest.vcf import read_genomics_vcf
from clinical_mm.study.sources import GenomicsVcfSource, VcfSites

pytestmark = pytest.mark.real_data

TRUNCATING = {"stop_gained", "frameshift_variant", "splice_acceptor_variant", "splice_donor_variant"}
NOT_CODING = {"upstream_gene_variant", "downstream_gene_variant", "intron_variant"}


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.name.endswith((".vcf", ".vcf.gz", ".bcf")))


def _read(
    folder: Path, files: list[Path], build: str, sites: Path | None, **options: Any
) -> tuple[GenomicTables, Ledger]:
    declared = {"kind": "genomics_vcf", "path": "*", "build": build, **options}
    table = SiteTable()
    if sites is not None:
        declared["sites"] = VcfSites(path=sites.name)
        table = load_sites("s", declared["sites"], sites)
    source = GenomicsVcfSource.model_validate(declared)
    ledger = Ledger("s", "d", "sample")
    genomic = read_genomics_vcf("s", source, table, Delivery("d", folder), files, ledger)
    assert is_conserved(ledger.counts())
    return genomic, ledger


def _lines(path: Path) -> Iterator[list[str]]:
    """The column line and the records, split at tabs."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        for line in file:
            if not line.startswith("##"):
                yield line.rstrip("\r\n").split("\t")


def _dosage(cell: str, layout: str, allele: int) -> float | None:
    """Copies of an allele in a cell of a sample, read off its letters."""
    alleles = re.split(r"[/|]", cell.split(":")[layout.split(":").index("GT")])
    return None if "." in alleles else float(alleles.count(str(allele)))


def _sites_of(path: Path, table: Path) -> dict[str, list[float | None]]:
    """Writes a table of every plain variant that stands once in a file; returns the dosages read by hand."""
    _, *records = _lines(path)
    at = Counter((r[0], r[1], r[3]) for r in records)
    expected: dict[str, list[float | None]] = {}
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["chrom", "pos", "ref", "alt", "name"])
        for record in records:
            for number, alternate in enumerate(record[4].split(","), start=1):
                if at[record[0], record[1], record[3]] > 1 or not re.fullmatch("[ACGT]+", alternate):
                    continue
                name = f"{record[0]}_{record[1]}_{record[3]}_{alternate}"
                writer.writerow([record[0], record[1], record[3], alternate, name])
                expected[name] = [_dosage(cell, record[8], number) for cell in record[9:]]
    return expected


@pytest.mark.parametrize(
    ("file", "build", "shape"),
    [
        ("pharmcat/multisample.vcf", "GRCh38", (2, 1261)),
        ("cyvcf2/test.vcf.gz", "GRCh37", (189, 109)),
        ("cyvcf2/test.comp_het.3.vcf", "GRCh37", (12, 6)),
        ("cyvcf2/o.vcf.gz", "GRCh37", (3, 2036)),
    ],
)
def test_dosages_of_all_samples_agree_with_the_letters_of_the_file(
    real_data: Path, tmp_path: Path, file: str, build: str, shape: tuple[int, int]
) -> None:
    path = real_data / "genomics" / file
    expected = _sites_of(path, tmp_path / "sites.csv")
    genomic, _ = _read(path.parent, [path], build, tmp_path / "sites.csv")
    columns, *_ = _lines(path)
    found = genomic.values.to_pydict()
    order = [found["sample_id"].index(sample) for sample in columns[9:]]
    assert (len(order), len(expected)) == shape  # samples, and plain variants that stand once: counted by awk
    assert {name: [found[name][i] for i in order] for name in expected} == expected


def test_a_bcf_says_what_its_vcf_says(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "genomics" / "cyvcf2"
    expected = _sites_of(folder / "test.snpeff.vcf", tmp_path / "sites.csv")
    assert expected
    text, _ = _read(folder, [folder / "test.snpeff.vcf"], "GRCh37", tmp_path / "sites.csv")
    binary, ledger = _read(folder, [folder / "test.snpeff.bcf"], "GRCh37", tmp_path / "sites.csv")
    assert ledger.n_accepted == 4
    assert binary.values.equals(text.values)


def test_variants_of_vep_are_counted_as_by_hand(real_data: Path) -> None:
    path = real_data / "genomics" / "cyvcf2" / "test.vcf.gz"
    classes = {"truncating": sorted(TRUNCATING), "noncoding": sorted(NOT_CODING)}
    burden = {"annotation": "CSQ", "classes": classes}
    genomic, _ = _read(path.parent, [path], "GRCh37", None, burden=burden)
    columns, *records = _lines(path)
    counted: Counter[tuple[str, str]] = Counter()
    for record in records:
        csq = dict(field.partition("=")[::2] for field in record[7].split(";")).get("CSQ", "")
        features = set()
        for entry in csq.split(","):  # Consequence|Codons|Amino_acids|Gene|SYMBOL|…
            fields = [*entry.split("|"), "", "", "", "", ""]
            for name, terms in classes.items():
                if fields[4] and set(fields[0].split("&")) & set(terms):
                    features.add(f"{fields[4]}:{name}")
        for sample, cell in zip(columns[9:], record[9:], strict=True):
            if "1" in cell.split(":")[0]:
                counted.update((sample, feature) for feature in features)
    rows = genomic.values.to_pylist()
    found = {(row["sample_id"], f): n for row in rows for f, n in row.items() if f != "sample_id" and n}
    assert len(rows) == 189
    assert len(counted) > 300
    assert found == counted


@pytest.mark.slow
def test_every_file_of_the_specification_is_accepted_or_says_why_not(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "genomics" / "hts_specs_vcf"
    (tmp_path / "sites.csv").write_text("chrom,pos,ref,alt,name\n1,100,A,G,x\n")
    reasons: Counter[str] = Counter()
    for path in _files(folder):
        columns = next((line for line in _lines(path) if line[0] == "#CHROM"), [])
        genomic, ledger = _read(folder, [path], "GRCh38", tmp_path / "sites.csv")
        if len(genomic.samples):
            assert sorted(columns[9:]) == list(genomic.samples["sample_id"])
            reasons["accepted"] += 1
        else:
            reasons.update(ledger.records()["reason_code"])
    # 48 files have samples. Two of the others have contigs of made-up lengths; one's last line does not end.
    assert reasons == {"accepted": 47, "no_samples": 26, "wrong_build": 2, "truncated_file": 1}


def test_the_version_4_5_file_is_read_once_its_last_line_ends(real_data: Path, tmp_path: Path) -> None:
    path = real_data / "genomics" / "hts_specs_vcf" / "4.5" / "passed" / "zero_length_LAA.vcf"
    (tmp_path / "a.vcf").write_bytes(path.read_bytes() + b"\n")
    (tmp_path / "sites.csv").write_text("chrom,pos,ref,alt,name\n1,100,C,T,x\n")
    genomic, _ = _read(tmp_path, [tmp_path / "a.vcf"], "GRCh38", tmp_path / "sites.csv")
    assert genomic.values.to_pydict() == {"sample_id": ["het", "homref"], "x": [None, None]}


@pytest.mark.slow
def test_odd_files_of_a_reader_s_own_tests_end_accepted_or_quarantined(
    real_data: Path, tmp_path: Path
) -> None:
    folder = real_data / "genomics" / "cyvcf2"
    (tmp_path / "sites.csv").write_text("chrom,pos,ref,alt,name\n1,100,A,G,x\n")
    refused = {}
    for path in _files(folder):
        genomic, ledger = _read(folder, [path], "GRCh37", tmp_path / "sites.csv")
        if not len(genomic.samples):
            refused[path.name] = ledger.records()["reason_code"].item()
    assert refused == {
        "empty.vcf": "unreadable_file",
        "issue_198.vcf": "wrong_build",
        "multi-contig.bcf": "unsupported_version",
        "multi-contig.vcf.gz": "unsupported_version",
        "test-invalid-header.vcf": "unsupported_version",
        "test.bug.117.vcf": "unsupported_version",
        "test.isa.vcf": "wrong_build",
        "test_gt_alt_freqs.vcf": "wrong_build",
        "test_gt_bases.vcf.gz": "wrong_build",
    }
