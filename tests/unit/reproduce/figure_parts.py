"""Small models, batches and pairs of every baseline, for the tests of the figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from epic_common.config import EpicConfig
from epic_common.generator import LanguageModelGenerator, build_generator
from epic_common.masking import maskable_positions
from epic_common.vocabulary import Vocabulary
from reproduce.figures.masked_models import Models
from reproduce.figures.reading import Pair
from tests.unit.albef import epic as albef
from tests.unit.epic.tiny import language_model
from tests.unit.epic_vlp.kits import METER_KIT, VILT_KIT
from tests.unit.xvlm import epic as xvlm
from tests.unit.xvlm.small import pretraining_batch as xvlm_batch

Batch = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """What the figures need of a baseline."""

    teacher: Callable[[], nn.Module]
    batch_of: Callable[[Sequence[int]], Batch]
    vocabulary: Vocabulary
    family: str
    ends_with_sep: bool

    def generator(self, training: str = "finetune") -> LanguageModelGenerator:
        """A small language model of the same tokens, in eval mode."""
        settings = EpicConfig.from_dict(
            {
                **{"enabled": True, "masking": "uniform", "generator_training": training},
                "append_sep": not self.ends_with_sep,
            }
        )
        model = language_model(self.family, size=self.vocabulary.size)
        made = build_generator(settings, self.vocabulary, model)
        assert isinstance(made, LanguageModelGenerator)
        return made.eval()

    def models(self) -> Models:
        """Both models of Fig. 2, in eval mode."""
        return Models(self.teacher().eval(), self.generator())

    def pair(self, length: int = 7) -> Pair:
        """A pair of random words; its view is not that of the batch."""
        batch = self.batch_of([length])
        maskable = maskable_positions(batch["text_ids"], batch["text_masks"], torch.tensor(self.vocabulary.special_ids))
        return Pair("", batch, Image.new("RGB", (8, 8)), maskable[0], [(0, 0)] * batch["text_ids"].shape[1])


CASES = {
    "meter": Case(METER_KIT.teacher, METER_KIT.batch_of, METER_KIT.vocabulary, "roberta", True),
    "vilt": Case(VILT_KIT.teacher, VILT_KIT.batch_of, VILT_KIT.vocabulary, "bert", True),
    "albef": Case(albef.teacher, albef.batch_of, albef.VOCABULARY, "bert", False),
    "xvlm": Case(xvlm.teacher, xvlm_batch, xvlm.VOCABULARY, "bert", False),
}


def other_images(batch: Batch) -> Batch:
    """The batch with noise in place of its images."""

    def noise(image: Tensor) -> Tensor:
        return torch.randn(image.shape, generator=torch.Generator().manual_seed(9))

    image = batch["image"]
    return {**batch, "image": noise(image) if isinstance(image, Tensor) else [noise(view) for view in image]}
