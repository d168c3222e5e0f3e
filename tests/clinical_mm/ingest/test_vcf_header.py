"""What a VCF's meta-information lines declare: version, build and fields of annotations."""

import pytest

from clinical_mm.ingest.vcf_header import (
    CONTIG_LENGTHS,
    annotation_fields,
    contradicted_by,
    plain_chromosome,
    version_of,
)


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("##fileformat=VCFv4.1", "4.1"),
        ("##fileformat=VCFv4.5 ", "4.5"),
        ("##fileformat=VCF4.1", None),
        ("##source=x", None),
    ],
)
def test_the_version_is_that_of_the_first_line(line: str, version: str | None) -> None:
    assert version_of([line]) == version
    assert version_of([]) is None


def test_the_main_chromosomes_add_up_to_the_published_totals_of_both_builds() -> None:
    # NCBI's assembly statistics of the primary chromosomes 1-22, X and Y, gaps included.
    assert sum(CONTIG_LENGTHS["GRCh37"].values()) == 3_095_677_412
    assert sum(CONTIG_LENGTHS["GRCh38"].values()) == 3_088_269_832


@pytest.mark.parametrize(
    ("line", "build", "is_contradiction"),
    [
        ("##contig=<ID=chr1,length=248956422>", "GRCh38", False),
        ("##contig=<ID=1,length=249250621,assembly=b37>", "GRCh37", False),
        ("##contig=<ID=1,assembly=b37,length=249250621>", "GRCh38", True),
        ("##contig=<length=57227415,ID=chrY>", "GRCh37", True),
        ("##contig=<ID=chr1,length=248387328>", "GRCh38", True),  # T2T-CHM13
        ("##contig=<ID=chr1>", "GRCh38", False),
        ("##contig=<ID=chrM,length=16571>", "GRCh38", False),
        ("##contig=<ID=GL000191.1,length=106433>", "GRCh38", False),
        ("##source=none", "GRCh38", False),
    ],
)
def test_a_build_is_contradicted_by_the_length_of_a_main_chromosome_alone(
    line: str, build: str, is_contradiction: bool
) -> None:
    assert (contradicted_by(["##fileformat=VCFv4.2", line], build) is not None) == is_contradiction


def test_a_contradiction_names_the_build_that_would_fit() -> None:
    said = contradicted_by(["##contig=<ID=chr1,length=249250621>"], "GRCh38")
    assert said is not None
    assert "those of GRCh37" in said
    said = contradicted_by(["##contig=<ID=chr1,length=5>"], "GRCh38")
    assert said is not None
    assert "neither GRCh37 nor GRCh38" in said


def test_the_fields_of_vep_and_snpeff_are_read_where_each_writes_them() -> None:
    vep = '##INFO=<ID=CSQ,Number=.,Type=String,Description="Ensembl VEP. Format: Allele|Consequence|SYMBOL">'
    snpeff = (
        '##INFO=<ID=ANN,Number=.,Type=String,Description="Functional annotations: '
        "'Allele | Annotation | Annotation_Impact | Gene_Name' \">"
    )
    assert annotation_fields([vep, snpeff], "CSQ") == ["Allele", "Consequence", "SYMBOL"]
    assert annotation_fields([vep, snpeff], "ANN") == [
        "Allele",
        "Annotation",
        "Annotation_Impact",
        "Gene_Name",
    ]
    assert annotation_fields([vep], "ANN") == []
    assert annotation_fields(['##INFO=<ID=CSQ,Number=1,Type=String,Description="no list">'], "CSQ") == []


def test_chromosomes_have_one_name_with_and_without_chr() -> None:
    assert [plain_chromosome(n) for n in ("chr1", "1", "CHRX", "chrx", "MT")] == ["1", "1", "X", "X", "MT"]
