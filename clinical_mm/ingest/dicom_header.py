"""The header of one DICOM file: what it is, whose, when and where, and whether its pixels are all there.

Runs in a decoding worker: a hostile header may exhaust memory or time, which then costs one file. Nothing is decoded
here, and no series is known: that is `imaging`. UIDs are text to compare, never names of files.
"""

import os
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset, read_preamble
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from clinical_mm.ingest.decoders import is_supported
from clinical_mm.ingest.dicom_values import (
    Attributes,
    date_time,
    items,
    moment,
    number,
    raw,
    tags_of,
    text,
    transfer_syntax_of,
    whole,
)
from clinical_mm.ingest.dicom_wire import InstanceHeader, Refusal
from clinical_mm.ingest.frames import frame_headers, functional_groups
from clinical_mm.ingest.header_walk import walk_header, wanted_elements
from clinical_mm.ingest.pixel_extent import (
    MAX_DECODED_BYTES,
    ExtentError,
    ImageShape,
    PixelElement,
    check_encapsulated,
    check_inflated_size,
    check_native,
    pixel_element_at,
)

HEADER_KEYWORDS = (
    "SpecificCharacterSet",
    "ImageType",
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyDate",
    "SeriesDate",
    "AcquisitionDate",
    "ContentDate",
    "AcquisitionDateTime",
    "StudyTime",
    "SeriesTime",
    "AcquisitionTime",
    "ContentTime",
    "Modality",
    "Manufacturer",
    "SeriesDescription",
    "ManufacturerModelName",
    "PatientID",
    "BodyPartExamined",
    "SliceThickness",
    "EchoTime",
    "EchoNumbers",
    "TriggerTime",
    "ImagerPixelSpacing",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "AcquisitionNumber",
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "FrameOfReferenceUID",
    "TemporalPositionIdentifier",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "PixelSpacing",
    "BitsAllocated",
    "WindowCenter",
    "WindowWidth",
    "RescaleSlope",
    "RescaleType",
    "ModalityLUTSequence",
    "Units",
    "GridFrameOffsetVector",
    "DoseUnits",
    "DoseGridScaling",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
"""All that is read of a header: the rest is skipped over."""

PIXEL_KEYWORDS = {0x0008: "FloatPixelData", 0x0009: "DoubleFloatPixelData", 0x0010: "PixelData"}
"""The elements (7FE0,eeee) that hold pixels."""

_DATE_KEYWORDS = ("AcquisitionDateTime", "AcquisitionDate", "ContentDate", "SeriesDate", "StudyDate")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420", "YBR_PARTIAL_422")
_GREY = ("MONOCHROME1", "MONOCHROME2")
_PREAMBLE_BYTES = 128
_META_BYTES = (
    4096  # the transfer syntax stands among the first attributes; the memory limit stands behind this
)
# Without a preamble a data set begins with file meta (0002) or identifying (0008) attributes, in either byte order.
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")


_HEADER_TAGS = tags_of(HEADER_KEYWORDS)
_WANTED = wanted_elements(HEADER_KEYWORDS)


def read_header(path: Path) -> InstanceHeader | Refusal:
    """Read what a file says about itself, and check that its pixel data are whole.

    Returns:
        The header, or why the file is no usable image: unreadable_file, not_an_image, truncated_file,
        unsupported_transfer_syntax, malformed_header or too_large.
    """
    with path.open("rb") as file:
        series_uid: str | None = None
        try:
            walked = walk_header(file, _WANTED)
            has_preamble, header = (True, walked) if walked is not None else _parsed(file)
            series_uid = text(header, "SeriesInstanceUID")
            pixels = _pixel_element(path, file, header)
            if pixels is None:
                return _without_pixels(header, has_preamble, series_uid)
            shape = _image_shape(header, pixels)
            _check_pixels(file, transfer_syntax_of(header), pixels, shape)
            return _header(header, shape)
        except InvalidDicomError:
            return Refusal("unreadable_file", "the file is not DICOM")
        except ExtentError as error:
            return Refusal(error.reason_code, str(error), series_uid)


def _parsed(file: BinaryIO) -> tuple[bool, Dataset]:
    """Whether the file has a preamble, and its header as pydicom reads it; the file stands at its pixel data then.

    Raises:
        ExtentError: unreadable_file where nothing says that the file is DICOM, or it is a deflated bomb.
        InvalidDicomError: as pydicom raises it.
    """
    file.seek(0)
    begin = file.read(_PREAMBLE_BYTES + 4)
    file.seek(0)
    has_preamble = begin[_PREAMBLE_BYTES:] == b"DICM"
    if not has_preamble and begin[:2] not in _FIRST_GROUPS:
        raise ExtentError("unreadable_file", "the file is not DICOM" if begin else "the file is empty")
    _check_deflated(file)
    return has_preamble, pydicom.dcmread(
        file, stop_before_pixels=True, specific_tags=_HEADER_TAGS, force=not has_preamble
    )


def _check_deflated(file: BinaryIO) -> None:
    """Refuse a deflated bomb before pydicom unfolds it; the file's position is as before."""
    if DeflatedExplicitVRLittleEndian.encode() in file.read(_META_BYTES):
        file.seek(0)
        read_preamble(file, force=True)
        meta = read_dataset(file, False, True, stop_when=lambda tag, _vr, _length: tag >> 16 != 2)
        if text(meta, "TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            check_inflated_size(file)
    file.seek(0)


def _pixel_element(path: Path, file: BinaryIO, dataset: Attributes) -> PixelElement | None:
    """The pixel data element before which reading stopped."""
    if transfer_syntax_of(dataset) != DeflatedExplicitVRLittleEndian:
        is_implicit, is_little_endian = dataset.original_encoding
        return pixel_element_at(file, is_implicit=bool(is_implicit), is_little_endian=bool(is_little_endian))
    whole_dataset = pydicom.dcmread(path, specific_tags=tags_of(tuple(PIXEL_KEYWORDS.values())), force=True)
    for element, keyword in PIXEL_KEYWORDS.items():
        value = raw(whole_dataset, keyword)
        if value is not None:
            return PixelElement(element, 0, len(value))
    return None


def _without_pixels(dataset: Attributes, has_preamble: bool, series_uid: str | None) -> Refusal:
    if not has_preamble and text(dataset, "SOPClassUID") is None:
        return Refusal("unreadable_file", "the file is not DICOM")
    # Cut off before its size is declared, a file still says of which class it is.
    declared = text(dataset, "SOPClassUID") or text(dataset.file_meta, "MediaStorageSOPClassUID") or ""
    has_size = whole(dataset, "Rows") is not None and whole(dataset, "BitsAllocated") is not None
    if has_size or UID(declared).name.endswith("Image Storage"):
        sentence = "the header describes an image, and no pixel data follow"
        return Refusal("truncated_file", sentence, series_uid)
    return Refusal("not_an_image", "the file holds no pixel data (a report, a plan, a presentation state …)")


def _image_shape(dataset: Attributes, pixels: PixelElement) -> ImageShape:
    """The declared size.

    Raises:
        ExtentError: malformed_header where a size is absent or none, or the colours are none that can be decoded.
    """
    n_frames = whole(dataset, "NumberOfFrames")
    rows, columns = whole(dataset, "Rows"), whole(dataset, "Columns")
    samples = whole(dataset, "SamplesPerPixel") or 1
    bits = {0x0008: 32, 0x0009: 64}.get(pixels.element) or whole(dataset, "BitsAllocated")
    photometric = text(dataset, "PhotometricInterpretation") or ""
    if not rows or not columns or not bits or rows < 0 or columns < 0 or (n_frames or 0) < 0:
        raise ExtentError("malformed_header", "rows, columns or bits of the image are not declared")
    if (photometric in _GREY or photometric == "PALETTE COLOR") and samples == 1:
        pass
    elif photometric not in _COLOUR or samples != 3:
        raise ExtentError(
            "malformed_header",
            "the photometric interpretation and samples per pixel are no grey, palette, RGB or YBR image",
        )
    return ImageShape(n_frames or 1, rows, columns, samples, bits, photometric == "YBR_FULL_422")


def _check_pixels(file: BinaryIO, syntax: UID, pixels: PixelElement, shape: ImageShape) -> None:
    if not is_supported(syntax):
        name = syntax.name if not syntax.is_private else "a private one"
        raise ExtentError(
            "unsupported_transfer_syntax", f"no decoder is installed for the transfer syntax {name}"
        )
    if shape.decoded_bytes > MAX_DECODED_BYTES:
        raise ExtentError("too_large", f"the image would decode to more than {MAX_DECODED_BYTES >> 30} GiB")
    if syntax == DeflatedExplicitVRLittleEndian:
        check_native(shape, pixels.length, pixels.length)
    elif not syntax.is_encapsulated:
        check_native(shape, pixels.length, os.fstat(file.fileno()).st_size - pixels.value_offset)
    else:
        check_encapsulated(file, pixels, shape.frames)


def _header(dataset: Attributes, shape: ImageShape) -> InstanceHeader:
    try:
        frames = frame_headers(dataset, shape.frames)
    except ValueError as error:
        raise ExtentError("malformed_header", str(error)) from None
    photometric = text(dataset, "PhotometricInterpretation") or ""
    modality = text(dataset, "Modality") or "OT"  # PS3.3 C.7.3.1: OT is "other"
    available_time, has_unreadable_time = available_time_of(dataset)
    return InstanceHeader(
        transfer_syntax_uid=str(transfer_syntax_of(dataset)),
        patient_id=text(dataset, "PatientID"),
        sop_instance_uid=text(dataset, "SOPInstanceUID"),
        series_instance_uid=text(dataset, "SeriesInstanceUID"),
        study_instance_uid=text(dataset, "StudyInstanceUID"),
        frame_of_reference_uid=text(dataset, "FrameOfReferenceUID"),
        modality=modality,
        body_part=text(dataset, "BodyPartExamined"),
        description=text(dataset, "SeriesDescription"),
        manufacturer=text(dataset, "Manufacturer"),
        scanner=text(dataset, "ManufacturerModelName"),
        unit=_unit(dataset, modality, shape.frames),
        available_time=available_time,
        has_unreadable_time=has_unreadable_time,
        instance_number=whole(dataset, "InstanceNumber"),
        photometric_interpretation=photometric,
        rows=shape.rows,
        columns=shape.columns,
        is_colour=photometric not in _GREY,
        is_localizer=_is_localizer(dataset),
        decoded_bytes=shape.decoded_bytes,
        frames=frames,
    )


def available_time_of(dataset: Attributes) -> tuple[datetime | None, bool]:
    """When the image could be read, by the equipment's clock; and whether a date is there that is none.

    The latest of acquisition, content and series time: a derived image exists only once it is derived, and the series
    time is that of its beginning. The study time, which is that of the examination's beginning, only where all three
    are absent. A date without a time is midnight of that day, which the cohort reads as some time on that day.
    """
    times = [
        date_time(dataset, "AcquisitionDateTime"),
        moment(dataset, "AcquisitionDate", "AcquisitionTime"),
        moment(dataset, "ContentDate", "ContentTime"),
        moment(dataset, "SeriesDate", "SeriesTime"),
    ]
    known = [time for time in times if time is not None]
    if known:
        return max(known), False
    study = moment(dataset, "StudyDate", "StudyTime")
    if study is not None:
        return study, False
    return None, any(text(dataset, keyword) for keyword in _DATE_KEYWORDS)


def _is_localizer(dataset: Attributes) -> bool:
    return "LOCALIZER" in (text(dataset, "ImageType") or "").upper()


def _unit(dataset: Attributes, modality: str, n_frames: int) -> str | None:
    """Unit of the values after the modality LUT (PS3.3 C.11.1); None where it is unspecified."""
    group = functional_groups(dataset, n_frames)[0].item("PixelValueTransformationSequence")
    lut = next(iter(items(dataset, "ModalityLUTSequence")), None)
    declared = text(group, "RescaleType") if lut is None else text(lut, "ModalityLUTType")
    if declared is None and modality == "CT" and not _is_localizer(dataset):
        # A CT image without a type is in HU, as long as it is rescaled at all.
        declared = "HU" if number(group, "RescaleSlope") is not None else None
    if declared is None and modality == "RTDOSE" and number(dataset, "DoseGridScaling") is not None:
        declared = {"GY": "Gy"}.get(text(dataset, "DoseUnits") or "")
    if declared is None:
        declared = text(dataset, "Units")  # of PET: BQML, CNTS …
    return None if declared in (None, "US") else declared  # US: unspecified
