"""The configuration of a fusion model: all that is needed to build it again, without a hub and without the study.

Configurations of the parts are plain dictionaries, since they are written to `config.json`; what reads them stands in
`text`, `image`, `tabular`, `fusion` and `heads`. How a study's task becomes a configuration is for `building`.
"""

from typing import Any

from transformers import PreTrainedConfig

from clinical_mm.errors import ModelError
from clinical_mm.study.tasks import MODALITIES

OUTCOMES = ("binary", "multiclass", "survival")


class FusionConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """Configuration of `FusionModel`.

    Attributes:
        outcome: binary, multiclass or survival.
        n_outputs: logits a patient: 1, the number of classes, or 1.
        modalities: in the order of `MODALITIES`; tokens, presence and learned absent tokens follow it.
        text: `encoder` (the encoder's own configuration as a dictionary, with `model_type`), `fine_tune`, `last_k`.
        image: `network`, `arguments`, `spatial_dims`, `size`, `in_channels`.
        genomics: `n_features`, `hidden`, `dropout`, `feature_dropout`.
        clinical: as genomics.
        fusion: concat, gated or cross_attention.
        hidden: width of a modality's token.
        dropout: of the fusion and the head.
        modality_dropout: chance that a present modality is hidden in training.
        layers: cross_attention alone.
        heads: cross_attention alone.
        class_weights: weight of each class in the loss, or empty for equal ones.
    """

    model_type = "clinical_mm_fusion"

    outcome: str = "binary"
    n_outputs: int = 1
    modalities: list[str] | tuple[str, ...] = ()
    text: dict[str, Any] | None = None
    image: dict[str, Any] | None = None
    genomics: dict[str, Any] | None = None
    clinical: dict[str, Any] | None = None
    fusion: str = "gated"
    hidden: int = 128
    dropout: float = 0.1
    modality_dropout: float = 0.2
    layers: int = 2
    heads: int = 4
    class_weights: list[float] | tuple[float, ...] = ()

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]
        self.modalities = list(self.modalities)
        self.class_weights = list(self.class_weights)
        declared = [name for name in MODALITIES if getattr(self, name) is not None]
        if self.modalities != declared:
            raise ModelError(
                f"the model's configuration lists the modalities {self.modalities}, and describes {declared}"
            )
        if self.outcome not in OUTCOMES:
            raise ModelError(
                f"the model's configuration has the outcome {self.outcome!r}, none of {OUTCOMES}"
            )
