"""The header of one DICOM file: what it is, whose, when and where, and whether its pixels are all there.

Runs in a decoding worker: a hostile header may exhaust memory or time, which then costs one file. Nothing is decoded
here, and no series is known: that is `imaging`. UIDs are text to compare, never names of files.
"""

import hashlib
import os
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian
from pydicom.uid import ImplicitVRLittleEndian

from clinical_mm.ingest.decoders import is_supported
from clinical_mm.ingest.dicom_values import date_time, items, moment, number, raw, text, whole
from clinical_mm.ingest.dicom_wire import InstanceHeader, Refusal
from clinical_mm.ingest.frames import frame_headers, functional_groups
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

_PIXEL_KEYWORDS = {0x0008: "FloatPixelData", 0x0009: "DoubleFloatPixelData", 0x0010: "PixelData"}
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420", "YBR_PARTIAL_422")
_GREY = ("MONOCHROME1", "MONOCHROME2")
_PREAMBLE_BYTES = 128
# Without a preamble a data set begins with file meta (0002) or identifying (0008) attributes, in either byte order.
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")


def tags_of(keywords: tuple[str, ...]) -> list[int]:
    """The tags of attributes, as `dcmread(specific_tags=…)` takes them.

    Raises:
        KeyError: a keyword is none of DICOM's.
    """
    tags = []
    for keyword in keywords:
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise KeyError(keyword)
        tags.append(tag)
    return tags


_HEADER_TAGS = tags_of(HEADER_KEYWORDS)


def read_header(path: Path) -> InstanceHeader | Refusal:
    """Read what a file says about itself, and check that its pixel data are whole.

    Returns:
        The header, or why the file is no usable image: unreadable_file, not_an_image, truncated_file,
        unsupported_transfer_syntax, malformed_header or too_large.
    """
    try:
        return _read(path)
    except InvalidDicomError:
        return Refusal("unreadable_file", "the file is not DICOM")


def transfer_syntax_of(dataset: Dataset) -> UID:
    """The declared transfer syntax; where none is declared, the native one that the data set was readable in."""
    meta = getattr(dataset, "file_meta", None)
    declared = None if meta is None else text(meta, "TransferSyntaxUID")
    if declared:
        return UID(declared)
    is_implicit, is_little_endian = dataset.original_encoding
    if is_implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian


def _read(path: Path) -> InstanceHeader | Refusal:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        begin = file.read(_PREAMBLE_BYTES + 4)
        file.seek(0)
        has_preamble = begin[_PREAMBLE_BYTES:] == b"DICM"
        if not has_preamble and begin[:2] not in _FIRST_GROUPS:
            return Refusal("unreadable_file", "the file is not DICOM" if begin else "the file is empty")
        if has_preamble:
            _check_deflated(path)
        dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_HEADER_TAGS, force=not has_preamble)
        # pydicom stops before the tag of the pixel data, wherever it stopped.
        pixels = _pixels(path, file, dataset)
        if not has_preamble and text(dataset, "SOPClassUID") is None and pixels is None:
            return Refusal("unreadable_file", "the file is not DICOM")
        series_uid = text(dataset, "SeriesInstanceUID")
        if pixels is None:
            has_shape = whole(dataset, "Rows") is not None and whole(dataset, "BitsAllocated") is not None
            if has_shape:
                sentence = "the header describes an image, and no pixel data follow"
                return Refusal("truncated_file", sentence, series_uid)
            return Refusal("not_an_image", "the file holds no pixel data (a report, a plan, a presentation state …)")
        try:
            shape = _shape(dataset, pixels)
            _check_pixels(file, dataset, pixels, shape)
            return _header(dataset, sha256, shape)
        except ExtentError as error:
            return Refusal(error.reason_code, str(error), series_uid)


def _check_deflated(path: Path) -> None:
    """Refuse a deflated bomb before pydicom unfolds it."""
    with path.open("rb") as file:
        file.seek(_PREAMBLE_BYTES + 4)
        meta = pydicom.filereader.read_file_meta_info(path) if b"1.2.840.10008.1.2.1.99" in file.read(4096) else None
    if meta is None or text(meta, "TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    check_inflated_size(path, _end_of_meta(path))
