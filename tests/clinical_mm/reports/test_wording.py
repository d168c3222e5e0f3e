import doctest

import pytest

from clinical_mm.explain import attribution, covariates, shapley, words
from clinical_mm.reports import answer, patient, pseudonym, shading, wording
from clinical_mm.reports.pseudonym import pseudonyms
from clinical_mm.study.tasks import MulticlassOutcome, SurvivalOutcome


@pytest.mark.parametrize(
    "module",
    [attribution, covariates, shapley, words, patient, pseudonym, shading, wording],
    ids=lambda m: m.__name__,
)
def test_the_examples_in_the_docstrings_hold(module: object) -> None:
    found = doctest.testmod(module)  # type: ignore[arg-type]
    assert found.attempted > 0
    assert found.failed == 0


def test_two_patients_never_share_a_page() -> None:
    ids = [str(i) for i in range(400)]
    assert len(set(pseudonyms("demo", ids, digits=2).values())) == 400
    assert all(p.startswith("P-") and len(p) == 12 for p in pseudonyms("demo", ids).values())


def test_a_survival_answer_names_its_horizon_and_its_unit() -> None:
    outcome = SurvivalOutcome(kind="survival", duration="months", event="death", duration_unit="months")
    found = answer.answer(
        outcome,
        (0.7,),
        0,
        risk=answer.Risk(0.31, 0.2, 0.45, horizon=24.0),
        confidence=0.95,
        typical=None,
        rank=0.8,
    )
    assert found.headline == "31%"
    assert "within 24 months of the index time at 31% (95% interval 20% to 45%)" in found.sentence
    assert "higher than that of 80% of the held-out patients" in found.sentence
    without = answer.answer(outcome, (0.7,), 0, risk=None, confidence=0.95, typical=None, rank=0.8)
    assert without.probability is None
    assert not without.is_calibrated


def test_a_multiclass_answer_lists_every_class() -> None:
    outcome = MulticlassOutcome(kind="multiclass", variable="grade", classes=("low", "middle", "high"))
    risk = answer.Risk(0.6, 0.5, 0.7, classes=(0.1, 0.3, 0.6))
    found = answer.answer(outcome, (0.0, 1.0, 2.0), 2, risk=risk, confidence=0.95, typical=None, rank=None)
    assert found.headline == "high"
    assert [(c.name, c.probability, c.is_explained) for c in found.classes] == [
        ("low", 0.1, False),
        ("middle", 0.3, False),
        ("high", 0.6, True),
    ]
    bare = answer.answer(outcome, (0.0, 0.0, 0.0), 0, risk=None, confidence=0.95, typical=None, rank=None)
    assert [c.probability for c in bare.classes] == pytest.approx([1 / 3] * 3)
