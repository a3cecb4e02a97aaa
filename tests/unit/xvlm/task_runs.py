"""Small real runs of every script of X-VLM, built as the launcher builds them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.tokenizers import tokenizer_from_files
from tests.unit import yaml_runs
from tests.unit.albef.task_runs import ANSWERS, TEST, TESTED, TRAIN, write_references
from tests.unit.xvlm import small, small_runs
from tests.unit.xvlm.small_runs import PAIRS, TOKENIZER, words
from vlp.config.schema import defaults
from vlp.yaml_dialect.command_line import merged
from vlp.yaml_dialect.run import Built
from xvlm.baseline import BASELINE
from xvlm.config import COMMANDS

STAGES = ("NLVR_pretrain", "Grounding_bbox_pretrain", "Captioning_pretrain")
LISTS = ("Retrieval", "VQA", "NLVR", "Grounding", "Grounding_bbox", "Captioning")
SCRIPTS = ("Pretrain", *STAGES, *LISTS)
BATCH = 4


def write_data(folder: Path) -> None:
    """What :func:`small_runs.write_data` writes, and the lists of every script."""
    small_runs.write_data(folder)
    for script in ("Retrieval", "VQA", "Grounding"):
        for name, row, rows in (("train", TRAIN[script], PAIRS), ("test", TEST[script], TESTED)):
            write_list(folder / f"{script}_{name}.json", [row(i) for i in range(rows)])
    phrases = [{"image": f"{i % TESTED}.png", "text": words(i), "ref_id": i % TESTED} for i in range(PAIRS)]
    write_list(folder / "Grounding_bbox_train.json", phrases)
    write_list(folder / "Grounding_bbox_test.json", phrases[:TESTED])
    captions = [{"image": f"{i}.png", "caption": words(i), "image_id": f"{i}"} for i in range(PAIRS)]
    pairs = [{"images": [f"{i}.png", f"{(i + 5) % PAIRS}.png"], "sentence": words(i)} for i in range(PAIRS)]
    statements = [{**pair, "label": ("True", "False")[i % 2]} for i, pair in enumerate(pairs)]
    write_list(folder / "NLVR_train.json", statements)
    write_list(folder / "NLVR_test.json", statements[:TESTED])
    write_list(folder / "Captioning_train.json", captions)
    write_list(folder / "Captioning_test.json", captions[:TESTED])
    write_list(folder / "answers.json", ANSWERS)
    true = [{"image_id": i, "id": i, "caption": words(i)} for i in range(TESTED)]
    write_list(folder / "gt.json", {"images": [{"id": i} for i in range(TESTED)], "annotations": true})
    write_references(folder)


def write_list(path: Path, rows: Any) -> None:
    path.write_text(json.dumps(rows), encoding="utf-8")


def config_of(script: str, folder: Path, **changes: Any) -> dict[str, Any]:
    """The config of a run on :func:`write_data`'s folder: two epochs, which evaluate where the script does."""
    if script == "Pretrain":
        return small_runs.config_of(folder, **changes)
    schema: Any = COMMANDS[script].schema
    keys: dict[str, Any] = {
        **{"text_encoder": str(folder), "init": "random", "device": "cpu", "precision": 32, "num_workers": 0},
        **{"output_dir": str(folder / "run"), "image_res": small.IMAGE, "log_every_n_steps": 1},
        "vision_config": {**small.VISION, "ckpt": "none"},
        "text_config": {
            **small.TEXT,
            **{"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
            "vocab_size": len(tokenizer_from_files(TOKENIZER)),
        },
        **{"schedular": {"epochs": 2}, "image_root": str(folder), **own_keys(script, folder)},
    }
    known = {name: value for name, value in keys.items() if name in schema.model_fields}
    return schema.settled(merged(merged(defaults(schema), known), changes))


def own_keys(script: str, folder: Path) -> dict[str, Any]:
    """Those of the script's data."""
    if script in STAGES:
        stream = {"image_key": "image_rpath", "is_image_rpath": True, "caption_key": "caption", "batch_size": BATCH}
        return {
            **{"train_file": [str(folder / "first.json"), str(folder / "second.json")], "images": stream},
            **{"train_file_regions": [str(folder / "regions.json")], "train_dataset_size": 5 * BATCH, "embed_dim": 8},
            "regions": {**stream, "max_images": 2, "max_regions": 3},
        }
    test = str(folder / f"{script}_test.json")
    return {
        **{"train_file": [str(folder / f"{script}_train.json")], "val_file": test, "test_file": test},
        **{"batch_size": BATCH, "batch_size_train": BATCH, "batch_size_test": BATCH, "embed_dim": 8, "k_test": 3},
        **{"answer_list": str(folder / "answers.json"), "vqa_root": str(folder), "vg_root": str(folder)},
        **{"det_file": str(folder / "dets.json"), "refcoco_data": str(folder), "block_num": 2, "num_dec_layers": 2},
        **{"val_gt_file": str(folder / "gt.json"), "test_gt_file": str(folder / "gt.json"), "start_eval": 0},
    }


def built(script: str, config: dict[str, Any]) -> Built:
    """What the launcher builds."""
    return yaml_runs.built(BASELINE, script, config)


def trained(script: str, config: dict[str, Any]) -> Built:
    """A run to its end, which nothing scores after it."""
    return yaml_runs.trained(BASELINE, script, config)
