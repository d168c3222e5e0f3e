"""Headers of real and made files: which frames lie where, in which unit, and whether the pixels are all there."""

import io
import struct
import zlib
from pathlib import Path

import pydicom
import pytest

from clinical_mm.ingest.dicom_header import read_header
from clinical_mm.ingest.dicom_wire import Refusal
from clinical_mm.ingest.pixel_extent import ExtentError, ImageShape, check_inflated_size, pixel_element_at

PYDICOM_FILES = Path(pydicom.data.__file__).parent / "test_files"


def test_frames_of_a_dose_lie_along_its_offset_vector(tmp_path):
    header = read_header(PYDICOM_FILES / "rtdose.dcm")
    dataset = pydicom.dcmread(PYDICOM_FILES / "rtdose.dcm")
    assert len(header.frames) == dataset.NumberOfFrames == 15
    origin = [float(v) for v in dataset.ImagePositionPatient]
    assert header.frames[0].position_mm == pytest.approx(origin)
    # An axial dose of orientation (1,0,0), (0,1,0): the normal is +z.
    assert [float(v) for v in dataset.ImageOrientationPatient] == [1, 0, 0, 0, 1, 0]
    for frame, offset in zip(header.frames, dataset.GridFrameOffsetVector, strict=True):
        assert frame.position_mm == pytest.approx([origin[0], origin[1], origin[2] + float(offset)])
    assert header.unit is None  # DoseUnits of this file are RELATIVE
    dataset.DoseUnits = "GY"
    dataset.save_as(tmp_path / "gray.dcm")
    assert read_header(tmp_path / "gray.dcm").unit == "Gy"


def test_a_file_cut_anywhere_before_the_end_of_its_pixels_is_refused(tmp_path):
    data = (PYDICOM_FILES / "MR_small_jp2klossless.dcm").read_bytes()
    path = tmp_path / "cut.dcm"
    end_of_pixels = data.rindex(b"\xfe\xff\xdd\xe0") + 8
    for length in [*range(0, end_of_pixels, 211), end_of_pixels - 1]:
        path.write_bytes(data[:length])
        try:
            header = read_header(path)
        except (EOFError, OSError, ValueError, struct.error):
            continue  # the worker makes an unreadable_file of it
        assert isinstance(header, Refusal), length
        assert header.reason_code in ("unreadable_file", "truncated_file", "not_an_image")


def test_sizes_of_uncompressed_images():
    assert ImageShape(3, 10, 10, 1, 1, is_422=False).native_bytes == 38  # 300 bits
    assert ImageShape(1, 10, 10, 3, 8, is_422=True).native_bytes == 200
    assert ImageShape(2, 512, 512, 1, 16, is_422=False).native_bytes == 1 << 20


@pytest.mark.parametrize(
    ("written", "is_implicit", "is_little_endian"),
    [
        (struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OW", 0, 7), False, True),
        (struct.pack(">HH2sHL", 0x7FE0, 0x10, b"OB", 0, 7), False, False),
        (struct.pack("<HHL", 0x7FE0, 0x10, 7), True, True),
    ],
)
def test_the_pixel_element_in_every_encoding(written, is_implicit, is_little_endian):
    found = pixel_element_at(io.BytesIO(written), is_implicit=is_implicit, is_little_endian=is_little_endian)
    assert (found.element, found.length, found.value_offset) == (0x10, 7, len(written))


def test_other_elements_are_no_pixels():
    assert pixel_element_at(io.BytesIO(bytes(20)), is_implicit=True, is_little_endian=True) is None
    assert pixel_element_at(io.BytesIO(b"\xe0\x7f"), is_implicit=True, is_little_endian=True) is None


def test_a_deflated_stream_is_measured_to_its_end():
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    stream = deflate.compress(bytes(3 << 20)) + deflate.flush()
    check_inflated_size(io.BytesIO(stream), limit=3 << 20)
    with pytest.raises(ExtentError, match="more than 2 MiB"):
        check_inflated_size(io.BytesIO(stream), limit=2 << 20)
    with pytest.raises(ExtentError, match="does not end"):
        check_inflated_size(io.BytesIO(stream[:-4]), limit=4 << 20)
    with pytest.raises(ExtentError, match="damaged"):
        check_inflated_size(io.BytesIO(b"\xff" * 40))
