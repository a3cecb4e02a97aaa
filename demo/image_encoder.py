"""Fit a small image encoder to what is in the training pictures, in place of weights that one downloads.

The released encoders that the baselines start from were fitted to the labels of pictures, or to their captions. Here,
a linear layer on the mean of an encoder's tokens tells every kind, colour, place and so on that a scene has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import get_linear_schedule_with_warmup

from epic_common.language_models.progress import steps_with_time_left
from scenes.coco_layout import TRUTH_FILE
from scenes.layout_files import TRAINING, image_file
from scenes.readings import read_truth
from vlp.checkpoint.safetensors_sums import safetensors_bytes
from vlp.files import atomic_open, regular
from vlp.progress import waiting

BATCH = 64
RATE = 2e-3  # peak of a linear warm-up over the first tenth and linear decay
WEIGHT_DECAY = 0.01
SMALLEST_CROP = 0.3  # of the area of a picture
FIELDS = ("kind", "colour", "size", "pattern", "count", "place")  # of each thing of a scene


class ImageEncoder(NamedTuple):
    """A baseline's image encoder before any training.

    Attributes:
        weights: the module whose tensors ``init.vision`` reads.
        tokens: images (B, 3, S, S) -> (B, N, d).
        transform: a picture -> (3, S, S).
        crops: whether the baseline trains on crops of the pictures.
    """

    weights: nn.Module
    tokens: Callable[[Tensor], Tensor]
    transform: Callable[[Image.Image], Tensor]
    crops: bool


class Pictures(NamedTuple):
    """Images (n, 3, S, S) and what is in them (n, classes), 0 or 1."""

    images: Tensor
    present: Tensor


def fit_image_encoder(encoder: ImageEncoder, raw: Path, output: Path, steps: int, seed: int) -> None:
    """Fit ``encoder`` to the training pictures of the scenes in ``raw``; write its tensors with check sums.

    The same arguments and machine give the same file. The caller's random state is left as it was.
    """
    with waiting("reading the training pictures"):
        pictures = training_pictures(raw, encoder.transform)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        train(encoder, pictures, steps)
    with atomic_open(output) as handle:
        handle.writelines(safetensors_bytes(encoder.weights.state_dict(), {}))


def training_pictures(raw: Path, transform: Callable[[Image.Image], Tensor]) -> Pictures:
    """The training pictures of scenes in COCO's raw layout, and what their truths say is in them.

    Raises:
        FileNotFoundError, ValueError: see :func:`read_truth`.
    """
    records = [record for record in read_truth(raw / TRUTH_FILE) if record["split"] in TRAINING]
    found = [contents(record["scene"]) for record in records]
    classes = sorted(set[str]().union(*found))
    present = torch.tensor([[float(name in has) for name in classes] for has in found])
    return Pictures(torch.stack([_picture(image_file(raw, record), transform) for record in records]), present)


def contents(scene: Mapping[str, Any]) -> set[str]:
    """What a scene has, of every thing each field alone."""
    surroundings = {f"{name} {scene[name]}" for name in ("ground", "time")}
    return surroundings | {f"{name} {thing[name]}" for thing in scene["things"] for name in FIELDS}


def _picture(path: Path, transform: Callable[[Image.Image], Tensor]) -> Tensor:
    with Image.open(regular(path)) as image:
        return transform(image.convert("RGB"))


def train(encoder: ImageEncoder, pictures: Pictures, steps: int) -> None:
    """Fit the encoder's weights in place, by the binary cross-entropy summed over the classes."""
    encoder.weights.train()
    width = encoder.tokens(pictures.images[:2]).shape[2]
    head = nn.Linear(width, pictures.present.shape[1])
    parameters = [*encoder.weights.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=WEIGHT_DECAY)
    schedule = get_linear_schedule_with_warmup(optimizer, max(1, steps // 10), steps)
    with steps_with_time_left("fitting the image encoder", steps) as progress:
        for rows in islice(_batches(len(pictures.images)), steps):
            images = cropped(pictures.images[rows]) if encoder.crops else pictures.images[rows]
            logits = head(encoder.tokens(images).mean(dim=1))
            loss = F.binary_cross_entropy_with_logits(logits, pictures.present[rows], reduction="sum") / len(rows)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            progress.advance(loss.detach())


def _batches(count: int) -> Iterator[Tensor]:
    """Endless batches of row numbers, every row once a pass."""
    while True:
        yield from torch.randperm(count).split(BATCH)


def cropped(images: Tensor) -> Tensor:
    """A random crop of each image (B, 3, S, S), every second one mirrored, brought back to (B, 3, S, S)."""
    count = len(images)
    side = torch.empty(count).uniform_(SMALLEST_CROP, 1).sqrt()  # as a share of the image's
    mirrored = 1 - 2 * torch.randint(2, (count,)).float()
    places = torch.zeros(count, 2, 3)  # of what is shown, in coordinates of -1 to 1
    places[:, 0, 0], places[:, 1, 1] = side * mirrored, side
    places[:, :, 2] = torch.empty(count, 2).uniform_(-1, 1) * (1 - side)[:, None]
    grid = F.affine_grid(places, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
