"""Small real runs of ALBEF's pre-training on a JSON list, built as the launcher builds them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from albef.baseline import BASELINE
from albef.config import COMMANDS
from tests.parity.fixture import FIXTURES
from tests.tokenizers import save_text_files, tokenizer_from_files
from tests.unit import yaml_runs
from tests.unit.data.raw import image_bytes
from tests.unit.small_parts import stirred
from vlp.config.schema import defaults
from vlp.yaml_dialect.command_line import merged
from vlp.yaml_dialect.run import Built

WORDS = [f"w{i}" for i in range(10)]  # of the tokenizer's vocabulary
WIDTH, PAIRS = 32, 26


def write_data(folder: Path) -> None:
    """Images and one caption of each, of 1 to 10 words; a tokenizer with a masked language model."""
    rows = []
    for i in range(PAIRS):
        (folder / f"{i}.png").write_bytes(image_bytes(i))
        rows.append({"image": f"{i}.png", "caption": " ".join(WORDS[: 1 + 3 * i % len(WORDS)])})
    (folder / "train.json").write_text(json.dumps(rows), encoding="utf-8")
    save_text_files(folder, WIDTH, 64)


def config_of(folder: Path, epic: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """The config of a run on :func:`write_data`'s folder, two epochs of six batches; EPIC if settings are given."""
    text = {
        **{"hidden_size": WIDTH, "num_hidden_layers": 4, "fusion_layer": 2, "num_attention_heads": 2},
        **{"intermediate_size": 64, "encoder_width": WIDTH, "max_position_embeddings": 40},
        "vocab_size": len(tokenizer_from_files(FIXTURES / "meter" / "tokenizer_bert_vocab.txt")),
    }
    keys: dict[str, Any] = {
        **{"train_file": [str(folder / "train.json")], "text_encoder": str(folder), "init": "random", "device": "cpu"},
        **{"output_dir": str(folder / "run"), "num_workers": 0, "batch_size": 4, "queue_size": 16, "embed_dim": 8},
        **{"bert_config": text, "vision_config": {"patch_size": 16, "width": WIDTH, "depth": 1, "heads": 2}},
        **{"vision_width": WIDTH, "image_res": 32, "log_every_n_steps": 1, "schedular": {"epochs": 2}},
        "epic": {"enabled": True, **epic} if epic is not None else {},
    }
    return merged(merged(defaults(COMMANDS["Pretrain"].schema), keys), changes)


def saved_teacher(folder: Path) -> str:
    """The checkpoint of an untrained model of :func:`config_of`."""
    config, path = config_of(folder), folder / "teacher.pth"
    if not path.exists():
        torch.manual_seed(1)
        torch.save({"model": stirred(BASELINE.model(config)).state_dict(), "config": config, "epoch": 0}, path)
    return str(path)


def built(config: dict[str, Any]) -> Built:
    """What the launcher builds."""
    return yaml_runs.built(BASELINE, "Pretrain", config)
