"""Hotspots: the forms in which annotators write a protein change, and presence in MAF."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from clinical_mm.ingest.delivery import Delivery
from clinical_mm.ingest.gene_symbols import Renaming
from clinical_mm.ingest.hotspots import HotspotList, plain_change
from clinical_mm.ingest.ledger import Ledger
from clinical_mm.ingest.maf import read_genomics_maf
from clinical_mm.study.genomic_features import Hotspots
from clinical_mm.study.sources import GenomicsMafSource
from ingest_support import checked_samples, values_of


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("p.G12D", "G12D"),
        ("G12D", "G12D"),
        ("p.Gly12Asp", "G12D"),
        ("ENSP00000256078.4:p.Gly12Asp", "G12D"),
        ("p.(Gly12Asp)", "G12D"),
        ("p.Arg213Ter", "R213*"),
        ("p.Phe508del", "F508del"),
        ("p.Gly12%3D", "G12="),
        ("p.Leu747_Ala750delinsPro", "L747_A750delinsP"),
        ("", ""),
    ],
)
def test_a_change_is_the_same_however_it_is_written(written: str, plain: str) -> None:
    assert plain_change(written) == plain


def test_a_place_means_any_other_residue_there_and_nothing_longer() -> None:
    wanted = HotspotList(["BRAF p.V600", "BRAF p.V600E", "TP53 p.R213*"])
    assert wanted.of("BRAF", "p.V600E") == ["hotspot:BRAF p.V600E", "hotspot:BRAF p.V600"]
    assert wanted.of("BRAF", "p.Val600Lys") == ["hotspot:BRAF p.V600"]
    for other in (
        "p.V600=",
        "p.V600V",
        "p.V600fs",
        "p.V600*",
        "p.V600_K601delinsE",
        "p.V60E",
        "p.V6001E",
        "",
    ):
        assert wanted.of("BRAF", other) == []
    assert wanted.of("KRAS", "p.V600E") == []
    assert wanted.of("TP53", "p.Arg213Ter") == ["hotspot:TP53 p.R213*"]


@pytest.mark.parametrize("change", ["KRAS", "p.G12D", "KRAS p.", "KRAS G", "KRAS c.35G>A"])
def test_what_is_no_change_is_refused_in_the_study(change: str) -> None:
    with pytest.raises(ValidationError, match="is no hotspot"):
        Hotspots(changes=(change,))


def _read(folder: Path, rows: str, **options: object):
    head = "Hugo_Symbol\tVariant_Classification\tHGVSp_Short\tStart\tTumor_Sample_Barcode\n"
    (folder / "m.maf").write_text(head + rows)
    source = GenomicsMafSource.model_validate({"kind": "genomics_maf", "path": "*.maf", **options})
    ledger = Ledger("s", "d", "variant")
    renaming = Renaming.of("s", source.symbols, None)
    files = [folder / "m.maf"]
    return checked_samples(
        read_genomics_maf("s", source, Delivery("d", folder), files, ledger, renaming), ledger
    )


def test_a_sequenced_sample_without_the_change_is_zero_and_one_with_it_is_one(tmp_path: Path) -> None:
    rows = (
        "KRAS\tMissense_Mutation\tp.G12D\t1\ta\nKRAS\tMissense_Mutation\tp.G12D\t2\ta\n"
        "MLL2\tMissense_Mutation\tp.R10C\t3\tb\n"
    )
    (tmp_path / "all.txt").write_text("c\n")
    changes = ["KRAS p.G12D", "KMT2D p.R10C", "NRAS p.Q61"]
    genomic, _ = _read(tmp_path, rows, hotspots={"changes": changes}, sequenced="all.txt")
    present = {
        sample: [v for f, v in values.items() if f.startswith("hotspot:")]
        for sample, values in values_of(genomic).items()
    }
    assert present == {"a": [1.0, 0.0, 0.0], "b": [0.0, 1.0, 0.0], "c": [0.0, 0.0, 0.0]}


def test_the_hotspots_of_real_leukaemias_are_those_counted_by_hand(tmp_path: Path, real_data: Path) -> None:
    # zgrep -P '^DNMT3A\t' tcga_laml.maf.gz | grep 'p.R882' | grep -oP 'TCGA-AB-\d+' | sort -u | wc -l
    path = real_data / "genomics" / "maftools" / "tcga_laml.maf.gz"
    options = {
        "hotspots": {"changes": ["DNMT3A p.R882H", "DNMT3A p.R882"]},
        "protein_change": "Protein_Change",
    }
    source = GenomicsMafSource.model_validate({"kind": "genomics_maf", "path": "*", **options})
    ledger = Ledger("s", "d", "variant")
    genomic = read_genomics_maf("s", source, Delivery("d", path.parent), [path], ledger)
    counted = genomic.values.select(["hotspot:DNMT3A p.R882H", "hotspot:DNMT3A p.R882"]).to_pandas().sum()
    assert list(counted) == [19, 27]
