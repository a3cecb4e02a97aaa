"""A checkpoint as the figures ask it: for alpha of Eq. 8, or for EPIC's verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import nn

from demo.baselines import BASELINES
from epic_common.config import EpicConfig
from epic_common.objective import Epic
from epic_common.saliency import log_saliency
from epic_common.teacher import Teacher
from epic_common.vocabulary import Vocabulary
from epic_vlp.attach import load_generator
from epic_vlp.frozen_teacher import is_of_epic, load_teacher
from epic_vlp.parts import parts_of, settings_of
from reproduce.figures.reading import Pair, PairReader
from vlp.baseline import Config
from vlp.checkpoint.loading import load_into
from vlp.checkpoint.weights import WeightsError


@dataclass(frozen=True)
class Saliency:
    """alpha of Eq. 8 with a checkpoint as its own teacher; one without EPIC serves as one with it."""

    teacher: Teacher
    settings: EpicConfig

    @classmethod
    def of_checkpoint(cls, baseline: Any, config: Config, checkpoint: Path, reader: PairReader) -> Saliency:
        """
        Raises:
            WeightsError, ValueError: the checkpoint is of another model, or does not fit its configuration.
        """
        settings = settings_of(baseline, config)
        config = {**config, "teacher_path": str(checkpoint)}
        return cls(load_teacher(baseline, config, settings, reader.tokenizer), settings)

    def alpha(self, pair: Pair) -> list[float]:
        """(n,), 0 at special tokens; they sum to 1."""
        scores = self.teacher.saliency(pair.batch)[:, : pair.ids.shape[1]]
        return log_saliency(scores, pair.maskable[None], self.settings.saliency_temperature)[0].exp().tolist()


def load_judge(baseline: Any, config: Config, checkpoint: Path, reader: PairReader) -> nn.Module:
    """The model of a checkpoint with EPIC, its head and its generator under ``epic``, in eval mode.

    Raises:
        WeightsError: a checkpoint without EPIC, of another model, or one that does not fit.
        ValueError, HubError: its language model cannot be had.
    """
    if not is_of_epic(str(checkpoint)):
        raise WeightsError(
            f"{checkpoint}: was trained without EPIC and judges no token; figure 5 needs a checkpoint with EPIC"
        )
    parts = parts_of(baseline)
    asked = BASELINES[baseline.name].asked(config, checkpoint)
    settings = settings_of(baseline, {"epic": {**config["epic"], "enabled": True}})
    model: Any = baseline.model(asked)
    vocabulary = Vocabulary.from_tokenizer(reader.tokenizer)
    generator = load_generator(baseline, asked, settings, reader.tokenizer)
    model.epic = Epic(settings, vocabulary, parts.text_width(asked), generator)
    if "epic.head.beta.weight" in load_into(model, checkpoint, baseline.layout):
        raise WeightsError(f"{checkpoint}: lacks epic.head, which judges the tokens")
    return cast(nn.Module, model.eval())
