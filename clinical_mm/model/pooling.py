"""From a set of any number of vectors to one: their mean weighted by gated attention, or their maximum.

The mean gathers what is spread over a set, the maximum finds what one member alone says. Which vectors form a set
(tokens of a window, windows of a patient, series of a patient) is for who calls it.
"""

import torch
from torch import Tensor, nn


class GatedAttentionPool(nn.Module):
    """A weighted mean whose weights come from the vectors themselves; it does not depend on their order.

    Ilse et al., ICML 2018, equation 9.
    """

    def __init__(self, width: int, attention_width: int = 64) -> None:
        super().__init__()
        self.content = nn.Linear(width, attention_width)
        self.gate = nn.Linear(width, attention_width)
        self.score = nn.Linear(attention_width, 1)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Pool a set.

        Args:
            values: [b, n, width].
            mask: [b, n] bool; what is False has no weight. A row without any True gives zeros.

        Returns:
            [b, width].
        """
        scores = self.score(torch.tanh(self.content(values)) * torch.sigmoid(self.gate(values)))[..., 0]
        # A finite lowest value, not -inf: an empty row would give nan, and nan times zero stays nan in its gradient.
        scores = scores.float().masked_fill(~mask, torch.finfo(torch.float32).min)
        weights = torch.softmax(scores, dim=1) * mask
        return torch.einsum("bn,bnw->bw", weights.to(values.dtype), values)


def masked_maximum(values: Tensor, mask: Tensor) -> Tensor:
    """The largest value of every unit.

    Args:
        values: [b, n, width].
        mask: [b, n] bool; what is False is not looked at. A row without any True gives zeros.

    Returns:
        [b, width].
    """
    lowest = torch.finfo(values.dtype).min
    largest = values.masked_fill(~mask[..., None], lowest).amax(dim=1)
    return torch.where(mask.any(dim=1, keepdim=True), largest, torch.zeros_like(largest))
