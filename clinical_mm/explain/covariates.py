"""The attributions of tabular features, with the patient's own value and its direction.

The one-hot levels of a category are one feature to a reader: their attributions add up under the variable's name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class FeatureContribution:
    """A gene, or a covariate, and what it contributed.

    Attributes:
        modality: genomics or clinical.
        feature: its name.
        value: the patient's own number, or None where it is missing or a category.
        level: the patient's own category, or None.
        deviation: training standard deviations from the training mean; None where missing or a category.
        attribution: in units of the explained output.
    """

    modality: str
    feature: str
    value: float | None
    level: str | None
    deviation: float | None
    attribution: float

    @property
    def is_observed(self) -> bool:
        """Whether the patient has a value."""
        return self.value is not None or self.level is not None


def feature_contributions(
    modality: str,
    *,
    names: Sequence[str],
    values: Mapping[str, float],
    standardised: npt.NDArray[np.float32],
    observed: npt.NDArray[np.bool_],
    attributions: npt.NDArray[np.float64],
    categories: frozenset[str] = frozenset(),
) -> tuple[FeatureContribution, ...]:
    """Features in the model's order, the levels of a category taken together.

    Args:
        modality: genomics or clinical.
        names: [k] the model's features; a level of a category is "variable=level".
        values: the patient's own values by feature, in their own units; also of levels that the model dropped.
        standardised: [k] as the model read them.
        observed: [k] whether each was measured.
        attributions: [k]
        categories: the features that are levels of a category.
    """
    found: dict[str, FeatureContribution] = {}
    for i, name in enumerate(names):
        attribution = float(attributions[i])
        if name in categories:
            variable = name.partition("=")[0]
            before = found[variable].attribution if variable in found else 0.0
            own = _own_level(variable, values)
            found[variable] = FeatureContribution(modality, variable, None, own, None, before + attribution)
            continue
        is_observed = bool(observed[i])
        found[name] = FeatureContribution(
            modality,
            name,
            float(values[name]) if is_observed else None,
            None,
            float(standardised[i]) if is_observed else None,
            attribution,
        )
    return tuple(found.values())


def _own_level(variable: str, values: Mapping[str, float]) -> str | None:
    """The level whose indicator is 1.

    >>> _own_level("sex", {"sex=female": 0.0, "sex=male": 1.0})
    'male'
    """
    for name, value in values.items():
        if name.startswith(f"{variable}=") and value == 1:
            return name.partition("=")[2]
    return None
