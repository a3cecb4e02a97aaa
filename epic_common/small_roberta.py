"""A new tokenizer and a small new RoBERTa, for where no released language model can be downloaded."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import transformers
from tokenizers import ByteLevelBPETokenizer
from transformers import PreTrainedTokenizerBase, RobertaConfig, RobertaForMaskedLM

_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def train_tokenizer(lines: Sequence[str], vocab_size: int, max_length: int) -> PreTrainedTokenizerBase:
    """A byte-level BPE tokenizer of RoBERTa's form, trained on ``lines``.

    Args:
        vocab_size: how many tokens, or as many as the lines yield; the 256 bytes and 5 special ones are always there.
        max_length: the longest sentence in tokens, special ones included.
    """
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(lines, vocab_size=vocab_size, min_frequency=2, special_tokens=_SPECIAL, show_progress=False)
    with tempfile.TemporaryDirectory() as folder:
        bpe.save_model(folder)
        vocab, merges = str(Path(folder) / "vocab.json"), str(Path(folder) / "merges.txt")
        # transformers 5 renamed the two file arguments and has one class for the slow and the fast tokenizer.
        if int(transformers.__version__.split(".")[0]) >= 5:
            return transformers.RobertaTokenizer(vocab=vocab, merges=merges, model_max_length=max_length)
        return transformers.RobertaTokenizerFast(vocab_file=vocab, merges_file=merges, model_max_length=max_length)


def small_roberta(
    tokenizer: PreTrainedTokenizerBase, layers: int, width: int, heads: int, max_length: int
) -> RobertaForMaskedLM:
    """A RoBERTa masked LM with random weights, ``width`` a multiple of ``heads``."""
    return RobertaForMaskedLM(
        RobertaConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * width,
            max_position_embeddings=max_length + 2,  # RoBERTa counts positions from pad_token_id + 1
            type_vocab_size=1,
            layer_norm_eps=1e-5,
            # 0.02 belongs to width 768: narrower, it hides the context from the first layers for a thousand steps.
            initializer_range=0.02 * (768 / width) ** 0.5,
            # So small and so briefly trained a model underfits; dropout only holds it back.
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
