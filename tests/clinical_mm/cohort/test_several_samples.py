"""Several samples of one patient: the declared rule says which is read, and each other carries its reason."""

from datetime import datetime
from typing import Any

import pandas as pd
import pytest

from clinical_mm.cohort.alignment import align
from clinical_mm.cohort.candidates import COLUMNS
from clinical_mm.study.tasks import Task

TUMOUR, METASTASIS, NORMAL = "TCGA-A1-A0SB-01A", "TCGA-A1-A0SB-06A", "TCGA-A1-A0SB-11A"


def _reasons(
    samples: list[tuple[str, str | None]], source: list[str] | None = None, /, **options: Any
) -> dict[str, str]:
    task = Task.model_validate(
        {
            "question": "?",
            "outcome": {"kind": "binary", "variable": "x"},
            "modalities": {"genomics": options},
        }
    )
    rows = [
        {"patient_id": "p", "source": s, "delivery": "d", "item_id": i, "available_time": t, "group": s}
        | {"weight": 1, "reason_code": ""}
        for (i, t), s in zip(samples, source or ["s"] * len(samples), strict=True)
    ]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    frame["available_time"] = pd.to_datetime(frame["available_time"]).astype("datetime64[us]")
    index = pd.Series(pd.to_datetime(pd.Series({"p": datetime(2020, 3, 10)})).astype("datetime64[us]"))
    items = align(frame, index, task, "genomics")
    return dict(zip(items["item_id"], items["reason_code"], strict=True))


def test_by_default_all_are_used_and_averaged() -> None:
    assert _reasons([(TUMOUR, None), (NORMAL, None)]) == {TUMOUR: "used", NORMAL: "used"}


def test_a_tumour_goes_before_a_normal_and_a_normal_alone_is_used() -> None:
    rule = {"samples": "tumour_over_normal"}
    assert _reasons([(NORMAL, None), (TUMOUR, None), (METASTASIS, None)], **rule) == {
        NORMAL: "normal_beside_tumour",
        TUMOUR: "used",
        METASTASIS: "used",
    }
    assert _reasons([(NORMAL, None)], **rule) == {NORMAL: "used"}
    assert _reasons([(NORMAL, None), (TUMOUR, None)], ["expression", "cna"], **rule) == {
        NORMAL: "used",
        TUMOUR: "used",
    }


def test_a_tumour_from_after_the_index_time_pushes_nothing_aside() -> None:
    samples = [(NORMAL, "2020-01-01 10:00"), (TUMOUR, "2020-04-01 10:00")]
    assert _reasons(samples, samples="tumour_over_normal") == {NORMAL: "used", TUMOUR: "after_index"}
    assert _reasons(samples, samples="refuse") == {NORMAL: "used", TUMOUR: "after_index"}


def test_the_latest_is_chosen_of_those_that_the_rule_leaves() -> None:
    samples = [(TUMOUR, "2020-01-01 10:00"), (METASTASIS, "2020-02-01 10:00"), (NORMAL, "2020-03-01 10:00")]
    assert _reasons(samples, samples="tumour_over_normal", choose="latest") == {
        TUMOUR: "not_chosen",
        METASTASIS: "used",
        NORMAL: "normal_beside_tumour",
    }


def test_several_may_be_refused() -> None:
    assert _reasons([(TUMOUR, None), (NORMAL, None)], samples="refuse") == {
        TUMOUR: "several_samples",
        NORMAL: "several_samples",
    }
    assert _reasons([(TUMOUR, None)], samples="refuse") == {TUMOUR: "used"}


@pytest.mark.parametrize(("pattern", "used"), [("^N", "T-1"), ("^T", "N-1")])
def test_what_is_normal_may_be_declared(pattern: str, used: str) -> None:
    found = _reasons([("T-1", None), ("N-1", None)], samples="tumour_over_normal", normal=pattern)
    assert [i for i, reason in found.items() if reason == "used"] == [used]
