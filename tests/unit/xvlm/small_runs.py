"""Small real runs of X-VLM's pre-training on two streams of JSON lines, built as the launcher builds them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from tests.parity.fixture import FIXTURES
from tests.tokenizers import save_text_files, tokenizer_from_files
from tests.unit import yaml_runs
from tests.unit.data.raw import image_bytes
from tests.unit.small_parts import stirred
from tests.unit.xvlm import small
from vlp.config.schema import defaults
from vlp.yaml_dialect.command_line import merged
from vlp.yaml_dialect.run import Built, finish
from xvlm.baseline import BASELINE
from xvlm.config import COMMANDS

WORDS = [f"w{i}" for i in range(10)]  # of the tokenizer's vocabulary
PAIRS, REGION_ROWS = 20, 12
ITERATIONS, WITH_REGIONS = 6, 3  # of an epoch
STEPS = ITERATIONS + WITH_REGIONS
TOKENIZER = FIXTURES / "meter" / "tokenizer_bert_vocab.txt"


def words(i: int) -> str:
    """1 to 10 words of the tokenizer's vocabulary."""
    return " ".join(WORDS[: 1 + 3 * i % len(WORDS)])


def write_data(folder: Path) -> None:
    """Images, two files of pairs, one of regions, and a tokenizer with a masked language model."""
    for i in range(PAIRS):
        (folder / f"{i}.png").write_bytes(image_bytes(i))  # 40 x 30 pixels
    pairs = [{"image_rpath": f"{i}.png", "caption": words(i)} for i in range(PAIRS)]
    write_lines(folder / "first.json", pairs[:14])
    write_lines(folder / "second.json", pairs[14:])
    write_lines(folder / "regions.json", [region_row(i) for i in range(REGION_ROWS)])
    save_text_files(folder, small.TEXT["hidden_size"], 32)


def region_row(i: int) -> dict[str, Any]:
    """An image with two or three elements, every third with a caption of the whole."""
    boxes = [[2 + i % 5, 3, 20, 15], [10, 5 + i % 4, 12, 20], [1, 1, 30, 25]]
    elements: list[dict[str, Any]] = [{"bb": box, "caption": words(i + j)} for j, box in enumerate(boxes[: 2 + i % 2])]
    elements[0]["attributes"] = ["w1", "w2"]
    return {"image_rpath": f"{i}.png", "elems": elements, **({} if i % 3 else {"caption": [words(i), words(i + 1)]})}


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """A file of JSON lines."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def config_of(folder: Path, epic: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """The config of a run on :func:`write_data`'s folder: two epochs of :data:`STEPS`; EPIC if settings are given."""
    stream = {"image_key": "image_rpath", "is_image_rpath": True}
    keys: dict[str, Any] = {
        **{"train_file": [str(folder / "first.json"), str(folder / "second.json")], "image_root": str(folder)},
        **{"train_file_regions": [str(folder / "regions.json")], "train_dataset_size": 3 * ITERATIONS},
        "images": {**stream, "batch_size": 3},
        "regions": {**stream, "batch_size": 4, "max_images": 2, "max_regions": 3},
        **{"text_encoder": str(folder), "init": "random", "device": "cpu", "precision": 32},
        **{
            "num_workers": 0,
            "output_dir": str(folder / "run"),
            "image_res": small.IMAGE,
            "embed_dim": 8,
            "log_every_n_steps": 1,
        },
        "vision_config": {**small.VISION, "ckpt": "none"},
        "text_config": {
            **small.TEXT,
            **{"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
            "vocab_size": len(tokenizer_from_files(TOKENIZER)),
        },
        **{"schedular": {"epochs": 2, "num_warmup_steps": 4}, "ckpt_frequent": 1, "ckpt_frequent_step": 5},
        "epic": {"enabled": True, **epic} if epic is not None else {},
    }
    schema: Any = COMMANDS["Pretrain"].schema
    return schema.settled(merged(merged(defaults(schema), keys), changes))


def saved_teacher(folder: Path) -> str:
    """The checkpoint of an untrained model of :func:`config_of`."""
    config, path = config_of(folder), folder / "teacher.th"
    if not path.exists():
        torch.manual_seed(1)
        torch.save({"model": stirred(BASELINE.model(config)).state_dict(), "config": config}, path)
    return str(path)


def built(config: dict[str, Any]) -> Built:
    """What the launcher builds."""
    return yaml_runs.built(BASELINE, "Pretrain", config)


def trained(config: dict[str, Any]) -> Built:
    """A run to its end."""
    made = yaml_runs.trained(BASELINE, "Pretrain", config)
    finish(BASELINE, made, config)
    return made
