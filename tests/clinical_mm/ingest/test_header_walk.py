"""The walk over a header gives what pydicom gives, or nothing: on real files, on generated ones and on damaged ones."""

import io
import warnings
from pathlib import Path

import pydicom
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from clinical_mm.ingest import dicom_header, header_walk
from clinical_mm.ingest.dicom_header import HEADER_KEYWORDS, read_header
from clinical_mm.ingest.dicom_values import numbers, text
from clinical_mm.ingest.dicom_wire import InstanceHeader
from clinical_mm.ingest.header_walk import walk_header, wanted_elements

PYDICOM_FILES = Path(pydicom.data.__file__).parent
WANTED = wanted_elements(HEADER_KEYWORDS)
NO_PIXELS = b"\xe0\x7f\x10\x00OW\0\0\0\0\0\0"


def _both(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[bool, object, object]:
    """Whether the walk took a file, what is read of it with the walk, and what without."""
    with path.open("rb") as file:
        is_walked = walk_header(file, WANTED) is not None
    found = []
    for walk in (walk_header, lambda *_: None):
        monkeypatch.setattr(dicom_header, "walk_header", walk)
        try:
            found.append(read_header(path))
        except Exception as error:  # noqa: BLE001 - whatever pydicom raises is what the worker then reports
            found.append(type(error))
    return is_walked, found[0], found[1]


def _compare(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> float:
    """The share of usable images that the walk took; all files give the same either way."""
    taken, images = 0, 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of what it finds odd, as the worker silences it
        for path in paths:
            is_walked, ours, theirs = _both(path, monkeypatch)
            assert ours == theirs, path.name
            images += isinstance(theirs, InstanceHeader)
            taken += isinstance(theirs, InstanceHeader) and is_walked
    return taken / images


def test_every_file_that_pydicom_brings_gives_the_same_header_with_and_without_the_walk(monkeypatch):
    paths = [path for path in PYDICOM_FILES.rglob("*") if path.is_file() and path.suffix in ("", ".dcm")]
    assert len(paths) > 100
    assert _compare(paths, monkeypatch) > 0.8  # most of the rest are big endian, deflated or without preamble


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("folder", "least"), [("dicom_zoo", 0.6), ("dicom_volumes", 0.8), ("lung_ct", 1.0), ("phi", 0.8)]
)
def test_real_files_give_the_same_header_with_and_without_the_walk(folder, least, real_data, monkeypatch):
    paths = [path for path in (real_data / folder).rglob("*.dcm") if path.is_file()]
    assert _compare(paths, monkeypatch) >= least


def test_the_synthetic_cohort_is_walked_to_the_last_file(tmp_path, monkeypatch):
    from clinical_mm.synthetic.cohort import generate_cohort

    generate_cohort(tmp_path, seed=3, n_patients=40)
    paths = [path for path in tmp_path.rglob("*.dcm") if path.is_file()]
    assert paths
    assert _compare(paths, monkeypatch) == 1.0


WRITTEN = {
    "UI": st.from_regex(r"[012](\.[0-9]{1,9}){1,5}", fullmatch=True),
    "CS": st.text("ABZ_ 019\\a", max_size=20),
    "DA": st.sampled_from(["", "20240229", "2024.02.29", "20241332", "20240101\\20240102", "yesterday"]),
    "TM": st.sampled_from(["", "101112", "101112.5", "10:11:12", "99", "1011 ", " 1011"]),
    "DT": st.sampled_from(["", "20240229101112.25", "20240229", "20240229101112+0100", "x"]),
    "LO": st.text(st.sampled_from("aZ0 ~\\é€日\t\n\0'\"^="), max_size=20),
    "SH": st.text("aZ0 ~", max_size=10),
    "DS": st.lists(
        st.one_of(
            st.floats(-1e5, 1e5).map(lambda v: f"{v:.4f}"),
            st.sampled_from(["", " ", "1e3", "-.5", "+7.", "nan", "1,5", " 2 ", "1e999", "1" * 20, "0x1"]),
        ),
        max_size=6,
    ).map("\\".join),
    "IS": st.lists(
        st.one_of(
            st.integers(-(2**31), 2**31 - 1).map(str), st.sampled_from(["", "1.0", " 3 ", "+4", "x", "1_0"])
        ),
        max_size=3,
    ).map("\\".join),
}
CHARSETS = [
    "",
    "ISO_IR 6",
    "ISO_IR 100",
    "ISO_IR 192",
    "ISO 2022 IR 13",
    "\\ISO 2022 IR 87",
    "ISO_IR 13",
    "nonsense",
]


@st.composite
def elements(draw: st.DrawFn) -> list[tuple[int, bytes, bytes]]:
    """Tag, representation and bytes of elements: those that are wanted, and others between them."""
    charset = draw(st.sampled_from(CHARSETS))
    found = [(0x00080005, b"CS", charset.encode())]
    # Few of them: of many one is nearly always unusual, and the walk gives up.
    for tag in draw(st.lists(st.sampled_from(sorted(set(WANTED) - {0x00080005})), unique=True, max_size=5)):
        vr = WANTED[tag][1]
        if vr == b"US":
            value = draw(st.binary(min_size=0, max_size=4))
        elif vr == b"FD":
            value = draw(st.sampled_from([b"", bytes(8), bytes(24), bytes(7), b"\0\0\0\0\0\0\xf8\x7f"]))
        elif vr == b"SQ":
            value = draw(st.sampled_from([b"", b"\xfe\xff\x00\xe0\0\0\0\0"]))
        else:
            encoding = draw(st.sampled_from(["utf-8", "latin-1"]))
            value = draw(WRITTEN[vr.decode()]).encode(encoding, "replace")
        if draw(st.booleans()):
            value += b"\0" if vr == b"UI" else b" "
        found.append((tag, vr, value))
    for tag in draw(st.lists(st.sampled_from([0x00090010, 0x00100010, 0x00191001, 0x00400555]), unique=True)):
        found.append((tag, b"UN", draw(st.binary(max_size=30))))
    return sorted(found)


def _written(found: list[tuple[int, bytes, bytes]], is_implicit: bool) -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2", "1.3"
    file = io.BytesIO()
    dataset = Dataset()
    dataset.file_meta = meta
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    for tag, vr, value in found:
        file.write((tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little"))
        if is_implicit:
            file.write(len(value).to_bytes(4, "little"))
        elif vr in (b"SQ", b"UN"):
            file.write(vr + b"\0\0" + len(value).to_bytes(4, "little"))
        else:
            file.write(vr + len(value).to_bytes(2, "little"))
        file.write(value)
    file.write(b"\xe0\x7f\x10\x00" + bytes(8) if is_implicit else NO_PIXELS)
    return file.getvalue()


@given(elements(), st.booleans())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_walked_value_is_that_of_pydicom(found, is_implicit):
    data = _written(found, is_implicit)
    file = io.BytesIO(data)
    walked = walk_header(file, WANTED)
    event("walked" if walked is not None else "left to pydicom")
    if walked is None:
        return
    assert data[file.tell() : file.tell() + 4] == b"\xe0\x7f\x10\x00"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True, specific_tags=list(WANTED))
        for keyword, _ in WANTED.values():
            assert text(walked, keyword) == text(theirs, keyword), keyword
            assert numbers(walked, keyword) == numbers(theirs, keyword), keyword


def _plain() -> list[tuple[int, bytes, bytes]]:
    return [
        (0x00080018, b"UI", b"1.2.3\0"),
        (0x00100020, b"LO", b"p1"),
        (0x00280010, b"US", b"\x02\0"),
        (0x00280030, b"DS", b"0.5\\0.25"),
    ]


def test_a_plain_header_is_walked_in_both_encodings():
    for is_implicit in (False, True):
        walked = walk_header(io.BytesIO(_written(_plain(), is_implicit)), WANTED)
        assert walked is not None
        assert (text(walked, "SOPInstanceUID"), text(walked, "PatientID")) == ("1.2.3", "p1")
        assert numbers(walked, "PixelSpacing") == (0.5, 0.25)
        assert numbers(walked, "Rows") == (2.0,)


@pytest.mark.parametrize(
    "unusual",
    [
        [(0x00100020, b"ZZ", b"p1")],  # no such representation
        [(0x00100020, b"ST", b"p1")],  # another than the dictionary's
        [(0x00280030, b"DS", b"0.5\\x")],
        [(0x00280010, b"US", b"\x02\0\x03\0")],
        [(0x00080018, b"UI", b"1.2"), (0x00080016, b"UI", b"1.3")],  # out of order
        [(0x00100020, b"LO", b"a"), (0x00100020, b"LO", b"b")],  # twice
        [(0x00080005, b"CS", b"ISO_IR 13"), (0x00100020, b"LO", b"a~")],  # JIS X 0201
        [(0x00080005, b"CS", b"ISO_IR 192"), (0x00100020, b"LO", b"\xff\xfe")],  # no UTF-8
    ],
)
def test_what_is_unusual_is_left_to_pydicom(unusual):
    assert walk_header(io.BytesIO(_written(unusual, is_implicit=False)), WANTED) is None


def test_a_sequence_of_undefined_length_is_stepped_over_to_its_very_end():
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    inner = b"\x08\x00\x00\x01SH\x02\x00T1"
    nested = item + inner + b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    sequence = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + nested
    before, after = _plain()[:1], _plain()[1:]
    begin = _written(before, is_implicit=False).removesuffix(NO_PIXELS)
    rest = _written(after, is_implicit=False)
    end = rest[len(_written([], is_implicit=False)) - len(NO_PIXELS) :]
    walked = walk_header(io.BytesIO(begin + sequence + end), WANTED)
    assert walked is not None
    assert text(walked, "PatientID") == "p1"
    # With its delimiter cut off nothing says where it ends.
    assert walk_header(io.BytesIO(begin + sequence[:-8] + end), WANTED) is None


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_bytes_end_the_walk_or_give_a_header_and_never_more_reads_than_allowed(data):
    written = bytearray(_written(_plain(), data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 6))):
        written[data.draw(st.integers(128, len(written) - 1))] = data.draw(st.integers(0, 255))

    class Counting(io.BytesIO):
        n_read = 0

        def read(self, size: int | None = -1, /) -> bytes:
            found = super().read(size)
            self.n_read += len(found)
            return found

    file = Counting(bytes(written[: data.draw(st.integers(0, len(written)))]))
    walk_header(file, WANTED)
    assert file.n_read <= header_walk.MAX_BLOCKS * header_walk.BLOCK_BYTES


def test_nesting_without_end_is_refused():
    sequence = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    begin = _written([], is_implicit=False).removesuffix(NO_PIXELS)
    assert walk_header(io.BytesIO(begin + sequence * 5000 + bytes(64)), WANTED) is None


def _read_bytes() -> int:
    """What this process has read so far, from the page cache or not."""
    return int(Path("/proc/self/io").read_text().split()[1])


def test_the_index_reads_no_pixels(tmp_path):
    path = tmp_path / "large.dcm"
    declared = [
        (0x00080018, b"UI", b"1.2.3\0"),
        (0x00280002, b"US", b"\x01\0"),
        (0x00280004, b"CS", b"MONOCHROME2 "),
        (0x00280010, b"US", (16384).to_bytes(2, "little")),
        (0x00280011, b"US", (16384).to_bytes(2, "little")),
        (0x00280100, b"US", b"\x10\0"),
    ]
    begin = _written(declared, is_implicit=False)[:-4] + (1 << 29).to_bytes(4, "little")
    path.write_bytes(begin)
    with path.open("r+b") as file:
        file.truncate(len(begin) + (1 << 29))  # half a GiB that is not on the disk
    read_header(path)  # what is read once for all files, like time zones
    before = _read_bytes()
    assert isinstance(read_header(path), InstanceHeader)
    assert _read_bytes() - before < 64 << 10
