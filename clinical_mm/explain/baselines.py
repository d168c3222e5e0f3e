"""What "nothing known" means to each modality: the point that Integrated Gradients start from.

Text: every token but the special ones is [MASK] (where the tokenizer has none, [PAD]), never zeros, which no encoder
has ever read. Image: air, which is 0 after intensity scaling. Genomics and clinical: the mean of the training
patients, which is 0 after standardising. How the path is walked does not belong here.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from clinical_mm.errors import EncoderError


def neutral_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that stands for an unknown word: [MASK], else [PAD].

    Raises:
        EncoderError: the tokenizer has neither.
    """
    for token_id in (tokenizer.mask_token_id, tokenizer.pad_token_id):
        if token_id is not None:
            return int(token_id)
    raise EncoderError(
        "the encoder's tokenizer has neither a mask nor a padding token: text cannot be attributed"
    )


def neutral_input_ids(input_ids: Tensor, neutral_id: int, special_ids: Sequence[int]) -> Tensor:
    """Token ids of the baseline: the special tokens stay, all others are the neutral one.

    Args:
        input_ids: [..., length].
        neutral_id: as of `neutral_token_id`.
        special_ids: ids that stay, as of `structural_ids`.
    """
    special = torch.tensor(sorted(special_ids), dtype=input_ids.dtype, device=input_ids.device)
    is_special = torch.isin(input_ids, special)
    return torch.where(is_special, input_ids, torch.full_like(input_ids, neutral_id))


def structural_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The special tokens that carry structure and no content: all but the unknown one, which stands for a word."""
    return [i for i in tokenizer.all_special_ids if i != tokenizer.unk_token_id]


def text_baseline(
    embed: Callable[[Tensor], Tensor], input_ids: Tensor, neutral_id: int, special_ids: Sequence[int]
) -> Tensor:
    """Embeddings of the baseline text, as `embed` gives those of the text itself: [..., length, width]."""
    return embed(neutral_input_ids(input_ids, neutral_id, special_ids))


def empty_baseline(values: Tensor) -> Tensor:
    """Air for an image [0, 1], the training mean for standardised values: zeros."""
    return torch.zeros_like(values)
