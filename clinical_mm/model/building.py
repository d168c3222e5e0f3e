"""From a study's task to a model at the start of training: its configuration, and the weights it begins with.

Pretrained weights are read here and nowhere else: a saved model holds its own. How it learns is for training.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModel, PreTrainedConfig

from clinical_mm.errors import EncoderError, ModelError
from clinical_mm.model.config import FusionConfig
from clinical_mm.model.image import ImageEncoder, check_network
from clinical_mm.model.network import FusionModel
from clinical_mm.model.text import TextEncoder, attention_of, encoder_class, pooler_arguments
from clinical_mm.model.weights import WeightsReport, load_network_weights
from clinical_mm.study.tasks import Outcome, Task

logger = logging.getLogger(__name__)


def fusion_config(
    task: Task,
    *,
    encoder: PreTrainedConfig | None = None,
    in_channels: int | None = None,
    n_genomics: int | None = None,
    n_clinical: int | None = None,
    class_weights: Sequence[float] = (),
) -> FusionConfig:
    """The configuration of a task's model.

    Args:
        task: of the study.
        encoder: the text encoder's configuration, where the task reads text.
        in_channels: channels of the images, where it reads images.
        n_genomics: genomic features that have statistics.
        n_clinical: clinical features that have statistics.
        class_weights: weight of each class in the loss; empty for equal ones.

    Raises:
        ModelError: a modality of the task has nothing to read.
    """
    read = task.modalities
    sizes = {"text": encoder, "image": in_channels, "genomics": n_genomics, "clinical": n_clinical}
    without = [name for name in read.names if not sizes[name]]
    if without:
        raise ModelError(
            f"the training patients have no usable feature of {', '.join(without)}: drop the modality from the "
            "task, or see what the features left out"
        )
    parts: dict[str, Any] = {}
    if read.text is not None and encoder is not None:
        parts["text"] = {
            "encoder": encoder.to_dict() | {"model_type": encoder.model_type},
            "fine_tune": read.text.fine_tune,
            "last_k": read.text.last_k,
        }
    if read.image is not None:
        parts["image"] = {
            "network": read.image.network,
            "arguments": read.image.arguments,
            "spatial_dims": read.image.spatial_dims,
            "size": list(read.image.size),
            "in_channels": in_channels,
        }
    for name, n_features in (("genomics", n_genomics), ("clinical", n_clinical)):
        settings = getattr(read, name)
        if settings is not None:
            parts[name] = {
                "n_features": n_features,
                "hidden": list(settings.hidden),
                "dropout": settings.dropout,
                "feature_dropout": settings.feature_dropout,
            }
    return FusionConfig(
        outcome=task.outcome.kind,
        n_outputs=n_outputs(task.outcome),
        modalities=list(read.names),
        fusion=task.model.fusion,
        hidden=task.model.hidden,
        dropout=task.model.dropout,
        modality_dropout=task.model.modality_dropout,
        layers=task.model.layers,
        heads=task.model.heads,
        class_weights=list(class_weights),
        **parts,
    )


def n_outputs(outcome: Outcome) -> int:
    """Logits a patient."""
    return len(outcome.classes) if outcome.kind == "multiclass" else 1


def read_encoder_config(encoder: str) -> PreTrainedConfig:
    """The configuration of a directory's or the hub's encoder.

    Raises:
        EncoderError: it cannot be read, or needs code of its own.
    """
    try:
        config = AutoConfig.from_pretrained(encoder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise EncoderError(
            f"the configuration of the encoder {encoder} cannot be read ({type(error).__name__}): it is damaged, or "
            "needs code of its own, which is never run"
        ) from None
    return config


def start_model(
    config: FusionConfig, encoder: str | None = None, image_weights: Path | None = None
) -> tuple[FusionModel, WeightsReport | None]:
    """A model with the weights that training begins with: pretrained encoders, the rest drawn at random.

    Seed torch before it.

    Args:
        config: of `fusion_config`.
        encoder: directory or hub id of the text encoder's weights.
        image_weights: file with weights of the image network.

    Returns:
        The model, and what of the image weights was loaded.

    Raises:
        EncoderError: weights are missing, or lack tensors of the encoder.
        ModelError: the image network cannot be built, or does not suit the images' size.
    """
    model = FusionModel(config)
    report = None
    if "text" in model.encoders and encoder is not None:
        text = model.encoders["text"]
        assert isinstance(text, TextEncoder)
        load_encoder_weights(text, encoder)
    if "image" in model.encoders and config.image is not None:
        image = model.encoders["image"]
        assert isinstance(image, ImageEncoder)
        check_network(
            image.network, config.image["network"], image.n_channels, config.image["size"], config.hidden
        )
        if image_weights is not None:
            report = load_network_weights(image.network, image_weights)
            logger.info(
                "image weights: %d tensors loaded, %d fresh in the last layer, %d unexpected in the file",
                report.n_loaded,
                len(report.fresh),
                len(report.unexpected),
            )
    return model, report


def load_encoder_weights(text: TextEncoder, encoder: str) -> None:
    """Put a pretrained encoder's weights into a text encoder of the same configuration.

    Raises:
        EncoderError: they cannot be read, or lack tensors: the encoder would begin in part at random, and nobody
            would see it.
    """
    config = text.encoder.config
    try:
        pretrained, info = AutoModel.from_pretrained(
            encoder,
            trust_remote_code=False,
            output_loading_info=True,
            attn_implementation=attention_of(config),
            **pooler_arguments(config),
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise EncoderError(
            f"the weights of the encoder {encoder} cannot be loaded ({type(error).__name__}): the directory needs a "
            "model.safetensors, or the hub must be within reach"
        ) from None
    missing = sorted(info["missing_keys"])
    reshaped = sorted(str(key) for key in info.get("mismatched_keys", ()))
    if missing or reshaped:
        named = ", ".join([*missing, *reshaped][:3])
        raise EncoderError(
            f"the weights of the encoder {encoder} lack {len(missing)} tensors of {encoder_class(config).__name__}, "
            f"and {len(reshaped)} have another shape ({named}): they belong to another configuration"
        )
    text.encoder.load_state_dict(pretrained.state_dict())


def frozen_share(model: FusionModel) -> tuple[int, int]:
    """Parameters that learn, and all of them."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    if not sizes:
        raise ModelError("the model has no parameters")
    return sum(n for n, learns in sizes if learns), sum(n for n, _ in sizes)
