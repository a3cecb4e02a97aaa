"""The demo of X-VLM: JSON lines of pairs, and of the boxes and phrases of the scenes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from demo.baseline import Curve, Held
from demo.sizes import CAPTIONS_PER_IMAGE, POSITIONS, Sizes
from demo.yaml_demo import Captions, YamlDemo, lists
from scenes.task_layouts import write_tasks
from vlp.data.draws import SampleKey
from vlp.data.json.convert import make_lists
from vlp.data.json.images import ImageRoot
from vlp.data.json.transforms import EvalTransform
from vlp.data.jsonl.convert import Options, make_files
from vlp.data.jsonl.pairs import PairReader
from vlp.data.jsonl.rows import RowImages
from vlp.files import read_json

REGION_SHARE = 0.5  # of the iterations have a batch of regions
IMAGES_PER_TEXT = 48 / 128  # of an official batch of regions
SHARDS = 4


class XvlmDemo(YamlDemo):
    """Its pre-training on both streams, and its retrieval."""

    form: ClassVar = "JSON lines of pairs and regions, and JSON lists"
    objectives: ClassVar = "image-text contrast, matching, masked language modelling and boxes of regions"
    curves: ClassVar = (
        Curve("MLM loss", "train/loss_mlm", "Masked tokens, from the sentence and the image."),
        Curve("ITM loss", "train/loss_itm", "Of a pair and two hard negatives: 0.64 is what their numbers alone give."),
        Curve("ITC loss (contrast)", "train/loss_itc", "Image-text contrast over the batch."),
        Curve("Box loss, L1", "train/regions/loss_bbox", "Of the boxes that phrases speak of, as shares of the image."),
        Curve("Box loss, GIoU", "train/regions/loss_giou", "1 minus the generalised IoU of these boxes."),
    )

    def converted(self, sizes: Sizes) -> Path:
        return sizes.path("data", "streams", "vg_regions.manifest.json")

    def convert(self, sizes: Sizes) -> None:
        """Phrases and boxes go through Visual Genome's layout, as real ones do."""
        raw, genome = sizes.path("data", "raw"), sizes.path("data", "boxes")
        if not genome.exists():
            write_tasks(raw, genome, ["vg"])
        if not lists(sizes, "coco.manifest.json").exists():
            make_lists("coco", raw, lists(sizes))
        options = Options(image_root=str(sizes.path("data")), shards=SHARDS)
        for name, root in (("coco", raw), ("vg_regions", genome / "vg")):
            if not sizes.path("data", "streams", f"{name}.manifest.json").exists():
                make_files(name, root, sizes.path("data", "streams"), options)

    def streams(self, sizes: Sizes) -> list[str]:
        pairs = CAPTIONS_PER_IMAGE * sizes.train_images
        iterations = math.ceil(pairs / (sizes.batch * sizes.processes))
        steps = iterations + round(REGION_SHARE * iterations)
        return [
            f"train_file={sizes.path('data', 'streams', 'coco')}",
            f"train_file_regions={sizes.path('data', 'streams', 'vg_regions')}",
            f"train_dataset_size={pairs}",
            f"image_root={sizes.path('data')}",
            *(f"{stream}.{item}" for stream in ("images", "regions") for item in self._stream(sizes)),
            f"regions.iter_perc={REGION_SHARE}",
            f"regions.max_images={max(1, round(IMAGES_PER_TEXT * sizes.batch))}",
            f"schedular.epochs={math.ceil(sizes.steps / steps)}",
        ]

    @staticmethod
    def _stream(sizes: Sizes) -> list[str]:
        return ["image_key=image_rpath", "is_image_rpath=True", f"batch_size={sizes.batch}"]

    def shared(self, sizes: Sizes, vocab_size: int) -> list[str]:
        resolution = (f"image_res={self.pixels}", f"vision_config.image_res={self.pixels}")
        text = (f"vocab_size={vocab_size}", f"max_position_embeddings={POSITIONS}")
        return [*resolution, f"text_encoder={sizes.language_model}", *(f"text_config.{item}" for item in text)]

    def captions(self, sizes: Sizes, held: Held, name: str) -> Captions:
        reader: PairReader = held.datamodule.sources["images"].read
        images = RowImages("image", ImageRoot(str(sizes.path("data", "raw")), "image_root"))
        transform = EvalTransform(held.model.config["image_res"])
        rows = read_json(lists(sizes, name))
        return _Captions(rows, PairReader(images, "caption", reader.texts, transform), sizes.seed)

    def outputs(self, model: Any, batch: dict[str, Any]) -> dict[str, Any]:
        return model(batch)


class _Captions:
    """Rows of a list, read as the stream of pairs reads its own."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], read: PairReader, seed: int) -> None:
        self.rows, self.read, self.seed = rows, read, seed

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = dict(self.rows[index])
        return self.read(row, SampleKey(self.seed, 0, "list", index), row["image"])
