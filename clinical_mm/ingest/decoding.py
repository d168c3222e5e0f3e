"""The pixels of one file: decoded, in the units of the modality LUT, written frame by frame.

Runs in a decoding worker. Grey frames become int16 where every value is a whole number that fits, else float32; colour,
whatever its coding, becomes 8-bit RGB. Follows PS3.3 C.7.6.3 (image pixel), C.7.5.1.1.2 (padding), C.7.9 (palette) and
C.11.1 (modality LUT). The VOI window is not applied: it stays a property of the series.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

from clinical_mm.ingest.decoders import decoder_of, has_end_of_image
from clinical_mm.ingest.dicom_header import PIXEL_KEYWORDS
from clinical_mm.ingest.dicom_values import items, number, tags_of, text, transfer_syntax_of, whole
from clinical_mm.ingest.dicom_wire import Decoded, Refusal
from clinical_mm.ingest.frames import FunctionalGroups, functional_groups

Frame = npt.NDArray[Any]

DECODING_KEYWORDS = (
    "Modality",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "FloatPixelPaddingValue",
    "RescaleIntercept",
    "RescaleSlope",
    "ModalityLUTSequence",
    "DoseGridScaling",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "AlphaPaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "AlphaPaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    *PIXEL_KEYWORDS.values(),
)
_TAGS = tags_of(DECODING_KEYWORDS)
_INT16 = np.iinfo(np.int16)


class DecodingError(Exception):
    """The pixels cannot be made of the file; the sentence says why."""

    def __init__(self, sentence: str, reason_code: str = "decode_failed") -> None:
        super().__init__(sentence)
        self.reason_code = reason_code


def decode_file(path: Path, output: Path) -> Decoded | Refusal:
    """Decode all frames of an image file and write them, one after the other, to `output`.

    Args:
        path: a file whose header was read and whose pixel data were found whole.
        output: where the frames go, in C order, each in the type that the answer names.

    Returns:
        What was written, or why the file cannot be decoded: decode_failed or truncated_file.
    """
    try:
        dataset = pydicom.dcmread(path, specific_tags=_TAGS, force=True)
        n_frames = whole(dataset, "NumberOfFrames") or 1
        dtypes: list[str] = []
        shape: tuple[int, ...] = ()
        notes: set[str] = set()
        groups = functional_groups(dataset, n_frames)
        with output.open("wb") as file:
            for stored, group in zip(stored_frames(dataset, n_frames), groups, strict=True):
                is_colour = stored.ndim == 3 or text(dataset, "PhotometricInterpretation") == "PALETTE COLOR"
                if is_colour:
                    frame = rgb_values(stored, dataset, notes)
                else:
                    frame = modality_values(stored, dataset, group, notes)
                shape = frame.shape
                dtypes.append(frame.dtype.name)
                file.write(np.ascontiguousarray(frame).data)
    except DecodingError as error:
        return Refusal(error.reason_code, str(error))
    return Decoded(shape, tuple(dtypes), tuple(sorted(notes)))


def stored_frames(dataset: Dataset, n_frames: int) -> Iterator[Frame]:
    """The frames as stored: [rows, columns] before the modality LUT, or [rows, columns, 3] in RGB.

    Raises:
        DecodingError: fewer frames than declared, another size than declared, or a stream without its end.
    """
    syntax = transfer_syntax_of(dataset)
    dataset.file_meta.TransferSyntaxUID = syntax
    bits_stored = whole(dataset, "BitsStored") or whole(dataset, "BitsAllocated") or 32
    decoder, plugin = decoder_of(syntax, bits_stored)
    if syntax.is_encapsulated:
        _check_streams(dataset, n_frames)
    rows, columns = dataset.Rows, dataset.Columns
    n_decoded = 0
    for frame, properties in decoder.iter_array(
        dataset, raw=False, decoding_plugin=plugin, allow_excess_frames=False
    ):
        n_decoded += 1
        is_colour = frame.ndim == 3
        if frame.shape[:2] != (rows, columns) or (is_colour and frame.shape[2] != 3):
            raise DecodingError("a frame has another size than the header declares")
        if is_colour and properties["photometric_interpretation"] not in ("RGB", "YBR_ICT", "YBR_RCT"):
            raise DecodingError("the colours are not RGB and cannot be converted to it")
        native = frame.astype(frame.dtype.newbyteorder("="), copy=False)
        yield native if syntax.is_encapsulated else _aligned(native, dataset)
    if n_decoded != n_frames:
        raise DecodingError(f"{n_frames} frames are declared, {n_decoded} are there")


def modality_values(stored: Frame, dataset: Dataset, group: FunctionalGroups, notes: set[str]) -> Frame:
    """A grey frame in the units of the modality LUT: HU for CT.

    Args:
        stored: [rows, columns].
        dataset: the instance.
        group: the functional groups of this frame: slope and intercept may differ from frame to frame.
        notes: what was changed is added to it, in words.

    Returns:
        [rows, columns], int16 or float32. Padding takes the value that is shown darkest in its frame.

    Raises:
        DecodingError: the slope is zero, or values leave the range of float32.
    """
    slope, intercept = _slope_and_intercept(dataset, group)
    values: Frame
    if items(dataset, "ModalityLUTSequence"):
        values, is_whole = apply_modality_lut(stored, dataset), True
    elif np.issubdtype(stored.dtype, np.integer) and slope.is_integer() and intercept.is_integer():
        # Python's whole numbers do not overflow: the bounds say whether 64 bits are needed.
        bounds = [int(slope) * int(v) + int(intercept) for v in (stored.min(), stored.max())]
        if max(map(abs, bounds)) >= 2**62:
            raise DecodingError("the rescaled values leave every range: the slope or intercept is wrong")
        wide = np.int32 if max(map(abs, (*bounds, int(slope), int(intercept)))) < 2**30 else np.int64
        values, is_whole = stored.astype(wide) * int(slope) + int(intercept), True
    else:
        values, is_whole = stored.astype(np.float64) * slope + intercept, False
    values = _without_padding(values, stored, dataset, notes)
    if is_whole and values.min() >= _INT16.min and values.max() <= _INT16.max:
        return values.astype(np.int16)
    if not np.isfinite(values).all() or np.abs(values).max() > np.finfo(np.float32).max:
        raise DecodingError("the rescaled values leave the range of float32: the slope or intercept is wrong")
    return values.astype(np.float32)


def rgb_values(stored: Frame, dataset: Dataset, notes: set[str]) -> Frame:
    """A colour frame as 8-bit RGB.

    Args:
        stored: [rows, columns, 3], or [rows, columns] of indices into a palette.
        dataset: the instance.
        notes: what was changed is added to it, in words.

    Returns:
        [rows, columns, 3], uint8. Of more than 8 bits the lowest are dropped.
    """
    bits = whole(dataset, "BitsStored") or 8
    if stored.ndim == 2:
        stored = apply_color_lut(stored, dataset)[..., :3]  # a fourth channel is alpha
        bits = 8 * stored.dtype.itemsize
    if bits > 8:
        notes.add(f"colours reduced from {bits} to 8 bits")
        stored = stored >> (bits - 8)
    elif bits < 8:
        stored = stored << (8 - bits)
    return stored.astype(np.uint8)


def _slope_and_intercept(dataset: Dataset, group: FunctionalGroups) -> tuple[float, float]:
    transformation = group.item("PixelValueTransformationSequence")
    slope, intercept = number(transformation, "RescaleSlope"), number(transformation, "RescaleIntercept")
    if slope is None and text(dataset, "Modality") == "RTDOSE":
        slope = number(dataset, "DoseGridScaling")
    slope = 1.0 if slope is None else slope
    if slope == 0:
        raise DecodingError("the rescale slope is zero: every value would be the same")
    return slope, intercept or 0.0


def _without_padding(values: Frame, stored: Frame, dataset: Dataset, notes: set[str]) -> Frame:
    """Padding, and numbers that are none, set to the value that is shown darkest in the rest of the frame."""
    if np.issubdtype(stored.dtype, np.floating):
        is_padding = ~np.isfinite(stored)
        padding = number(dataset, "FloatPixelPaddingValue")
        if padding is not None:
            is_padding |= stored == padding
    else:
        limits = _padding_limits(dataset)
        if limits is None:
            return values
        is_padding = (stored >= limits[0]) & (stored <= limits[1])
    if not is_padding.any():
        return values
    if is_padding.all():
        if not np.isfinite(values).all():
            raise DecodingError("no pixel of a frame is a number")
        return values  # nothing but padding: there is no darker value to take
    kept = values[~is_padding]
    is_inverted = text(dataset, "PhotometricInterpretation") == "MONOCHROME1"
    notes.add("padding set to the darkest value of its slice")
    return np.where(is_padding, kept.max() if is_inverted else kept.min(), values)


def _padding_limits(dataset: Dataset) -> tuple[int, int] | None:
    """Lowest and highest padding value, in the sign of the stored values whatever the header wrote them in."""
    value = whole(dataset, "PixelPaddingValue")
    if value is None or text(dataset, "Modality") == "SEG":
        return None  # of a segmentation it is the background: a label like others
    limit = whole(dataset, "PixelPaddingRangeLimit")
    bits = whole(dataset, "BitsAllocated") or 16
    is_signed = whole(dataset, "PixelRepresentation") == 1

    def stored_value(written: int) -> int:
        wrapped = written % (1 << bits)
        return wrapped - (1 << bits) if is_signed and wrapped >> (bits - 1) else wrapped

    ends = sorted((stored_value(value), stored_value(value if limit is None else limit)))
    return ends[0], ends[1]


def _aligned(frame: Frame, dataset: Dataset) -> Frame:
    """Uncompressed values whose stored bits do not end at the lowest bit, moved there (PS3.5 section 8.1.1)."""
    bits_stored, high_bit = whole(dataset, "BitsStored"), whole(dataset, "HighBit")
    if bits_stored is None or high_bit is None or not np.issubdtype(frame.dtype, np.integer):
        return frame
    bits = 8 * frame.dtype.itemsize
    shift = high_bit + 1 - bits_stored
    if shift <= 0 or high_bit >= bits:
        return frame
    # Left to drop what lies above the high bit, then right, with the sign where there is one.
    return (frame << (bits - 1 - high_bit)) >> (bits - bits_stored)


def _check_streams(dataset: Dataset, n_frames: int) -> None:
    table, lengths = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    offsets = None if table is None or lengths is None else (table, lengths)
    syntax = transfer_syntax_of(dataset)
    streams = generate_frames(dataset.PixelData, number_of_frames=n_frames, extended_offsets=offsets)
    if not all(has_end_of_image(syntax, stream) for stream in streams):
        raise DecodingError("a compressed frame ends before its end mark: deliver it again", "truncated_file")
