"""What a decoding worker is asked and what it answers: the messages between the two processes.

Only data belongs here, encoded as MessagePack by msgspec: the types are checked on arrival, and nothing that arrives
can run. What fills the messages is in `dicom_header`, `frames` and `decoding`; who sends them in `decode_pool`.
"""

from datetime import datetime

import msgspec

DISCRIMINATORS = (
    "acquisition number",
    "temporal position",
    "echo",
    "image type",
    "diffusion weighting",
    "segment",
    "stack id",
    "trigger time",
    "acquisition time",
)
"""What may tell two images at the same position apart, in the order in which it is tried."""


class FrameHeader(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Where one frame lies and what tells it from others, of the header alone.

    Attributes:
        position_mm: centre of the first pixel in patient LPS; None where the header has none.
        orientation: unit vectors along a row and along a column, in LPS.
        pixel_spacing_mm: between rows, between columns.
        is_detector_spacing: the spacing is measured at the detector, not in the patient.
        slice_thickness_mm: as declared.
        has_unusable_geometry: a position, orientation or spacing is declared and cannot be one.
        window_center: first VOI window, in units after the modality LUT.
        window_width: its width.
        discriminators: a text for each of `DISCRIMINATORS`, empty where the header is silent.
    """

    position_mm: tuple[float, float, float] | None
    orientation: tuple[float, float, float, float, float, float] | None
    pixel_spacing_mm: tuple[float, float] | None
    is_detector_spacing: bool
    slice_thickness_mm: float | None
    has_unusable_geometry: bool
    window_center: float | None
    window_width: float | None
    discriminators: tuple[str, ...]


class InstanceHeader(msgspec.Struct, frozen=True, tag="header"):
    """The header of one image file: nothing of its pixels, which are hashed only when they are decoded."""

    transfer_syntax_uid: str
    patient_id: str | None
    sop_instance_uid: str | None
    series_instance_uid: str | None
    study_instance_uid: str | None
    frame_of_reference_uid: str | None
    modality: str
    body_part: str | None
    description: str | None
    manufacturer: str | None
    scanner: str | None
    unit: str | None
    available_time: datetime | None
    has_unreadable_time: bool
    instance_number: int | None
    photometric_interpretation: str
    rows: int
    columns: int
    is_colour: bool
    is_localizer: bool
    decoded_bytes: int  # an upper bound of what decoding writes
    frames: tuple[FrameHeader, ...]


class Refusal(msgspec.Struct, frozen=True, tag="refusal"):
    """Why a file cannot be used: a stable code and a sentence without identifiers."""

    reason_code: str
    sentence: str
    series_instance_uid: str | None = None


class Decoded(msgspec.Struct, frozen=True, tag="decoded"):
    """Frames as they were written, one after the other, in C order.

    Attributes:
        shape: of one frame: [rows, columns], or [rows, columns, 3].
        dtypes: per frame: int16, float32 or uint8.
        notes: what was changed on the way, in words.
    """

    shape: tuple[int, ...]
    dtypes: tuple[str, ...]
    notes: tuple[str, ...] = ()


class HeadersRequest(msgspec.Struct, frozen=True, tag="headers"):
    """Read the headers of these files."""

    paths: tuple[bytes, ...]
    deadline_s: float


class DecodeRequest(msgspec.Struct, frozen=True, tag="decode"):
    """Decode the frames of a file into another."""

    path: bytes
    output: bytes
    deadline_s: float


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """A worker's first words."""


class HeadersAnswer(msgspec.Struct, frozen=True, tag="headers_answer"):
    """One answer a file, in the order of the request."""

    headers: tuple[InstanceHeader | Refusal, ...]


Request = HeadersRequest | DecodeRequest
Answer = Ready | HeadersAnswer | Decoded | Refusal
