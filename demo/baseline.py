"""A baseline as the demo sees it: its official command lines, what their runs leave, and how small a model learns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from demo.image_encoder import ImageEncoder
from demo.judgement import Judgement
from demo.sizes import Sizes
from epic_vlp.attach import attach_epic
from vlp.checkpoint.loading import load_into
from vlp.checkpoint.weights import saved_config

Metrics = Mapping[str, float]


class Curve(NamedTuple):
    """A loss that both runs log."""

    title: str
    tag: str
    note: str


class Held(NamedTuple):
    """A model of the demo, ready to be asked, and the data that it is asked about."""

    model: Any
    datamodule: Any


@dataclass(frozen=True)
class DemoBaseline(ABC):
    """What the demo asks of a baseline; there is a subclass for each kind of command line.

    Attributes:
        description: its own words.
        output: the demo's folder below ``runs``.
        steps, step_seconds: for a few minutes on two CPU cores, and how long one takes there without EPIC.
        encoder_steps: of the image encoder's fit before.
        pixels: of the side of a picture, as it is drawn and read.
        vision: the attribute of the model that is its image encoder.
        judge: the EPIC model's verdict on a caption, with the attention map that led to it.
        form: what its converter makes of the raw data.
        objectives: what it is pre-trained with, in words, and their losses.
        processes: on two CPU cores.
        text_layers: of the small language model; those of its text encoder, where it has one.
        crops: whether it trains on crops of the pictures.
    """

    description: Any
    output: str
    steps: int
    step_seconds: float
    encoder_steps: int
    pixels: int
    vision: str
    judge: Callable[[Any, dict[str, Any], Tensor], Judgement]

    form: ClassVar[str]
    objectives: ClassVar[str]
    processes: ClassVar[int]
    text_layers: ClassVar[int]
    crops: ClassVar[bool]
    curves: ClassVar[tuple[Curve, ...]]

    # Data and runs ---------------------------------------------------------------------------------------

    @abstractmethod
    def converted(self, sizes: Sizes) -> Path:
        """A file that is there once the raw data is converted."""

    @abstractmethod
    def convert(self, sizes: Sizes) -> None:
        """The converter that real COCO goes through."""

    @abstractmethod
    def vanilla_config(self, sizes: Sizes, vocab_size: int) -> dict[str, Any]:
        """The config that the vanilla pre-training command gives."""

    @abstractmethod
    def pretraining(self, sizes: Sizes, vocab_size: int, name: str) -> list[str]:
        """The official pre-training command at demo size; ``name`` is "vanilla" or "epic"."""

    @abstractmethod
    def evaluations(self, sizes: Sizes, vocab_size: int, name: str) -> dict[str, list[str]]:
        """The official commands that score the run ``name``, by what they measure."""

    @abstractmethod
    def shown(self, command: list[str]) -> str:
        """A command as a user would type it in the repository."""

    @abstractmethod
    def run_directory(self, sizes: Sizes, name: str) -> Path:
        """Where the launcher writes the pre-training run ``name``."""

    def checkpoint(self, sizes: Sizes, name: str) -> Path:
        """The last checkpoint of the pre-training run ``name``."""
        return self.run_directory(sizes, name) / "checkpoints" / "last.ckpt"

    # Numbers ---------------------------------------------------------------------------------------------

    @abstractmethod
    def measured(self, sizes: Sizes, name: str) -> dict[str, float]:
        """What no command of the baseline measures of the run ``name``, by the names that are read below."""

    @abstractmethod
    def recall(self, found: Mapping[str, Metrics], way: str, k: int) -> float:
        """Recall at ``k`` in percent, of texts ("tr") or of images ("ir")."""

    @abstractmethod
    def masked_token_accuracy(self, found: Mapping[str, Metrics]) -> float:
        """In percent, on the val split."""

    @abstractmethod
    def itc_auroc(self, found: Mapping[str, Metrics]) -> float:
        """Of a run with EPIC, on the val split."""

    # Models ----------------------------------------------------------------------------------------------

    def untrained_image_encoder(self, sizes: Sizes, vocab_size: int) -> ImageEncoder:
        """The image encoder that the vanilla pre-training command trains, at random."""
        config = self.vanilla_config(sizes, vocab_size)
        with torch.random.fork_rng():
            torch.manual_seed(sizes.seed)
            model: Any = self.description.model({**config, "init": "random"})
        return ImageEncoder(
            getattr(model, self.vision), partial(self.image_tokens, model), self.eval_transform(config), self.crops
        )

    def image_tokens(self, model: Any, images: Tensor) -> Tensor:
        """What the image encoder of ``model`` makes of images (B, 3, S, S) -> (B, N, d)."""
        tokens: Tensor = getattr(model, self.vision)(images)
        return tokens

    @abstractmethod
    def eval_transform(self, config: Mapping[str, Any]) -> Callable[[Image.Image], Tensor]:
        """What is done to an RGB image outside training, -> (3, S, S)."""

    def load(self, sizes: Sizes, name: str) -> Held:
        """The model that the pre-training run ``name`` left, with EPIC if it had it."""
        path = self.checkpoint(sizes, name)
        config = self.asked(saved_config(path), path)
        datamodule = self.description.datamodule(config)
        model: Any = self.description.model(config)
        if model.config["epic"]["enabled"]:
            attach_epic(self.description, model, datamodule, rank=0)
        load_into(model, path, self.description.layout)
        return Held(model.eval(), datamodule)

    @abstractmethod
    def asked(self, config: dict[str, Any], path: Path) -> dict[str, Any]:
        """The config of a run as it is where its checkpoint ``path`` is asked in this process."""

    @abstractmethod
    def test_images(self, sizes: Sizes, held: Held, count: int) -> Iterable[tuple[dict[str, Any], Image.Image]]:
        """Up to ``count`` images of the test split: a batch of one caption, and the image itself."""

    def cleaned(self, caption: str) -> str:
        """A caption as the model reads it; it has the letters of ``caption``, or the first of them, in their order."""
        return caption
