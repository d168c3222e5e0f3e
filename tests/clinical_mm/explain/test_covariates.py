import numpy as np
import pytest

from clinical_mm.explain.covariates import feature_contributions


def test_levels_of_a_category_are_one_feature_with_the_patients_own_level() -> None:
    found = feature_contributions(
        "clinical",
        names=["age", "sex=female", "sex=male"],
        values={"age": 61.0, "sex=female": 0.0, "sex=male": 1.0},
        standardised=np.array([1.2, -0.9, 0.9], dtype=np.float32),
        observed=np.array([True, True, True]),
        attributions=np.array([0.5, 0.25, -1.0]),
        categories=frozenset({"sex=female", "sex=male"}),
    )
    assert [(f.feature, f.value, f.level, f.attribution) for f in found] == [
        ("age", 61.0, None, 0.5),
        ("sex", None, "male", -0.75),
    ]
    assert found[0].deviation == pytest.approx(1.2)


def test_a_gene_whose_name_has_an_equals_sign_is_no_category() -> None:
    found = feature_contributions(
        "genomics",
        names=["HLA=A", "HLA=B"],
        values={"HLA=A": 1.0, "HLA=B": 2.0},
        standardised=np.zeros(2, np.float32),
        observed=np.ones(2, bool),
        attributions=np.ones(2),
    )
    assert [f.feature for f in found] == ["HLA=A", "HLA=B"]


def test_a_missing_value_has_neither_value_nor_direction() -> None:
    (gene,) = feature_contributions(
        "genomics",
        names=["TP53"],
        values={"TP53": float("nan")},
        standardised=np.zeros(1, np.float32),
        observed=np.zeros(1, bool),
        attributions=np.zeros(1),
    )
    assert (gene.value, gene.deviation, gene.is_observed) == (None, None, False)
