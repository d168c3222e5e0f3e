"""Where each frame of an instance lies: of the functional groups of an enhanced object, or of a classic header.

Follows PS3.3 C.7.6.16 (multi-frame functional groups), C.7.6.2 (image plane) and C.8.8.3 (RT dose). Positions are in
the patient's LPS frame, in mm. How frames come together as stacks does not belong here.
"""

import math

from clinical_mm.ingest.dicom_values import Attributes, date_time, items, moment, number, numbers, text
from clinical_mm.ingest.dicom_wire import FrameHeader

UNIT_VECTOR_TOLERANCE = 0.01
"""How far direction cosines may be from orthonormal: values written with two decimals still pass."""

LARGEST_POSITION_MM = 1e6
"""A position beyond it (1 km) is no place in a scanner."""

_TYPE_GROUPS = (
    "MRImageFrameTypeSequence",
    "CTImageFrameTypeSequence",
    "PETFrameTypeSequence",
    "XAXRFFrameCharacteristicsSequence",
    "MRSpectroscopyFrameTypeSequence",
)


class FunctionalGroups:
    """The functional groups of one frame: its own first, then those that all share, then the classic header."""

    def __init__(self, dataset: Attributes, own: Attributes | None, shared: Attributes | None) -> None:
        self._dataset = dataset
        self._groups = [group for group in (own, shared) if group is not None]

    def item(self, group: str) -> Attributes:
        """The first item of a functional group; the dataset itself where the frame is not in any."""
        for functional in self._groups:
            found = items(functional, group)
            if found:
                return found[0]
        return self._dataset

    def first_item(self, groups: tuple[str, ...]) -> Attributes:
        """The first item of whichever group is there."""
        for group in groups:
            found = self.item(group)
            if found is not self._dataset:
                return found
        return self._dataset


def functional_groups(dataset: Attributes, n_frames: int) -> list[FunctionalGroups]:
    """The functional groups of each frame.

    Raises:
        ValueError: there are per-frame groups, and not one for each frame.
    """
    per_frame = items(dataset, "PerFrameFunctionalGroupsSequence")
    shared = next(iter(items(dataset, "SharedFunctionalGroupsSequence")), None)
    if per_frame and len(per_frame) != n_frames:
        raise ValueError("the per-frame functional groups are not as many as the frames")
    own: list[Attributes | None] = list(per_frame) if per_frame else [None] * n_frames
    return [FunctionalGroups(dataset, group, shared) for group in own]


def frame_headers(dataset: Attributes, n_frames: int) -> tuple[FrameHeader, ...]:
    """What is known about each frame.

    Raises:
        ValueError: as `functional_groups`.
    """
    offsets = numbers(dataset, "GridFrameOffsetVector", n_frames) if n_frames > 1 else None
    groups = functional_groups(dataset, n_frames)
    return tuple(_frame(group, dataset, n_frames, i, offsets) for i, group in enumerate(groups))


def _frame(
    groups: FunctionalGroups,
    dataset: Attributes,
    n_frames: int,
    index: int,
    offsets: tuple[float, ...] | None,
) -> FrameHeader:
    plane = groups.item("PlanePositionSequence")
    measures = groups.item("PixelMeasuresSequence")
    orientation = _orientation(numbers(groups.item("PlaneOrientationSequence"), "ImageOrientationPatient", 6))
    position = _position(numbers(plane, "ImagePositionPatient", 3))
    # One position in the header of a classic multi-frame is that of the first frame: of the others it says nothing.
    is_placed = n_frames == 1 or plane is not dataset
    if not is_placed and offsets is not None and position is not None and orientation is not None:
        # Some offsets are positions along the normal rather than relative to the first: the difference is the same.
        position = _along_normal(position, orientation, offsets[index] - offsets[0])
        is_placed = True
    declared_spacing = numbers(measures, "PixelSpacing", 2)
    at_detector = numbers(dataset, "ImagerPixelSpacing", 2) if declared_spacing is None else None
    spacing = _spacing(declared_spacing or at_detector)
    oriented = groups.item("PlaneOrientationSequence")
    is_unusable = (
        (orientation is None and text(oriented, "ImageOrientationPatient") is not None)
        or (position is None and text(plane, "ImagePositionPatient") is not None)
        or (spacing is None and text(measures, "PixelSpacing") is not None)
    )
    thickness = number(measures, "SliceThickness")
    voi = groups.item("FrameVOILUTSequence")
    center, width = number(voi, "WindowCenter"), number(voi, "WindowWidth")
    has_window = center is not None and width is not None and width >= 1
    return FrameHeader(
        position_mm=position if is_placed else None,
        orientation=orientation if is_placed else None,
        pixel_spacing_mm=spacing,
        is_detector_spacing=spacing is not None and at_detector is not None,
        slice_thickness_mm=thickness if thickness is not None and thickness > 0 else None,
        has_unusable_geometry=is_unusable,
        window_center=center if has_window else None,
        window_width=width if has_window else None,
        discriminators=_discriminators(groups, dataset),
    )


def _discriminators(groups: FunctionalGroups, dataset: Attributes) -> tuple[str, ...]:
    """A text for each of `dicom_wire.DISCRIMINATORS`."""
    content = groups.item("FrameContentSequence")
    echo = groups.item("MREchoSequence")
    diffusion = groups.item("MRDiffusionSequence")
    direction = next(iter(items(diffusion, "DiffusionGradientDirectionSequence")), diffusion)
    kind = groups.first_item(_TYPE_GROUPS)
    timing = groups.first_item(("CardiacSynchronizationSequence", "TemporalPositionSequence"))
    taken = date_time(content, "FrameAcquisitionDateTime") or moment(
        dataset, "AcquisitionDate", "AcquisitionTime"
    )
    return (
        text(content, "FrameAcquisitionNumber") or text(dataset, "AcquisitionNumber") or "",
        text(content, "TemporalPositionIndex") or text(dataset, "TemporalPositionIdentifier") or "",
        _joined(text(echo, "EffectiveEchoTime"), text(dataset, "EchoTime"), text(dataset, "EchoNumbers")),
        _joined(text(kind, "FrameType") or text(dataset, "ImageType"), text(kind, "ComplexImageComponent")),
        _joined(text(diffusion, "DiffusionBValue"), text(direction, "DiffusionGradientOrientation")),
        text(groups.item("SegmentIdentificationSequence"), "ReferencedSegmentNumber") or "",
        text(content, "StackID") or "",
        text(timing, "NominalCardiacTriggerDelayTime") or text(dataset, "TriggerTime") or "",
        "" if taken is None else taken.isoformat(),
    )


def _joined(*parts: str | None) -> str:
    return "|".join(part or "" for part in parts) if any(parts) else ""


def _position(values: tuple[float, ...] | None) -> tuple[float, float, float] | None:
    if values is None or max(map(abs, values)) > LARGEST_POSITION_MM:
        return None
    return values[0], values[1], values[2]


def _orientation(values: tuple[float, ...] | None) -> tuple[float, float, float, float, float, float] | None:
    if values is None:
        return None
    row, column = values[:3], values[3:]
    dot = sum(r * c for r, c in zip(row, column, strict=True))
    if any(abs(v - 1) > UNIT_VECTOR_TOLERANCE for v in (math.hypot(*row), math.hypot(*column), 1 + dot)):
        return None
    return values[0], values[1], values[2], values[3], values[4], values[5]


def _spacing(values: tuple[float, ...] | None) -> tuple[float, float] | None:
    return None if values is None or min(values) <= 0 else (values[0], values[1])


def _along_normal(
    position: tuple[float, float, float],
    orientation: tuple[float, float, float, float, float, float],
    offset_mm: float,
) -> tuple[float, float, float]:
    a, b, c, d, e, f = orientation
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    x, y, z = (p + offset_mm * n for p, n in zip(position, normal, strict=True))
    return x, y, z
