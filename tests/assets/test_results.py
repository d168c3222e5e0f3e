import dagster as dg
import pandas as pd
import pytest

from assets.results import check_specs, materialized, metadata, sentences
from clinical_mm.errors import CohortError
from clinical_mm.summary import Check, StageSummary


def summary(**changes: object) -> StageSummary:
    return StageSummary(stage="notes", **changes)  # type: ignore[arg-type]


def test_facts_keep_their_types() -> None:
    found = metadata(summary(facts={"found": 3, "share": 0.5, "source": "notes", "is_new": True}))
    kinds = [type(found[k]) for k in ("found", "share", "source", "is_new")]
    assert kinds == [
        dg.IntMetadataValue,
        dg.FloatMetadataValue,
        dg.TextMetadataValue,
        dg.BoolMetadataValue,
    ]


def test_a_table_is_markdown_whose_cells_cannot_break_it() -> None:
    frame = pd.DataFrame({"reason": ["a|b"], "n": [1], "share": [float("nan")]})
    text = metadata(summary(tables={"quarantined": frame}))["quarantined"].value
    assert text.splitlines() == ["| reason | n | share |", "| --- | --- | --- |", "| a\\|b | 1 |  |"]


def test_a_long_table_says_how_many_rows_it_leaves_out() -> None:
    text = metadata(summary(tables={"t": pd.DataFrame({"n": range(250)})}))["t"].value
    assert text.splitlines()[-1] == "50 more rows"


def test_a_curve_is_a_picture_small_enough_to_stay_inline() -> None:
    text = metadata(summary(curves={"loss": [3.0, 2.0, 1.0]}))["curves"].value
    assert text.startswith("![curves](data:image/png;base64,iVBOR")
    assert len(text) < 100_000


def test_a_check_that_the_stage_did_not_make_fails() -> None:
    outcome = materialized(summary(), "notes", ("conservation",))
    assert [c.passed for c in outcome.check_results or []] == [False]


def test_a_check_keeps_its_verdict_and_severity() -> None:
    checks = (Check("conservation", is_passed=True, sentence="all there"),)
    outcome = materialized(summary(checks=checks), "notes", ("conservation",))
    (result,) = outcome.check_results or []
    assert (result.passed, result.check_name, result.severity) == (
        True,
        "conservation",
        dg.AssetCheckSeverity.ERROR,
    )
    assert check_specs("notes", "conservation")[0].blocking


def test_an_error_for_the_user_fails_the_step_with_its_sentence_and_no_retry() -> None:
    with pytest.raises(dg.Failure, match="too few patients") as caught, sentences():
        raise CohortError("too few patients")
    assert caught.value.allow_retries is False
