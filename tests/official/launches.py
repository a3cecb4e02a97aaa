"""How each official launcher pre-trains a few steps on scenes: its data, its command line, what it saves.

The command lines are those of each baseline's page in docs/official. Every launcher needs one GPU, X-VLM's NVIDIA
Apex besides.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from scenes.coco_layout import Request, write_coco
from vlp.data.arrow.convert import make_arrow

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1")


@dataclass(frozen=True)
class Run:
    """One start of a launcher in ``checkout``."""

    checkout: Path
    data: Path  # what `prepare` wrote
    output: Path
    teacher: Path | None = None  # EPIC is on with this one
    resumed: Path | None = None  # a checkpoint to go on from


@dataclass(frozen=True)
class Launch:
    """A code base's launcher."""

    prepare: Callable[[Path], None]
    command: Callable[[Run], list[str]]  # what follows `python`
    weights: str  # the file that a run's last weights are in, below its output
    key: str  # of the weights in that file
    restart: str | None  # the file that a run can go on from


def pairs(data: Path) -> list[tuple[str, str]]:
    """Images by their paths, and their captions, of scenes in COCO's raw layout."""
    entries = json.loads((data / "karpathy" / "dataset_coco.json").read_text(encoding="utf-8"))["images"]
    return [
        (str(data / entry["filepath"] / entry["filename"]), sentence["raw"])
        for entry in entries
        if entry["split"] == "train"
        for sentence in entry["sentences"]
    ]


# METER and ViLT: Arrow tables, sacred --------------------------------------------------------------------


def _arrow(data: Path) -> None:
    write_coco(data / "raw", Request(train=4, val=2, test=2, captions=2, image_size=96, seed=0))
    make_arrow("coco", data / "raw", data / "arrow")


def _sacred(*named: str) -> Callable[[Run], list[str]]:
    """Four batches are an epoch, after which a checkpoint is saved."""

    def command(run: Run) -> list[str]:
        items = [
            *(
                "run.py",
                "with",
                *named,
                f"data_root={run.data / 'arrow'}",
                f"log_dir={run.output}",
                "datasets=['coco']",
            ),
            *("num_gpus=1", "num_nodes=1", "num_workers=0", "precision=32", "per_gpu_batchsize=2", "batch_size=2"),
            f"max_steps={8 if run.resumed else 4}",
        ]
        items += [f"resume_from={run.resumed}"] if run.resumed else []
        return items + (["epic.enabled=True", f"teacher_path={run.teacher}"] if run.teacher else [])

    return command


# ALBEF and X-VLM: lists, YAML ----------------------------------------------------------------------------


def _list(data: Path) -> None:
    write_coco(data, Request(train=4, val=1, test=1, captions=1, image_size=96, seed=0))
    (data / "pairs.json").write_text(json.dumps([{"image": image, "caption": text} for image, text in pairs(data)]))


def _lines(data: Path) -> None:
    write_coco(data, Request(train=8, val=1, test=1, captions=1, image_size=96, seed=0))
    rows = [{"image_rpath": image, "caption": text} for image, text in pairs(data)]
    regions = [
        {"image_rpath": image, "elems": [{"caption": text, "bb": [8, 8, 64, 64]}] * 2} for image, text in pairs(data)
    ]
    for name, each in (("pairs", rows), ("regions", regions)):
        (data / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in each))


def _albef_keys(data: Path) -> dict[str, Any]:
    return {"train_file": [str(data / "pairs.json")], "batch_size": 2, "schedular": {"epochs": 2}}


def _xvlm_keys(data: Path) -> dict[str, Any]:
    read = {"image_key": "image_rpath", "is_image_rpath": True, "tokenized": False, "num_workers": 1, "batch_size": 4}
    return {
        **{"train_file": [str(data / "pairs.jsonl")], "train_dataset_size": 8, "images": read, "ckpt_frequent": 1},
        **{"train_file_regions": [str(data / "regions.jsonl")], "schedular": {"epochs": 2}},
        "regions": {**read, "max_images": 2, "max_regions": 2, "min_perc_in_image": 0.1},
    }


def _yaml(name: str, keys: Callable[[Path], dict[str, Any]]) -> Callable[[Run], list[str]]:
    """With a copy of the official configuration; with EPIC, where the patch put its keys."""

    def command(run: Run) -> list[str]:
        config = YAML(typ="safe", pure=True).load(run.checkout / "configs" / name)
        _update(config, keys(run.data))
        if run.teacher:
            _update(config, {"teacher_path": str(run.teacher), "epic": {"enabled": True}})
        path = run.checkout / "configs" / f"{run.output.name}.yaml"
        YAML(typ="safe", pure=True).dump(config, path)
        flags = ["--config", str(path), "--output_dir", str(run.output)]
        resume = ["--checkpoint", str(run.resumed), "--resume", "True"] if run.resumed else []
        return [*TORCHRUN, "Pretrain.py", *flags, *resume]

    return command


def _update(config: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(config.get(key), dict):
            _update(config[key], value)
        else:
            config[key] = value


METER = ("task_mlm_itm_clip_bert", "clip16", "text_roberta", "image_size=288")
LAUNCHES = {
    "meter": Launch(_arrow, _sacred(*METER), "**/last.ckpt", "state_dict", "**/last.ckpt"),
    "vilt": Launch(
        _arrow, _sacred("task_mlm_itm", "whole_word_masking=True"), "**/last.ckpt", "state_dict", "**/last.ckpt"
    ),
    "albef": Launch(_list, _yaml("Pretrain.yaml", _albef_keys), "checkpoint_01.pth", "model", "checkpoint_00.pth"),
    "xvlm": Launch(_lines, _yaml("Pretrain_XVLM_base_4m.yaml", _xvlm_keys), "model_state_epoch_1.th", "model", None),
}
