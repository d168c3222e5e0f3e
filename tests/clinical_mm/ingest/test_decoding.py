"""From stored values to HU and RGB, against numbers worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless

from clinical_mm.ingest.decoders import has_end_of_image
from clinical_mm.ingest.decoding import DecodingError, modality_values, rgb_values, stored_frames
from clinical_mm.ingest.frames import functional_groups


def values_of(stored: np.ndarray, **attributes: object) -> tuple[np.ndarray, set[str]]:
    dataset = Dataset()
    for keyword, value in {"PhotometricInterpretation": "MONOCHROME2", **attributes}.items():
        setattr(dataset, keyword, value)
    notes: set[str] = set()
    return modality_values(stored, dataset, functional_groups(dataset, 1)[0], notes), notes


grey = arrays(np.uint16, (3, 4)) | arrays(np.int16, (3, 4)) | arrays(np.uint32, (3, 4))


@given(grey, st.integers(-3, 3).filter(bool), st.integers(-40000, 40000))
def test_whole_numbers_are_exact_and_never_wrap(stored, slope, intercept):
    values, _ = values_of(stored, RescaleSlope=slope, RescaleIntercept=intercept)
    exact = [[int(v) * slope + intercept for v in row] for row in stored]
    fits = all(-32768 <= v <= 32767 for row in exact for v in row)
    assert values.dtype == (np.int16 if fits else np.float32)
    assert (
        values.tolist()
        == np.array(exact, dtype=values.dtype if fits else np.float64).astype(values.dtype).tolist()
    )


def test_a_fractional_slope_gives_float32():
    values, _ = values_of(np.array([[0, 3]], np.uint16), RescaleSlope=0.5, RescaleIntercept=-1)
    assert values.dtype == np.float32
    assert values.tolist() == [[-1.0, 0.5]]


def test_a_modality_lut_is_looked_up():
    lut = Dataset()
    lut.add_new("LUTDescriptor", "US", [3, 10, 16])
    lut.ModalityLUTType = "OD"
    lut.add_new("LUTData", "US", [100, 200, 300])
    stored = np.array([[9, 10], [11, 99]], np.uint16)
    values, _ = values_of(stored, ModalityLUTSequence=Sequence([lut]), PixelRepresentation=0)
    assert values.tolist() == [[100, 100], [200, 300]]  # before the first and after the last entry: those


@pytest.mark.parametrize(
    ("photometric", "expected"), [("MONOCHROME2", [[5, 5, 7]]), ("MONOCHROME1", [[7, 5, 7]])]
)
def test_padding_takes_the_value_that_is_shown_darkest(photometric, expected):
    values, notes = values_of(
        np.array([[0, 5, 7]], np.uint16),
        PhotometricInterpretation=photometric,
        PixelPaddingValue=0,
        BitsAllocated=16,
        PixelRepresentation=0,
    )
    assert values.tolist() == expected
    assert notes == {"padding set to the darkest value of its slice"}


def test_a_range_of_padding_and_its_sign():
    values, _ = values_of(
        np.array([[-3000, -2000, -100, 50]], np.int16),
        PixelPaddingValue=-3000,
        PixelPaddingRangeLimit=-2000,
        BitsAllocated=16,
        PixelRepresentation=1,
    )
    assert values.tolist() == [[-100, -100, -100, 50]]


def test_the_background_of_a_segmentation_is_a_label():
    values, notes = values_of(
        np.array([[0, 1, 2]], np.uint8), Modality="SEG", PixelPaddingValue=0, BitsAllocated=8
    )
    assert values.tolist() == [[0, 1, 2]]
    assert not notes


def test_numbers_that_are_none_are_padding():
    values, notes = values_of(np.array([[np.nan, 0.5, 2.0]], np.float32))
    assert values.tolist() == [[0.5, 0.5, 2.0]]
    assert notes


def test_a_slope_of_zero_or_beyond_every_range_is_refused():
    with pytest.raises(DecodingError, match="slope is zero"):
        values_of(np.array([[1]], np.uint16), RescaleSlope=0)
    with pytest.raises(DecodingError, match="leave"):
        values_of(np.array([[60000]], np.uint16), RescaleSlope="1e300", RescaleIntercept=0)
    with pytest.raises(DecodingError, match="leave"):
        values_of(np.array([[60000]], np.uint16), RescaleSlope="1.5e38", RescaleIntercept="0.5")


def test_colours_of_sixteen_bits_keep_their_highest_eight():
    dataset = Dataset()
    dataset.BitsStored = 16
    notes: set[str] = set()
    rgb = rgb_values(np.array([[[0, 256, 65535]]], np.uint16), dataset, notes)
    assert rgb.dtype == np.uint8
    assert rgb.tolist() == [[[0, 1, 255]]]
    assert notes == {"colours reduced from 16 to 8 bits"}


def native(stored: np.ndarray, **attributes: object) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = 16
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def test_bits_beyond_those_stored_are_no_part_of_the_value():
    stored = np.array([[0xF123, 0x0FFF]], np.uint16)  # an overlay in the four highest bits
    dataset = native(stored, BitsStored=12, HighBit=11, PixelRepresentation=0)
    assert next(stored_frames(dataset, 1)).tolist() == [[0x123, 0xFFF]]
    signed = native(stored, BitsStored=12, HighBit=11, PixelRepresentation=1)
    assert next(stored_frames(signed, 1)).tolist() == [[0x123, -1]]


def test_a_truncated_stream_is_told_by_its_missing_end():
    dataset = native(np.zeros((4, 4), np.uint16), BitsStored=16, HighBit=15, PixelRepresentation=0)
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.PixelData = encapsulate([b"\xff\x4f\xff\x51" + bytes(100)])
    dataset["PixelData"].is_undefined_length = True
    with pytest.raises(DecodingError, match="end mark") as caught:
        list(stored_frames(dataset, 1))
    assert caught.value.reason_code == "truncated_file"


def test_an_end_mark_may_be_followed_by_padding():
    assert has_end_of_image(JPEG2000Lossless, b"...\xff\xd9\x00")
    assert not has_end_of_image(JPEG2000Lossless, b"\xff\xd9" + bytes(2000))
