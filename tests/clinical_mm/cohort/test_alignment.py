from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinical_mm.cohort.alignment import align
from clinical_mm.cohort.candidates import COLUMNS
from clinical_mm.study.tasks import Task

INDEX = datetime(2020, 3, 10, 12, 0)


def task(modality="text", index_time="outcomes", **options) -> Task:
    return Task.model_validate(
        {
            "question": "?",
            "outcome": {"kind": "binary", "variable": "x"},
            "index_time": index_time,
            "modalities": {modality: options},
        }
    )


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    plain = {"patient_id": "p", "source": "s", "delivery": "d", "group": "", "weight": 0, "reason_code": ""}
    table = pd.DataFrame([{**plain, **row} for row in rows], columns=COLUMNS)
    table["available_time"] = pd.to_datetime(table["available_time"], format="ISO8601").astype(
        "datetime64[us]"
    )
    return table


def index_times(**times: datetime | None) -> pd.Series:
    return pd.Series(pd.to_datetime(pd.Series(times)).astype("datetime64[us]"))


def reasons(times: list[str | None], index: datetime = INDEX, modality="text", **options) -> list[str]:
    rows = [{"item_id": f"i{k}", "available_time": t} for k, t in enumerate(times)]
    items = align(frame(rows), index_times(p=index), task(modality, **options), modality)
    return items.set_index("item_id")["reason_code"].sort_index().tolist()


def test_a_note_after_the_index_time_is_never_read():
    assert reasons(["2020-03-10 12:00:00", "2020-03-10 12:00:00.000001", "2021-01-01 10:00"]) == [
        "used",
        "after_index",
        "after_index",
    ]


def test_a_date_without_a_time_of_day_is_available_at_the_days_end():
    assert reasons(["2020-03-09", "2020-03-10"]) == ["used", "after_index"]
    assert reasons(["2020-03-10"], index=datetime(2020, 3, 10, 23, 59, 59, 999999)) == ["used"]
    # An index time at midnight stays as it is: what came that day is after it.
    assert reasons(["2020-03-10", "2020-03-09"], index=datetime(2020, 3, 10)) == ["after_index", "used"]


def test_the_windows_ends_are_inclusive():
    window = {"from_days": -7, "until_days": -1}
    times = [
        "2020-03-03 12:00",
        "2020-03-03 11:59:59.999999",
        "2020-03-09 12:00",
        "2020-03-09 12:00:01",
        "2020-03-11 10:00",
    ]
    assert reasons(times, window=window) == ["used", "out_of_window", "used", "out_of_window", "after_index"]


def test_a_date_at_the_windows_beginning_counts_by_its_end():
    assert reasons(["2020-03-03"], window={"from_days": -7}) == ["used"]  # its end is after 3 March 12:00
    assert reasons(["2020-03-02"], window={"from_days": -7}) == ["out_of_window"]


def test_a_window_past_the_index_time_counts_only_as_far_as_it_says():
    window = {"until_days": 1.5, "allow_after_index": True, "reason": "reported late, taken before"}
    assert reasons(["2020-03-12 00:00:01", "2020-03-11 23:59:59", "2020-03-11"], window=window) == [
        "after_index",
        "used",
        "used",
    ]


def test_timeless_items_are_read_at_any_index_time():
    assert reasons([None, "2020-03-11 10:00"], window={"from_days": -1}) == ["used", "after_index"]


def test_windows_of_any_width_do_not_overflow():
    assert reasons(["1900-01-01 10:00"], window={"from_days": -1e15}) == ["used"]


def test_a_task_without_index_time_reads_everything():
    items = align(
        frame(
            [{"item_id": "a", "available_time": "2030-01-01 10:00"}, {"item_id": "b", "available_time": None}]
        ),
        index_times(p=None),
        task(index_time="none"),
        "text",
    )
    assert items["is_used"].all()
    assert items["item_id"].tolist() == ["a", "b"]  # timeless last


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["c", "b", "a"]),
        ({"at_most": 2}, ["c", "b"]),
        ({"choose": "latest"}, ["c"]),
        ({"choose": "first"}, ["a"]),
        ({"choose": "latest", "at_most": 2}, ["c", "b"]),
        ({"choose": "first", "at_most": 2}, ["a", "b"]),
        ({"choose": "nearest"}, ["c"]),
    ],
)
def test_the_order_of_preference_is_the_order_of_reading(options, expected):
    rows = [{"item_id": i, "available_time": f"2020-02-0{n} 10:00"} for n, i in enumerate("abc", start=1)]
    items = align(frame(rows), index_times(p=INDEX), task(**options), "text")
    used = items[items["is_used"]].sort_values("rank")
    assert used["item_id"].tolist() == expected
    assert used["rank"].tolist() == list(range(len(expected)))
    unused = "over_limit" if options.get("choose", "all") == "all" else "not_chosen"
    assert set(items.loc[~items["is_used"], "reason_code"]) <= {unused}
    assert (items.loc[~items["is_used"], "rank"] == -1).all()


def test_nearest_looks_to_both_sides_of_the_index_time():
    rows = [
        {"item_id": "before", "available_time": "2020-03-08 12:00"},
        {"item_id": "after", "available_time": "2020-03-11 12:00"},
    ]
    window = {"until_days": 5, "allow_after_index": True, "reason": "a follow-up scan"}
    items = align(frame(rows), index_times(p=INDEX), task(choose="nearest", window=window), "text")
    assert items.loc[items["is_used"], "item_id"].tolist() == ["after"]


def test_clinical_values_are_chosen_within_a_variable_and_genomics_within_a_source():
    rows = [
        {"item_id": "crp1", "group": "crp", "available_time": "2020-01-01 10:00"},
        {"item_id": "crp2", "group": "crp", "available_time": "2020-01-02 10:00"},
        {"item_id": "sex", "group": "sex", "available_time": None},
    ]
    items = align(frame(rows), index_times(p=INDEX), task("clinical"), "clinical")
    assert items.loc[items["is_used"], "item_id"].tolist() == ["crp2", "sex"]
    rows = [
        {"item_id": "s1", "source": "a", "group": "a", "available_time": None, "weight": 5},
        {"item_id": "s2", "source": "a", "group": "a", "available_time": None, "weight": 9},
        {"item_id": "s3", "source": "b", "group": "b", "available_time": None, "weight": 1},
    ]
    items = align(frame(rows), index_times(p=INDEX), task("genomics", choose="latest"), "genomics")
    assert items.loc[items["is_used"], "item_id"].tolist() == ["s2", "s3"]


def test_of_several_series_at_a_time_the_one_with_most_slices_is_kept():
    rows = [
        {"item_id": "scout", "available_time": "2020-03-01 10:00", "weight": 2},
        {"item_id": "axial", "available_time": "2020-03-01 10:00", "weight": 120},
        {"item_id": "older", "available_time": "2019-03-01 10:00", "weight": 400},
    ]
    items = align(frame(rows), index_times(p=INDEX), task("image", max_series=2), "image")
    by_id = items.set_index("item_id")
    assert by_id["reason_code"].to_dict() == {"axial": "used", "scout": "used", "older": "over_limit"}
    assert by_id["rank"].to_dict() == {"axial": 0, "scout": 1, "older": -1}


def test_what_is_refused_for_what_it_is_never_takes_the_place_of_another():
    rows = [
        {"item_id": "latest", "available_time": "2020-03-02 10:00", "reason_code": "too_few_slices"},
        {"item_id": "older", "available_time": "2020-03-01 10:00"},
    ]
    items = align(frame(rows), index_times(p=INDEX), task("image", choose="latest"), "image").set_index(
        "item_id"
    )
    assert items["reason_code"].to_dict() == {"latest": "too_few_slices", "older": "used"}


# A plain reference: one item after the other, in Python's own types.


def end_of_day(time: datetime) -> datetime:
    if (time.hour, time.minute, time.second, time.microsecond) == (0, 0, 0, 0):
        return time.replace(hour=23, minute=59, second=59, microsecond=999999)
    return time


def naive(rows, index_of, options):
    """Reason and rank by patient and item."""
    window = options.get("window", {})
    found = {}
    for patient, index in index_of.items():
        allowed = {}
        for row in (r for r in rows if r["patient_id"] == patient):
            time = row["available_time"]
            reason = row["reason_code"]
            if not reason and time is not None:
                time = end_of_day(time)
                if time > index + timedelta(days=window.get("until_days", 0)) and time > index:
                    reason = "after_index"
                elif time > index + timedelta(days=window.get("until_days", 0)) or (
                    "from_days" in window and time < index + timedelta(days=window["from_days"])
                ):
                    reason = "out_of_window"
            if reason:
                found[patient, row["item_id"]] = (reason, -1)
            else:
                allowed.setdefault(row["group"], []).append(row)
        rank = 0
        choose = options.get("choose", "all")
        for group in sorted(allowed):
            for place, row in enumerate(sorted(allowed[group], key=lambda r: preference(r, index, choose))):
                limit = options.get("at_most", None if choose == "all" else 1)
                if limit is not None and place >= limit:
                    found[patient, row["item_id"]] = ("over_limit" if choose == "all" else "not_chosen", -1)
                else:
                    found[patient, row["item_id"]] = ("used", rank)
                    rank += 1
    return found


def preference(row, index, choose):
    time = row["available_time"]
    if time is None:
        by_time = timedelta(0)
    elif choose == "first":
        by_time = end_of_day(time) - datetime(1970, 1, 1)
    elif choose == "nearest":
        by_time = abs(index - end_of_day(time))
    else:
        by_time = datetime(1970, 1, 1) - end_of_day(time)
    later_delivery_first = -int(row["delivery"][1:])
    return (time is None, by_time, -row["weight"], later_delivery_first, row["source"], row["item_id"])


HOURS = st.integers(min_value=-96, max_value=96).map(lambda h: datetime(2020, 3, 10) + timedelta(hours=h))


@st.composite
def small_tables(draw):
    patients = ["p1", "p2", "p3"]
    index_of = {p: draw(HOURS) for p in patients}
    row = st.fixed_dictionaries(
        {
            "patient_id": st.sampled_from(patients),
            "source": st.sampled_from(["s1", "s2"]),
            "delivery": st.sampled_from(["d1", "d2"]),
            "available_time": st.none() | HOURS,
            "group": st.sampled_from(["", "crp", "sex"]),
            "weight": st.integers(0, 2),
            "reason_code": st.sampled_from(["", "", "", "wrong_modality"]),
        }
    )
    rows = draw(st.lists(row, max_size=14))
    ids = draw(st.permutations(range(len(rows))))
    rows = [{**r, "item_id": f"i{i:02}"} for r, i in zip(rows, ids, strict=True)]
    options = draw(
        st.fixed_dictionaries(
            {"choose": st.sampled_from(["all", "latest", "first", "nearest"])},
            optional={
                "at_most": st.integers(1, 3),
                "window": st.sampled_from(
                    [
                        {"from_days": -2},
                        {"from_days": -3, "until_days": -0.5},
                        {"until_days": 1, "allow_after_index": True, "reason": "r"},
                    ]
                ),
            },
        )
    )
    return rows, index_of, options


@settings(max_examples=300, deadline=None)
@given(small_tables())
def test_alignment_equals_a_plain_reference(case):
    rows, index_of, options = case
    items = align(frame(rows), index_times(**index_of), task("clinical", **options), "clinical")
    found = {(r.patient_id, r.item_id): (r.reason_code, r.rank) for r in items.itertuples(index=False)}
    assert found == naive(rows, index_of, options)
    assert (items["is_used"] == (items["reason_code"] == "used")).all()
    assert len(items) == len(rows)
