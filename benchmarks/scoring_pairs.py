"""METER's and ViLT's retrieval for the scoring benchmark: every image with every caption."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.arrow_steps import ArrowSteps, Size
from benchmarks.counting import OTHER, count_products
from benchmarks.lengths import caption_lengths
from benchmarks.meter_step import MeterSteps
from benchmarks.vilt_step import ViltSteps
from vlp.evaluation.retrieval import score_pairs
from vlp.sacred_dialect.retrieval import CAPTION_BATCH


class Counts(NamedTuple):
    """By device ("cpu", "cuda"), how many images and texts are scored, and pairs by the plain loop."""

    images: Mapping[str, int]
    texts: Mapping[str, int]
    official_pairs: Mapping[str, int]


_SMALL = Counts({"cpu": 2, "cuda": 2}, {"cpu": 16, "cuda": 16}, {"cpu": 8, "cuda": 8})
COUNTS = {
    "official": Counts({"cpu": 1, "cuda": 8}, {"cpu": 64, "cuda": 1536}, {"cpu": 8, "cuda": 512}),
    "tiny": _SMALL,
}


class MeterRetrieval(MeterSteps):
    """METER as it is fine-tuned and evaluated on COCO."""

    sizes: ClassVar[dict[str, Size]] = {
        "official": MeterSteps.sizes["official"]._replace(
            named_configs=("task_finetune_irtr_coco_clip_bert", "clip16", "text_roberta"), updates={"image_size": 384}
        ),
        "tiny": MeterSteps.sizes["tiny"]._replace(named_configs=("task_finetune_irtr_coco_clip_bert", "tiny")),
    }


class ViltRetrieval(ViltSteps):
    """ViLT likewise."""

    sizes: ClassVar[dict[str, Size]] = {
        name: ViltSteps.sizes[name]._replace(named_configs=("task_finetune_irtr_coco_randaug", *named))
        for name, named in (("official", ()), ("tiny", ("tiny",)))
    }


_STEPS: dict[str, type[ArrowSteps]] = {"meter": MeterRetrieval, "vilt": ViltRetrieval}


class PairsWork:
    """The pairs that are scored, and both ways to score them.

    Attributes:
        lengths: tokens of each text.
        pairs: how many each way scores.
        image_tokens: that a pair is fused with.
    """

    def __init__(
        self, baseline: str, size: str, images: int, texts: int, official_pairs: int, device: str = "cpu"
    ) -> None:
        torch.manual_seed(0)
        steps = _STEPS[baseline](size)
        self.model: Any = steps.new_student().eval().to(device)
        config, side = steps.config, steps.config["image_size"]
        self.images = torch.randn(images, 3, side, side)
        self.lengths = [min(length, steps.max_text_len) for length in caption_lengths(steps.text_family, texts)]
        self.mask = (torch.arange(steps.max_text_len) < torch.tensor(self.lengths)[:, None]).long()
        self.ids = torch.randint(5, config["vocab_size"], self.mask.shape)
        if steps.text_family == "roberta":  # whose positions are counted from the ids that are no padding
            self.ids = self.ids.masked_fill(self.mask == 0, 1)
        spread = torch.linspace(0, texts - 1, min(official_pairs, images * texts) // images or 1).long()
        self.official_texts = spread.unique()  # of all lengths, with every image
        self.pairs = {"official": images * len(self.official_texts), "ours": images * texts}
        self.image_tokens = (side // config["patch_size"]) ** 2 + 1

    @property
    def _encoders(self) -> dict[str, list[nn.Module]]:
        """Modules that every image and every text passes once."""
        m = self.model
        if hasattr(m, "vit_model"):
            return {"image": [m.vit_model], "text": [m.text_transformer]}
        return {"image": [m.transformer.patch_embed], "text": [m.text_embeddings]}

    def ours(self) -> Tensor:
        """Scores (N, M), as our evaluation gives them."""
        batches = []
        for start in range(0, len(self.lengths), CAPTION_BATCH):
            rows = slice(start, start + CAPTION_BATCH)
            longest = max(self.lengths[rows])
            batches.append((self.ids[rows, :longest], self.mask[rows, :longest]))
        return score_pairs(self.model, self.images.__getitem__, len(self.images), batches)

    @torch.no_grad()
    def official(self) -> Tensor:
        """A full pass for every pair, padding included: (N, chosen).

        Source: docs/official/meter.md §7.1, docs/official/vilt.md §7.
        """
        chosen, device = self.official_texts, self.model.device
        ids, mask = self.ids[chosen].to(device), self.mask[chosen].to(device)
        scores = []
        for image in self.images.to(device):
            shown = image.expand(len(chosen), -1, -1, -1)
            batch = {"text_ids": ids, "text_masks": mask, "text_labels": ids, "image": [shown]}
            scores.append(self.model.rank_output(self.model.infer(batch)["cls_feats"])[:, 0])
        return torch.stack(scores)

    def encoder_flops(self) -> tuple[float, float]:
        """Of an image and of a text."""
        flops = count_products(self.ours, self._encoders)
        return flops.get("image", 0) / len(self.images), flops.get("text", 0) / len(self.lengths)

    def floor(self) -> float:
        """FLOPs of a pair's fusion pass alone."""
        return count_products(self.ours, self._encoders)[OTHER] / self.pairs["ours"]
