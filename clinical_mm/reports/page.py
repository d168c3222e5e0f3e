"""What a patient's page shows, as plain values: the contract between what is known and the template.

All text is data: the template escapes it. Nothing is computed here.
"""

from dataclasses import dataclass

from clinical_mm.reports.shading import Segment


@dataclass(frozen=True)
class Fact:
    """A label and its value."""

    label: str
    value: str


@dataclass(frozen=True)
class ClassChance:
    """One class of a multiclass answer."""

    name: str
    probability: float
    is_explained: bool


@dataclass(frozen=True)
class Answer:
    """The answer to the task's question.

    Attributes:
        headline: the figure, or the class.
        caption: what the figure is.
        sentence: the answer in words, with its interval.
        probability: of 1, for the scale; None where the answer has none.
        lower: end of its interval, or None.
        upper: end of its interval, or None.
        typical: the same of the average held-out patient, or None.
        classes: of a multiclass answer.
        is_calibrated: whether the probability was recalibrated on validation patients.
    """

    headline: str
    caption: str
    sentence: str
    probability: float | None = None
    lower: float | None = None
    upper: float | None = None
    typical: float | None = None
    classes: tuple[ClassChance, ...] = ()
    is_calibrated: bool = True


@dataclass(frozen=True)
class ModalityRow:
    """A modality's contribution; `remark` says what was read, or why nothing was."""

    name: str
    is_present: bool
    remark: str
    integrated_gradients: float
    shapley: float


@dataclass(frozen=True)
class WordRow:
    """A word as written, over all its places in the notes."""

    text: str
    n: int
    attribution: float


@dataclass(frozen=True)
class NoteSection:
    """A note with its words shaded."""

    title: str
    source: str
    time: str
    attribution: float
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class SlicePicture:
    """A slice; pictures are `data:` URIs."""

    label: str
    alt: str
    picture: str
    overlay: str
    width: int
    height: int


@dataclass(frozen=True)
class SeriesSection:
    """A series with the slices that its attribution lies in."""

    title: str
    facts: tuple[Fact, ...]
    attribution: float
    slices: tuple[SlicePicture, ...]


@dataclass(frozen=True)
class FeatureRow:
    """A gene or covariate: its own value, where that lies among the training patients, and what it did."""

    name: str
    value: str
    direction: str
    attribution: float


@dataclass(frozen=True)
class FeatureSection:
    """The features of a modality that contributed most, and what all others did together."""

    rows: tuple[FeatureRow, ...]
    n_others: int
    others: float
    n_missing: int


@dataclass(frozen=True)
class ItemRow:
    """A record behind the page, as its source knows it."""

    modality: str
    kind: str
    source: str
    delivery: str
    time: str
    identifier: str


@dataclass(frozen=True)
class PatientPage:
    """All of a patient's page."""

    pseudonym: str
    study: str
    task: str
    question: str
    index_time: str
    intended_use: str
    unit: str
    answer: Answer
    baseline_line: str
    warnings: tuple[str, ...]
    modalities: tuple[ModalityRow, ...]
    words: tuple[WordRow, ...]
    notes: tuple[NoteSection, ...]
    series: tuple[SeriesSection, ...]
    genomics: FeatureSection | None
    clinical: FeatureSection | None
    left_out: tuple[Fact, ...]
    trust: tuple[Fact, ...]
    items: tuple[ItemRow, ...]
    n_more_items: int
    provenance: tuple[Fact, ...]
