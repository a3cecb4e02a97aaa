"""The demo of a baseline with YAML files and a script a task: ``torchrun Pretrain.py --config …``."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch.utils.data import DataLoader

from demo.baseline import Curve, DemoBaseline, Held, Metrics
from demo.sizes import Sizes
from vlp.data.json.convert import make_lists
from vlp.data.json.dataset import Roots
from vlp.data.json.datasets import PretrainDataset
from vlp.data.json.text import pre_caption
from vlp.data.json.transforms import EvalTransform
from vlp.yaml_dialect.baseline import YamlBaseline

IMAGE_RES = 80  # the images are drawn in this size
CAPTIONS_PER_IMAGE = 2
QUEUED_BATCHES = 16
OF_RETRIEVAL = {"tr": "txt", "ir": "img"}


@dataclass(frozen=True)
class YamlDemo(DemoBaseline):
    """ALBEF.

    Attributes:
        learning: items that say how fast so small a model learns in so few steps.
    """

    description: YamlBaseline
    learning: Sequence[str]

    form: ClassVar = "JSON lists"
    objectives: ClassVar = "image-text contrast, image-text matching and masked language modelling"
    curves: ClassVar = (
        Curve("MLM loss", "train/loss_mlm", "Masked tokens, from the sentence and the image."),
        Curve("ITM loss", "train/loss_itm", "Of a pair and two hard negatives: 0.64 is what their numbers alone give."),
        Curve("ITA loss", "train/loss_ita", "Image-text contrast over the batch and the queues."),
    )

    def converted(self, sizes: Sizes) -> Path:
        return lists(sizes, "coco.manifest.json")

    def convert(self, sizes: Sizes) -> None:
        make_lists("coco", sizes.path("data", "raw"), lists(sizes))

    # Commands --------------------------------------------------------------------------------------------

    def pretraining(self, sizes: Sizes, vocab_size: int, name: str) -> list[str]:
        pairs = sizes.batch * sizes.processes
        batches = max(CAPTIONS_PER_IMAGE * sizes.train_images // pairs, 1)
        items = [
            f"train_file={lists(sizes, 'coco.json')}",
            *_shared(sizes, vocab_size),
            f"batch_size={sizes.batch}",
            "mlm_probability=0.4",
            *self.learning,
            f"schedular.epochs={math.ceil(sizes.steps / batches)}",
            f"max_steps={sizes.steps}",
            *(self._epic(sizes) if name == "epic" else []),
        ]
        return _torchrun(sizes, "Pretrain", sizes.path(name), items)

    def evaluations(self, sizes: Sizes, vocab_size: int, name: str) -> dict[str, list[str]]:
        """Zero-shot retrieval; the val split is scored, too."""
        items = [
            *("--evaluate", "--checkpoint", str(self.checkpoint(sizes, name))),
            *(f"{split}_file={lists(sizes, f'coco_{split}.json')}" for split in ("val", "test")),
            *_shared(sizes, vocab_size),
            *(f"batch_size_{part}={sizes.batch}" for part in ("train", "test")),
            f"k_test={min(64, sizes.test_images, sizes.val_images)}",
        ]
        return {"retrieval": _torchrun(sizes, "Retrieval", sizes.path(name, "retrieval"), items)}

    def shown(self, command: list[str]) -> str:
        return f"cd {self.description.name} && " + shlex.join(["torchrun", *command[3:]])

    def _epic(self, sizes: Sizes) -> list[str]:
        """What turns a vanilla run into the EPIC run, the vanilla model as the teacher."""
        return ["epic.enabled=True", "epic.append_sep=True", f"teacher_path={self.checkpoint(sizes, 'vanilla')}"]

    # What runs leave -------------------------------------------------------------------------------------

    def run_directory(self, sizes: Sizes, name: str) -> Path:
        return sizes.path(name)

    @torch.no_grad()
    def measured(self, sizes: Sizes, name: str) -> dict[str, float]:
        """Masked-token accuracy and ITC on the val split: officially, pre-training has no validation."""
        torch.manual_seed(sizes.seed)
        held = self.load(sizes, name)
        dataset = captions_of(sizes, held, "coco_val.json")
        right = chosen = 0
        for batch in DataLoader(dataset, sizes.batch, collate_fn=held.datamodule.collate):
            outputs = held.model(batch, 0.0)
            right += int((outputs["mlm_logits"].argmax(dim=-1) == outputs["mlm_labels"]).sum())
            chosen += len(outputs["mlm_labels"])
        of_epic = held.model.epic.metrics.compute(held.model.device) if held.model.epic is not None else {}
        return {"accuracy": right / chosen, **of_epic}

    def recall(self, found: Mapping[str, Metrics], way: str, k: int) -> float:
        return found["retrieval"][f"test_{OF_RETRIEVAL[way]}_r{k}"]

    def masked_token_accuracy(self, found: Mapping[str, Metrics]) -> float:
        return 100 * found["measured"]["accuracy"]

    def itc_auroc(self, found: Mapping[str, Metrics]) -> float:
        return found["measured"]["epic_itc_auroc"]

    # Models ----------------------------------------------------------------------------------------------

    def asked(self, config: dict[str, Any], path: Path) -> dict[str, Any]:
        return {**config, "checkpoint": str(path), "resume_from": None}

    def test_images(self, sizes: Sizes, held: Held, count: int) -> Iterable[tuple[dict[str, Any], Image.Image]]:
        dataset = captions_of(sizes, held, "coco_test.json")
        for index in range(0, len(dataset), max(len(dataset) // count, 1))[:count]:
            batch = held.datamodule.collate([dataset[index]])
            yield batch, Image.open(sizes.path("data", "raw", dataset.rows[index]["image"])).convert("RGB")

    def cleaned(self, caption: str) -> str:
        return pre_caption(caption)


def lists(sizes: Sizes, *name: str) -> Path:
    """The folder of the JSON lists, or one of them."""
    return sizes.path("data", "lists", *name)


def captions_of(sizes: Sizes, held: Held, name: str) -> PretrainDataset:
    """A caption of every image of a list, with the whole image."""
    root = Roots({"image_root": str(sizes.path("data", "raw"))})
    return PretrainDataset([lists(sizes, name)], root, EvalTransform(held.model.config["image_res"]), sizes.seed)


def _shared(sizes: Sizes, vocab_size: int) -> list[str]:
    """What every command of the demo shares."""
    return [
        *("--text_encoder", str(sizes.language_model), "--seed", str(sizes.seed)),
        f"image_root={sizes.path('data', 'raw')}",
        f"image_res={IMAGE_RES}",
        f"bert_config.vocab_size={vocab_size}",
        f"queue_size={QUEUED_BATCHES * sizes.batch * sizes.processes}",
        "num_workers=0",
    ]


def _torchrun(sizes: Sizes, script: str, output: Path, items: list[str]) -> list[str]:
    """A script of the baseline with its small model, run from the baseline's folder."""
    flags = ["--config", f"./configs/tiny/{script}.yaml", "--output_dir", str(output)]
    processes = ["--standalone", f"--nproc_per_node={sizes.processes}"]
    return [sys.executable, "-m", "torch.distributed.run", *processes, f"{script}.py", *flags, *items]
