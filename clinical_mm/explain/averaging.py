"""The explanation of a mean over the members of an ensemble: the mean of their explanations.

Integrated Gradients and Shapley values are linear in the output, so the mean of the members' attributions is exactly
that of their mean score, and as complete. Needed for patients whom no fold trained on and no fold tested.
"""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np

from clinical_mm.explain.attribution import Completeness, completeness_error
from clinical_mm.explain.covariates import FeatureContribution
from clinical_mm.explain.explanation import Explanation

ENSEMBLE = -1
"""The fold that stands for the mean of all members."""


def averaged(explanations: Sequence[Explanation]) -> Explanation:
    """One explanation of the members' mean output, of the same patient and target.

    A feature that a member does not read (it did not vary in its training patients) contributed nothing to it.
    """
    first, n = explanations[0], len(explanations)
    if n == 1:
        return first
    return replace(
        first,
        fold=ENSEMBLE,
        logits=tuple(fmean(values) for values in zip(*(e.logits for e in explanations), strict=True)),
        completeness=_completeness([e.completeness for e in explanations]),
        contributions=tuple(
            replace(
                same[0],
                integrated_gradients=fmean(c.integrated_gradients for c in same),
                shapley=fmean(c.shapley for c in same),
            )
            for same in zip(*(e.contributions for e in explanations), strict=True)
        ),
        words=tuple(
            replace(same[0], attribution=fmean(w.attribution for w in same))
            for same in zip(*(e.words for e in explanations), strict=True)
        ),
        features=_features([e.features for e in explanations]),
        images=tuple(
            replace(same[0], values=np.mean([i.values for i in same], axis=0, dtype=np.float32))
            for same in zip(*(e.images for e in explanations), strict=True)
        ),
        text_remainder=fmean(e.text_remainder for e in explanations),
    )


def _completeness(members: Sequence[Completeness]) -> Completeness:
    score = fmean(c.score for c in members)
    baseline_score = fmean(c.baseline_score for c in members)
    attributed = fmean(c.attributed for c in members)
    error = completeness_error(attributed, score, baseline_score)
    steps = max(c.steps for c in members)
    return Completeness(score, baseline_score, attributed, error, members[0].tolerance, steps)


def _features(members: Sequence[tuple[FeatureContribution, ...]]) -> tuple[FeatureContribution, ...]:
    found: dict[tuple[str, str], list[FeatureContribution]] = {}
    for features in members:
        for feature in features:
            found.setdefault((feature.modality, feature.feature), []).append(feature)
    return tuple(
        replace(
            same[0],
            attribution=sum(f.attribution for f in same) / len(members),
            deviation=None if same[0].deviation is None else fmean(f.deviation or 0.0 for f in same),
        )
        for same in found.values()
    )
