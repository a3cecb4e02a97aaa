"""ViLT's data: which Arrow tables each dataset key reads; the loaders are those of ``ArrowDataModule``.

Source: docs/official/vilt.md §3.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vlp.data.arrow.datamodule import ArrowDataModule
from vlp.data.arrow.registry import SPECS
from vlp.data.transforms import PIXELBERT_STEP

TRANSFORMS = ("pixelbert", "pixelbert_randaug")
_GCC_VAL = ("conceptual_caption_val_0",)
_OWN = (
    replace(SPECS["gcc"], val=_GCC_VAL, test=_GCC_VAL),
    replace(SPECS["vqa"], train=("vqav2_train", "vqav2_trainable_val"), val=("vqav2_rest_val",)),
)


class MTDataModule(ArrowDataModule):
    """The official class name, which checkpoints hold."""

    specs = {key: SPECS[key] for key in ("vg", "f30k", "coco", "sbu", "cc12m", "nlvr2")} | {s.key: s for s in _OWN}


def check_images(config: Mapping[str, Any]) -> None:
    """Refuse transforms, sizes and caps of patches that leave no patch or none that is whole.

    Raises:
        ValueError: naming the key and what to do.
    """
    for key in ("train_transform_keys", "val_transform_keys"):
        if not config[key] or not set(config[key]) <= set(TRANSFORMS):
            raise ValueError(f"{key}={config[key]}: ViLT's images are resized by {' or '.join(TRANSFORMS)}")
    if config["image_size"] < PIXELBERT_STEP:
        raise ValueError(
            f"image_size={config['image_size']}: sides are cut to multiples of {PIXELBERT_STEP} pixels, so that none "
            f"would be left; at least {PIXELBERT_STEP} (official: 384)"
        )
    if config["max_image_len"] == 0:
        raise ValueError("max_image_len=0 keeps no patch of an image: a number of patches, or -1 for all of them")
