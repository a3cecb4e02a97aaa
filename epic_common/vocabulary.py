"""What EPIC knows of the baseline's tokenizer."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Vocabulary:
    """What EPIC needs to know of the baseline's tokenizer: ids and the number of tokens."""

    mask_id: int
    pad_id: int
    special_ids: tuple[int, ...]
    size: int
    sep_id: int | None = None

    @classmethod
    def from_tokenizer(cls, tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
        """Read a Hugging Face tokenizer.

        Raises:
            ValueError: it has no mask or no padding token.
        """
        mask_id, pad_id = tokenizer.mask_token_id, tokenizer.pad_token_id
        if mask_id is None or pad_id is None:
            raise ValueError(f"the tokenizer {tokenizer.name_or_path!r} has no mask or no padding token")
        special = tuple(sorted(set(tokenizer.all_special_ids)))
        return cls(mask_id, pad_id, special, len(tokenizer), tokenizer.sep_token_id)
