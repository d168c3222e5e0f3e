"""CT series as DICOM files (PS3.3 A.3) under names that say nothing, with what is wrong in real archives.

The pictures themselves are made in `images`. Every file is entered in the tally with what has to become of it.
"""

import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    BasicTextSRStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
)

from clinical_mm.synthetic.images import Stack
from clinical_mm.synthetic.patients import Patient, short_hash, uid
from clinical_mm.synthetic.truth import Tally


@dataclass(frozen=True)
class Encoding:
    """How the pixels of a series are written: HU = stored · slope + intercept."""

    transfer_syntax: UID = ExplicitVRLittleEndian
    slope: float = 1.0
    intercept: float = -1024.0
    is_signed: bool = False
    is_head_first: bool = False


PLAIN = Encoding()


@dataclass
class DicomFolder:
    """The folder `imaging/` of a delivery and the tally of its files."""

    directory: Path
    seed: int
    tally: Tally = field(default_factory=lambda: Tally("file"))

    def add_series(
        self,
        patient: Patient,
        stack: Stack,
        *,
        encoding: Encoding = PLAIN,
        pacs_id: str | None = None,
        study: str = "first",
        truncate: int | None = None,
    ) -> str:
        """Write a series.

        Args:
            patient: whose it is.
            stack: its pictures and geometry.
            encoding: how the pixels are stored.
            pacs_id: PatientID, where it is not the patient's own.
            study: names the study among the patient's: series with one name share a StudyInstanceUID.
            truncate: place of a slice whose file ends in the middle of its pixels.

        Returns:
            Its SeriesInstanceUID.
        """
        series = uid(self.seed, "series", patient.number, study, stack.number)
        dataset = _header(self.seed, patient, stack, encoding, series=series, study=study)
        dataset.PatientID = pacs_id or patient.pacs_id
        for place in range(len(stack.hu)):
            data = self._slice(dataset, stack, encoding, place)
            if place == truncate:
                data = data[: len(data) - stack.hu[0].size]
            self._write(dataset.SOPInstanceUID, data, "truncated_file" if place == truncate else "accepted")
        return series

    def repeat_slice(self, patient: Patient, stack: Stack, place: int, study: str = "first") -> None:
        """Write a slice of a plain series that was added before once more, under another name."""
        series = uid(self.seed, "series", patient.number, study, stack.number)
        dataset = _header(self.seed, patient, stack, PLAIN, series=series, study=study)
        dataset.PatientID = patient.pacs_id
        data = self._slice(dataset, stack, PLAIN, place)
        self._write(f"{dataset.SOPInstanceUID} copy", data, "duplicate")

    def add_report(self, patient: Patient) -> None:
        """Write a structured report (PS3.3 A.35.1): DICOM without pixels."""
        dataset = Dataset()
        dataset.file_meta = _file_meta(BasicTextSRStorage, ExplicitVRLittleEndian)
        dataset.SOPClassUID = BasicTextSRStorage
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(
            uid(self.seed, "sr", patient.number)
        )
        dataset.PatientID, dataset.Modality = patient.pacs_id, "SR"
        dataset.StudyInstanceUID = uid(self.seed, "study", patient.number, "first")
        dataset.SeriesInstanceUID = uid(self.seed, "series", patient.number, "sr")
        dataset.InstanceNumber, dataset.SeriesNumber = 1, 99
        dataset.ContentDate, dataset.ContentTime = patient.index_time.strftime("%Y%m%d"), "080000"
        dataset.CompletionFlag, dataset.VerificationFlag, dataset.ValueType = (
            "COMPLETE",
            "UNVERIFIED",
            "CONTAINER",
        )
        dataset.ContinuityOfContent = "SEPARATE"
        self._write(dataset.SOPInstanceUID, _encoded(dataset), "not_an_image")

    def add_strange_files(self) -> None:
        """Write what lies about in exports: a text file."""
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "README.txt").write_bytes(b"Exported by the archive. Do not edit.\n")
        self.tally.quarantined["unreadable_file"] += 1

    def _slice(self, dataset: Dataset, stack: Stack, encoding: Encoding, place: int) -> bytes:
        """The bytes of one instance; sets what differs between the slices of a series."""
        n_slices = len(stack.hu)
        position = stack.geometry.to_lps(np.array([place, 0, 0]))
        instance = UID(uid(self.seed, "instance", dataset.SeriesInstanceUID, place))
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = instance
        dataset.InstanceNumber = n_slices - place if encoding.is_head_first else place + 1
        dataset.ImagePositionPatient = [f"{p:.4f}" for p in position]
        dataset.SliceLocation = f"{position[2]:.4f}"
        stored = np.round((stack.hu[place] - encoding.intercept) / encoding.slope)
        lowest, highest = (-32768, 32767) if encoding.is_signed else (0, 4095)
        pixels = np.clip(stored, lowest, highest).astype("<i2" if encoding.is_signed else "<u2")
        if encoding.transfer_syntax == ExplicitVRLittleEndian:
            dataset.PixelData = pixels.tobytes()
            return _encoded(dataset)
        copy = Dataset(dataset)
        copy.file_meta = _file_meta(CTImageStorage, encoding.transfer_syntax)
        copy.file_meta.MediaStorageSOPInstanceUID = instance
        copy.compress(encoding.transfer_syntax, pixels, generate_instance_uid=False)
        return _encoded(copy)

    def _write(self, name: str, data: bytes, fate: str) -> None:
        stem = short_hash(self.seed, "file", name)
        path = self.directory / stem[:1] / (stem[1:] if stem[-1] in "0123" else f"{stem[1:]}.dcm")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        if fate == "accepted":
            self.tally.accepted += 1
        elif fate == "duplicate":
            self.tally.duplicate += 1
        else:
            self.tally.quarantined[fate] += 1


def _header(
    seed: int, patient: Patient, stack: Stack, encoding: Encoding, *, series: str, study: str
) -> Dataset:
    """What the instances of a series have in common."""
    dataset = Dataset()
    dataset.file_meta = _file_meta(CTImageStorage, ExplicitVRLittleEndian)
    dataset.ImageType = list(stack.image_type)
    dataset.SOPClassUID = CTImageStorage
    date, time = stack.acquired.strftime("%Y%m%d"), stack.acquired.strftime("%H%M%S")
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = date
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = time
    dataset.AccessionNumber = ""
    dataset.Modality = "CT"
    dataset.Manufacturer = ("Siemens Healthineers", "GE MEDICAL SYSTEMS", "Philips")[patient.number % 3]
    dataset.ManufacturerModelName = ("Phantom One", "Phantom Two", "Phantom Three")[patient.number % 3]
    dataset.StudyDescription, dataset.SeriesDescription = "CT Abdomen", stack.description
    dataset.PatientName, dataset.PatientBirthDate = "", ""
    dataset.PatientSex = patient.sex[0].upper()
    dataset.BodyPartExamined, dataset.PatientPosition = "ABDOMEN", "HFS"
    spacing = stack.geometry.spacing_mm
    dataset.SliceThickness = f"{spacing[0]:.4f}"
    dataset.SpacingBetweenSlices = f"{spacing[0]:.4f}"
    dataset.KVP = "120"
    dataset.StudyInstanceUID = uid(seed, "study", patient.number, study)
    dataset.SeriesInstanceUID = series
    dataset.FrameOfReferenceUID = uid(seed, "frame", patient.number, study)
    dataset.PositionReferenceIndicator = ""
    dataset.StudyID, dataset.SeriesNumber, dataset.AcquisitionNumber = "1", stack.number, 1
    right, down = stack.geometry.right_mm / spacing[2], stack.geometry.down_mm / spacing[1]
    dataset.ImageOrientationPatient = [f"{c:.8f}" for c in (*right, *down)]
    dataset.PixelSpacing = [f"{spacing[1]:.5f}", f"{spacing[2]:.5f}"]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = stack.hu.shape[1:]
    dataset.BitsAllocated = 16
    dataset.BitsStored = 16 if encoding.is_signed else 12
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(encoding.is_signed)
    dataset.RescaleIntercept, dataset.RescaleSlope = f"{encoding.intercept:g}", f"{encoding.slope:g}"
    dataset.RescaleType = "HU"
    dataset.WindowCenter, dataset.WindowWidth = "60", "400"
    return dataset


def _file_meta(sop_class: UID, transfer_syntax: UID) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.TransferSyntaxUID = transfer_syntax
    meta.ImplementationClassUID = UID("2.25.80302813137786398554742050926734630921")
    meta.ImplementationVersionName = "CLINICAL_MM"
    return meta


def _encoded(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()
