"""The encoder of standardised numbers: genomics and clinical covariates.

The statistics that standardise them, and which were measured, come from the features.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class TabularEncoder(nn.Module):
    """A multilayer perceptron with one learned value a feature for what was not measured.

    In training values are hidden by chance as if they had not been measured, so that none can be learned by heart and a
    missing cell is nothing new (Vincent et al., 2008).
    """

    def __init__(
        self, n_features: int, widths: Sequence[int], dropout: float, feature_dropout: float, hidden: int
    ) -> None:
        super().__init__()
        self.feature_dropout = feature_dropout
        # Zero is the training mean: a missing value begins there and moves where the outcome says that it should.
        self.missing = nn.Parameter(torch.zeros(n_features))
        layers: list[nn.Module] = []
        n_in = n_features
        for width in widths:
            layers += [nn.Linear(n_in, width), nn.GELU(), nn.Dropout(dropout)]
            n_in = width
        self.layers = nn.Sequential(*layers)
        self.project = nn.Sequential(nn.Linear(n_in, hidden), nn.LayerNorm(hidden))

    def forward(self, values: Tensor, observed: Tensor) -> Tensor:
        """One vector a patient.

        Args:
            values: [b, f], standardised.
            observed: [b, f] bool; where False the learned value stands in.

        Returns:
            [b, hidden].
        """
        if self.training and self.feature_dropout > 0:
            observed = observed & (torch.rand(values.shape, device=values.device) >= self.feature_dropout)
        encoded: Tensor = self.project(
            self.layers(torch.where(observed, values, self.missing.to(values.dtype)))
        )
        return encoded
