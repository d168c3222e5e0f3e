"""Real DICOM files that nobody here wrote, against what other software made of them."""

import ast
import csv
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pandas as pd
import pydicom
import pytest

from clinical_mm.ingest.decode_pool import DecodeLimits, DecoderPool
from clinical_mm.ingest.decoding import stored_frames
from clinical_mm.ingest.dicom_wire import InstanceHeader, Refusal
from clinical_mm.ingest.imaging import read_dicom
from clinical_mm.ingest.ledger import Ledger, is_conserved
from clinical_mm.study.sources import DicomSource

ALL_SERIES = (
    "ge/anatomical/001",
    "generic/anatomical/002_non_isotropic",
    "generic/compressed/001",
    "generic/compressed_jpeg/001",
    "generic/compressed_jpegls/001",
    "generic/compressed_rle/001",
    "hitachi/anatomical/001",
    "hyperfine/anatomical/001",
    "philips/anatomical/001",
    "philips_enhanced/anatomical/001",
    "siemens/anatomical/001",
    "siemens_multiframe/anatomical/001",
)


def ingest(folder: Path, store: Path, is_timeless: bool = False) -> tuple[pd.DataFrame, Ledger]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    ledger = Ledger("images", "d", "file")
    source = DicomSource(kind="dicom", is_timeless=is_timeless)
    delivery = SimpleNamespace(name="d", path=folder)
    limits = DecodeLimits(workers=1)  # starts faster than two, for few files
    series = read_dicom("images", source, delivery, files, ledger, store / "volumes", limits=limits)
    counts = ledger.counts()
    assert counts.loc[0, "found"] == len(files)
    assert is_conserved(counts)
    return series, ledger


def volume(row: pd.Series, store: Path) -> np.ndarray:
    return np.load(store / row.volume, mmap_mode="r", allow_pickle=False)


@pytest.mark.real_data
@pytest.mark.parametrize("folder", ALL_SERIES)
def test_every_vendors_volume_agrees_with_its_nifti(real_data, tmp_path, folder):
    series, _ = ingest(real_data / "dicom_volumes" / folder, tmp_path)
    assert len(series) == 1
    row = series.iloc[0]
    assert row.is_volume, row.geometry
    ours = volume(row, tmp_path)
    truth = nibabel.load(real_data / "dicom_volumes" / f"{folder}_ground_truth.nii.gz")
    theirs = np.squeeze(np.asarray(truth.dataobj))

    lps_to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    to_theirs = np.linalg.inv(truth.affine) @ lps_to_ras @ np.array(row.affine).reshape(4, 4)
    grid = np.indices(ours.shape).reshape(3, -1)
    places = (to_theirs @ np.vstack([grid, np.ones(grid.shape[1])]))[:3]
    assert np.abs(places - np.rint(places)).max() < 0.02  # of a voxel: as the files' own digits allow
    x, y, z = np.rint(places).astype(int)
    expected = theirs[x, y, z].reshape(ours.shape)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6 * float(np.abs(expected).max()))
    assert sorted(row.spacing_mm) == pytest.approx(sorted(truth.header.get_zooms()[:3]), abs=1e-3)


@pytest.mark.real_data
def test_four_compressions_of_one_series_give_one_volume(real_data, tmp_path):
    volumes = []
    for name in ("compressed", "compressed_jpeg", "compressed_jpegls", "compressed_rle"):
        series, _ = ingest(real_data / "dicom_volumes" / "generic" / name / "001", tmp_path / name)
        volumes.append(volume(series.iloc[0], tmp_path / name))
    for other in volumes[1:]:
        np.testing.assert_array_equal(other, volumes[0])


@pytest.mark.real_data
def test_lung_ct_gives_a_series_in_hu_for_each_patient(real_data, tmp_path):
    series, ledger = ingest(real_data / "lung_ct" / "dicom", tmp_path)
    assert len(series) == 27
    assert ledger.n_accepted == 27
    assert series.source_patient_id.nunique() == 27
    assert set(series.unit) == {"HU"}
    with (real_data / "lung_ct" / "genomics_survival_24.csv").open() as file:
        with_genomics = {row["case_id"] for row in csv.DictReader(file)}
    assert len(with_genomics & set(series.source_patient_id)) == 24
    for _, row in series.iterrows():
        values = volume(row, tmp_path)
        assert values.dtype == np.int16
        assert list(row["shape"]) == [1, 512, 512]
        assert -2048 <= values.min() <= -900  # air
        assert 800 <= values.max() <= 3071  # bone, up to the 12 bits of a scanner
    assert series.available_time.dt.year.between(1982, 2006).all()


def expected_of_zoo(real_data: Path) -> list[dict[str, str]]:
    with (real_data / "dicom_zoo" / "expected.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.real_data
def test_every_kind_of_file_is_accounted_for(real_data, tmp_path):
    series, ledger = ingest(real_data / "dicom_zoo" / "files", tmp_path, is_timeless=True)
    assert ledger.n_found == 91
    used = {locator for locators in series.slice_locators for locator in locators}
    records = ledger.records()
    assert used.isdisjoint(records.locator)
    assert len(used) + len(records) == 91
    for _, row in series.iterrows():
        values = volume(row, tmp_path)
        assert list(values.shape) == [*row["shape"], *([3] if row.channels == 3 else [])]


@pytest.mark.real_data
@pytest.mark.filterwarnings(
    "ignore::UserWarning"
)  # pydicom warns here, in the test, of what is odd in these files
def test_every_kind_of_file_decodes_as_pydicom_said(real_data, tmp_path):
    folder = real_data / "dicom_zoo"
    expected = expected_of_zoo(real_data)
    paths = [folder / row["file"] for row in expected]
    outcomes: Counter[str] = Counter()
    with DecoderPool(DecodeLimits(decode_deadline_s=60)) as pool:
        headers = list(pool.read_headers(paths))
        decoding = {
            path: pool.decode(path, tmp_path / path.name, header.decoded_bytes)
            for path, header in zip(paths, headers, strict=True)
            if isinstance(header, InstanceHeader)
        }
        for path, header, row in zip(paths, headers, expected, strict=True):
            answer = header if isinstance(header, Refusal) else decoding[path].result()
            outcome = answer.reason_code if isinstance(answer, Refusal) else "decoded"
            outcomes[outcome] += 1
            if row["decoded_shape"]:
                assert outcome == "decoded", (row["file"], outcome)
                check_stored_values(path, row)
            elif row["has_pixels"] == "False":
                assert outcome in ("not_an_image", "truncated_file"), row["file"]
    # 12-bit JPEG that pydicom's own plugins refuse and a palette without a transfer syntax are read as well.
    assert outcomes["decoded"] >= sum(bool(row["decoded_shape"]) for row in expected) == 79


def check_stored_values(path: Path, row: dict[str, str]) -> None:
    dataset = pydicom.dcmread(path, force=True)
    n_frames = int(dataset.get("NumberOfFrames") or 1)
    frames = np.stack(list(stored_frames(dataset, n_frames)))
    if n_frames == 1:
        frames = frames[0]
    assert list(frames.shape) == ast.literal_eval(row["decoded_shape"]), path.name
    lowest, highest = ast.literal_eval(row["decoded_minmax"])
    # Lossy 12-bit JPEG: another inverse cosine transform than pydicom's may round differently.
    rounding = 1 if dataset.file_meta.TransferSyntaxUID == pydicom.uid.JPEGExtended12Bit else 0
    assert abs(float(frames.min()) - lowest) <= rounding, path.name
    assert abs(float(frames.max()) - highest) <= rounding, path.name


def test_pydicoms_own_test_files_are_accounted_for(tmp_path):
    folder = Path(pydicom.data.__file__).parent / "test_files"
    series, ledger = ingest(folder, tmp_path, is_timeless=True)
    assert ledger.n_found > 100
    used = {locator for locators in series.slice_locators for locator in locators}
    reasons = dict(zip(ledger.records().locator, ledger.records().reason_code, strict=True))
    assert reasons["MR_truncated.dcm"] == "truncated_file"
    assert reasons["rtplan.dcm"] == "not_an_image"
    assert reasons["dicomdirtests/DICOMDIR"] == "not_an_image"
    assert reasons["README.txt"] == "unreadable_file"
    assert {"CT_small.dcm", "examples_palette.dcm", "examples_ybr_color.dcm"} <= used
    small = series[series.slice_locators.map(lambda s: s[0]) == "CT_small.dcm"].iloc[0]
    values = volume(small, tmp_path)[0]
    # pydicom's documentation: CT_small's first pixel is stored as 175, its intercept is -1024.
    assert values[0, 0] == 175 - 1024
