"""What "nothing known" means to each modality: the point that Integrated Gradients start from.

Text: every token but the special ones is [MASK] (where the tokenizer has none, [PAD]), never zeros, which no encoder
has ever read. Image: air, which is 0 after intensity scaling. Genomics and clinical: the mean of the training
patients, which is 0 after standardising. How the path is walked does not belong here.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from clinical_mm.errors import EncoderError


@dataclass(frozen=True)
class NeutralText:
    """How a tokenizer writes a text that says nothing.

    Attributes:
        neutral_id: the token that stands for any word: [MASK], else [PAD].
        structural_ids: special tokens that carry structure and no content. The unknown token is none of them: it
            stands for a word.
    """

    neutral_id: int
    structural_ids: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> "NeutralText":
        """As the tokenizer has it.

        Raises:
            EncoderError: it has neither a mask nor a padding token.
        """
        candidates = [i for i in (tokenizer.mask_token_id, tokenizer.pad_token_id) if i is not None]
        if not candidates:
            raise EncoderError(
                "the encoder's tokenizer has neither a mask nor a padding token: text cannot be attributed"
            )
        special = sorted(set(tokenizer.all_special_ids) - {tokenizer.unk_token_id})
        return cls(int(candidates[0]), tuple(special))

    def input_ids(self, input_ids: Tensor) -> Tensor:
        """Token ids of the baseline [..., length]: structure stays, every word is the neutral token."""
        special = torch.tensor(self.structural_ids, dtype=input_ids.dtype, device=input_ids.device)
        is_special = torch.isin(input_ids, special)
        return torch.where(is_special, input_ids, torch.full_like(input_ids, self.neutral_id))


def empty_baseline(values: Tensor) -> Tensor:
    """Air for an image in [0, 1], the training mean for standardised values: zeros."""
    return torch.zeros_like(values)
