"""What the trained EPIC model says about a few test pictures: saliency, verdicts, and where they come from."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from PIL import Image
from torch import Tensor

from demo.report import GradCamExample, SaliencyExample, VerdictExample, Verdicts
from demo.settings import Settings
from epic_common.gradcam import itc_grad_cam
from epic_vlp.attach import attach_epic
from meter.datamodules.multitask_datamodule import MTDataModule
from meter.modules.checkpoints import load_checkpoint
from meter.modules.epic_meter import METER
from meter.modules.meter_module import METERTransformerSS, trimmed
from vlp.data.scenes.coco_layout import TRUTH_FILE
from vlp.training.weights import saved_config


class Examples(NamedTuple):
    """The three kinds of example, one of each per picture (no Grad-CAM where no token was replaced)."""

    saliency: list[SaliencyExample]
    verdicts: list[VerdictExample]
    gradcam: list[GradCamExample]


def load_examples(settings: Settings, count: int) -> Examples:
    """Run the EPIC checkpoint on ``count`` test pictures."""
    path = settings.checkpoint("epic")
    config = {**saved_config(path), "test_only": True, "load_path": str(path), "num_gpus": 1}
    datamodule = MTDataModule(config)
    model = METERTransformerSS(config)
    attach_epic(METER, model, datamodule, rank=0)
    load_checkpoint(model, path)
    model.eval()
    truths = _salient_spans(settings)
    dataset = datamodule.dataset("coco", "test", false_draws=False)
    examples = Examples([], [], [])
    # The first captions of pictures that lie apart in the split; each picture has its captions one after the other.
    for index in range(0, len(dataset), max(len(dataset) // count, 1)):
        if len(examples.saliency) == count:
            break
        batch = trimmed(datamodule.collate([dataset[index]]))
        picture = Image.open(io.BytesIO(dataset.tables.cell(dataset.row(index), "image"))).convert("RGB")
        _add(examples, model, datamodule.tokenizer, batch, picture, truths)
    return examples


def _salient_spans(settings: Settings) -> dict[str, list[list[int]]]:
    """Caption -> character spans of the words that only the picture tells."""
    spans = {}
    for line in settings.path("data", "raw", TRUTH_FILE).read_text().splitlines():
        for caption in json.loads(line)["captions"]:
            spans[caption["raw"]] = caption["salient"]
    return spans


def _add(
    examples: Examples,
    model: METERTransformerSS,
    tokenizer: Any,
    batch: dict[str, Any],
    picture: Image.Image,
    truths: dict[str, list[list[int]]],
) -> None:
    assert model.epic is not None
    caption = batch["text"][0]
    corruption = model.epic.corrupt(batch["text_ids"], batch["text_masks"], batch)
    kept = corruption.valid[0].nonzero().squeeze(1).tolist()
    spans = truths[caption]
    offsets = tokenizer(caption, return_offsets_mapping=True)["offset_mapping"]
    salient = [any(start < offsets[i][1] and offsets[i][0] < end for start, end in spans) for i in kept]
    words = _words(tokenizer, batch["text_ids"][0], kept)
    alpha = corruption.log_alpha[0].exp()[kept].tolist()
    examples.saliency.append(SaliencyExample(picture, words, alpha, salient))

    original, corrupted = (judge(model, batch, ids) for ids in (batch["text_ids"], corruption.input_ids))
    replaced = corruption.replaced[0][kept].tolist()
    new_words = _words(tokenizer, corruption.input_ids[0], kept)
    examples.verdicts.append(
        VerdictExample(
            picture,
            Verdicts(words, original.logits[0].sigmoid()[kept].tolist(), [False] * len(kept)),
            Verdicts(new_words, corrupted.logits[0].sigmoid()[kept].tolist(), replaced),
        )
    )
    changed = [i for i in kept if bool(corruption.replaced[0, i])]
    if changed:
        token = max(changed, key=lambda i: float(corruption.log_alpha[0, i]))
        position = kept.index(token)
        heats = [_heat(model, judgement, token) for judgement in (original, corrupted)]
        examples.gradcam.append(
            GradCamExample(picture, caption, words[position], heats[0], new_words[position], heats[1])
        )


class Judgement(NamedTuple):
    """ITC logits (1, n) and the cross-attention (1, h, n, P) of text fusion layer -2 that they depend on."""

    logits: Tensor
    attention: Tensor


def judge(model: METERTransformerSS, batch: dict[str, Any], ids: Tensor) -> Judgement:
    """The verdict on ``ids`` (1, n) with the batch's picture, keeping the attention map for Grad-CAM."""
    assert model.epic is not None
    layer: Any = model.cross_modal_text_layers[-2]
    projections = layer.crossattention.self
    projections.keep_map = True
    mask = batch["text_masks"]
    image = model.encode_image(batch["image"][0])
    fused = model.fuse(model.encode_text(ids, mask), mask, image, image_stream=False)
    projections.keep_map = False
    return Judgement(model.epic.head(fused.text), projections.attention_map)


def _heat(model: METERTransformerSS, judgement: Judgement, token: int) -> Any:
    """Grad-CAM over the grid of patches, (g, g); the class token is left out."""
    cam = itc_grad_cam(judgement.attention, judgement.logits, token)[1:]
    side = round(len(cam) ** 0.5)
    return cam.view(side, side).numpy()


def _words(tokenizer: Any, ids: Tensor, positions: Sequence[int]) -> list[str]:
    return [tokenizer.decode([int(ids[i])]).strip() for i in positions]
