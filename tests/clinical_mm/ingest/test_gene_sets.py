"""Gene-set scores: worked out by hand, and those of a patient alone as in a cohort."""

from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.gene_sets import load_gene_sets, with_gene_sets
from clinical_mm.ingest.gene_symbols import Renaming, load_symbols
from clinical_mm.ingest.samples import Samples

GENES = ["A", "B", "C", "D", "E", "F"]
SETS = {"up": ("A", "B"), "down": ("E", "F", "absent"), "small": ("A", "absent")}


def _samples(values: np.ndarray, features: list[str] = GENES) -> Samples:
    ids = np.array([f"s{i}" for i in range(len(values))], dtype=object)
    times = np.full(len(values), np.datetime64("NaT", "us"))
    return Samples(ids, ids, ids, times, features, values.astype(np.float32))


def _scores(values: np.ndarray, minimum: int = 2) -> np.ndarray:
    return with_gene_sets(_samples(values), SETS, minimum, Renaming()).values[:, len(GENES) :]


def test_a_score_is_the_mean_rank_between_the_least_and_the_greatest() -> None:
    # Ranks 6, 5, 4, 3, 2, 1: A and B have the greatest mean rank (5.5), E and F the least (1.5).
    # Ranks 1, 6, 2, 3, 4, 5: (3.5 - 1.5) / 4 - 0.5 = 0 and (4.5 - 1.5) / 4 - 0.5 = 0.25.
    scores = _scores(np.array([[60, 50, 40, 30, 20, 10], [1, 60, 2, 3, 4, 5]]))
    np.testing.assert_allclose(scores[:, :2], [[0.5, -0.5], [0, 0.25]])
    assert np.isnan(scores[:, 2]).all()  # one gene measured where two are asked for


def test_equal_values_share_their_rank_whatever_the_order_of_columns() -> None:
    np.testing.assert_allclose(_scores(np.array([[0, 0, 0, 0, 0, 0]]))[:, :2], 0)


def test_genes_that_a_sample_did_not_measure_have_no_rank() -> None:
    # Left: A 3, C 2, D 1 of three genes; B is not measured, so `up` has one gene.
    scores = _scores(np.array([[9, np.nan, 5, 1, np.nan, np.nan]]), minimum=1)
    np.testing.assert_allclose(scores[0], [0.5, np.nan, 0.5])


@given(arrays(np.float32, (4, 6), elements=st.floats(-100, 100, width=32) | st.just(np.nan)))
def test_a_patient_alone_scores_as_in_the_cohort(values: np.ndarray) -> None:
    together = _scores(values)
    alone = np.concatenate([_scores(values[i : i + 1]) for i in range(len(values))])
    np.testing.assert_array_equal(together, alone)
    known = together[np.isfinite(together)]
    assert ((known >= -0.5 - 1e-6) & (known <= 0.5 + 1e-6)).all()


def test_genes_of_a_set_are_found_under_their_current_symbols() -> None:
    renaming = Renaming(load_symbols("s", None))
    samples = with_gene_sets(
        _samples(np.array([[9, 1, 2]]), ["KMT2D", "X1", "X2"]), {"one": ("MLL2", "KMT2D")}, 1, renaming
    )
    assert samples.features[-1] == "gene_set:one"
    assert samples.values[0, -1] == 0.5
    assert renaming.seen == {}


def test_gmt_files_are_read_and_what_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sets.gmt"
    path.write_text("HALLMARK_A\thttp://x\tA\tB\tA\t\n\nB\t\tC\n")
    assert load_gene_sets("s", "sets.gmt", path) == {"HALLMARK_A": ("A", "B"), "B": ("C",)}
    for text in ("A\tdescription\n", "A\td\tX\nA\td\tY\n", ""):
        path.write_text(text)
        with pytest.raises(DeliveryError, match=r"sets\.gmt"):
            load_gene_sets("s", "sets.gmt", path)
    with pytest.raises(DeliveryError, match="do not exist"):
        load_gene_sets("s", "absent.gmt", tmp_path / "absent.gmt")
