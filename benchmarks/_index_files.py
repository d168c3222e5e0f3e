"""Files for the benchmarks of the index, and the table that both sides make of them."""

import hashlib
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from clinical_mm.ingest.dicom_header import HEADER_KEYWORDS
from clinical_mm.ingest.dicom_values import tags_of
from clinical_mm.ingest.dicom_wire import InstanceHeader, Refusal

ROOT = "1.2.826.0.1.3680043.8.498."
_PLACE = f"{ROOT}7000000007"  # of the same length as what replaces it: the file is written by pydicom once
_SERIES = f"{ROOT}6000000006"
_NUMBER, _Z = "00000077", "00077.5 "
SLICES = 40
"""Files a series."""


def template(size: int) -> Dataset:
    """A CT image with some 100 elements in its header, a private block and a sequence among them."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = CTImageStorage
    image.file_meta.MediaStorageSOPInstanceUID = _PLACE
    image.SpecificCharacterSet = "ISO_IR 100"
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, _PLACE
    for keyword in ("InstanceCreation", "Study", "Series", "Acquisition", "Content"):
        setattr(image, f"{keyword}Date", "20240229")
        setattr(image, f"{keyword}Time", "101112.250000")
    image.AccessionNumber, image.Modality = "A1", "CT"
    image.Manufacturer, image.ManufacturerModelName = "Maker", "Scanner 64"
    image.InstitutionName, image.ReferringPhysicianName, image.StationName = "Hospital", "Some^One", "ct1"
    image.StudyDescription, image.SeriesDescription = "THORAX", "AXIAL 5 mm"
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = CTImageStorage, f"{ROOT}5"
    image.ReferencedStudySequence = [reference]
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = (
        "A^B",
        "P0001",
        "19600101",
        "F",
    )
    image.PatientAge, image.PatientSize, image.PatientWeight = "064Y", "1.70", "70"
    image.BodyPartExamined, image.ScanOptions, image.SliceThickness, image.KVP = (
        "CHEST",
        "HELICAL",
        "5",
        "120",
    )
    image.DataCollectionDiameter, image.ReconstructionDiameter = "500", "350"
    image.SoftwareVersions, image.ProtocolName = "1.2", "Thorax"
    image.DistanceSourceToDetector, image.DistanceSourceToPatient = "949", "541"
    image.GantryDetectorTilt, image.TableHeight, image.RotationDirection = "0", "150", "CW"
    image.ExposureTime, image.XRayTubeCurrent, image.Exposure = "500", "200", "100"
    image.FilterType, image.GeneratorPower, image.FocalSpots, image.ConvolutionKernel = (
        "BODY",
        "40",
        "1.2",
        "B30",
    )
    image.PatientPosition = "FFS"
    image.StudyInstanceUID, image.SeriesInstanceUID, image.StudyID = f"{ROOT}4000000004", _SERIES, "1"
    image.SeriesNumber, image.AcquisitionNumber, image.InstanceNumber = "2", "1", _NUMBER
    image.ImagePositionPatient = ["-175.0", "-175.0", _Z]
    image.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    image.FrameOfReferenceUID, image.PositionReferenceIndicator, image.SliceLocation = f"{ROOT}3", "XY", "0"
    block = image.private_block(0x0019, "MAKER", create=True)
    for element in range(24):
        block.add_new(element, "DS", "1.5")
    image.SamplesPerPixel, image.PhotometricInterpretation, image.Rows, image.Columns = (
        1,
        "MONOCHROME2",
        size,
        size,
    )
    image.PixelSpacing = ["0.68", "0.68"]
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.WindowCenter, image.WindowWidth, image.RescaleIntercept, image.RescaleSlope = (
        "40",
        "400",
        "-1024",
        "1",
    )
    image.RescaleType = "HU"
    rows, columns = np.mgrid[:size, :size]
    image.PixelData = ((rows * 31 + columns * 17) % 4096).astype("<u2").tobytes()
    return image


def write_files(folder: Path, n_files: int, size: int) -> None:
    """So many files, 40 a series, each with its own UID, number and position."""
    folder.mkdir(parents=True, exist_ok=True)
    pattern = folder / "template.dcm"
    template(size).save_as(pattern, enforce_file_format=True)
    data = pattern.read_bytes()
    pattern.unlink()
    for i in range(n_files):
        number, series = i % SLICES, i // SLICES
        own = data.replace(_PLACE.encode(), f"{ROOT}{7_100_000_000 + i}".encode())
        own = own.replace(_SERIES.encode(), f"{ROOT}{6_100_000_000 + series}".encode())
        own = own.replace(_NUMBER.encode(), f"{number:08d}".encode())
        own = own.replace(_Z.encode(), f"{5 * number:05d}.5 ".encode())
        (folder / f"{i:06d}.dcm").write_bytes(own)


def files(folder: Path) -> list[Path]:
    return sorted((folder / "files").iterdir())


def fingerprint(rows: Iterable[tuple[Any, ...]]) -> list[Any]:
    """How many rows, and the hash of all of them: what both sides return."""
    n, digest = 0, hashlib.sha256()
    for row in rows:
        n += 1
        digest.update(msgspec.json.encode(row))
    return [n, digest.hexdigest()]


def our_row(header: InstanceHeader | Refusal) -> tuple[Any, ...]:
    assert isinstance(header, InstanceHeader), header
    frame = header.frames[0]
    return (
        *(header.patient_id, header.sop_instance_uid, header.series_instance_uid, header.study_instance_uid),
        *(header.frame_of_reference_uid, header.modality, header.body_part, header.description),
        *(header.manufacturer, header.scanner, header.unit, header.instance_number),
        *(header.photometric_interpretation, header.rows, header.columns, header.transfer_syntax_uid),
        *(frame.position_mm, frame.orientation, frame.pixel_spacing_mm, frame.slice_thickness_mm),
        *(frame.window_center, frame.window_width, header.available_time, header.is_localizer),
        *(frame.discriminators[0], frame.discriminators[3].removesuffix("|")),
    )


def pydicom_row(path: Path) -> tuple[Any, ...]:
    """The same values with pydicom alone."""
    d = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
    pairs = [
        (getattr(d, f"{kind}Date"), getattr(d, f"{kind}Time"))
        for kind in ("Acquisition", "Content", "Series")
    ]
    times = [datetime.strptime(date + time, "%Y%m%d%H%M%S.%f") for date, time in pairs]
    return (
        *(str(d.PatientID), str(d.SOPInstanceUID), str(d.SeriesInstanceUID), str(d.StudyInstanceUID)),
        *(str(d.FrameOfReferenceUID), str(d.Modality), str(d.BodyPartExamined), str(d.SeriesDescription)),
        *(str(d.Manufacturer), str(d.ManufacturerModelName), str(d.RescaleType), int(d.InstanceNumber)),
        *(str(d.PhotometricInterpretation), int(d.Rows), int(d.Columns), str(d.file_meta.TransferSyntaxUID)),
        *([float(v) for v in d.ImagePositionPatient], [float(v) for v in d.ImageOrientationPatient]),
        *([float(v) for v in d.PixelSpacing], float(d.SliceThickness)),
        *(float(d.WindowCenter), float(d.WindowWidth), max(times), "LOCALIZER" in d.ImageType),
        *(str(d.AcquisitionNumber), "\\".join(d.ImageType)),
    )


_TAGS = tags_of(HEADER_KEYWORDS)


def agree(ours: list[Any], other: list[Any]) -> None:
    assert ours == other, "the tables differ"
    assert ours[0] > 0
