"""Small ALBEFs of the real classes, and batches for them."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch

from tests.unit.small_parts import Batch, masked_pairs, stirred

PAD, CLS, SEP, MASK, VOCAB = 0, 101, 102, 103, 200
IMAGE, PATCH = 16, 8
BERT: dict[str, Any] = {
    **{"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32},
    **{"fusion_layer": 2, "encoder_width": 24, "vocab_size": VOCAB, "max_position_embeddings": 40},
    **{"type_vocab_size": 2, "pad_token_id": PAD, "layer_norm_eps": 1e-12, "initializer_range": 0.02},
    **{"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "hidden_act": "gelu"},
}
CONFIG: dict[str, Any] = {
    **{"bert_config": BERT, "vision_config": {"patch_size": PATCH, "width": 24, "depth": 2, "heads": 2}},
    **{"image_res": IMAGE, "embed_dim": 8, "temp": 0.07, "queue_size": 12, "momentum": 0.9},
    **{"pack_text": True, "gradient_checkpointing": False, "compile": False},
    **{"init": "random", "checkpoint": "", "resume_from": None},
    **{"text_encoder": "bert-base-uncased", "text_decoder": "bert-base-uncased"},
    **{"distill": True, "momentum_after_loading": False, "k_test": 3, "eos": "[SEP]", "answer_list": "answers.json"},
}

# VQA's decoder reads questions with the layers that read images.
ONE_WIDTH: dict[str, Any] = {
    "bert_config": {**BERT, "encoder_width": 16},
    "vision_config": {"patch_size": PATCH, "width": 16, "depth": 2, "heads": 2},
}


def config_of(dropout: float = 0.0, **changes: Any) -> dict[str, Any]:
    """A config of the small model."""
    drops = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    return {**CONFIG, "bert_config": {**BERT, **drops}, **changes}


def pretraining(seed: int = 0, **changes: Any) -> Any:
    """A small pre-training model with stirred weights, its momentum models with others."""
    from albef.models.model_pretrain import ALBEF

    torch.manual_seed(seed)
    return stirred(ALBEF(config_of(**changes)))


def task_model(task: str, seed: int = 0, **changes: Any) -> Any:
    """A small model of ``task``, a key of ``SURGERY``, with stirred weights, its momentum models with others."""
    module = {"pretrain": "model_pretrain", "nlvr_pretrain": "model_pretrain_nlvr"}.get(task, f"model_{task}")
    torch.manual_seed(seed)
    config = {**config_of(), **ONE_WIDTH, **changes}
    return stirred(importlib.import_module(f"albef.models.{module}").ALBEF(config))


def task_batch(task: str, lengths: Sequence[int] = (6, 3, 9), seed: int = 0) -> Batch:
    """A training batch of VQA, VE or NLVR2."""
    rng, size = torch.Generator().manual_seed(seed + 1), len(lengths)
    batch = {key: value for key, value in pretraining_batch(lengths, seed=seed).items() if not key.endswith("_mlm")}
    batch |= {"dataset": ["x"] * size, "index": list(range(size)), "labels": torch.arange(size) % 2}
    if task == "nlvr":
        batch["image"] = torch.randn(2 * size, 3, IMAGE, IMAGE, generator=rng)
    if task == "vqa":
        counts = [1 + i % 2 for i in range(size)]
        answers = torch.randint(110, VOCAB, (sum(counts), 4), generator=rng)
        tokens = torch.arange(4) < torch.tensor([3 + i % 2 for i in range(sum(counts))])[:, None]
        answers[:, 0] = CLS
        answers = answers.masked_fill(~tokens, PAD)
        batch |= {"answer_ids": answers, "answer_masks": tokens.long(), "answer_counts": counts}
        batch |= {"answer_weights": torch.rand(sum(counts), generator=rng), "question_id": list(range(size))}
    return batch


def pretraining_batch(lengths: Sequence[int] = (6, 3, 9), masked: int = 2, seed: int = 0) -> Batch:
    """:func:`masked_pairs` of the small model's size."""
    return masked_pairs(IMAGE, lengths, masked, seed)
