"""Synthetic series through the whole reader: what becomes of each file, and which volume stands in the end."""

import datetime
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from clinical_mm import tables
from clinical_mm.ingest.decode_pool import DecodeLimits
from clinical_mm.ingest.imaging import read_dicom
from clinical_mm.ingest.ledger import Ledger, is_conserved
from clinical_mm.study.sources import DicomSource

AXIAL = [1, 0, 0, 0, 1, 0]
CORONAL = [1, 0, 0, 0, 0, -1]
SAGITTAL = [0, 1, 0, 0, 0, -1]
CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def instance(values: np.ndarray, **attributes: object) -> Dataset:
    """A CT slice of uint16 or uint8 values [rows, columns], whatever is not given as a scanner would write it."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    defaults = {
        "SOPClassUID": CT,
        "SOPInstanceUID": generate_uid(),
        "SeriesInstanceUID": "1.2.3",
        "StudyInstanceUID": "1.2",
        "FrameOfReferenceUID": "1.9",
        "PatientID": "p1",
        "Modality": "CT",
        "StudyDate": "20200101",
        "AcquisitionDate": "20200102",
        "AcquisitionTime": "101112.5",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "ImageOrientationPatient": AXIAL,
        "ImagePositionPatient": [0, 0, 0],
        "PixelSpacing": [0.5, 0.75],
        "SliceThickness": 2,
        "InstanceNumber": 1,
        "AcquisitionNumber": 1,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": values.shape[0],
        "Columns": values.shape[1],
        "BitsAllocated": 8 * values.dtype.itemsize,
        "BitsStored": 8 * values.dtype.itemsize,
        "HighBit": 8 * values.dtype.itemsize - 1,
        "PixelRepresentation": 0,
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
    }
    for keyword, value in {**defaults, **attributes}.items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.PixelData = values.tobytes()
    dataset["PixelData"].VR = "OW" if values.dtype.itemsize > 1 else "OB"
    return dataset


def pixels(value: int, shape: tuple[int, int] = (4, 6)) -> np.ndarray:
    """Distinct in every pixel and slice."""
    return (1000 * value + np.arange(np.prod(shape)).reshape(shape)).astype(np.uint16)


def stack(n: int, gap_mm: float = 2.0, **attributes: object) -> list[Dataset]:
    """Axial slices upwards from z = 0."""
    return [
        instance(pixels(i), ImagePositionPatient=[0, 0, i * gap_mm], InstanceNumber=i + 1, **attributes)
        for i in range(n)
    ]


@dataclass
class Result:
    series: pd.DataFrame
    ledger: Ledger
    store: Path

    @property
    def only(self) -> pd.Series:
        assert len(self.series) == 1
        return self.series.iloc[0]

    @property
    def records(self) -> dict[str, tuple[str, str]]:
        records = self.ledger.records()
        return {r.locator: (r.disposition, r.reason_code) for r in records.itertuples()}

    def volume(self, row: pd.Series) -> np.ndarray:
        return np.load(self.store / row.volume, mmap_mode="r", allow_pickle=False)


Ingest = Callable[..., Result]


@pytest.fixture
def ingest(tmp_path: Path) -> Ingest:
    landing = tmp_path / "landing" / "d1"

    def run(datasets: list[Dataset] | dict[str, Dataset | bytes], **source: object) -> Result:
        shutil.rmtree(landing, ignore_errors=True)
        if isinstance(datasets, list):
            datasets = {f"{i:04d}.dcm": dataset for i, dataset in enumerate(datasets)}
        for name, content in datasets.items():
            path = landing / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                pydicom.dcmwrite(path, content, enforce_file_format=True)
        files = sorted(p for p in landing.rglob("*") if p.is_file())
        ledger = Ledger("ct", "d1", "file")
        delivery = SimpleNamespace(name="d1", path=landing)
        volumes = tmp_path / "store" / "volumes"
        # One worker starts faster than two, and these series are small.
        limits = DecodeLimits(workers=1)
        frame = read_dicom(
            "ct", DicomSource(kind="dicom", **source), delivery, files, ledger, volumes, limits=limits
        )
        tables.to_arrow(tables.SERIES, frame)
        counts = ledger.counts()
        assert is_conserved(counts)
        assert counts.loc[0, "found"] == len(files)
        records = ledger.records()
        assert not records.locator.duplicated().any()
        assert not list(volumes.glob(".*")), "nothing half-written stays"
        return Result(frame, ledger, tmp_path / "store")

    return run


def test_shuffled_names_and_reversed_numbers_give_the_same_volume(ingest):
    slices = stack(5)
    for number, dataset in enumerate(reversed(slices)):
        dataset.InstanceNumber = number
    row = ingest(dict(zip("dbeac", slices, strict=True))).only
    assert row.is_volume
    assert row.geometry == "volume of 5 slices, 2.00 mm apart"
    assert list(row.slice_locators) == ["d", "b", "e", "a", "c"]
    assert list(row["shape"]) == [5, 4, 6]
    assert list(row.spacing_mm) == pytest.approx([2.0, 0.5, 0.75])


def test_ct_values_are_hu_in_int16_and_the_affine_finds_them_in_the_patient(ingest):
    result = ingest(stack(4))
    row = result.only
    volume = result.volume(row)
    assert volume.dtype == np.int16
    assert row.unit == "HU"
    assert volume[2, 1, 3] == 2000 + 1 * 6 + 3 - 1024
    affine = np.array(row.affine).reshape(4, 4)
    assert affine @ [2, 1, 3, 1] == pytest.approx([3 * 0.75, 1 * 0.5, 4.0, 1])
    assert row.available_time == pd.Timestamp("2020-01-02 10:11:12.5")


def test_coronal_and_sagittal_series_are_volumes_of_their_own_normal(ingest):
    coronal = [
        instance(pixels(i), ImageOrientationPatient=CORONAL, ImagePositionPatient=[0, 3 * i, 0])
        for i in range(3)
    ]
    sagittal = [
        instance(
            pixels(i),
            ImageOrientationPatient=SAGITTAL,
            ImagePositionPatient=[3 * i, 0, 0],
            SeriesInstanceUID="1.2.4",
        )
        for i in range(3)
    ]
    result = ingest([*coronal, *sagittal])
    assert list(result.series.is_volume) == [True, True]
    first, second = (result.volume(row) for _, row in result.series.iterrows())
    assert list(first[:, 0, 0]) == [-1024, -24, 976]  # the coronal normal points to posterior, +y
    assert list(second[:, 0, 0]) == [976, -24, -1024]  # the sagittal one to the right, -x


def test_a_missing_slice_is_told_and_no_volume(ingest):
    slices = stack(6)
    del slices[2]
    row = ingest(slices).only
    assert not row.is_volume
    assert list(row["shape"]) == [5, 4, 6]
    assert "gaps of 2.00 to 4.00 mm" in row.geometry
    assert len(row.affine) == 0


def test_a_localizer_within_the_series_is_a_stack_of_its_own(ingest):
    localizer = instance(
        pixels(9, (8, 8)), ImageOrientationPatient=CORONAL, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
    )
    result = ingest([localizer, *stack(4)])
    assert list(result.series["stack"]) == [0, 1]
    assert list(result.series.is_volume) == [True, False]
    assert [len(s) for s in result.series.slice_locators] == [4, 1]
    assert result.series.unit[1] is None  # of a localizer the values are no HU
    assert "divided by localizer, orientation, size, unit" in result.series.geometry[0]


def test_two_acquisitions_at_the_same_positions_become_two_volumes(ingest):
    first, second = stack(4), stack(4, AcquisitionNumber=2, RescaleIntercept=0)
    result = ingest([s for pair in zip(first, second, strict=True) for s in pair])
    assert list(result.series.is_volume) == [True, True]
    assert "divided by acquisition number" in result.series.geometry[0]
    for _, row in result.series.iterrows():
        assert np.ptp(result.volume(row)[:, 0, 0]) == 3000
        assert len(set(row.slice_locators)) == 4


def test_two_acquisitions_one_behind_the_other_become_two_volumes(ingest):
    further = stack(3, AcquisitionNumber=2)
    for i, dataset in enumerate(further):
        dataset.ImagePositionPatient = [0, 0, 101 + 2 * i]
    result = ingest([*stack(3), *further])
    assert list(result.series.is_volume) == [True, True]


def test_echoes_and_phases_are_parted(ingest):
    echoes = [*stack(3, Modality="MR", EchoTime=3), *stack(3, Modality="MR", EchoTime=7)]
    phases = [
        *stack(3, SeriesInstanceUID="1.2.5", TemporalPositionIdentifier=1),
        *stack(3, SeriesInstanceUID="1.2.5", TemporalPositionIdentifier=2),
    ]
    result = ingest([*echoes, *phases])
    assert list(result.series.is_volume) == [True] * 4
    assert "divided by echo" in result.series.geometry[0]
    assert "divided by temporal position" in result.series.geometry[2]


def test_an_acquisition_time_of_every_slice_does_not_tear_acquisitions_apart(ingest):
    slices = [*stack(3), *stack(3)]
    for i, dataset in enumerate(slices):
        dataset.AcquisitionTime = f"1011{i:02d}"
    slices[0].AcquisitionNumber = 2  # divides, and leaves the duplicates of the other positions
    result = ingest(slices)
    assert result.series.empty
    assert set(result.records.values()) == {("quarantined", "inconsistent_geometry")}


def test_a_duplicate_position_that_nothing_resolves_is_quarantined(ingest):
    extra = instance(pixels(7), ImagePositionPatient=[0, 0, 4], InstanceNumber=9)
    result = ingest([*stack(5), extra])
    assert result.series.empty
    assert len(result.records) == 6
    assert set(result.records.values()) == {("quarantined", "inconsistent_geometry")}


def test_mixed_sizes_become_stacks_and_are_never_cropped(ingest):
    larger = [instance(pixels(i, (8, 8)), ImagePositionPatient=[0, 0, 20 + 2 * i]) for i in range(4)]
    result = ingest([*stack(3), *larger])
    assert [list(s) for s in result.series["shape"]] == [[4, 8, 8], [3, 4, 6]]
    assert list(result.series.is_volume) == [True, True]


def test_a_gantry_tilt_is_told_and_no_volume(ingest):
    slices = stack(6)
    for i, dataset in enumerate(slices):
        dataset.ImagePositionPatient = [0, i * 2 * np.tan(np.radians(10)), 2 * i]
    row = ingest(slices).only
    assert not row.is_volume
    assert "sheared by 10.0 degrees (gantry tilt)" in row.geometry


def test_each_slice_is_scaled_by_its_own_slope(ingest):
    slices = [
        instance(
            np.full((4, 6), 100, np.uint16),
            Modality="PT",
            Units="BQML",
            ImagePositionPatient=[0, 0, i],
            RescaleSlope=0.5 + i / 4,
            RescaleIntercept=0,
        )
        for i in range(3)
    ]
    result = ingest(slices)
    volume = result.volume(result.only)
    assert volume.dtype == np.float32
    assert list(volume[:, 0, 0]) == [50, 75, 100]
    assert result.only.unit == "BQML"


def test_monochrome1_is_flagged_and_its_values_are_kept(ingest):
    values = np.array([[0, 10], [200, 255]], np.uint8)
    result = ingest(
        [
            instance(
                values,
                SOPClassUID="1.2.840.10008.5.1.4.1.1.1",
                Modality="CR",
                PhotometricInterpretation="MONOCHROME1",
                ImagePositionPatient=None,
                ImageOrientationPatient=None,
                RescaleSlope=None,
                RescaleIntercept=None,
                WindowCenter=[128, 40],
                WindowWidth=[256, 80],
            )
        ]
    )
    row = result.only
    assert row.is_inverted
    assert result.volume(row)[0].tolist() == values.tolist()
    assert (row.window_center, row.window_width) == (128, 256)
    assert list(row.spacing_mm)[1:] == [0.5, 0.75]
    assert len(row.affine) == 0


def test_padding_outside_the_scanned_circle_does_not_stretch_the_range(ingest):
    values = np.array([[63536, 0], [1024, 3000]], np.uint16)  # 63536 is -2000 in 16 signed bits
    dataset = instance(values, PixelRepresentation=1)
    dataset.PixelPaddingValue = -2000
    result = ingest([dataset])
    assert result.volume(result.only)[0].tolist() == [[-1024, -1024], [0, 1976]]
    assert "padding set to the darkest value" in result.only.geometry


def test_two_series_in_one_folder_stay_two(ingest):
    others = stack(3, SeriesInstanceUID="1.2.9", PatientID="p2", StudyInstanceUID="1.3")
    mixed = {f"{i % 2}{i}": dataset for i, dataset in enumerate([*stack(3), *others])}
    result = ingest(mixed)
    assert sorted(result.series.source_patient_id) == ["p1", "p2"]
    assert list(result.series.is_volume) == [True, True]


def test_a_truncated_file_is_quarantined_and_the_series_says_so(ingest, tmp_path):
    slices = {f"{i}.dcm": dataset for i, dataset in enumerate(stack(5))}
    path = tmp_path / "whole.dcm"
    pydicom.dcmwrite(path, slices["4.dcm"], enforce_file_format=True)
    slices["4.dcm"] = path.read_bytes()[:-10]
    result = ingest(slices)
    assert result.records == {"4.dcm": ("quarantined", "truncated_file")}
    assert result.only.is_volume
    assert "1 more files of the series are in quarantine" in result.only.geometry


def test_a_slice_that_does_not_decode_leaves_a_gap_and_no_volume(ingest):
    slices = stack(5)
    slices[2].RescaleSlope = 0
    result = ingest(slices)
    assert result.records == {"0002.dcm": ("quarantined", "decode_failed")}
    assert not result.only.is_volume
    assert "unevenly spaced" in result.only.geometry


def test_the_same_bytes_twice_are_a_duplicate_and_other_bytes_a_conflict(ingest):
    slices = stack(3)
    twice = {"a": slices[0], "b": slices[1], "c": slices[2], "z/a": slices[0]}
    result = ingest(twice)
    assert result.records == {"z/a": ("duplicate", "identical_record")}
    assert result.only.is_volume
    changed = instance(pixels(3), SOPInstanceUID=slices[0].SOPInstanceUID)
    result = ingest({**twice, "z/a": changed})
    assert result.records == dict.fromkeys(["a", "z/a"], ("quarantined", "conflicting_records"))


def test_one_series_of_two_patients_is_quarantined(ingest):
    slices = stack(3)
    slices[1].PatientID = "p2"
    result = ingest(slices)
    assert result.series.empty
    assert set(result.records.values()) == {("quarantined", "conflicting_records")}


@pytest.mark.parametrize(
    ("attributes", "reason_code"),
    [
        ({"PatientID": ""}, "missing_patient_id"),
        ({"SeriesInstanceUID": None}, "missing_uid"),
        ({"StudyDate": None, "AcquisitionDate": None}, "missing_time"),
        ({"StudyDate": None, "AcquisitionDate": "00000000"}, "unreadable_time"),
        ({"Modality": "MR"}, "modality_not_wanted"),
        ({"Rows": 0}, "malformed_header"),
        ({"PhotometricInterpretation": "CMYK"}, "malformed_header"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR DA:UserWarning")  # written on purpose
def test_what_is_missing_is_named(ingest, attributes, reason_code):
    result = ingest([instance(pixels(0), **attributes)], modalities=("CT",))
    assert set(result.records.values()) == {("quarantined", reason_code)}


def test_an_undated_series_of_a_timeless_source_is_read(ingest):
    row = ingest([instance(pixels(0), StudyDate=None, AcquisitionDate=None)], is_timeless=True).only
    assert pd.isna(row.available_time)


def test_the_latest_time_counts_and_the_study_date_only_where_it_is_alone(ingest):
    late = instance(pixels(1), ImagePositionPatient=[0, 0, 2], ContentDate="20200105", ContentTime="0800")
    assert ingest([*stack(1), late]).only.available_time == pd.Timestamp("2020-01-05 08:00")
    alone = instance(pixels(1), AcquisitionDate=None, AcquisitionTime=None)
    assert ingest([alone]).only.available_time == pd.Timestamp("2020-01-01")


def test_what_is_no_image_is_quarantined(ingest):
    report = instance(pixels(0), SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", Modality="SR")
    for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated"):
        delattr(report, keyword)
    text = b"these are no DICOM bytes" * 20
    result = ingest({"report": report, "readme.txt": text, "empty": b"", "odd": b"\x08\x00" + text})
    assert result.records == {
        "report": ("quarantined", "not_an_image"),
        "readme.txt": ("quarantined", "unreadable_file"),
        "empty": ("quarantined", "unreadable_file"),
        "odd": ("quarantined", "unreadable_file"),
    }


def test_a_file_without_a_preamble_is_read(ingest, tmp_path):
    path = tmp_path / "bare.dcm"
    dataset = instance(pixels(0))
    del dataset.file_meta
    dataset.save_as(path, implicit_vr=True, little_endian=True)
    result = ingest({"bare": path.read_bytes()})
    assert result.volume(result.only)[0, 0, 1] == 1 - 1024


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI:UserWarning")  # written on purpose
def test_a_uid_that_looks_like_a_path_writes_nowhere_else(ingest, tmp_path):
    result = ingest([instance(pixels(0), SeriesInstanceUID="../../../evil")])
    assert result.only.volume.startswith("volumes/")
    assert {p.name for p in tmp_path.iterdir()} == {"landing", "store"}
    assert {p.suffix for p in (tmp_path / "store" / "volumes").iterdir()} == {".npy", ".json"}


def test_an_enhanced_object_is_sorted_by_its_frames_positions(ingest):
    order = [2, 0, 3, 1]
    dataset = instance(
        pixels(0), SOPClassUID=ENHANCED_CT, ImagePositionPatient=None, ImageOrientationPatient=None
    )
    del dataset.PixelSpacing
    dataset.NumberOfFrames = 4
    dataset.PixelData = b"".join(pixels(i).tobytes() for i in order)
    shared, per_frame = Dataset(), []
    shared.PixelMeasuresSequence = Sequence([Dataset()])
    shared.PixelMeasuresSequence[0].PixelSpacing = [0.5, 0.75]
    shared.PlaneOrientationSequence = Sequence([Dataset()])
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = AXIAL
    for i in order:
        frame = Dataset()
        frame.PlanePositionSequence = Sequence([Dataset()])
        frame.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 3 * i]
        frame.PixelValueTransformationSequence = Sequence([Dataset()])
        frame.PixelValueTransformationSequence[0].RescaleSlope = 1
        frame.PixelValueTransformationSequence[0].RescaleIntercept = -1000 * i
        frame.PixelValueTransformationSequence[0].RescaleType = "HU"
        per_frame.append(frame)
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = Sequence(per_frame)
    result = ingest([dataset])
    row = result.only
    assert row.is_volume
    assert list(row.slice_frames) == [1, 3, 0, 2]
    assert list(result.volume(row)[:, 0, 0]) == [
        0,
        0,
        0,
        0,
    ]  # every frame's own intercept takes its thousands away
    assert list(row.spacing_mm) == pytest.approx([3, 0.5, 0.75])


def test_frames_of_a_cine_have_no_position_even_if_the_header_names_one(ingest):
    dataset = instance(pixels(0))
    dataset.NumberOfFrames = 3
    dataset.PixelData = b"".join(pixels(i).tobytes() for i in range(3))
    row = ingest([dataset]).only
    assert list(row["shape"]) == [3, 4, 6]
    assert not row.is_volume
    assert len(row.affine) == 0


def test_colours_of_every_kind_become_rgb(ingest):
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 255
    ybr = np.empty((2, 2, 3), np.uint8)
    ybr[:] = (76, 85, 255)  # red, by PS3.3 C.7.6.3.1.2
    colour = {
        "SOPClassUID": SECONDARY_CAPTURE,
        "Modality": "OT",
        "PlanarConfiguration": 0,
        "SamplesPerPixel": 3,
    }
    colour |= {"ImagePositionPatient": None, "ImageOrientationPatient": None, "PixelSpacing": None}
    palette = instance(np.array([[0, 1], [1, 0]], np.uint8), **{**colour, "SamplesPerPixel": 1})
    palette.PhotometricInterpretation = "PALETTE COLOR"
    for name, entries in (("Red", [0, 65535]), ("Green", [0, 0]), ("Blue", [0, 0])):
        setattr(palette, f"{name}PaletteColorLookupTableDescriptor", [2, 0, 16])
        setattr(palette, f"{name}PaletteColorLookupTableData", np.array(entries, "<u2").tobytes())
    palette.SeriesInstanceUID = "1.2.31"
    result = ingest(
        [
            instance(red, PhotometricInterpretation="RGB", SeriesInstanceUID="1.2.30", **colour),
            palette,
            instance(ybr, PhotometricInterpretation="YBR_FULL", SeriesInstanceUID="1.2.32", **colour),
        ]
    )
    assert list(result.series.channels) == [3, 3, 3]
    rgb, looked_up, converted = (result.volume(row)[0] for _, row in result.series.iterrows())
    assert rgb.dtype == looked_up.dtype == converted.dtype == np.uint8
    assert rgb.tolist() == red.tolist()
    assert looked_up[0].tolist() == [[0, 0, 0], [255, 0, 0]]
    assert np.abs(converted.astype(int) - red).max() <= 1
    assert list(result.series.spacing_mm[0]) == []


def test_a_volume_that_is_there_is_not_decoded_again(ingest):
    slices = [*stack(3)]
    before = ingest(slices)
    path = before.store / before.only.volume
    written = path.stat().st_mtime_ns
    after = ingest({f"other/{i}": dataset for i, dataset in enumerate(slices)})
    assert after.only.volume == before.only.volume
    assert after.only.geometry == before.only.geometry
    assert path.stat().st_mtime_ns == written


def test_an_empty_delivery_gives_an_empty_table(ingest, tmp_path):
    (tmp_path / "landing" / "d1").mkdir(parents=True)
    result = ingest({})
    assert result.series.empty
    assert list(result.series.columns) == tables.SERIES.columns


def test_no_sentence_holds_an_identifier(ingest):
    dataset = instance(pixels(0), PatientID="SECRET^NAME", SOPInstanceUID="1.2.77777", StudyDate=None)
    dataset.AcquisitionDate = None
    result = ingest(
        {"a": dataset, "b": instance(pixels(1), PatientID="SECRET^NAME", SOPInstanceUID="1.2.77777")}
    )
    sentences = " ".join(result.ledger.records().sentence)
    assert sentences
    assert "SECRET" not in sentences
    assert "77777" not in sentences


def test_the_time_of_a_date_alone_is_midnight(ingest):
    row = ingest([instance(pixels(0), AcquisitionTime=None)]).only
    assert row.available_time.to_pydatetime() == datetime.datetime(2020, 1, 2)
