"""Data pieces that METER's and ViLT's fixtures share: an image, a masker or a schedule in, the compared array out;
and the datasets and the collation of an official configuration.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedTokenizerBase

from vlp.data.arrow.dataset import ArrowDataset
from vlp.data.arrow.datasets import build_dataset
from vlp.data.arrow.registry import DatasetSpec, Split
from vlp.data.arrow.vqa import vqa_score
from vlp.data.collate import Collator
from vlp.data.masking import MlmMasker
from vlp.data.randaugment import OPERATIONS
from vlp.data.raw.answers import normalize_word
from vlp.data.transforms import build_transform
from vlp.training.schedules import DecayPower, schedule


class ForcedDraw(random.Random):
    """A random source whose uniform draws are all one value: 0 keeps the sign of a RandAugment value, 1 negates it."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self._value = value

    def random(self) -> float:
        return self._value


def transformed(pixels: np.ndarray, key: str, size: int) -> np.ndarray:
    """A stored image (H, W[, C]) uint8 through an official transform: (3, H', W') float32."""
    transform = build_transform(key, size)
    return transform(Image.fromarray(pixels).convert(transform.mode)).numpy()


def randaugment_op(pixels: np.ndarray, name: str, value: float, draw: float) -> np.ndarray:
    """A stored image after one RandAugment operation whose sign draw is `draw`."""
    (operation,) = (op for op in OPERATIONS if op.name == name)
    return np.asarray(operation(Image.fromarray(pixels), value, ForcedDraw(draw)))


def normalized(answers: Iterable[Any]) -> np.ndarray:
    """Each answer after the VQA answer normaliser."""
    return np.array([normalize_word(str(answer)) for answer in answers])


def vqa_scores(counts: Iterable[Any]) -> np.ndarray:
    """The soft score of an answer that each number of annotators gave."""
    return np.array([vqa_score(int(count)) for count in counts])


def learning_rates(
    steps: Sequence[int], lr: float, max_steps: int, warmup_steps: int | float, power: DecayPower, end_lr: float
) -> np.ndarray:
    """The learning rate that an optimiser gets at each of `steps`."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    (multiplier,) = schedule(optimizer, lr, max_steps, warmup_steps, power, end_lr).lr_lambdas
    return np.array([lr * multiplier(int(step)) for step in steps])


def mask_statistics(masker: MlmMasker, ids: Sequence[int], trials: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Frequencies over `trials` maskings of one padded text.

    Returns:
        rate (L,): share of trials in which each position is selected; count_fraction (L + 1,): share of trials with
        0, 1, 2 ... selected positions; kind_fraction (3,): share of the selected tokens that become the mask token,
        another token, stay.
    """
    rng = random.Random(seed)
    selected = np.zeros(len(ids))
    counts = np.zeros(len(ids) + 1)
    kinds = np.zeros(3)
    for _ in range(trials):
        masked, labels = masker(ids, rng)
        chosen = [i for i, label in enumerate(labels) if label != -100]
        selected[chosen] += 1
        counts[len(chosen)] += 1
        for i in chosen:
            kinds[0 if masked[i] == masker.mask_id else 1 if masked[i] != ids[i] else 2] += 1
    return {"rate": selected / trials, "count_fraction": counts / trials, "kind_fraction": kinds / kinds.sum()}


def dataset(key: str | DatasetSpec, split: Split, config: dict[str, Any], tables: Path) -> ArrowDataset:
    """The dataset that an official configuration reads from a folder of tables."""
    names = config["train_transform_keys" if split == "train" else "val_transform_keys"]
    transforms = [build_transform(name, config["image_size"]) for name in names]
    false = {name: config[name] for name in ("draw_false_image", "draw_false_text")}
    return build_dataset(key, split, tables, transforms, **false)


def collator(tokenizer: PreTrainedTokenizerBase, config: dict[str, Any]) -> Collator:
    """The collation of an official configuration."""
    masker = MlmMasker(tokenizer, config["mlm_prob"], config["whole_word_masking"])
    return Collator(tokenizer, masker, config["max_text_len"])
