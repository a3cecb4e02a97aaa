"""Small ViLTs of the real classes, and batches for them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tests.unit.configs import resolve
from tests.unit.small_parts import Batch, Words, stirred
from vilt.config import ex
from vilt.modules.sizes import VitSize
from vilt.modules.vilt_module import ViLTransformerSS
from vilt.modules.vision_transformer import VisionTransformer
from vlp.sacred_dialect.config import base_config

Sizes = Sequence[tuple[int, int]]  # rows and columns of patches of every image

PAD, CLS, SEP, MASK, VOCAB = 0, 1, 2, 3, 40
WORDS = Words(CLS, PAD, SEP, MASK, VOCAB)
PATCH, GRID = 4, (3, 4)  # images of the batches; the position table is of another size
SIZE = VitSize(width=16, layers=3, heads=2, patch_size=PATCH, grid=(2, 2))


resolved = partial(resolve, ex)


def config_of(tasks: Sequence[str] = ("itm", "mlm"), **changes: Any) -> dict[str, Any]:
    """A config that fits the small transformer; no dropout unless asked for."""
    base = base_config(ex)
    sizes = {
        "hidden_size": SIZE.width,
        "num_heads": SIZE.heads,
        "num_layers": SIZE.layers,
        "patch_size": PATCH,
        "mlp_ratio": 2,
        "vocab_size": VOCAB,
        "max_text_len": 20,
        "vqav2_label_size": 7,
        "drop_rate": 0.0,
        "draw_false_text": 2,
    }
    loss_names = {task: int(task in tasks) for task in base["loss_names"]}
    return {**base, **sizes, "loss_names": loss_names, **changes}


def transformer_of(config: dict[str, Any]) -> VisionTransformer:
    """The small transformer as a config's other keys want it."""
    masks = config["loss_names"]["mpp"] > 0
    return VisionTransformer(SIZE, config["mlp_ratio"], config["drop_rate"], mask_token=masks)


def vilt(
    tasks: Sequence[str] = ("itm", "mlm"), cls: type[ViLTransformerSS] = ViLTransformerSS, **changes: Any
) -> ViLTransformerSS:
    """A small model of class ``cls`` with stirred weights; ``changes`` are config keys."""
    config = config_of(tasks, **changes)
    return stirred(cls(config, transformer_of(config)))


def batch_of(
    lengths: Sequence[int],
    padded_to: int = 0,
    masked: Sequence[tuple[int, int]] | None = None,
    sizes: Sizes | None = None,
    false_sizes: Sizes | None = None,
    false_texts: int = 0,
    tell_sizes: bool = True,
    seed: int = 0,
) -> Batch:
    """A batch as ViLT's collation gives it: sentences of ``lengths`` tokens, [CLS] and [SEP] included.

    ``masked`` lists the (row, column) positions that MLM asks for; by default the second token of every sentence.
    ``tell_sizes=False`` leaves the images' sizes to be found from their padding.
    """
    rng = torch.Generator().manual_seed(seed)
    batch = {**WORDS.batch(lengths, padded_to, masked, false_texts, rng), "sizes": {}}
    for name, own in (("image", sizes), ("false_image_0", false_sizes)):
        batch[name], batch["sizes"][name] = images_of(own or [GRID] * len(lengths), rng)
    if not tell_sizes:
        del batch["sizes"]
    return batch


def image_pair(batch: Batch) -> Batch:
    """The batch with its true and false images as NLVR2's two, and answers."""
    names = {"image_0": "image", "image_1": "false_image_0"}
    pair = {new: batch[old] for new, old in names.items()}
    if "sizes" in batch:
        pair["sizes"] = {new: batch["sizes"][old] for new, old in names.items()}
    rest = {name: value for name, value in batch.items() if "image" not in name and name != "sizes"}
    return {**rest, **pair, "answers": [i % 2 == 0 for i in range(len(batch["text"]))]}


def images_of(sizes: Sizes, rng: torch.Generator | None = None) -> tuple[list[Tensor], Tensor]:
    """Images of ``sizes`` in patches, values in [-1, 1], top left in zeros of GRID; their sizes in pixels."""
    height, width = (PATCH * side for side in GRID)
    images = torch.rand(len(sizes), 3, height, width, generator=rng) * 2 - 1
    pixels = PATCH * torch.tensor(sizes)
    for image, (rows, columns) in zip(images, pixels.tolist(), strict=True):
        image[:, rows:], image[:, :, columns:] = 0, 0
    return [images], pixels
