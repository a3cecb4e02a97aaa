"""The demo of a baseline with sacred's command line: ``python run.py with …``."""

from __future__ import annotations

import io
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image
from torch import Tensor

from demo.baseline import Curve, DemoBaseline, Held, Metrics
from demo.sizes import Sizes
from vlp.data.arrow.convert import make_arrow
from vlp.data.transforms import build_transform
from vlp.data.trim import trimmed
from vlp.sacred_dialect.baseline import SacredBaseline
from vlp.sacred_dialect.command_line import configured


@dataclass(frozen=True)
class SacredDemo(DemoBaseline):
    """METER and ViLT.

    Attributes:
        learning: items that say how fast so small a model learns in so few steps.
        smaller: items that make the baseline's small model still smaller.
    """

    description: SacredBaseline
    learning: Sequence[str]
    smaller: Sequence[str] = ()

    form: ClassVar = "Arrow tables"
    processes: ClassVar = 2
    text_layers: ClassVar = 2
    crops: ClassVar = False
    objectives: ClassVar = "masked language modelling and image-text matching"
    curves: ClassVar = (
        Curve("MLM loss", "mlm/train/loss", "Masked tokens, from the sentence and the image."),
        Curve("ITM loss", "itm/train/loss", "ln 2 = 0.69 is a coin flip."),
    )

    def converted(self, sizes: Sizes) -> Path:
        return sizes.path("data", "arrow", "coco.manifest.json")

    def convert(self, sizes: Sizes) -> None:
        make_arrow("coco", sizes.path("data", "raw"), sizes.path("data", "arrow"))

    # Commands --------------------------------------------------------------------------------------------

    def vanilla_config(self, sizes: Sizes, vocab_size: int) -> dict[str, Any]:
        items = self._pretraining(sizes, vocab_size, "vanilla")
        return configured(self.description.experiment, self.description.schema, items)

    def pretraining(self, sizes: Sizes, vocab_size: int, name: str) -> list[str]:
        return _launcher(self._pretraining(sizes, vocab_size, name))

    def _pretraining(self, sizes: Sizes, vocab_size: int, name: str) -> list[str]:
        return [
            *self.description.pretraining,
            *self._shared(sizes, vocab_size, sizes.processes),
            f"init.vision={sizes.image_encoder}",
            f"max_steps={sizes.steps}",
            *self.learning,
            f"log_dir={sizes.path(name)}",
            *self._epic(sizes, name),
        ]

    def evaluations(self, sizes: Sizes, vocab_size: int, name: str) -> dict[str, list[str]]:
        """Masked-token accuracy (and ITC) on val, and zero-shot retrieval on test; both runs' at once."""
        items = [
            *self._shared(sizes, vocab_size, processes=1),
            *("test_only=True", f"load_path={self.checkpoint(sizes, name)}", f"log_dir={sizes.path(name)}"),
        ]
        objectives = [*self.description.pretraining, *items, "eval_split=val", *self._epic(sizes, name)]
        # Only the ranking loss reads false captions, the recalls do not: one instead of fifteen.
        ranking = [self.description.finetuning.format("irtr_coco"), "get_recall_metric=True", "draw_false_text=1"]
        return {"objectives": _launcher(objectives), "retrieval": _launcher([*ranking, *items])}

    def shown(self, command: list[str]) -> str:
        return f"cd {self.description.name} && " + shlex.join(["python", *command[1:]])

    def _shared(self, sizes: Sizes, vocab_size: int, processes: int) -> list[str]:
        """What every launcher call of the demo shares, after the task's named config."""
        return [
            *self.description.small,
            *self.smaller,
            f"image_size={self.pixels}",
            f"data_root={sizes.path('data', 'arrow')}",
            "datasets=['coco']",
            f"tokenizer={sizes.language_model}",
            f"vocab_size={vocab_size}",
            f"num_gpus={processes}",
            "num_nodes=1",
            "num_workers=0",
            f"per_gpu_batchsize={sizes.batch}",
            f"batch_size={sizes.batch * processes}",
            f"seed={sizes.seed}",
        ]

    def _epic(self, sizes: Sizes, name: str) -> list[str]:
        """What turns a vanilla run into the EPIC run: the named config, and the vanilla model as the teacher."""
        return ["epic", f"teacher_path={self.checkpoint(sizes, 'vanilla')}"] if name == "epic" else []

    # What runs leave -------------------------------------------------------------------------------------

    def run_directory(self, sizes: Sizes, name: str) -> Path:
        return sizes.path(name, f"mlm_itm_seed{sizes.seed}_from_", "version_0")

    def measured(self, sizes: Sizes, name: str) -> dict[str, float]:
        return {}

    def recall(self, found: Mapping[str, Metrics], way: str, k: int) -> float:
        return 100 * found["retrieval"][f"recalls/{way}_r{k}"]

    def masked_token_accuracy(self, found: Mapping[str, Metrics]) -> float:
        return 100 * found["objectives"]["mlm/val/accuracy_epoch"]

    def itc_auroc(self, found: Mapping[str, Metrics]) -> float:
        return found["objectives"]["epic/val/epic_itc_auroc"]

    def asked(self, config: dict[str, Any], path: Path) -> dict[str, Any]:
        return {**config, "test_only": True, "load_path": str(path), "num_gpus": 1}

    def eval_transform(self, config: Mapping[str, Any]) -> Callable[[Image.Image], Tensor]:
        return build_transform(config["val_transform_keys"][0], config["image_size"])

    def test_images(self, sizes: Sizes, held: Held, count: int) -> Iterable[tuple[dict[str, Any], Image.Image]]:
        dataset = held.datamodule.dataset("coco", "test", false_draws=False)
        # The first captions of images that lie apart in the split; each image has its captions one after the other.
        for index in range(0, len(dataset), max(len(dataset) // count, 1))[:count]:
            batch = trimmed(held.datamodule.collate([dataset[index]]))
            data = dataset.tables.cell(dataset.row(index), "image")
            yield batch, Image.open(io.BytesIO(data)).convert("RGB")


def _launcher(items: Sequence[str]) -> list[str]:
    """The launcher with ``items``, run from the baseline's folder."""
    return [sys.executable, "run.py", "with", *items]
