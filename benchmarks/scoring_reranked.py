"""ALBEF's and X-VLM's retrieval for the scoring benchmark: candidates through the fusion layers, on random states."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from albef.config import RetrievalKeys as AlbefKeys
from benchmarks.albef_official import projected_images
from benchmarks.counting import count_products
from benchmarks.lengths import caption_lengths
from vlp.config.schema import defaults
from vlp.evaluation.reranked_retrieval import RerankedRetrieval, fused_first_tokens
from vlp.nn.cross_attention import Seen
from vlp.nn.fusion_bert import FusionEncoder
from vlp.nn.padding import PaddedLayout, TokenPlan, UnpaddedLayout
from vlp.nn.vision import VisionEncoder
from xvlm.config import RetrievalKeys as XvlmKeys
from xvlm.models.xvlm import vision_encoder

KEYS = {"albef": defaults(AlbefKeys), "xvlm": defaults(XvlmKeys)}
PADDED = {"albef": 30, "xvlm": KEYS["xvlm"]["max_tokens"]}  # tokens of a text in the official loop
_TINY = {
    **{"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 128},
    **{"vocab_size": 1000, "fusion_layer": 2, "encoder_width": 64},
}


class Size(NamedTuple):
    """The fusion encoder, an image's tokens, and by device ("cpu", "cuda") how many pairs are scored."""

    bert: Mapping[str, Any]
    tokens: int
    images: Mapping[str, int]
    texts: Mapping[str, int]
    official_pairs: Mapping[str, int]


def sizes(baseline: str) -> dict[str, Size]:
    """Of ``--size``."""
    keys = KEYS[baseline]
    if baseline == "albef":
        bert, patch = keys["bert_config"], keys["vision_config"]["patch_size"]
    else:  # Swin halves the sides of its grid of patches three times
        bert, patch = {**keys["text_config"], "encoder_width": keys["vision_config"]["vision_width"]}, 32
    patches = (keys["image_res"] // patch) ** 2
    small = {"cpu": 4, "cuda": 4}
    return {
        "official": Size(
            bert, 1 + patches, {"cpu": 2, "cuda": 32}, {"cpu": 256, "cuda": 1536}, {"cpu": 32, "cuda": 4096}
        ),
        "tiny": Size({**bert, **_TINY}, 17, small, {"cpu": 32, "cuda": 32}, {"cpu": 64, "cuda": 64}),
    }


class Fusion(nn.Module):
    """A fusion encoder with a matching head; images are random states, features are their first numbers."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.encoder = FusionEncoder(size.bert)
        self.itm_head = nn.Linear(size.bert["hidden_size"], 2)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.itm_head.weight.device

    def text_states(self, ids: Tensor, layout: PaddedLayout) -> tuple[Tensor, Tensor]:
        """As :class:`vlp.evaluation.reranked_retrieval.PairScorer` says, and so the others."""
        states = self.encoder.text(ids, layout)
        return states, F.normalize(layout.first(states)[:, 0, :8], dim=-1)

    def image_states(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images, F.normalize(images[:, 0, :8], dim=-1)

    def match_scores(self, states: Tensor, layout: UnpaddedLayout, image: Tensor) -> Tensor:
        return self.itm_head(fused_first_tokens(self.encoder, states, layout, image))[:, 1]


class RerankedWork:
    """The pairs that are scored, and both ways to score them.

    Attributes:
        lengths: tokens of each text.
        pairs: how many each way scores.
        image_tokens: that a pair is fused with.
    """

    def __init__(
        self, baseline: str, size_name: str, images: int, texts: int, official_pairs: int, device: str = "cpu"
    ) -> None:
        torch.manual_seed(0)
        size, padded = sizes(baseline)[size_name], PADDED[baseline]
        self.baseline, self.size, self.image_tokens = baseline, size, size.tokens
        self.model = Fusion(size).eval().to(device)
        self.images = torch.randn(images, size.tokens, size.bert["encoder_width"])
        self.lengths = [min(length - 1, padded) for length in caption_lengths("bert", texts)]  # without [SEP]
        self.mask = torch.arange(padded) < torch.tensor(self.lengths)[:, None]
        ids = torch.randint(5, size.bert["vocab_size"], self.mask.shape)
        self.ids = ids.masked_fill(~self.mask, size.bert["pad_token_id"])
        spread = torch.linspace(0, texts - 1, min(official_pairs, images * texts) // images or 1).long()
        self.official_texts = spread.unique()  # with every image; of all lengths, as in the data
        self.pairs = {"official": images * len(self.official_texts), "ours": images * texts}
        with torch.no_grad():
            layout = PaddedLayout(self.mask.to(device))
            self.padded = self.model.encoder.text(self.ids.to(device), layout)
        self.evaluation = RerankedRetrieval(self.model, images, texts, images, "random states")
        self.evaluation.add_texts(self.ids, self.mask.long())
        self.evaluation.add_images(self.images, torch.arange(images))

    def ours(self) -> Tensor:
        """Every text chooses every image: (N, M)."""
        return self.evaluation.scores().text_to_image.T

    @torch.no_grad()
    def official(self) -> Tensor:
        """Image after image, its keys and values anew for every text, padding and all positions: (N, chosen)."""
        chosen, device = self.official_texts, self.padded.device
        text, layout = self.padded[chosen.to(device)], PaddedLayout(self.mask[chosen].to(device))
        scores = []
        with projected_images():
            for image in self.images.to(device):
                fused = self.model.encoder.fuse(text, layout, image.repeat(len(chosen), 1, 1), Seen())
                scores.append(self.model.itm_head(fused[:, 0])[:, 1])
        return torch.stack(scores)

    def encoder_flops(self) -> tuple[float, float]:
        """Of an image, of the official size, and of a text."""
        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            self.image_encoder()(torch.empty(1, 3, *2 * [KEYS[self.baseline]["image_res"]]))
        layout = UnpaddedLayout(move_data_to_device(TokenPlan.of(self.mask.long()), self.model.device))
        texts = count_products(lambda: self.model.text_states(self.ids.to(self.model.device), layout), {})
        return float(counter.get_total_flops()), sum(texts.values()) / len(self.lengths)

    def image_encoder(self) -> nn.Module:
        """The baseline's, of the official size."""
        keys = KEYS[self.baseline]
        if self.baseline == "xvlm":
            return vision_encoder(keys)
        return VisionEncoder(keys["image_res"], keys["vision_config"])

    def floor(self) -> float:
        """Mean FLOPs of a pair: :func:`floor_flops`."""
        return floor_flops(self.size, self.lengths)


def floor_flops(size: Size, lengths: Sequence[int]) -> float:
    """Matrix products of a text's valid tokens in the fusion layers, the first token alone in the last; the mean."""
    d, mlp = size.bert["hidden_size"], size.bert["intermediate_size"]
    layers = size.bert["num_hidden_layers"] - size.bert["fusion_layer"]

    def layer(n: int, queries: int) -> int:
        own = 2 * n * d * d + 2 * queries * d * d + 2 * queries * n * d  # k and v; q and output; attention
        cross = 2 * queries * d * d + 2 * queries * size.tokens * d
        return own + cross + 2 * queries * d * mlp

    return 2 * statistics.mean((layers - 1) * layer(n, n) + layer(n, 1) for n in lengths)
