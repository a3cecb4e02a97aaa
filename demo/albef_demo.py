"""The demo of ALBEF: JSON lists of pairs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

from demo.baseline import Curve, Held
from demo.sizes import CAPTIONS_PER_IMAGE, POSITIONS, Sizes
from demo.yaml_demo import Captions, YamlDemo, lists
from vlp.data.json.convert import make_lists
from vlp.data.json.dataset import Roots
from vlp.data.json.datasets import PretrainDataset
from vlp.data.json.transforms import EvalTransform

QUEUED_BATCHES = 2  # older features are of a model that has changed since


class AlbefDemo(YamlDemo):
    """Its pre-training and its retrieval."""

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

    def streams(self, sizes: Sizes) -> list[str]:
        batches = max(CAPTIONS_PER_IMAGE * sizes.train_images // (sizes.batch * sizes.processes), 1)
        return [
            f"train_file={lists(sizes, 'coco.json')}",
            f"image_root={sizes.path('data', 'raw')}",
            f"batch_size={sizes.batch}",
            "mlm_probability=0.3",
            f"schedular.epochs={math.ceil(sizes.steps / batches)}",
        ]

    def shared(self, sizes: Sizes, vocab_size: int) -> list[str]:
        return [
            *("--text_encoder", str(sizes.language_model)),
            f"image_res={self.pixels}",
            f"bert_config.vocab_size={vocab_size}",
            f"bert_config.max_position_embeddings={POSITIONS}",
            f"queue_size={QUEUED_BATCHES * sizes.batch * sizes.processes}",
        ]

    def captions(self, sizes: Sizes, held: Held, name: str) -> Captions:
        root = Roots({"image_root": str(sizes.path("data", "raw"))})
        return PretrainDataset([lists(sizes, name)], root, EvalTransform(held.model.config["image_res"]), sizes.seed)

    def outputs(self, model: Any, batch: dict[str, Any]) -> dict[str, Any]:
        return model(batch, 0.0)
