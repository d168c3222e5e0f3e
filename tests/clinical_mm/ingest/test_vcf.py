"""Genotypes of VCF: dosages and carriers counted by hand, missing where not known, every sample with one fate."""

import gzip
import os
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.delivery import Delivery
from clinical_mm.ingest.ledger import Ledger
from clinical_mm.ingest.run import ingest_stage
from clinical_mm.ingest.samples import ABSENT_FEATURE, GenomicTables
from clinical_mm.ingest.sites import SiteTable, load_sites
from clinical_mm.ingest.vcf import read_genomics_vcf
from clinical_mm.ingest.vcf_process import VcfLimits
from clinical_mm.store import Store
from clinical_mm.study.root import Study
from clinical_mm.study.sources import GenomicsVcfSource, VcfSites
from ingest_support import checked_samples, reasons_of, values_of

META = (
    "##fileformat=VCFv4.2\n"
    '##FILTER=<ID=low,Description="q">\n'
    "##contig=<ID=1,length=249250621>\n##contig=<ID=X,length=155270560>\n"
    '##INFO=<ID=END,Number=1,Type=Integer,Description="e">\n'
    '##INFO=<ID=CSQ,Number=.,Type=String,Description="VEP. Format: Allele|Consequence|SYMBOL">\n'
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="g">\n'
    '##FORMAT=<ID=DP,Number=1,Type=Integer,Description="d">\n'
)
COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT"
SITES = "chrom,pos,ref,alt,name\n1,100,A,G,rs1\nchr1,200,C,T,rs2\nX,50,G,A,rs3\n1,300,CT,C,rs4\n"
CLASSES = {"truncating": ["stop_gained", "frameshift_variant"], "missense": ["missense_variant"]}
BURDEN = {"annotation": "CSQ", "classes": CLASSES}
NAN = None


def _record(
    chromosome: str, position: int, reference: str, alternate: str, *genotypes: str, **other: str
) -> str:
    fields = [chromosome, str(position), ".", reference, alternate, "."]
    fields += [other.get("filter", "PASS"), other.get("info", "."), other.get("format", "GT"), *genotypes]
    return "\t".join(fields) + "\n"


def _vcf(samples: str, *records: str, meta: str = META) -> str:
    return meta + "\t".join([COLUMNS, *samples.split()]) + "\n" + "".join(records)


def _read(folder: Path, limits: VcfLimits | None = None, **options: object) -> tuple[GenomicTables, Ledger]:
    """Every VCF of a folder as one source of GRCh37; its sites are SITES where nothing else is said."""
    declared: dict[str, object] = {"kind": "genomics_vcf", "path": "*", "build": "GRCh37", **options}
    if "burden" not in options:
        declared.setdefault("sites", {"path": "sites.csv"})
    source = GenomicsVcfSource.model_validate(declared)
    sites = SiteTable()
    if source.sites is not None:
        (folder / "sites.csv").write_text(SITES)
        sites = load_sites("s", source.sites, folder / "sites.csv")
    ledger = Ledger("s", "d", "sample")
    files = sorted(p for p in folder.iterdir() if p.name != "sites.csv")
    genomic = read_genomics_vcf("s", source, sites, Delivery("d", folder), files, ledger, limits)
    assert ledger.n_accepted == len(genomic.samples)
    assert ledger.n_accepted == len(genomic.samples)
    return checked_samples(genomic, ledger)


def _text(folder: Path, content: str, name: str = "a.vcf", **options: object) -> tuple[GenomicTables, Ledger]:
    (folder / name).write_text(content)
    return _read(folder, **options)


THREE = _vcf(
    "a b c",
    _record("1", 100, "A", "G", "0/0", "0|1", "1/1"),
    _record("1", 200, "C", "A,T", "2/2", "1/2", "0/1"),
    _record("1", 300, "CT", "C", "./.", "./1", "0/1:12", format="GT:DP"),
    _record("X", 50, "G", "A", "0", "1", "."),
)


def test_dosages_are_copies_of_the_asked_for_allele_and_missing_is_never_zero(tmp_path: Path) -> None:
    genomic, ledger = _text(tmp_path, THREE)
    assert values_of(genomic) == {
        "a": {"rs1": 0, "rs2": 2, "rs3": 0, "rs4": NAN},
        "b": {"rs1": 1, "rs2": 1, "rs3": 1, "rs4": NAN},
        "c": {"rs1": 2, "rs2": 0, "rs3": NAN, "rs4": 1},
    }
    assert list(genomic.samples["locator"]) == ["a.vcf#sample 1", "a.vcf#sample 2", "a.vcf#sample 3"]
    assert list(genomic.samples["source_patient_id"]) == ["a", "b", "c"]
    assert list(genomic.samples["n_features"]) == [3, 3, 3]
    assert genomic.samples["available_time"].isna().all()
    assert genomic.values.column_names == ["sample_id", "rs1", "rs2", "rs3", "rs4"]
    assert genomic.values.schema.metadata is None
    assert ledger.n_found == 3


def test_compressed_and_chr_named_files_say_the_same(tmp_path: Path) -> None:
    plain, _ = _text(tmp_path, THREE)
    (tmp_path / "a.vcf").unlink()
    renamed = THREE.replace("\n1\t", "\nchr1\t").replace("\nX\t", "\nchrX\t").replace("ID=1,", "ID=chr1,")
    (tmp_path / "a.vcf.gz").write_bytes(gzip.compress(renamed.replace("ID=X", "ID=chrX").encode()))
    (tmp_path / "a.vcf.gz.tbi").write_bytes(b"an index is no VCF")
    compressed, ledger = _read(tmp_path)
    assert compressed.values.equals(plain.values)
    assert list(compressed.samples["content_hash"]) == list(plain.samples["content_hash"])
    assert ledger.n_found == 3


@pytest.mark.parametrize("version", ["4.1", "4.2", "4.3", "4.4", "4.5"])
def test_every_version_is_read(tmp_path: Path, version: str) -> None:
    genomic, _ = _text(tmp_path, THREE.replace("VCFv4.2", f"VCFv{version}"))
    assert values_of(genomic)["b"] == {"rs1": 1, "rs2": 1, "rs3": 1, "rs4": NAN}


def test_a_site_without_a_record_is_missing_or_reference_as_declared(tmp_path: Path) -> None:
    content = _vcf("a", _record("1", 100, "A", "G", "./."))
    assert values_of(_text(tmp_path, content)[0])["a"] == dict.fromkeys(("rs1", "rs2", "rs3", "rs4"), NAN)
    sites = {"path": "sites.csv", "absent_is_reference": True}
    genomic, _ = _text(tmp_path, content, sites=sites)
    assert values_of(genomic)["a"] == {"rs1": NAN, "rs2": 0, "rs3": 0, "rs4": 0}


def test_symbolic_spanning_breakend_and_missing_alleles_are_read_and_never_matched(tmp_path: Path) -> None:
    records = (
        _record("1", 90, "N", "<NON_REF>", "0/0", info="END=100"),
        _record("1", 200, "C", "<DEL>,*,C[1:500[,T", "2/4"),
        _record("1", 300, "CT", "<DEL>", "0/1"),
        _record("X", 50, "G", "*", "0/1"),
        _record("X", 50, "GA", ".", "0/0"),
    )
    genomic, ledger = _text(tmp_path, _vcf("a", *records))
    assert values_of(genomic)["a"] == {"rs1": 0, "rs2": 1, "rs3": 0, "rs4": NAN}
    assert ledger.n_accepted == 1


def test_records_without_genotypes_say_nothing_of_a_sample(tmp_path: Path) -> None:
    genomic, _ = _text(tmp_path, _vcf("a", _record("1", 100, "A", "G", "7", format="DP")))
    assert set(values_of(genomic)["a"].values()) == {NAN}


def test_a_failed_filter_counts_unless_passing_records_alone_are_asked_for(tmp_path: Path) -> None:
    info = "CSQ=G|stop_gained|VHL"
    content = _vcf("a", _record("1", 100, "A", "G", "1/1", filter="low", info=info))
    both = {"sites": {"path": "sites.csv", "absent_is_reference": True}, "burden": BURDEN}
    assert values_of(_text(tmp_path, content, **both)[0])["a"]["rs1"] == 2
    genomic, _ = _text(tmp_path, content, is_passing_only=True, **both)
    assert values_of(genomic)["a"] == {"rs1": NAN, "rs2": 0, "rs3": 0, "rs4": 0}


def test_carried_variants_are_counted_by_gene_and_class(tmp_path: Path) -> None:
    records = (
        _record("1", 10, "A", "G", "0/1", "1/1", "./.", info="CSQ=G|stop_gained|VHL,G|stop_gained|VHL"),
        _record("1", 20, "A", "AT", "0/1", "0/0", "./1", info="CSQ=T|frameshift_variant|VHL"),
        _record("1", 20, "A", "AT", "0/1", "0/0", "./1", info="CSQ=T|frameshift_variant|VHL"),
        _record(
            "1", 30, "A", "C,T", "1/2", "0/2", "0/0", info="CSQ=C|missense_variant|KIT,T|stop_gained|KIT"
        ),
        _record("1", 40, "A", "C", "1/1", "1/1", "1/1", info="CSQ=C|synonymous_variant|KIT"),
        _record("1", 50, "A", "C", "1/1", "1/1", "1/1"),
    )
    genomic, ledger = _text(tmp_path, _vcf("a b c", *records), burden=BURDEN)
    assert values_of(genomic) == {
        "a": {"KIT:missense": 1, "KIT:truncating": 1, "VHL:truncating": 2},
        "b": {"KIT:missense": 0, "KIT:truncating": 1, "VHL:truncating": 1},
        "c": {"KIT:missense": 0, "KIT:truncating": 0, "VHL:truncating": 1},
    }
    assert genomic.values.schema.metadata[ABSENT_FEATURE] == b"0.0"
    assert ledger.n_accepted == 3


def test_genes_that_are_asked_for_have_a_column_whether_or_not_anyone_carries_a_variant(
    tmp_path: Path,
) -> None:
    content = _vcf("a", _record("1", 10, "A", "G", "0/1", info="CSQ=G|stop_gained|VHL,G|stop_gained|KIT"))
    genomic, _ = _text(tmp_path, content, burden={**BURDEN, "genes": ["VHL", "TP53"]})
    assert values_of(genomic)["a"] == {
        "TP53:missense": 0,
        "TP53:truncating": 0,
        "VHL:missense": 0,
        "VHL:truncating": 1,
    }


def test_samples_of_several_files_share_the_columns_of_all_and_keep_their_hash(tmp_path: Path) -> None:
    first = _vcf("a", _record("1", 10, "A", "G", "0/1", info="CSQ=G|stop_gained|VHL"))
    alone, _ = _text(tmp_path, first, burden=BURDEN)
    second = _vcf("b", _record("1", 10, "A", "G", "0/1", info="CSQ=G|missense_variant|KIT"))
    beside, _ = _text(tmp_path, second, "b.vcf", burden=BURDEN)
    assert values_of(beside) == {
        "a": {"KIT:missense": 0, "VHL:truncating": 1},
        "b": {"KIT:missense": 1, "VHL:truncating": 0},
    }
    assert beside.samples["content_hash"][0] == alone.samples["content_hash"][0]


def test_the_same_sample_in_two_files_is_a_duplicate_or_a_contradiction(tmp_path: Path) -> None:
    (tmp_path / "a.vcf").write_text(_vcf("x y", _record("1", 100, "A", "G", "0/1", "0/1")))
    (tmp_path / "b.vcf").write_text(_vcf("y x", _record("1", 100, "A", "G", "0/0", "0/1")))
    genomic, ledger = _read(tmp_path)
    assert list(values_of(genomic)) == ["x"]
    assert reasons_of(ledger) == {
        "b.vcf#sample 2": "identical_record",
        "a.vcf#sample 2": "conflicting_records",
        "b.vcf#sample 1": "conflicting_records",
    }
    assert ledger.n_found == 4


BROKEN = {
    "not.vcf": ("no variants\n", "unreadable_file"),
    "empty.vcf": ("", "unreadable_file"),
    "old.vcf": (THREE.replace("VCFv4.2", "VCFv4.0"), "unsupported_version"),
    "new.vcf": (THREE.replace("VCFv4.2", "VCFv5.0"), "unsupported_version"),
    "unversioned.vcf": (THREE.replace("##fileformat=VCFv4.2\n", ""), "unreadable_file"),
    "build.vcf": (THREE.replace("249250621", "248956422"), "wrong_build"),
    "half.vcf": (THREE[:-1], "truncated_file"),
    "short.vcf": (THREE[:-6] + "\n", "unreadable_file"),
    "position.vcf": (THREE.replace("\t200\t", "\ttwo\t"), "unreadable_file"),
    "genotype.vcf": (THREE.replace("0|1", "x|1"), "unreadable_file"),
    "leading_phase.vcf": (  # of version 4.4, which htslib does not take: told, never misread
        THREE.replace("VCFv4.2", "VCFv4.4").replace("0|1", "|0|1"),
        "unreadable_file",
    ),
    "twice.vcf": (_vcf("a a"), "unreadable_file"),
    "headless.vcf": (META + _record("1", 100, "A", "G", "0/1"), "unreadable_file"),
    "nobody.vcf": (META + COLUMNS.removesuffix("\tFORMAT") + "\n", "no_samples"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_cannot_be_used_is_one_quarantined_record_and_the_others_stand(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    content, reason = BROKEN[name]
    (tmp_path / name).write_text(content)
    (tmp_path / "good.vcf").write_text(_vcf("g", _record("1", 100, "A", "G", "0/1")))
    genomic, ledger = _read(tmp_path)
    assert list(values_of(genomic)) == ["g"]
    assert reasons_of(ledger) == {name: reason}
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("n_kept", [10, 100, 300, -30, -9, -1])
def test_a_compressed_file_that_was_cut_off_is_never_read_in_part(tmp_path: Path, n_kept: int) -> None:
    (tmp_path / "a.vcf.gz").write_bytes(gzip.compress(THREE.encode(), mtime=0)[:n_kept])
    genomic, ledger = _read(tmp_path)
    assert len(genomic.samples) == 0
    assert reasons_of(ledger) == {"a.vcf.gz": "truncated_file"}


def test_a_file_that_takes_too_long_or_too_much_memory_is_quarantined(tmp_path: Path) -> None:
    (tmp_path / "a.vcf").write_text(THREE)
    _, ledger = _read(tmp_path, VcfLimits(deadline_s=10, address_space_bytes=1 << 30))
    assert ledger.n_accepted == 3
    _, ledger = _read(tmp_path, VcfLimits(deadline_s=1e-9))
    assert reasons_of(ledger) == {"a.vcf": "unreadable_file"}
    os.truncate(tmp_path / "a.vcf", 3 << 30)  # one line of zeros, and no disk
    _, ledger = _read(tmp_path, VcfLimits(address_space_bytes=1 << 30))
    assert reasons_of(ledger) == {"a.vcf": "unreadable_file"}


def test_an_annotation_that_the_header_does_not_describe_is_an_error_without_ids(tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match="describes no annotation ANN") as refused:
        _text(tmp_path, THREE, burden={**BURDEN, "annotation": "ANN"})
    assert "a.vcf" not in str(refused.value)
    with pytest.raises(DeliveryError, match="none of gene symbols"):
        _text(tmp_path, THREE.replace("|SYMBOL", "|Gene"), burden=BURDEN)


def test_an_annotation_that_fits_several_alleles_quarantines_the_file(tmp_path: Path) -> None:
    content = _vcf("a", _record("1", 10, "A", "C,G", "1/2", info="CSQ=T|stop_gained|VHL"))
    _, ledger = _text(tmp_path, content, burden=BURDEN)
    assert reasons_of(ledger) == {"a.vcf": "ambiguous_annotation"}


def test_a_site_with_the_name_of_a_count_is_an_error(tmp_path: Path) -> None:
    content = _vcf("a", _record("1", 10, "A", "G", "0/1", info="CSQ=G|stop_gained|VHL"))
    (tmp_path / "a.vcf").write_text(content)
    declared = VcfSites(path="s.csv")
    source = GenomicsVcfSource.model_validate(
        {"kind": "genomics_vcf", "path": "*", "build": "GRCh37", "burden": BURDEN, "sites": declared}
    )
    (tmp_path / "s.csv").write_text("chrom,pos,ref,alt,name\n1,1,A,G,VHL:truncating\n")
    sites = load_sites("s", declared, tmp_path / "s.csv")
    files = [tmp_path / "a.vcf"]
    with pytest.raises(DeliveryError, match="rename the site"):
        read_genomics_vcf("s", source, sites, Delivery("d", tmp_path), files, Ledger("s", "d", "sample"))


def test_samples_are_quarantined_where_the_source_is_not_timeless(tmp_path: Path) -> None:
    genomic, ledger = _text(tmp_path, _vcf("a b"), is_timeless=False)
    assert len(genomic.samples) == 0
    assert set(reasons_of(ledger).values()) == {"missing_time"}
    assert ledger.n_found == 2


def test_no_file_at_all_gives_empty_tables_with_the_declared_sites(tmp_path: Path) -> None:
    genomic, ledger = _read(tmp_path)
    assert len(genomic.samples) == ledger.n_found == 0
    assert genomic.values.column_names == ["sample_id", "rs1", "rs2", "rs3", "rs4"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sites": {"path": ""}},
        {"sites": {"path": "s"}, "build": "hg19"},
        {"burden": {"annotation": "EFF", "classes": CLASSES}},
        {"burden": {"annotation": "CSQ", "classes": {}}},
        {"burden": {"annotation": "CSQ", "classes": {"x": []}}},
        {"burden": {"annotation": "CSQ", "classes": {"x:y": ["stop_gained"]}}},
        {"burden": {**BURDEN, "genes": [""]}},
    ],
)
def test_a_source_that_declares_no_features_or_impossible_ones_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="GenomicsVcfSource"):
        GenomicsVcfSource.model_validate({"kind": "genomics_vcf", "path": "*", "build": "GRCh37", **options})


_allele = st.sampled_from([".", "0", "1", "2"])
_genotype = st.one_of(_allele, st.tuples(_allele, st.sampled_from("/|"), _allele).map("".join))


def _by_hand(genotype: str, allele: str) -> float | None:
    alleles = genotype.replace("|", "/").split("/")
    return None if "." in alleles else float(alleles.count(allele))


@given(st.lists(st.tuples(_genotype, _genotype), min_size=1, max_size=30))
@settings(max_examples=12, deadline=None)
def test_dosages_agree_with_the_letters_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, genotypes: list[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("v")
    samples = " ".join(f"s{i:02}" for i in range(len(genotypes)))
    first, second = zip(*genotypes, strict=True)
    records = _record("1", 100, "A", "G,C", *first), _record("1", 200, "C", "G,T", *second)
    values = values_of(_text(folder, _vcf(samples, *records))[0])
    found = [(values[s]["rs1"], values[s]["rs2"]) for s in samples.split()]
    assert found == [(_by_hand(a, "1"), _by_hand(b, "2")) for a, b in genotypes]


def test_a_stage_reads_the_sites_beside_the_study_and_again_when_they_change(tmp_path: Path) -> None:
    landing = tmp_path / "landing" / "d1"
    landing.mkdir(parents=True)
    (landing / "a.vcf").write_text(THREE)
    (landing / "outcomes.csv").write_text("id,y\na,1\n")
    (tmp_path / "sites.csv").write_text(SITES)
    number = {"y": {"type": "number"}}
    task = {"question": "?", "outcome": {"kind": "binary", "variable": "y"}, "index_time": "none"}
    sources = {
        "snps": {"kind": "genomics_vcf", "path": "*.vcf", "build": "GRCh37", "sites": {"path": "sites.csv"}},
        "o": {"kind": "outcomes", "path": "outcomes.csv", "patient_id": "id", "variables": number},
    }
    study = Study.model_validate(
        {"study": "s", "sources": sources, "tasks": {"t": {**task, "modalities": {"genomics": {}}}}}
    ).placed_in(tmp_path)
    store, delivery = Store(tmp_path / "store"), Delivery("d1", landing)
    first = ingest_stage(study, store, delivery, "genomics")
    assert first.tables["counts"].iloc[0]["record_kind"] == "sample"
    assert first.tables["counts"].iloc[0]["accepted"] == 3
    assert ingest_stage(study, store, delivery, "genomics").is_unchanged
    (tmp_path / "sites.csv").write_text(SITES.replace("rs1", "rs9"))
    assert not ingest_stage(study, store, delivery, "genomics").is_unchanged
    (tmp_path / "sites.csv").unlink()
    with pytest.raises(DeliveryError, match="does not exist"):
        ingest_stage(study, store, delivery, "genomics")
