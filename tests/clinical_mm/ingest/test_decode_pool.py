"""Hostile bytes: each costs its own file and nothing else."""

import os
import struct
import sys
import zlib
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.decode_pool import DecodeLimits, DecoderPool
from clinical_mm.ingest.dicom_wire import Decoded, InstanceHeader, Refusal

PYDICOM_FILES = Path(pydicom.data.__file__).parent / "test_files"
ONE_WORKER = DecodeLimits(workers=1)


def with_frame_byte(name: str, place: int, value: int) -> bytes:
    """A compressed file of pydicom's with one byte of its first frame changed."""
    data = bytearray((PYDICOM_FILES / name).read_bytes())
    pixels = data.index(b"\xe0\x7f\x10\x00OB") + 12
    (offset_table,) = struct.unpack_from("<L", data, pixels + 4)
    data[pixels + 8 + offset_table + 8 + place] = value
    return bytes(data)


@pytest.fixture
def good() -> Path:
    return PYDICOM_FILES / "CT_small.dcm"


def test_a_decoder_that_aborts_costs_one_file(tmp_path, good):
    bad = tmp_path / "bad.dcm"
    bad.write_bytes(with_frame_byte("JPGExtended.dcm", 15, 0))  # GDCM leaves the process
    with DecoderPool(ONE_WORKER) as pool:
        answers = [pool.decode(path, tmp_path / "out", 1 << 20).result() for path in (good, bad, good)]
    assert [type(answer) for answer in answers] == [Decoded, Refusal, Decoded]
    assert answers[1] == Refusal("decode_failed", "the decoder ended its process")


def test_a_decoder_that_panics_costs_one_file(tmp_path, good):
    bad = tmp_path / "bad.dcm"
    bad.write_bytes(with_frame_byte("MR_small_RLE.dcm", 8, 255))  # a PanicException is no Exception
    with DecoderPool(ONE_WORKER) as pool:
        answers = [pool.decode(path, tmp_path / "out", 1 << 20).result() for path in (bad, good)]
    assert answers[0].reason_code == "decode_failed"
    assert "PanicException" in answers[0].sentence
    assert isinstance(answers[1], Decoded)


def test_a_decoder_that_takes_too_long_is_ended(tmp_path, good):
    os.mkfifo(tmp_path / "endless")  # reading it never ends: nobody writes
    hurried = DecodeLimits(workers=1, decode_deadline_s=0.3, decode_deadline_s_per_mb=1)
    with DecoderPool(hurried) as pool:
        late = pool.decode(tmp_path / "endless", tmp_path / "out", decoded_bytes=0).result()
        in_time = pool.decode(good, tmp_path / "out", decoded_bytes=60_000_000).result()
    assert late.reason_code == "decode_timeout"
    assert isinstance(in_time, Decoded)


def test_one_file_among_many_headers_does_not_take_the_others_with_it(tmp_path, good):
    bomb = tmp_path / "bomb.dcm"
    bomb.write_bytes(deflated_bomb(good))
    with DecoderPool(ONE_WORKER) as pool:
        headers = list(pool.read_headers([good, bomb, tmp_path / "vanished", good]))
    assert [type(header) for header in headers] == [InstanceHeader, Refusal, Refusal, InstanceHeader]
    assert headers[1].reason_code == "too_large"
    assert headers[2].reason_code == "unreadable_file"


def deflated_bomb(like: Path) -> bytes:
    """A file of two MB that unfolds to two GB."""
    dataset = pydicom.dcmread(like)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    buffer = pydicom.filebase.DicomBytesIO()
    pydicom.filewriter.write_file_meta_info(buffer, dataset.file_meta)
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    # After a full flush the compressor remembers nothing: the same block may be repeated.
    block = deflate.compress(bytes(1 << 24)) + deflate.flush(zlib.Z_FULL_FLUSH)
    stream = 128 * block + deflate.flush()
    return bytes(128) + b"DICM" + buffer.getvalue() + stream


def test_a_worker_may_not_take_all_memory(tmp_path, good):
    dataset = pydicom.dcmread(good)
    dataset.Rows = dataset.Columns = 40_000
    dataset.PixelData = b"\0" * 1000
    path = tmp_path / "huge.dcm"
    dataset.save_as(path)
    sparse = path.stat().st_size
    with path.open("r+b") as file:  # all its bytes are there, and take no room on the disk
        data = file.read()
        place = data.index(b"\xe0\x7f\x10\x00OW") + 8
        file.seek(place)
        file.write(struct.pack("<L", 2 * 40_000**2))
        os.truncate(path, sparse + 2 * 40_000**2)
    with DecoderPool(DecodeLimits(workers=1, address_space_bytes=2 << 30)) as pool:
        answer = pool.decode(path, tmp_path / "out", 1 << 30).result()
        after = pool.decode(good, tmp_path / "out", 1 << 20).result()
    assert answer.reason_code == "decode_failed"
    assert "memory" in answer.sentence
    assert isinstance(after, Decoded)


def test_workers_that_cannot_start_are_an_error_and_no_quarantine(tmp_path, good, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with (
        pytest.raises(DeliveryError, match="decoding worker does not start"),
        DecoderPool(ONE_WORKER) as pool,
    ):
        pool.decode(good, tmp_path / "out", 1 << 20).result()


def test_an_interrupted_ingest_leaves_no_worker_behind(tmp_path, good):
    pool = DecoderPool(ONE_WORKER)
    pool.decode(good, tmp_path / "out", 1 << 20).result()
    processes = [worker._process for worker in pool._workers]
    assert [process.poll() for process in processes] == [None]
    pool.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert None not in [process.poll() for process in processes]


def test_nothing_is_printed_by_decoders(tmp_path, capfd):
    with DecoderPool(ONE_WORKER) as pool:
        pool.decode(PYDICOM_FILES / "JPGExtended.dcm", tmp_path / "out", 1 << 22).result()
    assert capfd.readouterr() == ("", "")
