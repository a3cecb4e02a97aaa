"""What the trained EPIC model says about a few test images: saliency, verdicts, and where they come from."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from PIL import Image
from torch import Tensor

from demo.judgement import Judgement
from demo.report import GradCamExample, SaliencyExample, VerdictExample, Verdicts
from demo.settings import Settings
from epic_vlp.attach import attach_epic
from scenes.coco_layout import TRUTH_FILE
from vlp.checkpoint.loading import load_into
from vlp.checkpoint.weights import saved_config
from vlp.data.trim import trimmed


class Trained(NamedTuple):
    """The EPIC model, and what it is asked with."""

    model: Any
    judge: Callable[[Any, dict[str, Any], Tensor], Judgement]
    tokenizer: Any
    salient_spans: dict[str, list[list[int]]]  # caption -> characters of the words that only the image tells


class Examples(NamedTuple):
    """The three kinds of example, one of each per image (no Grad-CAM where no token was replaced)."""

    saliency: list[SaliencyExample]
    verdicts: list[VerdictExample]
    gradcam: list[GradCamExample]


def load_examples(settings: Settings, count: int) -> Examples:
    """Run the EPIC checkpoint on ``count`` test images."""
    path = settings.checkpoint("epic")
    config = {**saved_config(path), "test_only": True, "load_path": str(path), "num_gpus": 1}
    baseline = settings.description
    datamodule = baseline.datamodule(config)
    model: Any = baseline.model(config)
    attach_epic(baseline, model, datamodule, rank=0)
    load_into(model, path, baseline.layout)
    model.eval()
    trained = Trained(model, settings.about.judge, datamodule.tokenizer, _salient_spans(settings))
    dataset = datamodule.dataset("coco", "test", false_draws=False)
    examples = Examples([], [], [])
    # The first captions of images that lie apart in the split; each image has its captions one after the other.
    for index in range(0, len(dataset), max(len(dataset) // count, 1)):
        if len(examples.saliency) == count:
            break
        batch = trimmed(datamodule.collate([dataset[index]]))
        image = Image.open(io.BytesIO(dataset.tables.cell(dataset.row(index), "image"))).convert("RGB")
        _add(examples, trained, batch, image)
    return examples


def _salient_spans(settings: Settings) -> dict[str, list[list[int]]]:
    spans = {}
    for line in settings.path("data", "raw", TRUTH_FILE).read_text().splitlines():
        for caption in json.loads(line)["captions"]:
            spans[caption["raw"]] = caption["salient"]
    return spans


def _add(examples: Examples, trained: Trained, batch: dict[str, Any], image: Image.Image) -> None:
    model, judge, tokenizer, salient_spans = trained
    caption = batch["text"][0]
    corruption = model.epic.corruption_of(batch["text_ids"], batch["text_masks"], batch)
    kept = corruption.valid[0].nonzero().squeeze(1).tolist()
    spans = salient_spans[caption]
    offsets = tokenizer(caption, return_offsets_mapping=True)["offset_mapping"]
    salient = [any(start < offsets[i][1] and offsets[i][0] < end for start, end in spans) for i in kept]
    words = _words(tokenizer, batch["text_ids"][0], kept)
    alpha = corruption.log_alpha[0].exp()[kept].tolist()
    examples.saliency.append(SaliencyExample(image, words, alpha, salient))

    original, corrupted = (judge(model, batch, ids) for ids in (batch["text_ids"], corruption.input_ids))
    replaced = corruption.replaced[0][kept].tolist()
    new_words = _words(tokenizer, corruption.input_ids[0], kept)
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
        heats = [judgement.heat(token) for judgement in (original, corrupted)]
        examples.gradcam.append(
            GradCamExample(image, caption, words[position], heats[0], new_words[position], heats[1])
        )


def _words(tokenizer: Any, ids: Tensor, positions: Sequence[int]) -> list[str]:
    return [tokenizer.decode([int(ids[i])]).strip() for i in positions]
