"""Gene symbols: what HGNC's shipped table says of famous renamings, and what never is guessed."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.delivery import Delivery
from clinical_mm.ingest.gene_symbols import Renaming, SymbolTable, load_symbols
from clinical_mm.ingest.genomics import read_genomics_matrix
from clinical_mm.ingest.ledger import Ledger
from clinical_mm.ingest.maf import read_genomics_maf
from clinical_mm.study.genomic_features import GeneSymbols
from clinical_mm.study.sources import GenomicsMafSource, GenomicsMatrixSource
from ingest_support import checked_samples, reasons_of, values_of

SHIPPED = load_symbols("s", None)
SYMBOLS = GeneSymbols()

# HGNC's own records on genenames.org.
CURRENT = {
    "TP53": ("TP53", "approved"),
    "ACPP": ("ACP3", "previous"),
    "MLL2": ("KMT2D", "previous"),  # an alias of KMT2B, too: a previous symbol goes before an alias
    "MARCH1": ("MARCHF1", "previous"),
    "SEPT2": ("SEPTIN2", "previous"),
    "HER2": ("ERBB2", "alias"),
    "C10ORF54": ("VSIR", "previous"),  # HGNC writes C10orf54
    "MLL4": ("MLL4", "ambiguous"),  # an alias of KMT2B and of KMT2D
    "2-Sep": ("SEPTIN2", "date"),
    "Sep-02": ("SEPTIN2", "date"),
    "7-Mar": ("MARCHF7", "date"),
    "1-Dec": ("DELEC1", "date"),
    "15-Sep": ("SELENOF", "date"),  # SEP15; there never was a SEPT15
    "2001-03-07 00:00:00": ("MARCHF7", "date"),
    "1-Mar": ("1-Mar", "ambiguous"),  # MARCH1 or MARC1
    "30-Mar": ("30-Mar", "unknown"),
    "Trp53": ("Trp53", "unknown"),  # the mouse's
    "ENSG00000141510": ("ENSG00000141510", "unknown"),
}


@pytest.mark.parametrize("written", CURRENT)
def test_the_shipped_table_knows_famous_renamings_and_leaves_what_is_not_certain(written: str) -> None:
    resolved = SHIPPED.resolve(written)
    assert (resolved.symbol, resolved.status) == CURRENT[written]


NAMES = st.sampled_from(["A", "B", "C", "D", "E", "F"])


@given(st.dictionaries(NAMES, st.tuples(st.sets(NAMES), st.sets(NAMES))), NAMES)
def test_what_is_current_stays_and_nothing_becomes_what_no_gene_is_called(genes: dict, symbol: str) -> None:
    table = SymbolTable((name, *others) for name, others in genes.items())
    resolved = table.resolve(symbol)
    assert table.resolve(resolved.symbol).symbol == resolved.symbol
    assert resolved.symbol in genes or resolved.symbol == symbol
    if symbol in genes:
        assert resolved.symbol == symbol
    assert symbol in table.written_as(symbol)
    assert all(table.resolve(other).symbol == resolved.symbol for other in table.written_as(symbol))


def test_a_study_names_a_table_of_its_own(tmp_path: Path) -> None:
    text = "# made by hand\nsymbol\tprevious\talias\nNEW1\tOLD1|OLDER1\tNICK\n"
    (tmp_path / "own.tsv").write_text(text)
    (tmp_path / "own.tsv.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("own.tsv", "own.tsv.gz"):
        table = load_symbols("s", tmp_path / name)
        assert [table.resolve(s).symbol for s in ("OLDER1", "NICK", "TP53")] == ["NEW1", "NEW1", "TP53"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("symbol\talias\nA\tB\n", "no column 'previous'"),
        ("symbol\tprevious\talias\nA\tB\n", "2 fields in row 1"),
        ("symbol\tprevious\talias\nA\t\t\nA\t\t\n", "row 2"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "own.tsv").write_text(text)
    with pytest.raises(DeliveryError, match=says):
        load_symbols("s", tmp_path / "own.tsv")
    with pytest.raises(DeliveryError, match="does not exist"):
        load_symbols("s", tmp_path / "absent.tsv")


def _matrix(folder: Path, text: str, **options: object):
    (folder / "m.csv").write_text(text)
    declared = {"kind": "genomics_matrix", "path": "*", "samples": "rows", "symbols": {}, **options}
    source = GenomicsMatrixSource.model_validate(declared)
    renaming = Renaming.of("s", source.symbols, None)
    ledger = Ledger("s", "d", "sample")
    files = [folder / "m.csv"]
    return checked_samples(
        read_genomics_matrix("s", source, Delivery("d", folder), files, ledger, renaming), ledger
    )


def test_of_two_columns_of_one_gene_the_approved_one_stays_and_the_other_is_on_record(tmp_path: Path) -> None:
    genomic, ledger = _matrix(tmp_path, "id,ACPP,ACP3,MLL4\na,1,2,3\n")
    assert values_of(genomic) == {"a": {"ACP3": 2.0, "MLL4": 3.0}}
    assert reasons_of(ledger) == {"m.csv#column 2": "other_symbol_of_gene"}


def test_two_former_symbols_of_one_gene_that_disagree_are_both_missing(tmp_path: Path) -> None:
    # Both are previous symbols of KMT2D.
    genomic, ledger = _matrix(tmp_path, "id,TNRC21,MLL2,TP53\na,1,2,3\n")
    assert values_of(genomic) == {"a": {"TP53": 3.0}}
    assert set(reasons_of(ledger).values()) == {"conflicting_records"}
    genomic, _ = _matrix(tmp_path, "id,TNRC21,MLL2,TP53\na,1,1,3\n")
    assert values_of(genomic) == {"a": {"KMT2D": 1.0, "TP53": 3.0}}


def test_the_symbol_may_be_a_part_of_the_name(tmp_path: Path) -> None:
    genomic, _ = _matrix(tmp_path, "id,ACPP_cnv,age\na,1,2\n", symbols={"gene": "^(.+)_cnv$"})
    assert values_of(genomic) == {"a": {"ACP3_cnv": 1.0, "age": 2.0}}


def test_a_matrix_keeps_its_names_unless_its_study_says_otherwise(tmp_path: Path) -> None:
    genomic, _ = _matrix(tmp_path, "id,ACPP\na,1\n", symbols={"normalise": False})
    assert values_of(genomic) == {"a": {"ACPP": 1.0}}
    assert not GenomicsMatrixSource(kind="genomics_matrix", path="*", samples="rows").symbols.normalise


def test_variants_of_two_symbols_of_one_gene_add_up(tmp_path: Path) -> None:
    head = "Hugo_Symbol\tVariant_Classification\tStart\tTumor_Sample_Barcode\n"
    rows = "".join(f"{g}\tMissense_Mutation\t{i}\ta\n" for i, g in enumerate(("MLL2", "KMT2D", "1-Mar")))
    (tmp_path / "m.maf").write_text(head + rows)
    source = GenomicsMafSource(kind="genomics_maf", path="*")
    renaming = Renaming.of("s", source.symbols, None)
    ledger = Ledger("s", "d", "variant")
    files = [tmp_path / "m.maf"]
    genomic = read_genomics_maf("s", source, Delivery("d", tmp_path), files, ledger, renaming)
    assert values_of(genomic) == {"a": {"KMT2D": 2.0, "1-Mar": 1.0}}
    assert {w: r.status for w, r in renaming.seen.items()} == {
        "MLL2": "previous",
        "KMT2D": "approved",
        "1-Mar": "ambiguous",
    }
