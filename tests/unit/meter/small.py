"""Small METERs of the real classes, and batches for them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertModel, PreTrainedModel, RobertaConfig, RobertaModel

from meter.config import ex
from meter.modules.clip_model import ClipVisualTower
from meter.modules.encoders import Encoders
from meter.modules.meter_module import METERTransformerSS
from meter.modules.sizes import ClipSize, SwinSize
from meter.modules.swin_transformer import SwinTower
from tests.parity.fixture import FIXTURES
from tests.tokenizers import tokenizer_from_files
from tests.unit.configs import resolve
from tests.unit.small_parts import Batch, Words, stirred
from vlp.sacred_dialect.config import base_config

# <s>, <pad>, </s>, <unk> and <mask> of tests.unit.epic.tiny, whose vocabulary has 40 tokens.
BOS, PAD, EOS, MASK, VOCAB = 0, 1, 2, 4, 40
WORDS = Words(BOS, PAD, EOS, MASK, VOCAB)
WIDTH, HEADS, LAYERS = 16, 2, 3
CLIP = ClipSize(width=16, layers=3, heads=2, patch_size=16, pretrained=None, text_positions=5, text_width=6)
SWIN = SwinSize(embed_dim=4, depths=(1, 2, 1, 1), heads=(1, 1, 2, 2), pretrained=None)
IMAGE_SIZE = {"clip": 32, "swin": 64}
BERT = FIXTURES / "meter" / "tokenizer_bert_vocab.txt"
resolved = partial(resolve, ex)


def config_of(vision: str = "clip", tasks: Sequence[str] = ("itm", "mlm"), **changes: Any) -> dict[str, Any]:
    """A config that fits the small towers; no dropout unless asked for."""
    base: dict[str, Any] = base_config(ex)
    sizes = {
        "image_size": IMAGE_SIZE[vision],
        "hidden_size": WIDTH,
        "num_heads": HEADS,
        "num_top_layer": LAYERS,
        "input_text_embed_size": WIDTH,
        "input_image_embed_size": CLIP.width if vision == "clip" else SWIN.width,
        "vocab_size": VOCAB,
        "drop_rate": 0.0,
        "draw_false_text": 2,
    }
    loss_names = {task: int(task in tasks) for task in base["loss_names"]}
    return {**base, **sizes, "loss_names": loss_names, **changes}


def vision_tower(vision: str = "clip", image_size: int = 0) -> ClipVisualTower | SwinTower:
    image_size = image_size or IMAGE_SIZE[vision]
    return ClipVisualTower(CLIP, image_size) if vision == "clip" else SwinTower(SWIN, image_size)


def text_tower(family: str = "roberta", **changes: Any) -> PreTrainedModel:
    sizes: dict[str, Any] = {
        "vocab_size": VOCAB,
        "hidden_size": WIDTH,
        "num_hidden_layers": 1,
        "num_attention_heads": HEADS,
        "intermediate_size": 2 * WIDTH,
        "max_position_embeddings": 40,
        "pad_token_id": PAD,
        **changes,
    }
    return (
        RobertaModel(RobertaConfig(**sizes, type_vocab_size=1))
        if family == "roberta"
        else BertModel(BertConfig(**sizes))
    )


def meter(
    vision: str = "clip",
    tasks: Sequence[str] = ("itm", "mlm"),
    cls: type[METERTransformerSS] = METERTransformerSS,
    **changes: Any,
) -> METERTransformerSS:
    """A small model of class ``cls`` with stirred weights; ``changes`` are config keys."""
    config = config_of(vision, tasks, **changes)
    return stirred(cls(config, Encoders(vision_tower(vision, config["image_size"]), text_tower())))


def batch_of(
    lengths: Sequence[int],
    padded_to: int = 0,
    masked: Sequence[tuple[int, int]] | None = None,
    image_size: int = IMAGE_SIZE["clip"],
    false_texts: int = 0,
    seed: int = 0,
) -> Batch:
    """A batch as METER's collation gives it: sentences of ``lengths`` tokens, ``<s>`` and ``</s>`` included.

    ``masked`` lists the (row, column) positions that MLM asks for; by default the second token of every sentence.
    """
    rng = torch.Generator().manual_seed(seed)
    batch = WORDS.batch(lengths, padded_to, masked, false_texts, rng)
    for name in ("image", "false_image_0"):
        batch[name] = [torch.randn(len(lengths), 3, image_size, image_size, generator=rng)]
    return batch


def small_run(folder: Path, **changes: Any) -> dict[str, Any]:
    """The config of a run whose text encoder and tokenizer are a folder."""
    tokenizer = tokenizer_from_files(BERT)
    if not (folder / "config.json").exists():
        tokenizer.save_pretrained(folder)
        text_tower("bert", vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id).save_pretrained(folder)
    sizes: dict[str, Any] = {"vocab_size": len(tokenizer), "input_text_embed_size": WIDTH, "hidden_size": 32}
    return resolved(["task_mlm_itm_clip_bert", "tiny", "epic"], tokenizer=str(folder), **{**sizes, **changes})


def saved_teacher(folder: Path, **changes: Any) -> Path:
    """The checkpoint of a METER of :func:`small_run`."""
    config = small_run(folder, **changes)
    path = folder / "teacher.ckpt"
    state = METERTransformerSS(config).state_dict()
    torch.save({"state_dict": state, "hyper_parameters": {"config": config}}, path)
    return path
