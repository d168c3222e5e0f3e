"""The text encoder that a task names: where it lies, its tokenizer, and how much it can read at once.

Nothing here reads weights, and no code that comes with an encoder is ever run. Cutting notes into windows does not
belong here.
"""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizerFast

from clinical_mm.errors import EncoderError
from clinical_mm.store import Store, content_hash, current
from clinical_mm.study.root import Study
from clinical_mm.study.tasks import TextModality

PRETRAINED = "pretrained"
"""The word by which a study names the encoder that it pretrained itself."""

_POSITIONS_AFTER_PADDING = {
    *("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "camembert", "longformer"),
    *("mpnet", "ibert", "xmod", "data2vec-text", "mra", "yoso"),
}
"""Model types that count positions from one past the padding id, and so read fewer tokens than they have positions."""

_PROBE = "a"


def resolve_encoder(study: Study, store: Store, settings: TextModality) -> str:
    """What the task's `encoder` stands for: an absolute directory, or a hub id that can be read.

    Raises:
        EncoderError: nothing was pretrained yet, or there is neither such a directory nor such a model.
    """
    name = settings.encoder
    if name == PRETRAINED:
        snapshot = current(store.text_encoder)
        if snapshot is None:
            raise EncoderError(
                "the task's encoder is `pretrained`, and none was yet: run `clinical-mm pretrain-text` first"
            )
        return str(snapshot)
    directory = study.resolve_path(name)
    if directory.is_dir():
        return str(directory)
    if Path(name).is_absolute() or name.startswith(".") or name.count("/") > 1:
        raise EncoderError(
            f"there is no encoder directory {directory}: `encoder` is relative to the study file"
        )
    _config(name)
    return name


def load_tokenizer(encoder: str) -> PreTrainedTokenizerFast:
    """The encoder's own fast tokenizer, without the truncation and padding that its file may ask for.

    Args:
        encoder: a directory or hub id, of `resolve_encoder`.

    Raises:
        EncoderError: it cannot be loaded, is not a fast one, or its vocabulary is not that of the encoder.
    """
    vocabulary = _config(encoder).get("vocab_size")
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(encoder, use_fast=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EncoderError(
            f"the tokenizer of the encoder {encoder} cannot be loaded ({type(error).__name__}): it needs a "
            "tokenizer.json, or files that make one, beside its config.json"
        ) from None
    if not getattr(tokenizer, "is_fast", False):
        raise EncoderError(
            f"the encoder {encoder} has no fast tokenizer: only these tell which characters a token stands for"
        )
    # A five-word vocabulary in place of thousands loads without a word, and reads every note as unknown tokens.
    n = len(tokenizer)
    if isinstance(vocabulary, int) and not vocabulary / 2 <= n <= vocabulary:
        raise EncoderError(
            f"the tokenizer of the encoder {encoder} has {n} entries, its config.json says {vocabulary}: they do not "
            "belong together"
        )
    if tokenizer.pad_token_id is None:
        raise EncoderError(f"the tokenizer of the encoder {encoder} has no padding token")
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.encode_special_tokens = True  # a note that says "[SEP]" does not end a window
    fast: PreTrainedTokenizerFast = tokenizer
    return fast


def position_limit(encoder: str) -> int | None:
    """The longest window, in tokens with the special ones, that the encoder can read; None where it has no limit."""
    config = _config(encoder)
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int) or positions <= 0:
        return None
    if config.get("model_type") in _POSITIONS_AFTER_PADDING:
        positions -= int(config.get("pad_token_id") or 0) + 1
    return positions


def tokenizer_hash(tokenizer: PreTrainedTokenizerFast) -> str:
    """Content hash of everything that decides which tokens a text gives."""
    return content_hash("tokenizer", tokenizer.backend_tokenizer.to_str())


def special_ids(tokenizer: PreTrainedTokenizerFast) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The special tokens that the tokenizer sets before and after a text."""
    encoding = tokenizer.backend_tokenizer.encode(_PROBE, add_special_tokens=True)
    is_special = list(encoding.special_tokens_mask)
    if all(is_special):
        raise EncoderError("the tokenizer gives no token for a letter: it is damaged")
    first = is_special.index(0)
    last = len(is_special) - is_special[::-1].index(0)
    return tuple(encoding.ids[:first]), tuple(encoding.ids[last:])


def _config(encoder: str) -> dict[str, Any]:
    """The encoder's `config.json` as it stands, without loading a class for it."""
    try:
        config, _ = PretrainedConfig.get_config_dict(encoder)
    except (OSError, ValueError) as error:
        is_directory = Path(encoder).is_dir()
        where = "it needs a config.json" if is_directory else "it is unknown, or this machine is offline"
        raise EncoderError(
            f"the encoder {encoder} cannot be read ({type(error).__name__}): {where}"
        ) from None
    if not config:
        raise EncoderError(
            f"the encoder {encoder} has no config.json: it is not a Hugging Face encoder, or this machine is offline"
        )
    return dict(config)
