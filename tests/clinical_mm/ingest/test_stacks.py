"""Which slices belong together: nothing lost, nothing mixed, whatever order the files come in."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinical_mm.ingest.dicom_wire import DISCRIMINATORS, FrameHeader, InstanceHeader
from clinical_mm.ingest.stacks import Slice, divide

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)


def a_slice(
    number: int, z: float | None, *, rows: int = 4, orientation=AXIAL, told_apart_by=None, **header
) -> Slice:
    discriminators = [""] * len(DISCRIMINATORS)
    for name, value in (told_apart_by or {}).items():
        discriminators[DISCRIMINATORS.index(name)] = value
    frame = FrameHeader(
        position_mm=None if z is None else (0.0, 0.0, z),
        orientation=None if z is None else orientation,
        pixel_spacing_mm=(1.0, 1.0),
        is_detector_spacing=False,
        slice_thickness_mm=None,
        has_unusable_geometry=False,
        window_center=None,
        window_width=None,
        discriminators=tuple(discriminators),
    )
    values = {field.name: None for field in msgspec.structs.fields(InstanceHeader)} | {
        "sop_instance_uid": f"1.{number}",
        "instance_number": number,
        "modality": "CT",
        "photometric_interpretation": "MONOCHROME2",
        "rows": rows,
        "columns": 4,
        "is_colour": False,
        "is_localizer": False,
        "frames": (frame,),
    }
    return Slice(f"{number}.dcm", InstanceHeader(**(values | header)), 0)


slices = st.builds(
    a_slice,
    st.integers(0, 10**6),
    st.none() | st.integers(-3, 3).map(lambda z: 2.0 * z),
    rows=st.sampled_from([4, 8]),
    orientation=st.sampled_from([AXIAL, CORONAL]),
    told_apart_by=st.fixed_dictionaries({"acquisition number": st.sampled_from(["1", "2"])}),
    is_localizer=st.booleans(),
)


@given(st.lists(slices, min_size=1, max_size=14, unique_by=lambda s: s.locator), st.randoms())
def test_every_slice_is_in_one_stack_or_told_to_be_in_none(series, random):
    divided = divide(series)
    placed = [s.locator for stack in divided.stacks for s in stack.slices]
    assert sorted(placed + [s.locator for s in divided.unresolved]) == sorted(s.locator for s in series)
    for stack in divided.stacks:
        assert len({(s.header.rows, s.plane.orientation, s.header.is_localizer) for s in stack.slices}) == 1
        if stack.geometry.is_volume:
            z = np.array([s.plane.position_mm @ np.eye(3) for s in stack.slices])
            steps = np.diff(z, axis=0)
            assert np.allclose(steps, steps[0])
            assert np.abs(steps[0]).max() > 0
    shuffled = list(series)
    random.shuffle(shuffled)
    again = divide(shuffled)
    assert [(stack.slices, stack.sentence) for stack in again.stacks] == [
        (stack.slices, stack.sentence) for stack in divided.stacks
    ]
    assert again.unresolved == divided.unresolved


def test_of_several_answers_the_one_with_as_many_parts_as_duplicates_is_taken():
    series = [
        a_slice(
            10 * phase + z,
            2.0 * z,
            told_apart_by={"temporal position": str(phase), "acquisition time": f"{phase}{z}"},
        )
        for phase in (1, 2)
        for z in range(4)
    ]
    divided = divide(series)
    assert [len(stack.slices) for stack in divided.stacks] == [4, 4]
    assert all(stack.geometry.is_volume for stack in divided.stacks)
    assert "divided by temporal position" in divided.stacks[0].sentence


def test_two_answers_together_part_what_neither_parts_alone():
    series = [
        a_slice(100 * a + 10 * e + z, 2.0 * z, told_apart_by={"acquisition number": str(a), "echo": str(e)})
        for a in (1, 2)
        for e in (1, 2)
        for z in range(3)
    ]
    divided = divide(series)
    assert [len(stack.slices) for stack in divided.stacks] == [3, 3, 3, 3]
    assert "acquisition number and echo" in divided.stacks[0].sentence


@pytest.mark.parametrize("field", ["frame_of_reference_uid", "unit", "modality"])
def test_what_cannot_lie_in_one_array_is_parted(field):
    series = [a_slice(i, 2.0 * i, **{field: "A" if i < 3 else "B"}) for i in range(6)]
    assert [len(stack.slices) for stack in divide(series).stacks] == [3, 3]


def test_without_positions_the_instance_number_orders():
    divided = divide([a_slice(9, None), a_slice(2, None), a_slice(10, None)])
    assert [s.header.instance_number for s in divided.stacks[0].slices] == [2, 9, 10]
    assert not divided.stacks[0].geometry.is_volume


def test_an_orientation_written_with_few_digits_is_the_same():
    series = [a_slice(i, 2.0 * i, orientation=(1.0, 0.0, 0.0004 * (i % 2), 0.0, 1.0, 0.0)) for i in range(5)]
    assert len(divide(series).stacks) == 1
