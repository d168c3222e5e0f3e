"""The running mean of a model's weights over its latest steps: what is validated, chosen and kept.

With some hundred patients the weights of a single step swing, and the loss on a few dozen validation patients swings
with them: the epoch that happens to look best is chosen, and training stops early for no reason. The mean of the
latest steps moves slowly and generalises better (Polyak & Juditsky, 1992; Izmailov et al., 2018). Batch normalisation's
running statistics are averaged like weights; frozen weights are their own mean and are not kept twice.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import TrainerCallback

FILE = "averaged.safetensors"
_OF_ALL_STEPS = 10
"""The mean reaches back over about a tenth of the steps that were made: early ones are close to the random start."""


class WeightAverage(TrainerCallback):
    """An exponential moving mean of the learning weights, moved on after every step of a Trainer.

    Args:
        model: whose weights.
        span_steps: how many steps it reaches back over at most; up to 1, the mean is the newest weights themselves.
    """

    def __init__(self, model: nn.Module, span_steps: float) -> None:
        self._model = model
        self._span_steps = max(span_steps, 1.0)
        self._n_steps = 0
        self._mean: dict[str, Tensor] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the weights after a step into the mean."""
        self.update()

    def update(self) -> None:
        """Take the weights as they are now into the mean."""
        share = max(1 / self._span_steps, 1 / (1 + self._n_steps / _OF_ALL_STEPS))
        with torch.no_grad():
            for name, tensor in self._learning().items():
                if name in self._mean:
                    self._mean[name].lerp_(tensor, share)
                else:
                    self._mean[name] = tensor.detach().clone()
        self._n_steps += 1

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The model with the mean in place of its weights; as it was afterwards."""
        kept = {name: tensor.detach().clone() for name, tensor in self._learning().items()}
        self.apply()
        try:
            yield
        finally:
            self._copy(kept)

    def apply(self) -> None:
        """Put the mean in place of the weights; before the first step nothing changes."""
        self._copy(self._mean)

    def save(self, folder: Path) -> None:
        """Write the mean beside a checkpoint."""
        tensors = {name: tensor.contiguous() for name, tensor in self._mean.items()}
        save_file(tensors, folder / FILE, metadata={"n_steps": str(self._n_steps)})

    def load(self, folder: Path) -> None:
        """Go back to the mean that was written beside a checkpoint."""
        learning = self._learning()
        with safe_open(folder / FILE, "pt") as file:
            self._n_steps = int(file.metadata()["n_steps"])
            self._mean = {name: file.get_tensor(name).to(learning[name].device) for name in file.keys()}  # noqa: SIM118

    def _learning(self) -> dict[str, Tensor]:
        return {
            name: tensor
            for name, tensor in self._model.state_dict(keep_vars=True).items()
            if tensor.is_floating_point() and (tensor.requires_grad or not isinstance(tensor, nn.Parameter))
        }

    def _copy(self, tensors: dict[str, Tensor]) -> None:
        learning = self._learning()
        with torch.no_grad():
            for name, tensor in tensors.items():
                learning[name].copy_(tensor)
