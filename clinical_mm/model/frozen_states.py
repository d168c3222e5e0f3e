"""Last hidden states of a frozen text encoder: computed once a window, kept on disk, read in every later epoch.

A frozen encoder never changes and drops nothing out, so what it says of a window follows from its weights and the
token ids alone. Which encoders are frozen, and what is made of the states, stands in `text`.

States are float32, 4 × width bytes a token: in float16 a prediction would differ by about 1e-4 from the attribution
that explains it, which starts from word embeddings and never comes here.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedModel

from clinical_mm.errors import StoreError
from clinical_mm.features.cache import cache_path, read_array, write_array
from clinical_mm.model.network import FusionModel
from clinical_mm.model.text import TextEncoder
from clinical_mm.store import content_hash

CACHE = "text_states"
"""Name of the store's cache for them."""

VERSION = 1
_AT_ONCE = 16
"""Windows through the encoder together: more are not faster on a CPU."""

_Stamp = tuple[tuple[int, int], ...]


def attach_frozen_states(model: FusionModel, folder: Path) -> None:
    """Let a model keep its frozen text encoder's states in a folder; without such an encoder nothing happens.

    It lasts as long as the model object: it is neither saved with it, nor pickled, nor copied.

    Args:
        model: whose predictions stay the same to rounding (1e-5), since padding no longer goes through the encoder.
        folder: `store.cache(CACHE)`: shared by all models and processes; it may be emptied at any time.
    """
    text = model.encoders["text"] if "text" in model.config.modalities else None
    if isinstance(text, TextEncoder) and text.is_frozen:
        text.states_of = FrozenStates(text.encoder, folder)


class FrozenStates:
    """An encoder's states of windows, through files in a folder. Only the windows of one call are in memory.

    Args:
        encoder: in eval mode.
        folder: for the files.
    """

    def __init__(self, encoder: PreTrainedModel, folder: Path) -> None:
        self._encoder = encoder
        self._folder = folder
        self._stamp: _Stamp = ()
        self._identity = ""

    def __call__(self, input_ids: Tensor, lengths: Tensor) -> Tensor:
        """The last hidden states of windows, without gradients.

        Args:
            input_ids: [n, l].
            lengths: [n] tokens of each window; padding stands on the right.

        Returns:
            [n, l, width], zeros at the padding.

        Raises:
            StoreError: the folder cannot be read or written.
        """
        identity = self._identity_now()
        rows = input_ids.cpu().numpy()
        windows = [np.ascontiguousarray(row[:n]) for row, n in zip(rows, lengths.tolist(), strict=True)]
        paths = [cache_path(self._folder, content_hash(identity, ids.tobytes())) for ids in windows]
        missing: dict[Path, npt.NDArray[np.int64]] = {}
        width = int(self._encoder.config.hidden_size)
        states = torch.zeros(*input_ids.shape, width)
        with self._named_where_it_fails():
            for place, (path, ids) in enumerate(zip(paths, windows, strict=True)):
                if not _read_into(states[place], path, len(ids)):
                    missing[path] = ids
        for path, found in self._computed(missing):
            for place, wanted in enumerate(paths):
                if wanted == path:
                    states[place, : len(found)] = torch.from_numpy(found)
            with self._named_where_it_fails():
                write_array(path, found)
        return states.to(input_ids.device, self._encoder.dtype)

    def _computed(
        self, windows: dict[Path, npt.NDArray[np.int64]]
    ) -> Iterator[tuple[Path, npt.NDArray[np.float32]]]:
        """The states of windows, those of equal length together.

        Never with padding: it would change the rounding, and a window's states would depend on what it came with.
        """
        by_length: dict[int, list[Path]] = defaultdict(list)
        for path, ids in windows.items():
            by_length[len(ids)].append(path)
        encoder, device = self._encoder, self._encoder.device
        for paths in by_length.values():
            for first in range(0, len(paths), _AT_ONCE):
                chosen = paths[first : first + _AT_ONCE]
                together = torch.from_numpy(np.stack([windows[path] for path in chosen])).to(device)
                # In float32 also where training computes in bf16: predictions read the same file.
                with torch.no_grad(), torch.autocast(device.type, enabled=False):
                    embedded = encoder.get_input_embeddings()(together)
                    found = encoder(inputs_embeds=embedded, attention_mask=torch.ones_like(together))
                yield from zip(chosen, found.last_hidden_state.float().cpu().numpy(), strict=True)

    @contextmanager
    def _named_where_it_fails(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"the cache {self._folder} cannot be read or written ({error.strerror}): make room, or remove it, "
                "which is safe at any time"
            ) from None

    def _identity_now(self) -> str:
        """Hash of the encoder's configuration and tensors, made again where any of them was replaced or written to."""
        tensors = self._encoder.state_dict(keep_vars=True)
        stamp = tuple((tensor.data_ptr(), tensor._version) for tensor in tensors.values())
        if stamp != self._stamp or not self._identity:
            described = self._encoder.config.to_dict()
            for irrelevant in ("_name_or_path", "transformers_version"):
                described.pop(irrelevant, None)
            digests = [
                (name, str(tensor.dtype), list(tensor.shape), _digest(tensor))
                for name, tensor in tensors.items()
            ]
            self._identity = content_hash(VERSION, described, digests)
            self._stamp = stamp
        return self._identity


def _read_into(states: Tensor, path: Path, n_tokens: int) -> bool:
    """Copy what a file holds; False where it is missing, or is not what was written."""
    found = read_array(path)
    if found is None or found.dtype != np.float32 or found.shape != (n_tokens, states.shape[1]):
        return False
    states[:n_tokens].numpy()[:] = found
    return True


def _digest(tensor: Tensor) -> str:
    data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(data.numpy().data).hexdigest()
