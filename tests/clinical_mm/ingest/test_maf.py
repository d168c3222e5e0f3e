"""Mutations of a MAF: counted per gene, zero only where a sample was sequenced, every row with one fate."""

import gzip
from collections import Counter
from pathlib import Path

import hypothesis.strategies as st
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.delivery import Delivery
from clinical_mm.ingest.ledger import Ledger
from clinical_mm.ingest.maf import read_genomics_maf
from clinical_mm.ingest.samples import ABSENT_FEATURE, GenomicTables
from clinical_mm.study.sources import GenomicsMafSource
from ingest_support import checked_samples, values_of

HEADER = "Hugo_Symbol\tVariant_Classification\tStart_Position\tTumor_Sample_Barcode\n"


def _row(gene: str, sample: str, classification: str = "Missense_Mutation", start: int = 1) -> str:
    return f"{gene}\t{classification}\t{start}\t{sample}\n"


def _read(folder: Path, **options: object) -> tuple[GenomicTables, Ledger]:
    source = GenomicsMafSource.model_validate({"kind": "genomics_maf", "path": "*.maf*", **options})
    ledger = Ledger("s", "d", "variant")
    files = sorted(p for p in folder.iterdir() if ".maf" in p.name or p.suffix == ".parquet")
    genomic = read_genomics_maf("s", source, Delivery("d", folder), files, ledger)
    return checked_samples(genomic, ledger)


def _text(folder: Path, *rows: str, head: str = HEADER, **options: object) -> tuple[GenomicTables, Ledger]:
    (folder / "m.maf").write_text(head + "".join(rows))
    return _read(folder, **options)


def _fates(ledger: Ledger) -> dict[str, tuple[str, str]]:
    records = ledger.records()
    fates = zip(records["disposition"], records["reason_code"], strict=True)
    return dict(zip(records["locator"], fates, strict=True))


def test_variants_are_counted_by_gene_and_sample_and_the_others_are_zero(tmp_path: Path) -> None:
    rows = (_row("TP53", "b"), _row("TP53", "b", start=2), _row("VHL", "a"), _row("TP53", "a"))
    genomic, ledger = _text(tmp_path, *rows)
    assert values_of(genomic) == {"a": {"TP53": 1.0, "VHL": 1.0}, "b": {"TP53": 2.0, "VHL": 0.0}}
    assert genomic.values.schema.field("VHL").type == pa.float32()
    assert list(genomic.samples["locator"]) == ["m.maf#row 3", "m.maf#row 1"]
    assert list(genomic.samples["source_patient_id"]) == ["a", "b"]
    assert ledger.n_found == ledger.n_accepted == 4


def test_lines_of_comment_before_the_header_and_between_rows_are_no_records(tmp_path: Path) -> None:
    head = "#version 2.4\t\t\t\n## made on a Monday\n" + HEADER
    genomic, ledger = _text(
        tmp_path, _row("VHL", "a"), "# end of chromosome 3\n", _row("VHL", "b"), head=head
    )
    assert list(values_of(genomic)) == ["a", "b"]
    assert ledger.n_found == 2


def test_another_sign_of_comment_may_be_declared(tmp_path: Path) -> None:
    _, ledger = _text(tmp_path, _row("VHL", "a"), head="%made\n" + HEADER, table={"comment": "%"})
    assert ledger.n_accepted == 1


def test_a_sequenced_sample_without_a_variant_is_zero_and_one_not_sequenced_is_missing(
    tmp_path: Path,
) -> None:
    (tmp_path / "sequenced.txt").write_text(
        'Tumor_Sample_Barcode\n# batch 1\na\n"c"\n\n c\ncenter-d\textra\n'
    )
    genomic, ledger = _text(tmp_path, _row("VHL", "a"), _row("TP53", "b"), sequenced="sequenced.txt")
    assert values_of(genomic) == {
        "a": {"TP53": 0.0, "VHL": 1.0},
        "b": {"TP53": 1.0, "VHL": 0.0},
        "c": {"TP53": 0.0, "VHL": 0.0},
        "center-d": {"TP53": 0.0, "VHL": 0.0},
    }
    locators = dict(zip(genomic.samples["sample_id"], genomic.samples["locator"], strict=True))
    assert locators["a"] == "m.maf#row 1"
    assert locators["c"] == "sequenced.txt#line 4"  # that it stands there twice changes nothing
    assert ledger.n_found == 2  # a record is a variant
    without, _ = _text(tmp_path, _row("VHL", "a"), _row("TP53", "b"))
    assert list(values_of(without)) == ["a", "b"]


def test_genes_without_a_column_are_zero_and_the_values_say_so(tmp_path: Path) -> None:
    genomic, _ = _text(tmp_path, _row("VHL", "a"))
    assert genomic.values.schema.metadata[ABSENT_FEATURE] == b"0.0"


def test_a_silent_variant_shows_that_a_sample_was_sequenced_and_counts_for_no_gene(tmp_path: Path) -> None:
    rows = (_row("TP53", "a", "Silent"), _row("TP53", "b", "3'UTR"), _row("VHL", "b", "Nonsense_Mutation"))
    genomic, ledger = _text(tmp_path, *rows)
    assert values_of(genomic) == {"a": {"VHL": 0.0}, "b": {"VHL": 1.0}}
    assert ledger.n_accepted == 3
    genomic, _ = _text(tmp_path, *rows, silent=["Nonsense_Mutation"])
    assert values_of(genomic) == {"a": {"TP53": 1.0}, "b": {"TP53": 1.0}}


def test_the_same_row_again_is_a_duplicate_and_counts_once(tmp_path: Path) -> None:
    rows = (_row("VHL", "a"), _row("VHL", "a"), _row("VHL", "a", start=2))
    genomic, ledger = _text(tmp_path, *rows)
    assert values_of(genomic) == {"a": {"VHL": 2.0}}
    assert _fates(ledger) == {"m.maf#row 2": ("duplicate", "identical_record")}


def test_a_sample_of_two_files_is_one_sample_and_their_common_rows_count_once(tmp_path: Path) -> None:
    (tmp_path / "a.maf").write_text(HEADER + _row("VHL", "x") + _row("TP53", "x"))
    with gzip.open(tmp_path / "b.maf.gz", "wt") as file:
        file.write(
            "#version 2.4\n" + HEADER + _row("VHL", "x") + _row("VHL", "x", start=9) + _row("KIT", "y")
        )
    genomic, ledger = _read(tmp_path)
    assert values_of(genomic) == {
        "x": {"KIT": 0.0, "TP53": 1.0, "VHL": 2.0},
        "y": {"KIT": 1.0, "TP53": 0.0, "VHL": 0.0},
    }
    assert _fates(ledger) == {"b.maf.gz#row 1": ("duplicate", "identical_record")}


def test_rows_that_name_too_little_or_are_ragged_are_quarantined_and_counted(tmp_path: Path) -> None:
    rows = (
        _row("VHL", "a"),
        _row("VHL", " "),
        _row("", "a"),
        _row("VHL", "a", ""),
        "VHL\tMissense_Mutation\t1\n",
        "VHL\tMissense_Mutation\t1\ta\tmore\n",
    )
    genomic, ledger = _text(tmp_path, *rows)
    assert values_of(genomic) == {"a": {"VHL": 1.0}}
    assert _fates(ledger) == {
        "m.maf#row 2": ("quarantined", "missing_sample_id"),
        "m.maf#row 3": ("quarantined", "missing_value"),
        "m.maf#row 4": ("quarantined", "missing_value"),
        "m.maf#row 5": ("quarantined", "malformed_row"),
        "m.maf#row 6": ("quarantined", "malformed_row"),
    }
    counts = ledger.counts().iloc[0]
    assert (counts["found"], counts["accepted"], counts["quarantined"]) == (6, 1, 5)
    assert counts["record_kind"] == "variant"


def test_a_sample_of_quarantined_rows_alone_is_missing(tmp_path: Path) -> None:
    genomic, _ = _text(tmp_path, _row("VHL", "a"), _row("", "b"))
    assert list(values_of(genomic)) == ["a"]


def test_variants_without_a_time_are_quarantined_where_the_source_is_not_timeless(tmp_path: Path) -> None:
    (tmp_path / "sequenced.txt").write_text("b\n")
    genomic, ledger = _text(tmp_path, _row("VHL", "a"), is_timeless=False, sequenced="sequenced.txt")
    assert len(genomic.samples) == 0
    assert _fates(ledger) == {"m.maf#row 1": ("quarantined", "missing_time")}


def test_a_file_that_cannot_be_read_is_one_quarantined_record(tmp_path: Path) -> None:
    (tmp_path / "a.maf.gz").write_bytes(b"no archive")
    genomic, ledger = _text(tmp_path, _row("VHL", "a"))
    assert list(values_of(genomic)) == ["a"]
    assert _fates(ledger) == {"a.maf.gz": ("quarantined", "unreadable_file")}


def test_a_header_alone_and_no_file_at_all_give_empty_tables(tmp_path: Path) -> None:
    assert len(_read(tmp_path)[0].samples) == 0
    assert len(_text(tmp_path)[0].samples) == 0


def test_all_sequenced_and_none_mutated_are_samples_without_a_column(tmp_path: Path) -> None:
    (tmp_path / "sequenced.txt").write_text("a\nb\n")
    genomic, _ = _text(tmp_path, sequenced="sequenced.txt")
    assert values_of(genomic) == {"a": {}, "b": {}}
    assert genomic.values.schema.metadata[ABSENT_FEATURE] == b"0.0"


def test_parquet_is_counted_as_text_is(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "Hugo_Symbol": ["VHL", "VHL", "TP53"],
            "Variant_Classification": "Missense_Mutation",
            "Start_Position": [1, 1, 2],
            "Tumor_Sample_Barcode": [7, 7, 8],
        }
    )
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "m.parquet")
    genomic, ledger = _read(tmp_path)
    assert values_of(genomic) == {"7": {"TP53": 0.0, "VHL": 1.0}, "8": {"TP53": 1.0, "VHL": 0.0}}
    assert _fates(ledger) == {"m.parquet#row 2": ("duplicate", "identical_record")}


def test_a_sample_has_the_same_content_hash_whoever_is_delivered_beside_it(tmp_path: Path) -> None:
    alone, _ = _text(tmp_path, _row("VHL", "a"))
    beside, _ = _text(tmp_path, _row("VHL", "b"), _row("VHL", "a"), _row("VHL", "b", start=2))
    assert beside.samples["content_hash"][0] == alone.samples["content_hash"][0]
    assert beside.samples["content_hash"][1] != alone.samples["content_hash"][0]


def test_a_list_of_sequenced_samples_that_is_missing_or_damaged_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match="no list of sequenced samples"):
        _text(tmp_path, _row("VHL", "a"), sequenced="sequenced.txt.gz")
    (tmp_path / "sequenced.txt.gz").write_bytes(b"no archive")
    with pytest.raises(DeliveryError, match="cannot be read"):
        _text(tmp_path, _row("VHL", "a"), sequenced="sequenced.txt.gz")


def test_a_delivery_without_variants_needs_no_list(tmp_path: Path) -> None:
    genomic, ledger = _read(tmp_path, sequenced="sequenced.txt")
    assert len(genomic.samples) == ledger.n_found == 0


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    head = HEADER.replace("Tumor_Sample_Barcode", "Tumour_Sample_Barcode")
    with pytest.raises(DeliveryError, match=r"no column 'Tumor_Sample_Barcode'.*did you mean"):
        _text(tmp_path, _row("VHL", "a"), head=head)


_gene = st.sampled_from(["VHL", "TP53", "KIT", ""])
_sample = st.sampled_from(["a", "b", "c", ""])
_kind = st.sampled_from(["Missense_Mutation", "Silent", ""])


@given(st.lists(st.tuples(_gene, _kind, st.integers(0, 2), _sample), max_size=20), st.sets(_sample))
@settings(max_examples=150, deadline=None)
def test_counts_agree_with_counting_by_hand(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, int, str]], sequenced: set[str]
) -> None:
    folder = tmp_path_factory.mktemp("m")
    (folder / "sequenced.txt").write_text("".join(f"{s}\n" for s in sequenced))
    lines = (_row(gene, sample, kind, start) for gene, kind, start, sample in rows)
    genomic, ledger = _text(folder, *lines, sequenced="sequenced.txt")
    usable = {row for row in rows if row[0] and row[1] and row[3]}
    counted = Counter((sample, gene) for gene, kind, _, sample in usable if kind != "Silent")
    genes = {gene for _, gene in counted}
    samples = {row[3] for row in usable} | sequenced - {""}
    assert values_of(genomic) == {s: {g: float(counted[s, g]) for g in genes} for s in samples}
    counts = ledger.counts().iloc[0]
    assert (counts["found"], counts["accepted"]) == (len(rows), len(usable))
    assert counts["quarantined"] == sum(not (g and k and s) for g, k, _, s in rows)
