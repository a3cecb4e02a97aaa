"""The tokenizers of a configuration.

Source: docs/official/xvlm.md §3.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase

from vlp.data.json.text import load_cls_tokenizer
from vlp.data.tokenizers import load_tokenizer


def plain_tokenizer(config: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """BERT's, ``[CLS] X [SEP]``: of pre-training and of captioning.

    Raises:
        OSError, ValueError: there is none, or it does not fit the text encoder.
    """
    load_cls_tokenizer(config["text_encoder"])  # which says whether it is BERT's
    return _fitting(load_tokenizer(config["text_encoder"]), config)


def cls_tokenizer(config: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """BERT's, ``[CLS] X``: of all other tasks.

    Raises:
        OSError, ValueError: there is none, or it does not fit the text encoder.
    """
    return _fitting(load_cls_tokenizer(config["text_encoder"]), config)


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """``[CLS]`` and the tokens of captioning's prompt."""
    return [tokenizer.cls_token_id, *tokenizer.encode(prompt, add_special_tokens=False)]


def _fitting(tokenizer: PreTrainedTokenizerBase, config: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    if len(tokenizer) > (size := config["text_config"]["vocab_size"]):
        raise ValueError(
            f"text_config: vocab_size is {size}, but text_encoder={config['text_encoder']} has {len(tokenizer)}"
        )
    return tokenizer
