"""What the trained EPIC model says about a few test images: saliency, verdicts, and where they come from."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from PIL import Image
from torch import Tensor

from demo.judgement import Judgement
from demo.report import GradCamExample, SaliencyExample, VerdictExample, Verdicts
from demo.settings import Settings
from scenes.coco_layout import TRUTH_FILE
from vlp.files import regular


class Trained(NamedTuple):
    """The EPIC model, and what it is asked with."""

    model: Any
    judge: Callable[[Any, dict[str, Any], Tensor], Judgement]
    tokenizer: Any
    told_by_image: dict[str, list[bool]]  # caption -> of each character: is it of a word that only the image tells?


class Examples(NamedTuple):
    """The three kinds of example, one of each per image (no Grad-CAM where no token was replaced)."""

    saliency: list[SaliencyExample]
    verdicts: list[VerdictExample]
    gradcam: list[GradCamExample]


def load_examples(settings: Settings, count: int) -> Examples:
    """Run the EPIC checkpoint on ``count`` test images."""
    about = settings.about
    held = about.load(settings, "epic")
    trained = Trained(held.model, about.judge, held.datamodule.tokenizer, _told_by_image(settings))
    examples = Examples([], [], [])
    for batch, image in about.test_images(settings, held, count):
        _add(examples, trained, batch, image)
    return examples


def _told_by_image(settings: Settings) -> dict[str, list[bool]]:
    told = {}
    for line in regular(settings.path("data", "raw", TRUTH_FILE)).read_text().splitlines():
        for caption in json.loads(line)["captions"]:
            text = settings.about.cleaned(caption["raw"])
            told[text] = moved_marks(caption["raw"], caption["salient"], text)
    return told


def moved_marks(raw: str, spans: Sequence[Sequence[int]], text: str) -> list[bool]:
    """Which characters of ``text`` lie in ``spans`` of ``raw``; both have the same letters and digits in their order.

    ``text`` may end earlier.
    """
    if text == raw:
        return [any(start <= i < end for start, end in spans) for i in range(len(raw))]
    marks = iter([any(start <= i < end for start, end in spans) for i, c in enumerate(raw) if c.isalnum()])
    return [c.isalnum() and next(marks) for c in text]


def _add(examples: Examples, trained: Trained, batch: dict[str, Any], image: Image.Image) -> None:
    model, judge, tokenizer, told_by_image = trained
    caption = batch["text"][0]
    corruption = model.epic.corruption_of(batch["text_ids"], batch["text_masks"], batch)
    kept = corruption.valid[0].nonzero().squeeze(1).tolist()
    offsets = tokenizer(caption, return_offsets_mapping=True)["offset_mapping"]
    salient = [any(told_by_image[caption][slice(*offsets[i])]) for i in kept]
    words = token_texts(tokenizer, batch["text_ids"][0], kept)
    alpha = corruption.log_alpha[0].exp()[kept].tolist()
    examples.saliency.append(SaliencyExample(image, words, alpha, salient))

    original, corrupted = (judge(model, batch, ids) for ids in (batch["text_ids"], corruption.input_ids))
    replaced = corruption.replaced[0][kept].tolist()
    new_words = token_texts(tokenizer, corruption.input_ids[0], kept)
    examples.verdicts.append(
        VerdictExample(
            image,
            Verdicts(words, original.logits[0].sigmoid()[kept].tolist(), [False] * len(kept)),
            Verdicts(new_words, corrupted.logits[0].sigmoid()[kept].tolist(), replaced),
        )
    )
    changed = [i for i in kept if bool(corruption.replaced[0, i])]
    if changed:
        token = max(changed, key=lambda i: float(corruption.log_alpha[0, i]))
        position = kept.index(token)
        seen = [(each.logits[0, token].sigmoid().item(), each.heat(token)) for each in (original, corrupted)]
        examples.gradcam.append(
            GradCamExample(image, caption, words[position], *seen[0], new_words[position], *seen[1])
        )


def token_texts(tokenizer: Any, ids: Tensor, positions: Sequence[int]) -> list[str]:
    """The tokens at ``positions`` of a sentence (n,), as text."""
    return [tokenizer.decode([int(ids[i])]).strip() for i in positions]
