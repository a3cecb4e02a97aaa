"""A new tokenizer and a small new masked LM, for where no released language model can be downloaded."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import transformers
from tokenizers import BertWordPieceTokenizer, ByteLevelBPETokenizer
from transformers import (
    BertConfig,
    BertForMaskedLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RobertaConfig,
    RobertaForMaskedLM,
)

_BPE_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
_WORDPIECE_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def train_bpe(lines: Sequence[str], vocab_size: int, max_length: int) -> PreTrainedTokenizerBase:
    """A byte-level BPE tokenizer of RoBERTa's form, trained on ``lines``.

    Args:
        vocab_size: how many tokens, or as many as the lines yield; the 256 bytes and 5 special ones are always there.
        max_length: the longest sentence in tokens, special ones included.
    """
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        lines, vocab_size=vocab_size, min_frequency=2, special_tokens=_BPE_SPECIAL, show_progress=False
    )
    return _tokenizer(transformers.RobertaTokenizerFast, bpe, max_length, vocab="vocab.json", merges="merges.txt")


def train_wordpiece(lines: Sequence[str], vocab_size: int, max_length: int) -> PreTrainedTokenizerBase:
    """A lower-casing WordPiece tokenizer of BERT's form, trained on ``lines``.

    Args:
        vocab_size: how many tokens, or as many as the lines yield; their letters and 5 special ones are always there.
        max_length: the longest sentence in tokens, special ones included.
    """
    wordpiece = BertWordPieceTokenizer(lowercase=True)
    normalize, split = wordpiece.normalizer.normalize_str, wordpiece.pre_tokenizer.pre_tokenize_str
    words = {word for line in lines for word, _ in split(normalize(line))}
    # Named beforehand, letters within words get the same ids, and equal counts the same merge, in every process.
    within = sorted({f"##{letter}" for word in words for letter in word[1:]})
    wordpiece.train_from_iterator(
        lines,
        vocab_size=vocab_size,
        min_frequency=2,
        limit_alphabet=len(set().union(*words)),
        special_tokens=_WORDPIECE_SPECIAL + within,
        show_progress=False,
    )
    return _tokenizer(transformers.BertTokenizerFast, wordpiece, max_length, vocab="vocab.txt")  # type: ignore[attr-defined]


def _tokenizer(family: Any, trained: Any, max_length: int, **files: str) -> PreTrainedTokenizerBase:
    """transformers' tokenizer of the ``files`` that the trained one saves, by the names of their arguments."""
    # transformers 5 took "_file" off the names.
    suffix = "" if int(transformers.__version__.split(".")[0]) >= 5 else "_file"
    with tempfile.TemporaryDirectory() as folder:
        trained.save_model(folder)
        paths = {f"{name}{suffix}": str(Path(folder, file)) for name, file in files.items()}
        return family(**paths, model_max_length=max_length)


def small_roberta(tokenizer: PreTrainedTokenizerBase, max_length: int, **sizes: int) -> RobertaForMaskedLM:
    """A RoBERTa masked LM with random weights; ``sizes`` are layers, width (a multiple of heads) and heads."""
    return RobertaForMaskedLM(
        RobertaConfig(
            **_shared(tokenizer, **sizes),
            max_position_embeddings=max_length + 2,  # RoBERTa counts positions from pad_token_id + 1
            type_vocab_size=1,
            layer_norm_eps=1e-5,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def small_bert(tokenizer: PreTrainedTokenizerBase, max_length: int, **sizes: int) -> BertForMaskedLM:
    """A BERT masked LM with random weights; ``sizes`` as for :func:`small_roberta`."""
    return BertForMaskedLM(BertConfig(**_shared(tokenizer, **sizes), max_position_embeddings=max_length))


def _shared(tokenizer: PreTrainedTokenizerBase, layers: int, width: int, heads: int) -> dict[str, Any]:
    """What the configurations of both families have in common."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        # 0.02 belongs to width 768: narrower, it hides the context from the first layers for a thousand steps.
        "initializer_range": 0.02 * (768 / width) ** 0.5,
        # So small and so briefly trained a model underfits; dropout only holds it back.
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "pad_token_id": tokenizer.pad_token_id,
    }


class Family(NamedTuple):
    """How a new tokenizer is trained and a model of its tokens made."""

    train_tokenizer: Callable[[Sequence[str], int, int], PreTrainedTokenizerBase]
    new_model: Callable[..., PreTrainedModel]


FAMILIES = {"roberta": Family(train_bpe, small_roberta), "bert": Family(train_wordpiece, small_bert)}
