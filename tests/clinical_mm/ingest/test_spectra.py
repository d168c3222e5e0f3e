"""Mutational spectra and exposures: by hand, by the complement, by known mixtures, and by awk on real files."""

from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.delivery import Delivery
from clinical_mm.ingest.ledger import Ledger
from clinical_mm.ingest.maf import read_genomics_maf
from clinical_mm.ingest.samples import GenomicTables
from clinical_mm.ingest.spectra import (
    CLASSES,
    CONTEXTS,
    SignatureTable,
    load_signatures,
    spectra,
    substitution,
)
from clinical_mm.study.genomic_features import Spectrum
from clinical_mm.study.sources import GenomicsMafSource
from ingest_support import checked_samples, values_of

BASES = st.sampled_from("ACGT")
OTHER_STRAND = {"A": "T", "C": "G", "G": "C", "T": "A"}


@pytest.mark.parametrize(
    ("variant", "found"),
    [
        (("C", "T", None), ("C>T", None)),
        (("G", "A", "TCGAT"), ("C>T", "T[C>T]G")),  # the other strand of CGA is TCG
        (("T", "G", "atc"), ("T>G", "A[T>G]C")),
        (("C", "T", "AGA"), ("C>T", None)),  # the middle is not the reference
        (("C", "T", "ACGT"), ("C>T", None)),  # there is no middle
        (("C", "T", "NCG"), ("C>T", None)),
        (("C", "C", "ACG"), None),
        (("C", "-", "ACG"), None),
        (("CA", "TG", None), None),
        (("N", "T", None), None),
    ],
)
def test_a_substitution_has_the_class_of_its_pyrimidine(variant: tuple, found: tuple | None) -> None:
    assert substitution(*variant) == found


@given(BASES, BASES, BASES, BASES)
def test_both_strands_say_the_same(before: str, reference: str, after: str, alternate: str) -> None:
    plus = substitution(reference, alternate, before + reference + after)
    turned = OTHER_STRAND[after] + OTHER_STRAND[reference] + OTHER_STRAND[before]
    assert plus == substitution(OTHER_STRAND[reference], OTHER_STRAND[alternate], turned)
    assert (plus is None) == (reference == alternate)
    assert plus is None or plus[1] in CONTEXTS


def test_there_are_six_classes_and_ninety_six_types() -> None:
    assert (len(CLASSES), len(set(CONTEXTS))) == (6, 96)


@settings(max_examples=20)
@given(st.integers(0, 10), st.integers(0, 10))
def test_exposures_are_those_of_a_known_mixture_and_of_the_sample_alone(first: int, second: int) -> None:
    shares = np.zeros((96, 2))
    shares[:4, 0], shares[2:10, 1] = 1 / 4, 1 / 8
    counts = 8 * first * shares[:, 0] + 8 * second * shares[:, 1]
    types = [CONTEXTS[i] for i, n in enumerate(counts) for _ in range(int(n))]
    found = [(t[2:5], t) for t in types]
    table = SignatureTable(("A", "B"), shares)
    declared = Spectrum(context="c", signatures="s.tsv")
    own = spectra(np.array(["p"]), np.array(["p"] * len(found)), found, declared, table)
    values = own[["signature:A", "signature:B"]].to_numpy()[0]
    if not found:
        assert np.isnan(values).all()
    else:
        np.testing.assert_allclose(values, np.array([first, second]) / (first + second), atol=1e-6)
    others = ["q"] * 3
    beside = spectra(
        np.array(["p", "q"]),
        np.array(["p"] * len(found) + others),
        [*found, *[("C>A", "A[C>A]A")] * 3],
        declared,
        table,
    )
    np.testing.assert_array_equal(beside.loc["p"].to_numpy(), own.loc["p"].to_numpy())


def _table(folder: Path, *names: str, value: str = "0.0104166667") -> Path:
    lines = ["\t".join(["Type", *names]), *("\t".join([t, *[value] * len(names)]) for t in CONTEXTS)]
    (folder / "s.tsv").write_text("\n".join(lines) + "\n")
    return folder / "s.tsv"


def test_signatures_are_read_in_any_order_of_their_types(tmp_path: Path) -> None:
    path = _table(tmp_path, "SBS1", "SBS5")
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([head, *sorted(rows)]) + "\n")
    table = load_signatures("s", "s.tsv", path)
    assert table.names == ("SBS1", "SBS5")
    assert table.shares.shape == (96, 2)


@pytest.mark.parametrize(
    ("value", "says"), [("0.5", "do not add up"), ("-1", "negative"), ("x", "no number")]
)
def test_what_is_no_signature_is_refused(tmp_path: Path, value: str, says: str) -> None:
    with pytest.raises(DeliveryError, match=says):
        load_signatures("s", "s.tsv", _table(tmp_path, "SBS1", value=value))


def test_a_table_without_all_types_is_refused(tmp_path: Path) -> None:
    path = _table(tmp_path, "SBS1")
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))
    with pytest.raises(DeliveryError, match="96 types"):
        load_signatures("s", "s.tsv", path)


def _read(path: Path, **options: object) -> tuple[GenomicTables, Ledger]:
    source = GenomicsMafSource.model_validate({"kind": "genomics_maf", "path": "*", **options})
    ledger = Ledger("s", "d", "variant")
    return checked_samples(read_genomics_maf("s", source, Delivery("d", path.parent), [path], ledger), ledger)


def test_silent_variants_count_in_a_spectrum_and_not_in_their_gene(tmp_path: Path) -> None:
    (tmp_path / "m.maf").write_text(
        "Hugo_Symbol\tVariant_Classification\tTumor_Sample_Barcode\tReference_Allele\tTumor_Seq_Allele2\tCONTEXT\n"
        "TP53\tSilent\ta\tG\tA\tATCGATC\nTP53\tMissense_Mutation\ta\tC\tT\tTCG\nVHL\tFrame_Shift_Del\tb\tCA\t-\tTCAG\n"
    )
    genomic, _ = _read(tmp_path / "m.maf", spectrum={"context": "CONTEXT"})
    values = values_of(genomic)
    assert {f: v for f, v in values["a"].items() if v} == {
        "TP53": 1.0,
        "spectrum:C>T": 2.0,
        "spectrum:T[C>T]G": 2.0,
    }
    assert {f: v for f, v in values["b"].items() if v} == {"VHL": 1.0}


def test_the_spectrum_of_real_leukaemias_is_that_of_awk(real_data: Path) -> None:
    path = real_data / "genomics" / "maftools" / "tcga_laml.maf.gz"
    genomic, _ = _read(path, spectrum={})
    sums = genomic.values.drop_columns("sample_id").to_pandas().sum()
    # zcat tcga_laml.maf.gz | awk -F'\t' 'length($11)==1 && length($13)==1 … {c[$11">"$13]++}', both strands added
    assert {kind: int(sums[f"spectrum:{kind}"]) for kind in CLASSES} == {
        "C>A": 122 + 113,
        "C>G": 74 + 65,
        "C>T": 653 + 582,
        "T>A": 48 + 41,
        "T>C": 131 + 105,
        "T>G": 35 + 33,
    }
