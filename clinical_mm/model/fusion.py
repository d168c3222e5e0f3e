"""How modality tokens come together: [b, m, hidden] in, [b, hidden] out.

Every fusion reads all m places: an absent modality is there as its learned token, so that each subset of modalities is
a valid input and absence itself can say something. What makes the tokens stands in `network`.
"""

import torch
from torch import Tensor, nn


class ConcatFusion(nn.Module):
    """All tokens beside each other, through a perceptron."""

    def __init__(self, n_modalities: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_modalities * hidden, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """[b, m, hidden] to [b, hidden]."""
        fused: Tensor = self.layers(tokens.flatten(1))
        return fused


class GatedFusion(nn.Module):
    """A sum of the transformed tokens, each let through, unit by unit, by a gate that sees all of them.

    After the gated multimodal unit (Arevalo et al., 2017), with a sigmoid for each modality in place of a share
    among them: evidence of several modalities adds up.
    """

    def __init__(self, n_modalities: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(
            nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Dropout(dropout))
            for _ in range(n_modalities)
        )
        self.gates = nn.Linear(n_modalities * hidden, n_modalities * hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        """[b, m, hidden] to [b, hidden]."""
        gates = torch.sigmoid(self.gates(tokens.flatten(1))).view_as(tokens)
        content = torch.stack([transform(tokens[:, i]) for i, transform in enumerate(self.transforms)], dim=1)
        return (gates * content).sum(dim=1)


class CrossAttentionFusion(nn.Module):
    """A small pre-norm transformer over the tokens and one more that gathers what they say."""

    def __init__(self, n_modalities: int, hidden: int, dropout: float, layers: int, heads: int) -> None:
        super().__init__()
        self.gather = nn.Parameter(torch.randn(hidden) * 0.02)
        self.place = nn.Parameter(torch.randn(n_modalities, hidden) * 0.02)
        self.blocks = nn.ModuleList(_Block(hidden, dropout, heads) for _ in range(layers))

    def forward(self, tokens: Tensor) -> Tensor:
        """[b, m, hidden] to [b, hidden]."""
        gather = self.gather.to(tokens.dtype).expand(len(tokens), 1, -1)
        states = torch.cat([gather, tokens + self.place], dim=1)
        for block in self.blocks:
            states = block(states)
        return states[:, 0]


class _Block(nn.Module):
    def __init__(self, hidden: int, dropout: float, heads: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(hidden)
        self.attention = nn.MultiheadAttention(hidden, heads, dropout=dropout, batch_first=True)
        self.norm_layers = nn.LayerNorm(hidden)
        self.layers = nn.Sequential(
            nn.Linear(hidden, 2 * hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * hidden, hidden)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        normed = self.norm_attention(states)
        attended, _ = self.attention(normed, normed, normed, need_weights=False)
        states = states + self.dropout(attended)
        return states + self.dropout(self.layers(self.norm_layers(states)))


def build_fusion(
    kind: str, n_modalities: int, hidden: int, dropout: float, *, layers: int, heads: int
) -> ConcatFusion | GatedFusion | CrossAttentionFusion:
    """The fusion that a study names: concat, gated or cross_attention."""
    if kind == "concat":
        return ConcatFusion(n_modalities, hidden, dropout)
    if kind == "gated":
        return GatedFusion(n_modalities, hidden, dropout)
    if kind == "cross_attention":
        return CrossAttentionFusion(n_modalities, hidden, dropout, layers, heads)
    raise ValueError(f"no fusion {kind!r}: concat, gated or cross_attention")


def hide_modalities(present: Tensor, chance: float) -> Tensor:
    """Modality dropout: which of the present modalities [b, m] are left to see.

    Each is hidden with the given chance; where all would be, one of them, drawn evenly, stays.
    """
    drawn = torch.rand(present.shape, device=present.device)
    kept = present & (drawn >= chance)
    # Where nothing is kept, the present one with the largest draw is: its draw does not depend on which it is.
    last = torch.where(present, drawn, -torch.ones_like(drawn)).argmax(dim=1, keepdim=True)
    rescued = torch.zeros_like(present).scatter(1, last, True) & present
    return torch.where(kept.any(dim=1, keepdim=True), kept, rescued)
