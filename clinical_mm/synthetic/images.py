"""The images of a synthetic patient: a small abdominal CT phantom in HU with its geometry. Files are in `dicom_files`.

Body, spine, liver, cysts and vessels are drawn for everyone in the same way. Patients with the image signal have one
bright sphere besides, at a random place of the liver; nothing else in the image depends on anything.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from clinical_mm.synthetic.patients import Patient, stream

N_SLICES, N_ROWS, N_COLUMNS = 24, 32, 32
ARTERIAL = "Abdomen arterial 6 mm"
"""Description of the series that the study reads; the others are left to its filters."""

_AIR, _FAT, _MUSCLE, _LIVER, _SPINE, _CYST, _VESSEL = -1000.0, -90.0, 45.0, 75.0, 155.0, 5.0, 120.0
_LESION = 270.0
_NOISE_HU = 16.0
_SPACING_MM = 6.0


@dataclass(frozen=True)
class Geometry:
    """Where a stack lies: LPS mm of voxel [slice, row, column] is `origin + slice·normal + row·down + column·right`.

    The three direction vectors are in mm a voxel; slices go from feet to head.
    """

    origin_mm: np.ndarray
    normal_mm: np.ndarray
    down_mm: np.ndarray
    right_mm: np.ndarray

    def to_lps(self, voxel: np.ndarray) -> np.ndarray:
        """LPS mm of a [slice, row, column] index."""
        return self.origin_mm + voxel @ np.stack([self.normal_mm, self.down_mm, self.right_mm])

    @property
    def spacing_mm(self) -> np.ndarray:
        """Length of a step along [slice, row, column]."""
        return np.linalg.norm(np.stack([self.normal_mm, self.down_mm, self.right_mm]), axis=1)


@dataclass(frozen=True)
class Stack:
    """A series before it is written: HU [slices, rows, columns] and what its headers say."""

    hu: np.ndarray
    geometry: Geometry
    description: str
    image_type: tuple[str, ...]
    acquired: datetime
    number: int


@dataclass(frozen=True)
class Lesion:
    """The planted sphere: centre as [slice, row, column] of the arterial stack and in LPS mm."""

    centre_voxel: np.ndarray
    centre_lps_mm: np.ndarray
    radius_mm: float
    radius_voxel: np.ndarray


def compose_study(seed: int, patient: Patient) -> tuple[list[Stack], Lesion | None]:
    """The series of a patient's CT before the index time; the arterial one first.

    Three in ten have a second reconstruction of thicker slices, half have a localizer.
    """
    rng = stream(seed, "image", patient.number)
    days = int(rng.integers(2, 40))
    acquired = (patient.index_time - timedelta(days=days)).replace(
        hour=int(rng.integers(7, 18)), minute=int(rng.integers(60)), second=int(rng.integers(60))
    )
    geometry = _geometry(rng)
    hu, lesion = _phantom(geometry, rng, has_lesion=patient.signals["image"])
    stacks = [Stack(hu, geometry, ARTERIAL, ("ORIGINAL", "PRIMARY", "AXIAL"), acquired, 2)]
    if rng.random() < 0.3:
        stacks.append(_thick(stacks[0]))
    if rng.random() < 0.5:
        stacks.append(_localizer(stacks[0]))
    return stacks, lesion


def follow_up(seed: int, patient: Patient) -> Stack:
    """A CT from after the index time, with a lesion where the patient had a relapse: it may not be read."""
    rng = stream(seed, "follow-up", patient.number)
    geometry = _geometry(rng)
    hu, _ = _phantom(geometry, rng, has_lesion=patient.relapse)
    acquired = patient.index_time + timedelta(days=int(rng.integers(60, 300)))
    return Stack(hu, geometry, ARTERIAL, ("ORIGINAL", "PRIMARY", "AXIAL"), acquired, 2)


def _geometry(rng: np.random.Generator) -> Geometry:
    """Voxels of about 6 mm; one scan in ten is turned by some degrees about the long axis of the body."""
    pixel = float(np.round(rng.uniform(5.6, 6.4), 3))
    angle = float(np.deg2rad(rng.uniform(-8, 8))) if rng.random() < 0.1 else 0.0
    right = pixel * np.array([np.cos(angle), np.sin(angle), 0.0])
    down = pixel * np.array([-np.sin(angle), np.cos(angle), 0.0])
    normal = np.array([0.0, 0.0, _SPACING_MM])
    middle = np.array([rng.uniform(-15, 15), rng.uniform(-190, -150), rng.uniform(-400, -200)])
    half = np.array([N_SLICES - 1, N_ROWS - 1, N_COLUMNS - 1]) / 2
    origin = middle - half @ np.stack([normal, down, right])
    return Geometry(np.round(origin, 3), normal, np.round(down, 6), np.round(right, 6))


def _phantom(
    geometry: Geometry, rng: np.random.Generator, *, has_lesion: bool
) -> tuple[np.ndarray, Lesion | None]:
    """HU [slices, rows, columns]. Distances are in mm from the middle of the stack; y grows to the back."""
    shape = (N_SLICES, N_ROWS, N_COLUMNS)
    spacing = geometry.spacing_mm
    half = (np.array(shape) - 1) / 2
    z, y, x = (np.ogrid[tuple(slice(0, n) for n in shape)][a] - half[a] for a in range(3))
    z, y, x = z * spacing[0], y * spacing[1], x * spacing[2]
    width, depth = rng.uniform(82, 92), rng.uniform(70, 80)
    body = (x / width) ** 2 + (y / depth) ** 2 + 0 * z
    hu = np.full(shape, _AIR)
    hu[body < 1] = _FAT
    hu[(body < 0.82)] = _MUSCLE
    liver_middle = np.array([rng.uniform(-6, 6), rng.uniform(-14, -8), rng.uniform(-16, -8)])
    hu[_ball(z, y, x, liver_middle, np.array([66.0, 46.0, 58.0])) < 1] = _LIVER + rng.uniform(-8, 8)
    spine_x = rng.uniform(-4, 4)
    hu[((x - spine_x) / 14) ** 2 + ((y - 50) / 12) ** 2 + 0 * z < 1] = _SPINE + rng.uniform(-15, 15)
    for _ in range(int(rng.integers(0, 4))):
        hu[_ball(z, y, x, _inside(rng, liver_middle), np.full(3, rng.uniform(8, 16))) < 1] = _CYST
    for _ in range(int(rng.integers(1, 4))):
        centre = _inside(rng, liver_middle)
        hu[((x - centre[2]) ** 2 + (y - centre[1]) ** 2 < 25) & (abs(z - centre[0]) < 30)] = _VESSEL
    centre, radius = _inside(rng, liver_middle), float(np.round(rng.uniform(20, 25), 1))
    lesion = None
    if has_lesion:
        hu[_ball(z, y, x, centre, np.full(3, radius)) < 1] = _LESION + rng.uniform(-20, 20)
        voxel = centre / spacing + half
        lesion = Lesion(voxel, geometry.to_lps(voxel), radius, radius / spacing)
    return hu + rng.normal(0, _NOISE_HU, shape), lesion


def _ball(z: np.ndarray, y: np.ndarray, x: np.ndarray, centre: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Below one inside an ellipsoid; centre and radii as [z, y, x] mm."""
    result: np.ndarray = (
        ((z - centre[0]) / radii[0]) ** 2
        + ((y - centre[1]) / radii[1]) ** 2
        + ((x - centre[2]) / radii[2]) ** 2
    )
    return result


def _inside(rng: np.random.Generator, middle: np.ndarray) -> np.ndarray:
    """A place in the liver from which a sphere of 25 mm neither leaves the stack nor meets the spine."""
    direction = rng.normal(size=3)
    direction *= rng.uniform() ** (1 / 3) / np.linalg.norm(direction)
    place: np.ndarray = middle + direction * np.array([30.0, 20.0, 32.0])
    return place


def _thick(stack: Stack) -> Stack:
    """Two slices averaged into one: the same field, slices twice as thick."""
    hu = stack.hu.reshape(N_SLICES // 2, 2, N_ROWS, N_COLUMNS).mean(axis=1)
    g = stack.geometry
    thick = Geometry(g.origin_mm + g.normal_mm / 2, 2 * g.normal_mm, g.down_mm, g.right_mm)
    return Stack(
        hu, thick, "Abdomen arterial 12 mm soft", ("DERIVED", "SECONDARY", "AXIAL"), stack.acquired, 3
    )


def _localizer(stack: Stack) -> Stack:
    """A coronal projection of the stack: one image whose rows run from head to feet."""
    g = stack.geometry
    hu = stack.hu[::-1].mean(axis=1)[None]
    middle = g.to_lps(np.array([N_SLICES - 1, (N_ROWS - 1) / 2, 0]))
    towards = np.cross(g.right_mm, -g.normal_mm)
    normal = towards / np.linalg.norm(towards)
    coronal = Geometry(middle, normal, -g.normal_mm, g.right_mm)
    return Stack(hu, coronal, "Topogram", ("ORIGINAL", "PRIMARY", "LOCALIZER"), stack.acquired, 1)
