"""The text encoder: windows of token ids in, one token a patient out.

Any encoder that `AutoModel` builds and that takes `inputs_embeds`. Its weights come from elsewhere (`building`): here
it is only built from its configuration, so that a saved model opens without a hub. How notes become windows is the
features' matter.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from clinical_mm.errors import EncoderError
from clinical_mm.model.pooling import GatedAttentionPool, masked_maximum

StatesOf = Callable[[Tensor, Tensor], Tensor]
"""Last hidden states [n, l, width] of token ids [n, l] and lengths [n]."""


class TextEncoder(nn.Module):
    """A Hugging Face encoder; tokens of a window, then windows of a patient, pooled to one vector.

    Pooled twice over: by gated attention, which gathers what is spread over the notes, and by the maximum of learned
    detectors over all tokens, which finds what is said once. From few patients the attention alone hardly learns
    which of some hundred words to look at.

    Attributes:
        states_of: what gives a frozen encoder's states in place of running it, where one was attached
            (`frozen_states`). It belongs to this object: copies and pickles do not have it.
    """

    def __init__(self, encoder: Mapping[str, Any], fine_tune: str, last_k: int, hidden: int) -> None:
        super().__init__()
        self.encoder = build_encoder(encoder_config(encoder))
        width = self.encoder.config.hidden_size
        self.over_tokens = GatedAttentionPool(width)
        self.over_windows = GatedAttentionPool(width)
        self.detectors = nn.Sequential(nn.Linear(width, hidden), nn.GELU())
        self.project = nn.Sequential(nn.Linear(width + hidden, hidden), nn.LayerNorm(hidden))
        self.is_frozen = fine_tune == "frozen"
        self._last_k = last_k if fine_tune == "last_k" else None
        self.freeze()
        self.states_of: StatesOf | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "states_of": None}  # type: ignore[no-untyped-call]

    def train(self, mode: bool = True) -> "TextEncoder":
        """As `nn.Module.train`; a frozen encoder stays without dropout, since nothing in it learns."""
        super().train(mode)
        if self.is_frozen:
            self.encoder.eval()  # type: ignore[no-untyped-call]
        return self

    def freeze(self) -> None:
        """Say which of the encoder's parameters learn."""
        if self.is_frozen:
            self.encoder.requires_grad_(False)
        elif self._last_k is not None:
            keep_last_layers(self.encoder, self._last_k)

    def embed(self, input_ids: Tensor) -> Tensor:
        """Word embeddings [..., l, e] of token ids [..., l]: what attribution starts from."""
        embeddings: Tensor = self.encoder.get_input_embeddings()(input_ids)
        return embeddings

    def forward(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor,
        window_mask: Tensor,
        embeddings: Tensor | None = None,
    ) -> Tensor:
        """One vector a patient.

        Args:
            input_ids: [b, w, l]; not needed where embeddings are given.
            attention_mask: [b, w, l], 1 for tokens, 0 for padding on the right.
            window_mask: [b, w] bool; each patient has one window at least.
            embeddings: word embeddings [b, w, l, e] in place of `input_ids`.

        Returns:
            [b, hidden].
        """
        attended = attention_mask[window_mask]
        lengths = attended.sum(dim=1)
        length = int(lengths.amax())
        attended = attended[:, :length]
        ids = None if input_ids is None else input_ids[window_mask][:, :length]
        if embeddings is not None:
            states = self._encode(embeddings[window_mask][:, :length], attended)
        elif ids is None:
            raise ValueError("text needs input_ids or embeddings")
        elif not self.is_frozen:
            states = self._encode(self.embed(ids), attended)
        elif self.states_of is not None:
            states = self.states_of(ids, lengths)
        else:
            with torch.no_grad():
                states = self._encode(self.embed(ids), attended)
        is_token = attended.bool()
        gathered = self.over_windows(_placed(self.over_tokens(states, is_token), window_mask), window_mask)
        detected = masked_maximum(self.detectors(states), is_token)
        found = masked_maximum(_placed(detected, window_mask), window_mask)
        pooled: Tensor = self.project(torch.cat([gathered, found], dim=-1))
        return pooled

    def _encode(self, embedded: Tensor, attended: Tensor) -> Tensor:
        states: Tensor = self.encoder(inputs_embeds=embedded, attention_mask=attended).last_hidden_state
        return states


def _placed(of_windows: Tensor, window_mask: Tensor) -> Tensor:
    """Vectors [n, width] of the real windows at their places [b, w, width]."""
    placed = of_windows.new_zeros(*window_mask.shape, of_windows.shape[-1])
    placed[window_mask] = of_windows
    return placed


def encoder_config(values: Mapping[str, Any]) -> PreTrainedConfig:
    """The configuration that a dictionary with a `model_type` describes.

    Raises:
        EncoderError: transformers does not know the type.
    """
    rest = dict(values)
    model_type = rest.pop("model_type", None)
    try:
        return AutoConfig.for_model(model_type, **rest)
    except ValueError:
        raise EncoderError(
            f"the text encoder is of type {model_type!r}, which transformers does not know: choose another"
        ) from None


def build_encoder(config: PreTrainedConfig) -> PreTrainedModel:
    """An encoder of a configuration with random weights, without a pooler: its last layer's states are what is used.

    Raises:
        EncoderError: the configuration is not that of an encoder.
    """
    encoder: PreTrainedModel = AutoModel.from_config(  # type: ignore[no-untyped-call]
        config, attn_implementation=attention_of(config), **pooler_arguments(config)
    )
    if config.is_encoder_decoder or "inputs_embeds" not in inspect.signature(encoder.forward).parameters:
        raise EncoderError(
            f"the text encoder ({config.model_type}) does not take inputs_embeds as an encoder does, and could not be "
            "explained: choose a BERT-like encoder"
        )
    return encoder


def encoder_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The class that `AutoModel` builds for a configuration.

    Raises:
        EncoderError: there is none.
    """
    found = MODEL_MAPPING.get(type(config), None)
    chosen: type[PreTrainedModel] | None = found[0] if isinstance(found, tuple) else found
    if chosen is None:
        raise EncoderError(
            f"the text encoder ({config.model_type}) has no model in transformers: choose another"
        )
    return chosen


def pooler_arguments(config: PreTrainedConfig) -> dict[str, bool]:
    """`add_pooling_layer=False` where the class knows it: a pooler nobody reads would stay without gradients."""
    parameters = inspect.signature(encoder_class(config).__init__).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in parameters else {}


def attention_of(config: PreTrainedConfig) -> str:
    """`sdpa` where the class supports it."""
    return "sdpa" if getattr(encoder_class(config), "_supports_sdpa", False) else "eager"


def keep_last_layers(encoder: PreTrainedModel, last_k: int) -> None:
    """Freeze an encoder but for its last layers.

    Raises:
        EncoderError: its layers are not found, or are fewer.
    """
    n_layers = int(encoder.config.num_hidden_layers)
    stacks = [m for m in encoder.modules() if isinstance(m, nn.ModuleList) and len(m) == n_layers]
    if not stacks:
        raise EncoderError(
            f"the layers of the text encoder ({encoder.config.model_type}) are not found: use fine_tune: full or frozen"
        )
    if last_k > n_layers:
        raise EncoderError(f"last_k is {last_k}, and the text encoder has {n_layers} layers: lower it")
    encoder.requires_grad_(False)
    for layer in stacks[0][-last_k:]:
        layer.requires_grad_(True)
