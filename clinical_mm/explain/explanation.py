"""The explanation of one prediction for one patient: everything that a page shows, and nothing computed twice."""

from dataclasses import dataclass
from typing import Literal, TypeVar

from clinical_mm.explain.attribution import Completeness
from clinical_mm.explain.covariates import FeatureContribution
from clinical_mm.explain.grids import ImageAttribution, ImagePeak
from clinical_mm.explain.words import Word

_Contribution = TypeVar("_Contribution", Word, FeatureContribution)

Sign = Literal["any", "for", "against"]
"""Which contributions: of either sign, those that raise the output, or those that lower it."""


@dataclass(frozen=True)
class ModalityContribution:
    """What one modality contributed.

    Attributes:
        modality: its name.
        is_present: whether the patient has it; an absent one contributes nothing.
        integrated_gradients: sum of its attributions: against a neutral note, air, or the mean patient.
        shapley: against not knowing the modality at all.
    """

    modality: str
    is_present: bool
    integrated_gradients: float
    shapley: float


@dataclass(frozen=True)
class Explanation:
    """Why the model said what it said about a patient, on one additive scale over all modalities.

    Attributes:
        patient_id: the patient.
        fold: of the member that was asked: one that was not trained on the patient.
        target: the output that is explained: 0, or the class's place.
        target_name: what that output says, for a reader.
        logits: all outputs at x.
        completeness: how exactly the attributions sum to f(x) − f(x').
        contributions: of every declared modality, in order.
        words: of the notes, in reading order.
        features: genomic and clinical, in the model's order.
        images: of every image that was read.
        text_remainder: attribution of the text that fell on no word.
    """

    patient_id: str
    fold: int
    target: int
    target_name: str
    logits: tuple[float, ...]
    completeness: Completeness
    contributions: tuple[ModalityContribution, ...]
    words: tuple[Word, ...]
    features: tuple[FeatureContribution, ...]
    images: tuple[ImageAttribution, ...]
    text_remainder: float

    @property
    def present(self) -> tuple[str, ...]:
        """Names of the modalities that the patient has."""
        return tuple(c.modality for c in self.contributions if c.is_present)

    def top_words(self, k: int, sign: Sign = "any") -> tuple[Word, ...]:
        """The k words that contributed most, largest first; a word that stands twice is there twice."""
        return _top(self.words, k, sign)

    def top_features(self, modality: str, k: int, sign: Sign = "any") -> tuple[FeatureContribution, ...]:
        """The k features of `genomics` or `clinical` that contributed most, largest first."""
        return _top(tuple(f for f in self.features if f.modality == modality), k, sign)

    def image_peak(
        self, smoothing_mm: float | None = None, smoothing_voxels: float = 1.0
    ) -> ImagePeak | None:
        """Where the images contributed most, in voxels and LPS mm; None without an image."""
        peaks = [image.peak(smoothing_mm, smoothing_voxels) for image in self.images]
        return max(peaks, key=lambda peak: peak.value) if peaks else None


def _top(found: tuple[_Contribution, ...], k: int, sign: Sign) -> tuple[_Contribution, ...]:
    factor = {"any": 0, "for": 1, "against": -1}[sign]
    kept = [c for c in found if not factor or c.attribution * factor > 0]
    return tuple(sorted(kept, key=lambda c: -abs(c.attribution))[:k])
