"""The image part of a patient's page: each series with the slices that its attribution lies in."""

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from clinical_mm.explain.grids import ImageAttribution
from clinical_mm.reports.page import Fact, SeriesSection, SlicePicture
from clinical_mm.reports.rendering import data_uri
from clinical_mm.reports.slices import OverlaidSlice, Window, overlaid_slices, percentile_window, strongest_of
from clinical_mm.reports.wording import counted, number, percent, time
from clinical_mm.study.tasks import ImageModality

AT_MOST_SLICES = 12
"""Slices on a page, over all series."""

_MAX_BYTES = 3_300_000  # of all pictures; as base64 they are a third larger, and a page stays under 5 MB
_SIZES = (384, 288, 208, 144)  # longer side in pixels, smaller where the pictures of a page are too large


@dataclass(frozen=True)
class SeriesInfo:
    """What a page says of a series: the columns of `tables.SERIES` that it needs, blanks for nulls."""

    item: tuple[str, str]  # source and item_id
    modality: str
    description: str
    body_part: str
    unit: str
    available: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    window: Window | None
    is_inverted: bool
    volume: str

    @classmethod
    def of(cls, row: Mapping[Hashable, Any]) -> "SeriesInfo":
        """From a row of `tables.SERIES`."""
        center, width = row["window_center"], row["window_width"]
        has_window = not (pd.isna(center) or pd.isna(width)) and width > 0
        return cls(
            item=(row["source"], f"{row['series_instance_uid']}#{row['stack']}"),
            modality=_text(row["modality"]),
            description=_text(row["description"]),
            body_part=_text(row["body_part"]),
            unit=_text(row["unit"]),
            available="any time" if pd.isna(row["available_time"]) else time(row["available_time"]),
            shape=tuple(int(n) for n in row["shape"]),
            spacing_mm=tuple(float(v) for v in row["spacing_mm"]),
            window=Window(center - width / 2, center + width / 2) if has_window else None,
            is_inverted=bool(row["is_inverted"]),
            volume=str(row["volume"]),
        )

    @property
    def title(self) -> str:
        """Modality and description."""
        return " · ".join(filter(None, [self.modality, self.description])) or "Series"

    @property
    def pixel_mm(self) -> tuple[float, float]:
        """Spacing of rows and columns; (1, 1) where the header has none."""
        row, column = self.spacing_mm[1:] if len(self.spacing_mm) == 3 else (1.0, 1.0)
        return (row, column) if row > 0 and column > 0 else (1.0, 1.0)

    @property
    def kind(self) -> str:
        """In a few words for a list."""
        return f"{self.title} · {counted(self.shape[0], 'slice')}"


def series_sections(
    images: Sequence[ImageAttribution], infos: Sequence[SeriesInfo], store: Path, settings: ImageModality
) -> tuple[SeriesSection, ...]:
    """Sections of a patient's series, in the order in which they were read.

    Args:
        images: the attributions.
        infos: of the series of each of the images.
        store: root of the store, below which the volumes lie.
        settings: of the images; may name a window.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for place, image in enumerate(images):
        groups.setdefault((image.source, image.item_id), []).append(place)
    strongest = strongest_of(images)
    at_most = max(AT_MOST_SLICES // max(len(groups), 1), 1)
    sections: tuple[SeriesSection, ...] = ()
    for max_pixels in _SIZES:
        sections, n_bytes = (), 0
        for places in groups.values():
            info, of_series = infos[places[0]], [images[i] for i in places]
            volume = np.load(store / info.volume, mmap_mode="r", allow_pickle=False)
            window = shown_window(volume, info, settings)
            slices = _draw(
                volume,
                images=of_series,
                info=info,
                window=window,
                at_most=at_most,
                strongest=strongest,
                max_pixels=max_pixels,
            )
            n_bytes += sum(len(s.picture) + len(s.overlay) for s in slices)
            sections += (_section(of_series, info, window, slices),)
        if n_bytes <= _MAX_BYTES:
            break
    return sections


def shown_window(volume: npt.NDArray, info: SeriesInfo, settings: ImageModality) -> Window:
    """The study's own window, else that of the series' header, which is how a radiologist sees it, else percentiles."""
    if settings.window_hu is not None:
        return Window(*settings.window_hu)
    return info.window or percentile_window(volume)


def _draw(
    volume: npt.NDArray,
    *,
    images: Sequence[ImageAttribution],
    info: SeriesInfo,
    window: Window,
    at_most: int,
    strongest: float,
    max_pixels: int,
) -> list[OverlaidSlice]:
    slices = [
        drawn
        for image in images
        for drawn in overlaid_slices(
            volume,
            image,
            window,
            spacing_mm=info.pixel_mm,
            is_inverted=info.is_inverted,
            at_most=max(at_most // len(images), 1),
            strongest=strongest,
            max_pixels=max_pixels,
        )
    ]
    return sorted(slices, key=lambda s: s.index)[:at_most]


def _section(
    images: Sequence[ImageAttribution], info: SeriesInfo, window: Window, slices: Sequence[OverlaidSlice]
) -> SeriesSection:
    n_slices, rows, columns = info.shape[:3]
    spacing = " × ".join(number(v, 3) for v in info.spacing_mm)
    facts = [
        Fact("Slices", f"{n_slices} of {rows} × {columns}"),
        Fact("Spacing", f"{spacing} mm" if spacing else "not in the header"),
        Fact("Window", f"{number(window.low)} to {number(window.high)} {info.unit}".strip()),
        Fact("Body part", info.body_part or "not named"),
        Fact("Available", info.available),
    ]
    peak = max((image.peak() for image in images), key=lambda p: p.value)
    if peak.position_mm is not None:
        x, y, z = (number(round(v, 1), 6) for v in peak.position_mm)
        facts.append(Fact("Strongest at", f"({x}, {y}, {z}) mm, patient LPS"))
    return SeriesSection(
        title=info.title,
        facts=tuple(facts),
        attribution=sum(image.total for image in images),
        slices=tuple(_picture(s, n_slices, info.title) for s in slices),
    )


def _picture(drawn: OverlaidSlice, n_slices: int, title: str) -> SlicePicture:
    place = f"slice {drawn.index + 1} of {n_slices}"
    share = f"{percent(drawn.share)} of the series' attribution"
    return SlicePicture(
        label=f"{place.capitalize()}: {share}",
        alt=f"{title}, {place}, with {share}",
        picture=data_uri(drawn.picture),
        overlay=data_uri(drawn.overlay),
        width=drawn.width,
        height=drawn.height,
    )


def _text(value: object) -> str:
    """A header's text on one line, or nothing."""
    return re.sub(r"\s+", " ", value).strip() if isinstance(value, str) else ""
