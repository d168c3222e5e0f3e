"""Which slices of a series belong together: its division into stacks of one size, colour, orientation and time.

A series is what a scanner sent under one UID: localizers, several acquisitions, echoes and phases may be in it. A
stack holds slices that can lie in one array without pretending anything; each becomes a row of the series table.
Positions are judged by `geometry`; nothing here reads files.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from clinical_mm.ingest.dicom_wire import DISCRIMINATORS, FrameHeader, InstanceHeader
from clinical_mm.ingest.geometry import (
    Geometry,
    is_same_orientation,
    is_same_spacing,
    multiplicity,
    parallel_geometry,
    places_along_normal,
)


@dataclass(frozen=True)
class Slice:
    """One frame of one file of a series.

    Attributes:
        locator: the file's path within the delivery.
        header: the file's header.
        frame: which of its frames, from 0.
    """

    locator: str
    header: InstanceHeader
    frame: int

    @property
    def plane(self) -> FrameHeader:
        """What is known about the frame."""
        return self.header.frames[self.frame]

    @property
    def is_placed(self) -> bool:
        """Whether the header says where it lies."""
        return self.plane.position_mm is not None and self.plane.orientation is not None


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices in their order, with the geometry that they share."""

    slices: tuple[Slice, ...]
    geometry: Geometry
    sentence: str


@dataclass(frozen=True)
class Stacks:
    """A series' division: stacks, largest first, and slices that no stack can hold honestly."""

    stacks: tuple[Stack, ...]
    unresolved: tuple[Slice, ...]


def divide(slices: Sequence[Slice]) -> Stacks:
    """Divide a series into consistent stacks; the same slices give the same stacks in whatever order they come."""
    slices = sorted(slices, key=lambda s: (s.header.sop_instance_uid or "", s.locator, s.frame))
    groups, reasons = _by_kind(slices)
    stacks: list[Stack] = []
    unresolved: list[Slice] = []
    for group in groups:
        if not group[0].is_placed:
            stacks.append(_unplaced(group))
            continue
        parts, discriminator = _at_distinct_positions(group)
        if parts is None:
            unresolved.extend(group)
            continue
        if discriminator:
            reasons.add(discriminator)
        stacks.extend(_placed(part) for part in parts)
    stacks.sort(
        key=lambda stack: (
            -len(stack.slices),
            stack.slices[0].header.sop_instance_uid or "",
            stack.slices[0].frame,
        )
    )
    if len(stacks) > 1:
        parting = (
            f"of {len(stacks)} stacks of the series, divided by {', '.join(sorted(reasons)) or 'position'}"
        )
        stacks = [
            Stack(s.slices, s.geometry, f"stack {i} {parting}; {s.sentence}") for i, s in enumerate(stacks)
        ]
    return Stacks(tuple(stacks), tuple(unresolved))


def _by_kind(slices: Sequence[Slice]) -> tuple[list[list[Slice]], set[str]]:
    """Groups of one size, colour, unit, frame of reference, orientation and spacing; and what tells them apart."""
    kinds: dict[str, Callable[[Slice], Hashable]] = {
        "modality": lambda s: s.header.modality,
        "size": lambda s: (s.header.rows, s.header.columns),
        "photometric interpretation": _colour,
        "unit": lambda s: s.header.unit,
        "frame of reference": lambda s: s.header.frame_of_reference_uid,
        "localizer": lambda s: s.header.is_localizer,
        "having a position": lambda s: s.is_placed,
    }
    reasons = {name for name, kind in kinds.items() if len({kind(s) for s in slices}) > 1}
    groups: dict[Hashable, list[Slice]] = {}
    for item in slices:
        groups.setdefault(tuple(kind(item) for kind in kinds.values()), []).append(item)
    divided: list[list[Slice]] = []
    for group in groups.values():
        for oriented in _alike(
            group, lambda s: s.plane.orientation if s.is_placed else None, is_same_orientation
        ):
            divided.extend(_alike(oriented, lambda s: s.plane.pixel_spacing_mm, is_same_spacing))
    placed = [s.plane.orientation for s in slices if s.plane.orientation is not None]
    if any(not is_same_orientation(placed[0], other) for other in placed[1:]):
        reasons.add("orientation")
    spacings = [s.plane.pixel_spacing_mm for s in slices]
    if len(divided) > len(groups) and len(set(spacings)) > 1:
        reasons.add("pixel spacing")
    return divided, reasons


def _colour(item: Slice) -> str:
    return "colour" if item.header.is_colour else item.header.photometric_interpretation


def _alike(
    slices: Iterable[Slice],
    value: Callable[[Slice], Sequence[float] | None],
    is_same: Callable[[Sequence[float], Sequence[float]], bool],
) -> list[list[Slice]]:
    """Groups of slices whose values agree with that of the group's first."""
    groups: list[tuple[Sequence[float] | None, list[Slice]]] = []
    for item in slices:
        own = value(item)
        for first, members in groups:
            if own is first is None or (own is not None and first is not None and is_same(first, own)):
                members.append(item)
                break
        else:
            groups.append((own, [item]))
    return [members for _, members in groups]


def _places(group: Sequence[Slice]) -> np.ndarray:
    orientation = group[0].plane.orientation
    assert orientation is not None
    return places_along_normal([s.plane.position_mm or () for s in group], orientation)


def _at_distinct_positions(group: list[Slice]) -> tuple[list[list[Slice]] | None, str]:
    """Parts whose slices lie at distinct positions, and what divides them; None where nothing in the header does.

    Of what the header offers, that is taken which divides into as many parts as there are slices at one position:
    an acquisition time of each slice's own would divide them too, and tear every acquisition apart.
    """
    wanted = multiplicity(_places(group))
    if wanted == 1:
        return _unbroken(group)
    varying = [i for i in range(len(DISCRIMINATORS)) if len({s.plane.discriminators[i] for s in group}) > 1]
    combinations = [(i,) for i in varying] + [tuple(varying[:n]) for n in range(2, len(varying) + 1)]
    best: tuple[int, list[list[Slice]], str] | None = None
    for combination in combinations:
        parts: dict[tuple[str, ...], list[Slice]] = {}
        for item in group:
            parts.setdefault(tuple(item.plane.discriminators[i] for i in combination), []).append(item)
        if any(multiplicity(_places(part)) > 1 for part in parts.values()):
            continue
        if best is None or len(parts) < best[0]:
            name = " and ".join(DISCRIMINATORS[i] for i in combination)
            best = (len(parts), [parts[key] for key in sorted(parts)], name)
    # Parts of an acquisition that was broken off are fewer slices, not single ones.
    if best is None or (best[0] > wanted and 2 * best[0] > len(group)):
        return None, ""
    return best[1], best[2]


def _unbroken(group: list[Slice]) -> tuple[list[list[Slice]], str]:
    """Slices at distinct positions: one stack, unless it is no volume and its acquisitions are one each."""
    if not _placed(group).geometry.is_volume:
        for i, name in enumerate(DISCRIMINATORS[:2]):
            parts: dict[str, list[Slice]] = {}
            for item in group:
                parts.setdefault(item.plane.discriminators[i], []).append(item)
            if len(parts) > 1 and all(_placed(part).geometry.is_volume for part in parts.values()):
                return [parts[key] for key in sorted(parts)], name
    return [group], ""


def _placed(group: list[Slice]) -> Stack:
    planes = [s.plane for s in group]
    orientation = planes[0].orientation
    assert orientation is not None
    geometry = parallel_geometry(
        [plane.position_mm or () for plane in planes],
        orientation,
        planes[0].pixel_spacing_mm,
        planes[0].slice_thickness_mm,
    )
    return Stack(tuple(group[i] for i in geometry.order), geometry, geometry.sentence)


def _unplaced(group: list[Slice]) -> Stack:
    """Slices without a position: by instance number, then UID; there is nothing else to order them by."""
    ordered = sorted(
        group,
        key=lambda s: (
            s.header.instance_number is None,
            s.header.instance_number or 0,
            s.header.sop_instance_uid or "",
            s.frame,
        ),
    )
    plane = ordered[0].plane
    spacing = plane.pixel_spacing_mm
    words = ["no position in the header, ordered by instance number"]
    if any(s.plane.has_unusable_geometry for s in group):
        words = ["the position, orientation or spacing in the header is none, ordered by instance number"]
    if plane.is_detector_spacing:
        words.append("pixel spacing as measured at the detector")
    spacing_mm = None if spacing is None else (float("nan"), spacing[0], spacing[1])
    sentence = "; ".join(words)
    geometry = Geometry(tuple(range(len(ordered))), False, None, spacing_mm, sentence)
    return Stack(tuple(ordered), geometry, sentence)
