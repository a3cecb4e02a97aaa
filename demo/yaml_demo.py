"""The demo of a baseline with YAML files and a script a task: ``torchrun Pretrain.py --config …``."""

from __future__ import annotations

import random
import shlex
import sys
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from demo.baseline import DemoBaseline, Held, Metrics
from demo.sizes import REPOSITORY, Sizes
from vlp.data.json.text import pre_caption
from vlp.data.json.transforms import EvalTransform
from vlp.files import regular
from vlp.yaml_dialect.baseline import YamlBaseline
from vlp.yaml_dialect.command_line import configured

RERANKED = 256 / 5000  # k_test of COCO's test images, officially
OF_RETRIEVAL = {"tr": "txt", "ir": "img"}


class Captions(Protocol):
    """A caption of each of a list's images, with the whole image."""

    @property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """Of the list; "image" names a file below the raw data."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any:
        """A sample, as the collator takes it."""


@dataclass(frozen=True)
class YamlDemo(DemoBaseline):
    """A subclass says what its baseline reads and trains.

    Attributes:
        learning: items that say how fast so small a model learns in so few steps.
    """

    description: YamlBaseline
    learning: Sequence[str]

    processes: ClassVar = 1  # ALBEF's contrast sees a process's own pairs and the queue alone
    text_layers: ClassVar = 4  # half of them fuse
    crops: ClassVar = True

    # What is the baseline's own --------------------------------------------------------------------------

    @abstractmethod
    def streams(self, sizes: Sizes) -> list[str]:
        """The items of pre-training that name its data, its batch and its length."""

    @abstractmethod
    def shared(self, sizes: Sizes, vocab_size: int) -> list[str]:
        """The items that every command shares."""

    @abstractmethod
    def captions(self, sizes: Sizes, held: Held, name: str) -> Captions:
        """A caption of every image of the list ``name``."""

    @abstractmethod
    def outputs(self, model: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """What the pre-training model says of a batch."""

    # Commands --------------------------------------------------------------------------------------------

    def vanilla_config(self, sizes: Sizes, vocab_size: int) -> dict[str, Any]:
        folder, items = REPOSITORY / self.description.name, self._pretraining(sizes, vocab_size, "vanilla")
        arguments = _arguments(folder, "Pretrain", sizes.path("vanilla"), items)
        return configured(self.description.scripts["Pretrain"].command, arguments)

    def pretraining(self, sizes: Sizes, vocab_size: int, name: str) -> list[str]:
        return _torchrun(sizes, "Pretrain", sizes.path(name), self._pretraining(sizes, vocab_size, name))

    def _pretraining(self, sizes: Sizes, vocab_size: int, name: str) -> list[str]:
        return [
            *_flags(sizes),
            *self.shared(sizes, vocab_size),
            *self.streams(sizes),
            *self.learning,
            *(f"init.vision={sizes.image_encoder}", "init.text=pretrained"),
            f"max_steps={sizes.steps}",
            *(self._epic(sizes) if name == "epic" else []),
        ]

    def evaluations(self, sizes: Sizes, vocab_size: int, name: str) -> dict[str, list[str]]:
        """Zero-shot retrieval; the val split is scored, too."""
        items = [
            *("--evaluate", "--checkpoint", str(self.checkpoint(sizes, name))),
            *_flags(sizes),
            *self.shared(sizes, vocab_size),
            *(f"{split}_file={lists(sizes, f'coco_{split}.json')}" for split in ("val", "test")),
            f"image_root={sizes.path('data', 'raw')}",
            *(f"batch_size_{part}={sizes.batch}" for part in ("train", "test")),
            f"k_test={max(1, round(RERANKED * min(sizes.test_images, sizes.val_images)))}",
        ]
        return {"retrieval": _torchrun(sizes, "Retrieval", sizes.path(name, "retrieval"), items)}

    def shown(self, command: list[str]) -> str:
        return f"cd {self.description.name} && " + shlex.join(["torchrun", *command[3:]])

    def _epic(self, sizes: Sizes) -> list[str]:
        """What turns a vanilla run into the EPIC run, the vanilla model as the teacher."""
        return ["epic.enabled=True", f"teacher_path={self.checkpoint(sizes, 'vanilla')}"]

    # What runs leave -------------------------------------------------------------------------------------

    def run_directory(self, sizes: Sizes, name: str) -> Path:
        return sizes.path(name)

    @torch.no_grad()
    def measured(self, sizes: Sizes, name: str) -> dict[str, float]:
        """Masked-token accuracy and ITC on the val split: officially, pre-training has no validation."""
        torch.manual_seed(sizes.seed)
        held = self.load(sizes, name)
        dataset: Any = self.captions(sizes, held, "coco_val.json")
        right = chosen = 0
        for batch in DataLoader(dataset, sizes.batch, collate_fn=held.datamodule.collate):
            outputs = self.outputs(held.model, batch)
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

    def eval_transform(self, config: Mapping[str, Any]) -> Callable[[Image.Image], Tensor]:
        transform = EvalTransform(config["image_res"])
        return lambda image: transform(image, random.Random(0))  # it draws nothing

    def test_images(self, sizes: Sizes, held: Held, count: int) -> Iterable[tuple[dict[str, Any], Image.Image]]:
        dataset = self.captions(sizes, held, "coco_test.json")
        for index in range(0, len(dataset), max(len(dataset) // count, 1))[:count]:
            batch = held.datamodule.collate([dataset[index]])
            yield batch, Image.open(regular(sizes.path("data", "raw", dataset.rows[index]["image"]))).convert("RGB")

    def cleaned(self, caption: str) -> str:
        return pre_caption(caption)


def lists(sizes: Sizes, *name: str) -> Path:
    """The folder of the JSON lists, or one of them."""
    return sizes.path("data", "lists", *name)


def _flags(sizes: Sizes) -> list[str]:
    return ["--seed", str(sizes.seed), "num_workers=0"]


def _torchrun(sizes: Sizes, script: str, output: Path, items: list[str]) -> list[str]:
    """A script of the baseline with its small model, run from the baseline's folder."""
    processes = ["--standalone", f"--nproc_per_node={sizes.processes}"]
    launcher = [sys.executable, "-m", "torch.distributed.run", *processes]
    return [*launcher, f"{script}.py", *_arguments(Path(), script, output, items)]


def _arguments(folder: Path, script: str, output: Path, items: list[str]) -> list[str]:
    return ["--config", str(folder / "configs" / "tiny" / f"{script}.yaml"), "--output_dir", str(output), *items]
