"""What a checkpoint says of sentences about an image: EPIC's D of every token, and whether ITM takes them for a match.

One pass over the sentence as it stands gives both; the image is encoded once for all its sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor, nn
from torch.nn import functional as F

from demo.baselines import BASELINES
from epic_common.consistency import ConsistencyHead
from epic_vlp.frozen_teacher import is_of_epic
from epic_vlp.parts import parts_of, settings_of
from reproduce.figures.reading import READERS, PairReader, Spans, tokens_of
from vilt.modules.batches import image_of
from vlp.baseline import Config
from vlp.checkpoint.loading import load_into
from vlp.checkpoint.weights import WeightsError
from vlp.nn.cross_attention import Seen
from vlp.nn.padding import PaddedLayout

Batch = dict[str, Any]
TOGETHER = 32  # sentences of an image that go through the model as one batch


class States(NamedTuple):
    """The last states of B sentences."""

    text: Tensor  # (B, n, d)
    pair: Tensor  # (B, c), what the ITM head reads


class Verdict(NamedTuple):
    """On a sentence of n tokens about an image."""

    text: str  # as the model reads it
    ids: list[int]  # its real tokens, that are neither special nor padding
    spans: Spans  # the characters of the text that each of these tokens stands for
    log_d: list[float] | None  # log D (Eq. 1) of each of these tokens; None without EPIC
    match: float | None  # log-odds of a match by the ITM head; None without one

    @property
    def score(self) -> float:
        """The mean of log D over the tokens: how consistent the sentence is as a whole."""
        assert self.log_d is not None
        return sum(self.log_d) / len(self.log_d)

    def tokens_of(self, start: int, end: int) -> list[int]:
        """The real tokens that stand for a character of the text from ``start`` to ``end``."""
        return tokens_of(self.spans, start, end)


@dataclass(frozen=True)
class Judge:
    """A model of the baseline ``name``; ``head`` is EPIC's, ``itm`` the ITM head (B, c) -> (B, 2), if it has them."""

    name: str
    model: Any
    reader: PairReader
    head: nn.Module | None
    itm: nn.Module | None

    @torch.no_grad()
    def __call__(self, data: bytes, captions: Sequence[str]) -> list[Verdict]:
        """Judge captions of the image whose file's bytes are given.

        Raises:
            ImageError: no readable image.
            ValueError: a caption has no word that the model knows.
        """
        shown = self.reader.shown(self.reader.decoded(data))
        found = list[Verdict]()
        for start in range(0, len(captions), TOGETHER):
            some = captions[start : start + TOGETHER]
            found += self._judged([({**shown, **self.reader.read(caption)}, caption) for caption in some])
        return found

    def _judged(self, samples: list[tuple[Batch, str]]) -> list[Verdict]:
        pairs = self.reader.together(samples)
        batch = move_data_to_device(pairs.batch, next(self.model.parameters()).device)
        states = STATES[self.name](self.model, batch)
        log_d = None if self.head is None else F.logsigmoid(self.head(states.text).float()).cpu()
        logits = None if self.itm is None else self.itm(states.pair).float().cpu()
        verdicts = []
        for row, (text, spans) in enumerate(zip(pairs.texts, pairs.spans, strict=True)):
            real = pairs.maskable[row].nonzero().squeeze(1).tolist()
            verdicts.append(
                Verdict(
                    text,
                    pairs.batch["text_ids"][row, real].tolist(),
                    [spans[i] for i in real],
                    None if log_d is None else log_d[row, real].tolist(),
                    None if logits is None else float(logits[row, 1] - logits[row, 0]),
                )
            )
        return verdicts


def load_judge(baseline: Any, config: Config, checkpoint: Path) -> Judge:
    """The judge of a checkpoint, in eval mode, on a GPU if there is one.

    Raises:
        WeightsError: the checkpoint does not fit, or has neither EPIC's head nor an ITM head.
    """
    parts, asked = parts_of(baseline), BASELINES[baseline.name].asked(config, checkpoint)
    if "max_image_len" in asked:
        asked["max_image_len"] = -1  # all patches of an image, so that nothing is drawn
    model: Any = baseline.model(asked)
    if with_epic := is_of_epic(str(checkpoint)):
        settings = settings_of(baseline, {"epic": {**config["epic"], "enabled": True}})
        model.epic = nn.Module()  # of which the generator is not needed here
        model.epic.head = ConsistencyHead(
            parts.text_width(asked), settings.itc_head_bias, dense=settings.itc_head == "dense"
        )
    missing = load_into(model, checkpoint, baseline.layout)
    if "epic.head.beta.weight" in missing:
        raise WeightsError(f"{checkpoint}: lacks epic.head, which judges the tokens")
    name = next((name for name in ("itm_score", "itm_head") if hasattr(model, name)), "")
    itm = getattr(model, name) if name and not any(each.startswith(f"{name}.") for each in missing) else None
    if itm is None and not with_epic:
        raise WeightsError(f"{checkpoint}: has neither EPIC's head nor an ITM head, and judges no caption")
    model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    return Judge(baseline.name, model, READERS[baseline.name](config), model.epic.head if with_epic else None, itm)


# B sentences with the first image of the batch, full passes in which nothing is left out. ---------------------


def _meter(model: Any, batch: Batch) -> States:
    ids, layout = batch["text_ids"], PaddedLayout(batch["text_masks"].bool())
    image = model.encode_image(batch["image"][0][:1]).expand(len(ids), -1, -1)
    fused = model.fuse(model.encode_text(ids, layout), layout, image, PaddedLayout())
    return States(fused.text, model.pool(fused))


def _vilt(model: Any, batch: Batch) -> States:
    images, sizes = image_of(batch, "image")
    tokens = model.encode_image(images[:1], None if sizes is None else sizes[:1])
    tokens = tokens.take(torch.zeros_like(batch["text_ids"][:, 0]))
    fused = model.infer(batch, image_embeds=tokens.states, image_masks=tokens.mask)
    return States(fused["text_feats"], fused["cls_feats"])


def _albef(model: Any, batch: Batch) -> States:
    return _fused(model, batch, model.visual_encoder(batch["image"][:1]))


def _xvlm(model: Any, batch: Batch) -> States:
    return _fused(model, batch, model.vision_encoder(batch["image"][:1]))


def _fused(model: Any, batch: Batch, image: Tensor) -> States:
    ids = batch["text_ids"]
    of_first = Seen(rounds=0, drawn=torch.zeros_like(ids[:, 0]))
    states = model.bert(ids, PaddedLayout(batch["text_masks"].bool()), image, of_first)
    return States(states, states[:, 0])


STATES: dict[str, Callable[[Any, Batch], States]] = {"meter": _meter, "vilt": _vilt, "albef": _albef, "xvlm": _xvlm}
