"""Small real runs of METER and ViLT on Arrow tables, built as their launchers build them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.tokenizers import tokenizer_from_files
from tests.unit.configs import resolve
from tests.unit.data.raw import image_bytes, write_table
from tests.unit.meter.small import BERT, WIDTH, text_tower
from vlp.baseline import get_baseline
from vlp.data.arrow.writer import CAPTION
from vlp.sacred_dialect.baseline import SacredBaseline
from vlp.sacred_dialect.run import build
from vlp.training.progress import PlainProgress
from vlp.training.run import Run

TASKS = {"meter": "task_mlm_itm_clip_bert", "vilt": "task_mlm_itm"}
SIZES: dict[str, dict[str, Any]] = {"meter": {"input_text_embed_size": WIDTH, "hidden_size": 32}, "vilt": {}}
WORDS = [f"w{i}" for i in range(10)]  # of the tokenizer's vocabulary


def write_data(folder: Path, images: int = 24) -> None:
    """COCO's tables, two captions of 1 to 10 words an image; a tokenizer with a text encoder of its size."""
    for split, count in (("train", images), ("restval", 1), ("test", 4)):
        rows = [
            {
                "image": image_bytes(i),
                "caption": [" ".join(WORDS[: 1 + (3 * i + j) % len(WORDS)]) for j in range(2)],
                "image_id": f"{split}_{i}.jpg",
                "split": split,
            }
            for i in range(count)
        ]
        write_table(folder / f"coco_caption_karpathy_{split}.arrow", rows, CAPTION)
    tokenizer = tokenizer_from_files(BERT)
    tokenizer.save_pretrained(folder)
    text_tower("bert", vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id).save_pretrained(folder)


def config_of(name: str, folder: Path, *named: str, **changes: Any) -> dict[str, Any]:
    """The config of a run of ``name`` on :func:`write_data`'s folder: two batches of four pairs a step."""
    baseline: SacredBaseline = get_baseline(name)
    keys: dict[str, Any] = {
        **{"data_root": str(folder), "datasets": ["coco"], "tokenizer": str(folder), "log_dir": str(folder / "runs")},
        **{"num_gpus": 1, "num_workers": 0, "per_gpu_batchsize": 4, "batch_size": 8, "max_steps": 3, "warmup_steps": 1},
        **{"vocab_size": len(tokenizer_from_files(BERT)), **SIZES[name]},
    }
    return resolve(baseline.experiment, [TASKS[name], "tiny", *named], **{**keys, **changes})


def saved_teacher(name: str, folder: Path) -> str:
    """The checkpoint of an untrained model of :func:`config_of`."""
    config, path = config_of(name, folder), folder / f"{name}_teacher.ckpt"
    if not path.exists():
        state = get_baseline(name).model(config).state_dict()
        torch.save({"state_dict": state, "hyper_parameters": {"config": config}}, path)
    return str(path)


def built(name: str, folder: Path, *named: str, **changes: Any) -> Run:
    """What the launcher builds; with the named config ``epic`` the teacher is :func:`saved_teacher`."""
    if "epic" in named:
        changes["teacher_path"] = saved_teacher(name, folder)
    run = build(get_baseline(name), config_of(name, folder, *named, **changes))
    for callback in run.trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, PlainProgress):
            callback.every = 3600  # a line reads the loss, whenever the clock says so
    return run
