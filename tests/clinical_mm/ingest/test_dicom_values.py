"""Values of a header, well written and not."""

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from clinical_mm.ingest.dicom_values import date_time, items, moment, number, numbers, text, whole

TAGS = {"StudyDate": "DA", "StudyTime": "TM", "AcquisitionDateTime": "DT", "PixelSpacing": "DS", "Rows": "US"}


def written(**values: bytes) -> Dataset:
    """A dataset with these bytes as a file would have them."""
    dataset = Dataset()
    for keyword, value in values.items():
        tag = Tag(keyword)
        dataset[tag] = RawDataElement(tag, TAGS.get(keyword, "LO"), len(value), value, 0, False, True)
    return dataset


@given(st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2099, 12, 31)))
def test_dates_and_times_are_read_back_to_the_microsecond(time):
    dataset = written(
        StudyDate=time.strftime("%Y%m%d").encode(),
        StudyTime=time.strftime("%H%M%S.%f").encode(),
        AcquisitionDateTime=time.strftime("%Y%m%d%H%M%S.%f+0100").encode(),
    )
    assert moment(dataset, "StudyDate", "StudyTime") == time
    assert date_time(dataset, "AcquisitionDateTime") == time  # the clock's own time, whatever its offset


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [
        (b"20200229", b"", datetime(2020, 2, 29)),
        (b"1996.10.29", b"07", datetime(1996, 10, 29, 7)),
        (b"20200229 ", b"0715 ", datetime(2020, 2, 29, 7, 15)),
        (b"20200229", b"071530.5", datetime(2020, 2, 29, 7, 15, 30, 500_000)),
        (b"20200229", b"256161", datetime(2020, 2, 29)),
        (b"20210229", b"0715", None),
        (b"00000000", b"", None),
        (b"yesterday", b"", None),
        (b"", b"0715", None),
    ],
)
def test_odd_dates(date, time, expected):
    assert moment(written(StudyDate=date, StudyTime=time), "StudyDate", "StudyTime") == expected


@given(st.binary(max_size=40))
def test_no_bytes_of_a_value_raise(data):
    dataset = written(StudyDate=data, StudyTime=data, AcquisitionDateTime=data, PixelSpacing=data, Rows=data)
    moment(dataset, "StudyDate", "StudyTime")
    date_time(dataset, "AcquisitionDateTime")
    numbers(dataset, "PixelSpacing", 2)
    whole(dataset, "Rows")
    items(dataset, "Rows")
    found = text(dataset, "StudyDate")
    assert found is None or found.encode("utf-8").strip(b"\0 ") == found.encode("utf-8")


def test_numbers_are_finite_and_as_many_as_asked_for():
    assert numbers(written(PixelSpacing=b"0.5\\0.25"), "PixelSpacing", 2) == (0.5, 0.25)
    assert numbers(written(PixelSpacing=b"0.5"), "PixelSpacing", 2) is None
    assert numbers(written(PixelSpacing=b"nan\\1"), "PixelSpacing", 2) is None
    assert number(written(PixelSpacing=b""), "PixelSpacing") is None
    assert number(Dataset(), "PixelSpacing") is None
