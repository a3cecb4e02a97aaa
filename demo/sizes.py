"""How large the demo is, and where it writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlp.baseline import get_baseline

REPOSITORY = Path(__file__).resolve().parents[1]
CAPTIONS_PER_IMAGE = 2  # also of demo.tasks
LEVEL = "single"  # of the scenes: one large thing in a picture
POSITIONS = 40  # tokens of a text at most, also of demo.tasks, whose statements are longer than captions


@dataclass(frozen=True)
class Sizes:
    """Sizes of the demo; the defaults fit a few minutes on two CPU cores.

    Attributes:
        batch: of a process.
    """

    baseline: str
    output: Path
    steps: int
    encoder_steps: int  # of the image encoder's fit
    batch: int
    processes: int
    seed: int = 0
    train_images: int = 5000
    val_images: int = 200  # masked-token accuracy and ITC are measured on these
    test_images: int = 200  # retrieval ranks these
    corpus_lines: int = 12000
    lm_steps: int = 300

    @property
    def description(self) -> Any:
        """The baseline in its own words."""
        return get_baseline(self.baseline)

    def path(self, *parts: str) -> Path:
        """A path below the output folder."""
        return self.output.joinpath(*parts)

    @property
    def language_model(self) -> Path:
        """The small masked LM in place of a released one: tokenizer and EPIC's generator, METER's text encoder too."""
        return self.path(f"{self.description.text_family}-tiny")

    @property
    def image_encoder(self) -> Path:
        """The weights of the small image encoder that stands in for a released one."""
        return self.path("image-encoder-tiny.safetensors")
