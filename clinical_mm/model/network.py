"""The fusion model: encoders, learned absent tokens, fusion and head, as a `transformers.PreTrainedModel`.

It is built from its configuration alone, with random weights; where weights come from stands in `building`, how it
learns in `clinical_mm.training`. Modality order is `config.modalities` everywhere. Legend: b patients, m modalities,
w windows, l tokens, e width of a word embedding, s series, c channels, g genomic and k clinical features, o outputs.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from clinical_mm.model.config import FusionConfig
from clinical_mm.model.fusion import build_fusion, hide_modalities
from clinical_mm.model.heads import task_loss
from clinical_mm.model.image import ImageEncoder
from clinical_mm.model.tabular import TabularEncoder
from clinical_mm.model.text import TextEncoder

_MASKS = {
    "text": "text_window_mask",
    "image": "image_mask",
    "genomics": "genomics_observed",
    "clinical": "clinical_observed",
}
_INPUTS = {
    *("text_input_ids", "text_attention_mask", "text_window_mask", "text_embeddings", "image", "image_mask"),
    *("genomics", "genomics_observed", "clinical", "clinical_observed"),
}


@dataclass
class FusionOutput(ModelOutput):
    """What the model gives.

    Attributes:
        loss: scalar, where labels were given.
        logits: [b, o]: log odds [b, 1], one logit a class [b, classes], or the log hazard ratio [b, 1].
    """

    loss: Tensor | None = None
    logits: Tensor | None = None


class FusionModel(PreTrainedModel):  # type: ignore[no-untyped-call]
    """One patient's notes, images and tables to one prediction; any modality may be absent."""

    config_class = FusionConfig
    base_model_prefix = ""
    main_input_name = "present"
    _supports_sdpa = True

    def __init__(self, config: FusionConfig) -> None:
        super().__init__(config)
        hidden = config.hidden
        encoders: dict[str, nn.Module] = {}
        if config.text is not None:
            encoders["text"] = TextEncoder(**config.text, hidden=hidden)
        if config.image is not None:
            encoders["image"] = ImageEncoder(**config.image, hidden=hidden)
        for name in ("genomics", "clinical"):
            table = getattr(config, name)
            if table is not None:
                encoders[name] = TabularEncoder(
                    table["n_features"], table["hidden"], table["dropout"], table["feature_dropout"], hidden
                )
        self.encoders = nn.ModuleDict(encoders)
        self.absent = nn.Parameter(torch.randn(len(config.modalities), hidden) * 0.02)
        self.fusion = build_fusion(
            config.fusion,
            len(config.modalities),
            hidden,
            config.dropout,
            layers=config.layers,
            heads=config.heads,
        )
        self.head = nn.Sequential(
            nn.LayerNorm(hidden), nn.Dropout(config.dropout), nn.Linear(hidden, config.n_outputs)
        )
        self.post_init()  # type: ignore[no-untyped-call]

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As transformers gives it; but there every parameter that was read from a file would learn."""
        found = super().from_pretrained(*args, **kwargs)
        model = found[0] if isinstance(found, tuple) else found
        for encoder in model.encoders.values():
            if isinstance(encoder, TextEncoder):
                encoder.freeze()
        return found

    def _init_weights(self, module: nn.Module) -> None:
        """Keep what each part was built with: transformers' common rule would flatten a convolution's start.

        The text encoder is a pretrained model of its own, and initialises itself by its own rule.
        """

    def floating_point_ops(self, input_dict: dict[str, Tensor], exclude_embeddings: bool = True) -> int:
        """0: transformers' estimate counts tokens, and an image has none."""
        return 0

    def forward(
        self,
        *,
        text_input_ids: Tensor | None = None,
        text_attention_mask: Tensor | None = None,
        text_window_mask: Tensor | None = None,
        text_embeddings: Tensor | None = None,
        image: Tensor | None = None,
        image_mask: Tensor | None = None,
        genomics: Tensor | None = None,
        genomics_observed: Tensor | None = None,
        clinical: Tensor | None = None,
        clinical_observed: Tensor | None = None,
        present: Tensor | None = None,
        labels: Tensor | None = None,
        patient_index: Tensor | None = None,
    ) -> FusionOutput:
        """Predict, and compute the loss where labels are given. In training present modalities are hidden by chance.

        Args:
            text_input_ids: [b, w, l].
            text_attention_mask: [b, w, l].
            text_window_mask: [b, w] bool.
            text_embeddings: [b, w, l, e] of `embed_text`, in place of the ids.
            image: [b, s, c, *size].
            image_mask: [b, s] bool.
            genomics: [b, g].
            genomics_observed: [b, g] bool.
            clinical: [b, k].
            clinical_observed: [b, k] bool.
            present: [b, m] bool; False hides a modality. Default: whatever the masks show.
            labels: as `task_loss` takes them.
            patient_index: not read: it lets a caller find the patients of a batch again.
        """
        inputs = {
            "text_input_ids": text_input_ids,
            "text_attention_mask": text_attention_mask,
            "text_window_mask": text_window_mask,
            "text_embeddings": text_embeddings,
            "image": image,
            "image_mask": image_mask,
            "genomics": genomics,
            "genomics_observed": genomics_observed,
            "clinical": clinical,
            "clinical_observed": clinical_observed,
        }
        visible = self._present(inputs) if present is None else present.bool()
        if self.training and self.config.modality_dropout > 0:
            visible = hide_modalities(visible, self.config.modality_dropout)
        logits = self.fuse(self.encode(**inputs, present=visible), visible)
        return FusionOutput(loss=None if labels is None else self.loss(logits, labels), logits=logits)

    def encode(self, *, present: Tensor | None = None, **inputs: Tensor | None) -> Tensor:
        """Tokens [b, m, hidden] of the present modalities, zeros elsewhere; arguments as in `forward`.

        Only present modalities of real windows and series are computed. `fuse` puts the learned tokens in.

        Raises:
            TypeError: an argument that `forward` does not have.
        """
        unknown = sorted(set(inputs) - _INPUTS - {"labels", "patient_index"})
        if unknown:
            raise TypeError(f"encode takes no {', '.join(unknown)}")
        visible = self._present(inputs) if present is None else present.bool()
        tokens = []
        for place, name in enumerate(self.config.modalities):
            rows = visible[:, place].nonzero()[:, 0]
            token = self.absent.new_zeros(len(visible), self.config.hidden)
            if len(rows):
                token = token.index_copy(0, rows, self._encode_rows(name, inputs, rows).to(token.dtype))
            tokens.append(token)
        return torch.stack(tokens, dim=1)

    def fuse(self, tokens: Tensor, present: Tensor) -> Tensor:
        """Logits [b, o] of tokens [b, m, hidden]; a modality that `present` [b, m] denies is its learned token."""
        seen = torch.where(present.bool()[..., None], tokens, self.absent.to(tokens.dtype))
        logits: Tensor = self.head(self.fusion(seen))
        return logits.float()

    def embed_text(self, text_input_ids: Tensor) -> Tensor:
        """Word embeddings [b, w, l, e] of token ids [b, w, l], as `forward` takes them."""
        encoder = self.encoders["text"]
        assert isinstance(encoder, TextEncoder)
        return encoder.embed(text_input_ids)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of a set of patients; see `task_loss`."""
        weights = self.config.class_weights
        return task_loss(
            self.config.outcome,
            logits,
            labels,
            torch.tensor(weights, device=logits.device) if weights else None,
        )

    def _encode_rows(self, name: str, inputs: dict[str, Tensor | None], rows: Tensor) -> Tensor:
        def chosen(key: str) -> Tensor:
            value = inputs.get(key)
            if value is None:
                raise ValueError(f"{name} is present, and {key} is not given")
            # The usual case in inference copies nothing: everyone has the modality.
            return value if len(rows) == len(value) else value[rows]

        if name == "text":
            embeddings = None if inputs.get("text_embeddings") is None else chosen("text_embeddings")
            ids = None if embeddings is not None else chosen("text_input_ids")
            masks = chosen("text_attention_mask"), chosen("text_window_mask").bool()
            encoded: Tensor = self.encoders["text"](ids, *masks, embeddings)
        elif name == "image":
            encoded = self.encoders["image"](chosen("image"), chosen("image_mask").bool())
        else:
            encoded = self.encoders[name](chosen(name), chosen(f"{name}_observed").bool())
        return encoded

    def _present(self, inputs: dict[str, Tensor | None]) -> Tensor:
        masks = [inputs.get(_MASKS[name]) for name in self.config.modalities]
        given = [m for m in masks if m is not None]
        if not given:
            raise ValueError("no modality is given: pass one with its mask")
        shown = [
            given[0].new_zeros(len(given[0]), dtype=torch.bool) if m is None else m.bool().any(dim=1)
            for m in masks
        ]
        return torch.stack(shown, dim=1)
