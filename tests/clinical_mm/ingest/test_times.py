"""Delivered times to hospital-local ones."""

from datetime import UTC, date, datetime, timedelta, timezone

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.times import TimeReader
from clinical_mm.study.sources import TimeFormat


def _one(cell: object, form: str | None = None, zone: str | None = None) -> datetime | None:
    return TimeReader(TimeFormat(format=form, timezone=zone), "s").read_one(cell)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("2024-01-05", datetime(2024, 1, 5)),
        ("20240105", datetime(2024, 1, 5)),
        ("2024-01-05 10:00", datetime(2024, 1, 5, 10)),
        ("2024-01-05T10:00:30.5", datetime(2024, 1, 5, 10, 0, 30, 500000)),
        ("2024-01-05T10:00:30,25", datetime(2024, 1, 5, 10, 0, 30, 250000)),
        (" 2024-01-05T10:00:30.123456789 ", datetime(2024, 1, 5, 10, 0, 30, 123456)),
        ("20240105T1000", datetime(2024, 1, 5, 10)),
        (date(2024, 1, 5), datetime(2024, 1, 5)),
        (datetime(2024, 1, 5, 10), datetime(2024, 1, 5, 10)),
    ],
)
def test_a_time_without_an_offset_is_local_already(cell: object, expected: datetime) -> None:
    assert _one(cell, zone="Europe/Berlin") == expected


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("2024-01-05T10:00:00Z", datetime(2024, 1, 5, 11)),  # winter: one hour ahead of UTC
        ("2024-07-05T10:00:00Z", datetime(2024, 7, 5, 12)),  # summer: two
        ("2024-01-05T10:00:00+11:00", datetime(2024, 1, 5, 0)),
        ("2024-01-05 10:00 -0500", datetime(2024, 1, 5, 16)),
        (datetime(2024, 1, 5, 10, tzinfo=UTC), datetime(2024, 1, 5, 11)),
    ],
)
def test_a_time_with_an_offset_is_converted_to_the_zone_of_the_source(
    cell: object, expected: datetime
) -> None:
    assert _one(cell, zone="Europe/Berlin") == expected


def test_without_a_zone_an_offset_is_converted_to_utc() -> None:
    assert _one("2005-12-24T09:43:41+11:00") == datetime(2005, 12, 23, 22, 43, 41)


@pytest.mark.parametrize(
    "cell",
    [
        *(
            "31/02/2024",
            "2024-13-01",
            "2024-02-30",
            "2024",
            "2024-01",
            "2024-01-05x10:00",
            "2024-W01-1",
            "yesterday",
        ),
        *(
            "0000-01-01",
            "2024-01-05T25:00",
            "0001-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59-12:00",
            "1704448800",
        ),
    ],
)
def test_what_is_no_iso_time_is_unreadable_and_never_guessed(cell: str) -> None:
    assert _one(cell) is None


def test_a_declared_form_is_read_and_no_other() -> None:
    assert _one("05.01.2024 10:00", form="%d.%m.%Y %H:%M") == datetime(2024, 1, 5, 10)
    assert _one("2024-01-05 10:00", form="%d.%m.%Y %H:%M") is None
    assert _one("05.01.2024 10:00 +0000", form="%d.%m.%Y %H:%M %z", zone="Europe/Berlin") == datetime(
        2024, 1, 5, 11
    )


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "../../etc/passwd", "/etc/localtime"])
def test_an_unknown_zone_is_an_error_of_the_study(zone: str) -> None:
    with pytest.raises(DeliveryError, match="no IANA time zone"):
        TimeReader(TimeFormat(timezone=zone), "s")


def test_a_column_tells_missing_from_unreadable() -> None:
    times = TimeReader(TimeFormat(), "s").read(["", "NaT", "soon", "2024-01-05"])
    assert times.is_missing.tolist() == [True, True, False, False]
    assert times.is_unreadable.tolist() == [False, False, True, False]
    assert times.values.dtype == np.dtype("datetime64[us]")
    assert times.values[3] == np.datetime64("2024-01-05")


@given(st.datetimes(datetime(1900, 1, 2), datetime(2199, 1, 1)), st.integers(-14 * 60, 14 * 60))
def test_every_offset_gives_the_same_instant(moment: datetime, minutes: int) -> None:
    shifted = moment.replace(tzinfo=UTC).astimezone(timezone(timedelta(minutes=minutes)))
    assert _one(shifted.isoformat()) == moment


@given(st.text(max_size=30))
def test_no_text_raises(text: str) -> None:
    TimeReader(TimeFormat(), "s").read([text])
    TimeReader(TimeFormat(format="%d.%m.%y"), "s").read([text])
