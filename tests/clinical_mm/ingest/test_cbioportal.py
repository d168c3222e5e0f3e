"""Files as cBioPortal lays them out, of a study that cBioPortal tests itself with: counts by `cut`, `sort`, `wc`."""

import gzip
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from clinical_mm.ingest.delivery import Delivery
from clinical_mm.ingest.gene_symbols import Renaming
from clinical_mm.ingest.genomics import read_genomics_matrix
from clinical_mm.ingest.ledger import Ledger
from clinical_mm.ingest.maf import read_genomics_maf
from clinical_mm.ingest.samples import GenomicTables
from clinical_mm.study.sources import GenomicsMafSource, GenomicsMatrixSource
from ingest_support import checked_samples, reasons_of, values_of

LONG = {"samples": "long", "sample_id": "Sample_Id", "feature": "Hugo_Symbol", "value": "Value"}
GENES = {"samples": "columns", "sample_id": "Hugo_Symbol", "excluded": ["Entrez_Gene_Id"]}
LABELLED = {"samples": "columns", "sample_id": "ENTITY_STABLE_ID"}


def _matrix(path: Path, **options: object) -> tuple[GenomicTables, Ledger]:
    declared = {
        "kind": "genomics_matrix",
        "path": "*",
        "table": {"delimiter": "\t", "comment": "#"},
        **options,
    }
    source = GenomicsMatrixSource.model_validate(declared)
    ledger = Ledger("s", "d", "sample")
    renaming = Renaming.of("s", source.symbols, None)
    genomic = read_genomics_matrix("s", source, Delivery("d", path.parent), [path], ledger, renaming)
    return checked_samples(genomic, ledger)


# name, options, samples (fields of the header less labels), features (awk 'NR>1 && NF' | wc -l)
FILES = [
    ("data_expression_median.txt", GENES, 526, 6),
    ("data_expression_median_Zscores.txt", GENES, 526, 5),
    ("data_cna_log2.txt", GENES, 778, 7),
    ("data_methylation_hm27.txt", GENES, 311, 8),
    ("data_cna_discrete.txt", LONG, 788, 8),
    ("data_gsva_scores.txt", {"samples": "columns", "sample_id": "geneset_id"}, 5, 7),
    ("data_gsva_pvalues.txt", {"samples": "columns", "sample_id": "geneset_id"}, 5, 7),
    (
        "data_mutational_signature.txt",
        LABELLED | {"excluded": ["name", "description", "confidenceStatement"]},
        8,
        60,
    ),
    ("data_generic_assay_patient_test.txt", LABELLED | {"excluded": ["name", "description"]}, 2, 2),
    ("data_treatment_ic50.txt", LABELLED | {"excluded": ["NAME", "DESCRIPTION", "URL"]}, 8, 10),
]


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(("name", "options", "n_samples", "n_features"), FILES)
def test_every_matrix_of_a_cbioportal_study_is_read(
    real_data: Path,
    tmp_path: Path,
    *,
    name: str,
    options: dict,
    n_samples: int,
    n_features: int,
    zipped: bool,
) -> None:
    path = real_data / "genomics" / "cbioportal_study_es_0" / name
    if zipped:
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path = tmp_path / f"{name}.gz"
    genomic, ledger = _matrix(path, **options)
    assert (ledger.n_found, genomic.values.num_columns - 1) == (n_samples, n_features)


def test_discrete_copy_number_has_the_values_of_its_rows(real_data: Path) -> None:
    path = real_data / "genomics" / "cbioportal_study_es_0" / "data_cna_discrete.txt"
    genomic, ledger = _matrix(path, **LONG)
    values = genomic.values.drop_columns("sample_id").to_pandas().to_numpy()
    # cut -f4 data_cna_discrete.txt | sort | uniq -c
    found, counts = np.unique(values[~np.isnan(values)], return_counts=True)
    assert dict(zip(found.tolist(), counts.tolist(), strict=True)) == {
        -2: 14,
        -1: 1491,
        0: 4561,
        1: 189,
        2: 49,
    }
    assert ledger.n_accepted == 788


def _long(folder: Path, *rows: str) -> tuple[GenomicTables, Ledger]:
    (folder / "m.txt").write_text("Hugo_Symbol\tSample_Id\tValue\n" + "".join(f"{r}\n" for r in rows))
    return _matrix(folder / "m.txt", **LONG)


def test_rows_that_contradict_one_another_and_cells_that_are_no_number_are_missing(tmp_path: Path) -> None:
    rows = ("A\ta\t1", "A\ta\t2", "B\ta\t-2", "B\ta\t-2", "A\tb\tx", "B\tb\tNA", "C\tb\t0", "\tb\t1", "C\tb")
    genomic, ledger = _long(tmp_path, *rows)
    assert values_of(genomic) == {
        "a": {"A": None, "B": -2.0, "C": None},
        "b": {"A": None, "B": None, "C": 0.0},
    }
    assert reasons_of(ledger) == {
        "m.txt#row 1": "conflicting_records",
        "m.txt#row 2": "conflicting_records",
        "m.txt#row 5": "not_a_number",
        "m.txt#row 8": "missing_value",
        "m.txt#row 9": "malformed_row",
    }
    assert ledger.n_found == ledger.n_accepted == 2


@given(
    st.dictionaries(
        st.tuples(st.sampled_from("abc"), st.sampled_from("XYZ")), st.integers(-2, 2), min_size=1
    ),
    st.randoms(use_true_random=False),
)
def test_the_order_of_rows_does_not_matter(tmp_path_factory, cells: dict, random) -> None:  # type: ignore[no-untyped-def]
    rows = [f"{feature}\t{sample}\t{value}" for (sample, feature), value in cells.items()]
    random.shuffle(rows)
    genomic, _ = _long(tmp_path_factory.mktemp("long"), *rows)
    read = {
        (sample, feature): value
        for sample, values in values_of(genomic).items()
        for feature, value in values.items()
        if value is not None
    }
    assert read == cells


PANELS = "SAMPLE_ID\tmutations\tgistic\na\tP1\tP1\nb\tNA\tP1\nc\tP2\tNA\n"
CASES = "cancer_study_identifier: s\nstable_id: s_sequenced\ncase_list_ids: a\tc\n"


@pytest.mark.parametrize("listed", [PANELS, CASES, "a\nc\n"])
def test_samples_are_sequenced_by_case_list_panel_matrix_or_plain_list(tmp_path: Path, listed: str) -> None:
    (tmp_path / "list.txt").write_text(listed)
    (tmp_path / "m.maf").write_text(
        "#version 2.4\nHugo_Symbol\tVariant_Classification\tTumor_Sample_Barcode\nTP53\tMissense_Mutation\ta\n"
    )
    source = GenomicsMafSource(kind="genomics_maf", path="*.maf", sequenced="list.txt")
    ledger = Ledger("s", "d", "variant")
    genomic = read_genomics_maf("s", source, Delivery("d", tmp_path), [tmp_path / "m.maf"], ledger)
    assert values_of(genomic) == {"a": {"TP53": 1.0}, "c": {"TP53": 0.0}}


def test_the_mutations_of_a_cbioportal_study_and_its_matrix_of_panels(real_data: Path) -> None:
    folder = real_data / "genomics" / "cbioportal_study_es_0"
    declared = {"kind": "genomics_maf", "path": "*.maf", "sequenced": "data_gene_panel_matrix.txt"}
    source = GenomicsMafSource.model_validate(declared | {"hotspots": {"changes": ["TP53 p.R175H"]}})
    ledger = Ledger("s", "d", "variant")
    files = [folder / "data_mutations_extended.maf"]
    genomic, _ = checked_samples(read_genomics_maf("s", source, Delivery("d", folder), files, ledger), ledger)
    values = values_of(genomic)
    # cut -f1,9,16 data_mutations_extended.maf | grep TCGA-A1-A0SB-01, less the silent ones
    expected = {"OR11H1": 1, "TMEM247": 1, "ABLIM1": 1, "ADAMTS20": 1, "DTNB": 1, "TP53": 2, "ATM": 2}
    assert {g: values["TCGA-A1-A0SB-01"][g] for g in expected} == expected
    assert values["TCGA-GI-A2C8-01"]["TP53"] == 0  # sequenced with a panel, without a variant
    assert "TEST_SAMPLE_7" not in values  # NA in the matrix
