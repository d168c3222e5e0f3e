"""The image encoder: a set of series in, one token a patient out, by a network of `monai.networks.nets`.

How a network of another library becomes an encoder (its name, its arguments, its output) stands here and nowhere else.
Weights from a file are for `weights`; how series become tensors is the features' matter.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from monai.networks import nets
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from clinical_mm.errors import ModelError
from clinical_mm.model.pooling import GatedAttentionPool

_CHANNELS = ("in_channels", "n_input_channels")
_OUTPUTS = ("out_channels", "num_classes", "classes")
_SIZES = ("img_size", "image_size")


class ImageEncoder(nn.Module):
    """A MONAI classification network whose outputs are features; series of a patient pooled by gated attention."""

    def __init__(
        self,
        *,
        network: str,
        arguments: Mapping[str, Any],
        spatial_dims: int,
        size: Sequence[int],
        in_channels: int,
        hidden: int,
    ) -> None:
        super().__init__()
        self.network, self.n_channels = build_network(
            network,
            arguments,
            spatial_dims=spatial_dims,
            size=size,
            in_channels=in_channels,
            n_outputs=hidden,
        )
        self.norm = nn.LayerNorm(hidden)
        self.over_series = GatedAttentionPool(hidden)

    def forward(self, image: Tensor, image_mask: Tensor) -> Tensor:
        """One vector a patient.

        Args:
            image: [b, s, c, *size] in [0, 1], of any floating type: float16 is converted here, on the device.
            image_mask: [b, s] bool; each patient has one series at least. Only real series are computed.

        Returns:
            [b, hidden].
        """
        series = image[image_mask].to(self.norm.weight.dtype)
        if series.shape[1] == 1 < self.n_channels:
            series = series.expand(-1, self.n_channels, *series.shape[2:])
        # One image alone has no spread to normalise by, and would fail or teach nonsense at a 1 × 1 × 1 map.
        with _running_statistics(self.network) if self.training and len(series) < 2 else _as_it_is():
            found = self.network(series)
        features = self.norm(found[0] if isinstance(found, tuple) else found)
        placed = features.new_zeros(*image_mask.shape, features.shape[-1])
        placed[image_mask] = features
        pooled: Tensor = self.over_series(placed, image_mask)
        return pooled


@contextmanager
def _running_statistics(network: nn.Module) -> Iterator[None]:
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


def build_network(
    name: str,
    arguments: Mapping[str, Any],
    *,
    spatial_dims: int,
    size: Sequence[int],
    in_channels: int,
    n_outputs: int,
) -> tuple[nn.Module, int]:
    """A network of `monai.networks.nets` with a given number of outputs, and how many channels it reads.

    What the signature asks for and the study does not say is filled in: dimensions, channels, outputs, image size.
    Activations in place are made ordinary ones, so that hooks see what a layer gave.

    Args:
        name: as `monai.networks.nets` spells it: a network class, or a function that returns one.
        arguments: of the study; they win, but for the number of outputs. Input channels of 3 for images of 1 repeat
            the image.
        spatial_dims: 2 or 3.
        size: voxels [depth, height, width] or [height, width].
        in_channels: of the images.
        n_outputs: features to give.

    Raises:
        ModelError: MONAI has no such network, it does not take these arguments, or it would download weights.
    """
    maker = _maker(name)
    known = _parameters(maker)
    given = dict(arguments)
    filled: dict[str, Any] = {}
    for key in _CHANNELS:
        filled |= {key: in_channels} if key in known else {}
    for key in _SIZES:
        filled |= {key: tuple(size)} if key in known else {}
    outputs = [key for key in _OUTPUTS if key in known]
    if not outputs:
        raise ModelError(
            f"image.network {name} has no number of outputs to set: it is no classification network"
        )
    filled |= {"spatial_dims": spatial_dims} if "spatial_dims" in known else {}
    filled |= {"in_shape": (in_channels, *size)} if "in_shape" in known else {}
    filled |= {"classification": True} if "classification" in known else {}
    filled |= {"pretrained": False} if "pretrained" in known else {}
    settled = sorted({*outputs, "spatial_dims", "pretrained"} & set(given))
    if settled:
        raise ModelError(
            f"image.arguments of {name} sets {', '.join(settled)}: outputs and dimensions follow from the study, and "
            "pretrained weights are given as image.weights"
        )
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ModelError(
            f"image.arguments has {', '.join(unknown)}, which {name} does not take; it takes "
            f"{', '.join(sorted(set(known) - set(outputs)))}"
        )
    try:
        network = maker(**{**filled, **given, outputs[0]: n_outputs})
    except (
        TypeError,
        ValueError,
        KeyError,
        IndexError,
        RuntimeError,
        AssertionError,
        NotImplementedError,
    ) as error:
        raise ModelError(f"image.network {name} cannot be built from image.arguments: {error}") from error
    except ImportError as error:
        missing = error.name or next(iter(re.findall(r"No module named '([\w.]+)'", str(error))), None)
        raise ModelError(
            f"image.network {name} needs a package that is not installed ({missing or 'MONAI does not say which'}): "
            "install it, or choose another network"
        ) from error
    for module in network.modules():
        if getattr(module, "inplace", False) is True:
            module.inplace = False  # type: ignore[assignment]
    channels = {**filled, **given}
    return network, int(next((channels[key] for key in _CHANNELS if key in channels), in_channels))


def check_network(
    network: nn.Module, name: str, n_channels: int, size: Sequence[int], n_outputs: int
) -> None:
    """Try a network on an empty image.

    Raises:
        ModelError: it does not give [1, n_outputs], or fails at this size.
    """
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    try:
        with torch.no_grad():
            found = network(torch.zeros(1, n_channels, *size, device=device))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        sentence = str(error).splitlines()[0]
        raise ModelError(
            f"image.network {name} fails on one image of {list(size)} voxels ({sentence}): choose a larger size or a "
            "network that shrinks it less"
        ) from error
    finally:
        network.train(was_training)
    found = found[0] if isinstance(found, tuple) else found
    shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
    if shape != [1, n_outputs]:
        raise ModelError(
            f"image.network {name} gives {shape} for one image where {[1, n_outputs]} was expected: it is no "
            "classification network"
        )


def _maker(name: str) -> Callable[..., nn.Module]:
    found = getattr(nets, name, None)
    if inspect.isclass(found) and issubclass(found, nn.Module):
        return found
    # resnet18 and its like are functions, and say what they return.
    if inspect.isfunction(found) and _returned(found) is not None:
        return found
    raise ModelError(f"image.network {name!r} is no network of monai.networks.nets: DenseNet121 is one")


def _returned(function: Callable[..., Any]) -> type[nn.Module] | None:
    """The network class that a function says it returns; MONAI writes it as a string."""
    returned = inspect.signature(function, eval_str=True).return_annotation
    return returned if inspect.isclass(returned) and issubclass(returned, nn.Module) else None


def _parameters(maker: Callable[..., nn.Module]) -> set[str]:
    """Names that a network takes; one that passes `**kwargs` on takes those of what it passes them to."""
    known: set[str] = set()
    if inspect.isclass(maker):
        sources: list[Any] = [base.__init__ for base in maker.__mro__ if issubclass(base, nn.Module)]
    else:
        sources = [maker, getattr(_returned(maker), "__init__", maker)]
    for source in sources:
        parameters = inspect.signature(source).parameters.values()
        known |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return known - {"self"}
