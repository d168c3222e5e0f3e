"""The feature catalogue beside the values, and hotspots of a VCF: through the stage, as a study declares them."""

from pathlib import Path

import pyarrow.parquet as pq

from clinical_mm import tables
from clinical_mm.ingest.delivery import Delivery
from clinical_mm.ingest.run import ingest_stage
from clinical_mm.store import Store
from ingest_support import study_of, table_source

VCF = (
    "##fileformat=VCFv4.2\n##contig=<ID=1,length=249250621>\n"
    '##INFO=<ID=ANN,Number=.,Type=String,Description="Functional annotations: '
    "'Allele | Annotation | Gene_Name | HGVS.p'\">\n"
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="g">\n'
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta\tb\n"
    "1\t100\t.\tA\tG,T\t.\tPASS\tANN=G|missense_variant|MLL2|p.Arg10Cys,T|missense_variant|MLL2|p.Arg10His\tGT\t0/1\t0/0\n"
    "1\t200\t.\tC\tT\t.\tPASS\tANN=T|missense_variant|KMT2D|p.Gly7Asp\tGT\t1/1\t0/1\n"
)


def _ingest(folder: Path, source: dict) -> tuple[Path, dict]:
    landing = folder / "landing" / "d"
    landing.mkdir(parents=True, exist_ok=True)
    study = study_of({"s": source, "o": table_source("outcomes")}, "genomics").placed_in(folder)
    summary = ingest_stage(study, Store(folder / "store"), Delivery("d", landing), "genomics")
    assert summary.path is not None
    return summary.path, summary.tables


def test_a_vcf_gives_hotspots_by_allele_and_burden_by_current_gene(tmp_path: Path) -> None:
    (tmp_path / "landing" / "d").mkdir(parents=True)
    (tmp_path / "landing" / "d" / "x.vcf").write_text(VCF)
    path, shown = _ingest(
        tmp_path,
        {
            "kind": "genomics_vcf",
            "path": "*.vcf",
            "build": "GRCh37",
            "burden": {
                "annotation": "ANN",
                "classes": {"missense": ["missense_variant"]},
                "genes": ["KMT2D"],
            },
            "hotspots": {
                "annotation": "ANN",
                "changes": ["KMT2D p.R10C", "KMT2D p.R10H", "KMT2D p.R10", "KRAS p.G12D"],
            },
        },
    )
    values = pq.read_table(path / "genomics_s.parquet").to_pandas().set_index("sample_id")
    assert values.loc["a"].to_dict() == {
        "KMT2D:missense": 2.0,
        "hotspot:KMT2D p.R10": 1.0,
        "hotspot:KMT2D p.R10C": 1.0,
        "hotspot:KMT2D p.R10H": 0.0,
        "hotspot:KRAS p.G12D": 0.0,
    }
    assert values.loc["b"].to_list() == [1.0, 0.0, 0.0, 0.0, 0.0]
    features = tables.read_table(tables.FEATURES, path).set_index("feature")
    assert features["kind"].to_dict() == {
        "KMT2D:missense": "burden",
        **dict.fromkeys([c for c in values.columns if c.startswith("hotspot:")], "hotspot"),
    }
    burden = features.loc["KMT2D:missense"]
    assert list(burden["written_as"]) == ["KMT2D", "MLL2"]
    assert (burden["symbol_status"], burden["n_measured"]) == ("approved", 2)
    assert set(shown["features by kind"]["features"]) == {1, 4}


def test_the_catalogue_says_what_a_matrix_measures_and_how_its_genes_were_written(tmp_path: Path) -> None:
    (tmp_path / "landing" / "d").mkdir(parents=True)
    (tmp_path / "landing" / "d" / "m.csv").write_text("id,ACPP,MLL4,nonsense\na,1,2,3\nb,,2,3\n")
    path, shown = _ingest(
        tmp_path,
        {
            "kind": "genomics_matrix",
            "path": "m.csv",
            "samples": "rows",
            "measures": "expression",
            "unit": "TPM",
            "transform": "log2p1",
            "symbols": {},
        },
    )
    features = tables.read_table(tables.FEATURES, path)
    assert [
        (f.feature, list(f.written_as), f.symbol_status, f.n_measured)
        for f in features.itertuples(index=False)
    ] == [
        ("ACP3", ["ACPP"], "previous", 1),
        ("MLL4", ["MLL4"], "ambiguous", 2),
        ("nonsense", ["nonsense"], "unknown", 2),
    ]
    assert set(zip(features["kind"], features["unit"], features["transform"], strict=True)) == {
        ("expression", "TPM", "log2p1")
    }
    assert shown["gene symbols by status"]["features"].tolist() == [1, 1, 1]


def test_another_table_of_symbols_reads_the_stage_anew(tmp_path: Path) -> None:
    (tmp_path / "landing" / "d").mkdir(parents=True)
    (tmp_path / "landing" / "d" / "m.csv").write_text("id,OLD1\na,1\n")
    source = {"kind": "genomics_matrix", "path": "m.csv", "samples": "rows", "symbols": {"path": "own.tsv"}}
    for current in ("NEW1", "NEWER1"):
        (tmp_path / "own.tsv").write_text(f"symbol\tprevious\talias\n{current}\tOLD1\t\n")
        path, _ = _ingest(tmp_path, source)
        assert tables.read_table(tables.FEATURES, path)["feature"].tolist() == [current]
