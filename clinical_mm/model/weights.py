"""Weights of an image network from a file: safetensors, or a torch file that holds tensors alone.

A file that fits in part must not pass for one that fits: what was not loaded is named. Only the last layer, whose
outputs mean something else here, may differ. Text encoders load by transformers (`building`).
"""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from clinical_mm.errors import EncoderError

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
_PREFIXES = ("module.", "network.", "model.", "backbone.", "encoder.")
_N_NAMED = 5


@dataclass(frozen=True)
class WeightsReport:
    """What of a file went into a network.

    Attributes:
        n_loaded: tensors that were loaded.
        fresh: tensors of the network's last layer that keep their random start.
        unexpected: tensors of the file that the network has no place for.
    """

    n_loaded: int
    fresh: tuple[str, ...]
    unexpected: tuple[str, ...]


def load_network_weights(network: nn.Module, path: Path) -> WeightsReport:
    """Load a file's weights into a network, all of them but the last layer's.

    Raises:
        EncoderError: the file is missing, holds more than tensors, or lacks tensors that the network has.
    """
    found = _without_prefix(read_tensors(path), set(network.state_dict()))
    wanted = network.state_dict()
    last = _last_layer(network)
    fits = {name: t for name, t in found.items() if name in wanted and t.shape == wanted[name].shape}
    lacking = [name for name in wanted if name not in fits and not name.endswith("num_batches_tracked")]
    amiss = [name for name in lacking if not name.startswith(f"{last}.")]
    unexpected = tuple(sorted(set(found) - set(wanted)))
    if amiss:
        reshaped = [name for name in amiss if name in found]
        raise EncoderError(
            f"image.weights {path.name} does not fit the network: {len(amiss)} of its {len(wanted)} tensors are "
            f"missing or have another shape ({_some(amiss)}; {len(reshaped)} differ in shape), {len(unexpected)} in "
            f"the file are unexpected ({_some(unexpected)}): give the network and arguments that the weights are from"
        )
    network.load_state_dict(fits, strict=False)
    return WeightsReport(len(fits), tuple(sorted(set(lacking))), unexpected)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a torch file that holds nothing else.

    Raises:
        EncoderError: it is missing, damaged, or holds more than tensors.
    """
    if not path.is_file():
        raise EncoderError(f"there are no weights {path}: check image.weights")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise EncoderError(f"{path} is no safetensors file: {error}") from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EncoderError(
            f"{path} is no torch file of tensors alone ({first}): convert it to safetensors"
        ) from None
    return _state_dict(content, path)


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    tensors = (
        {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
        if isinstance(content, Mapping)
        else {}
    )
    if not tensors:
        raise EncoderError(f"{path} holds no tensors by name: save the network's state_dict")
    return tensors


def _without_prefix(tensors: dict[str, Tensor], wanted: set[str]) -> dict[str, Tensor]:
    """The names without what a wrapper put before all of them, where that fits the network better."""
    best = tensors
    for prefix in _PREFIXES:
        shorter = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        if len(wanted & set(shorter)) > len(wanted & set(best)):
            best = shorter
    return best


def _last_layer(network: nn.Module) -> str:
    """Name of the layer that makes the outputs: the last linear or convolution among the modules."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    names = [name for name, module in network.named_modules() if isinstance(module, kinds)]
    return names[-1] if names else ""


def _some(names: Any) -> str:
    listed = list(names)
    return ", ".join(listed[:_N_NAMED]) + (" …" if len(listed) > _N_NAMED else "") if listed else "none"
