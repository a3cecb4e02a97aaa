"""``python -m benchmarks.retrieval_scoring --baseline albef``: pairs that the fusion layers score in a second.

Retrieval with k_test re-ranking spends its time on pairs of an image and a text that go through the fusion layers. They
are scored as our evaluation does and as the plain official loop does, on the same random states, with captions of real
lengths. What a pair that both directions ask for saves is not in the figures: every pair is scored once here.

FLOPs are those of matrix products; a multiply-add is two. The floor is what the valid tokens of a pair cost where an
image's keys and values come for free.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from albef.config import RetrievalKeys
from benchmarks.albef_official import projected_images
from benchmarks.counting import SkippedProducts
from benchmarks.lengths import caption_lengths
from benchmarks.measuring import time_steps
from benchmarks.precision import PRECISIONS, throughput
from benchmarks.step import machine, say
from vlp.arguments import whole
from vlp.config.schema import defaults
from vlp.evaluation.reranked_retrieval import RerankedRetrieval, fused_first_tokens
from vlp.files import write_json
from vlp.nn.cross_attention import Seen
from vlp.nn.fusion_bert import FusionEncoder
from vlp.nn.padding import PaddedLayout, UnpaddedLayout

BASELINES = ("albef",)
PADDED = 30  # tokens of a text in the official loop
TIME_BUDGET = 300.0
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


def sizes() -> dict[str, Size]:
    """Of ``--size``."""
    keys = defaults(RetrievalKeys)
    bert, patches = keys["bert_config"], (keys["image_res"] // keys["vision_config"]["patch_size"]) ** 2
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


class Work:
    """The pairs that are scored, and both ways to score them.

    Attributes:
        lengths: tokens of each text.
        pairs: how many each way scores.
    """

    def __init__(self, size: Size, images: int, texts: int, official_pairs: int, device: str) -> None:
        torch.manual_seed(0)
        self.model = Fusion(size).eval().to(device)
        self.images = torch.randn(images, size.tokens, size.bert["encoder_width"])
        self.lengths = [min(length - 1, PADDED) for length in caption_lengths("bert", texts)]  # without [SEP]
        self.mask = torch.arange(PADDED) < torch.tensor(self.lengths)[:, None]
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


def floor_flops(size: Size, lengths: Sequence[int]) -> float:
    """Matrix products of a text's valid tokens in the fusion layers, the first token alone in the last; the mean."""
    d, mlp = size.bert["hidden_size"], size.bert["intermediate_size"]
    layers = size.bert["num_hidden_layers"] - size.bert["fusion_layer"]

    def layer(n: int, queries: int) -> int:
        own = 2 * n * d * d + 2 * queries * d * d + 2 * queries * n * d  # k and v; q and output; attention
        cross = 2 * queries * d * d + 2 * queries * size.tokens * d
        return own + cross + 2 * queries * d * mlp

    return 2 * statistics.mean((layers - 1) * layer(n, n) + layer(n, 1) for n in lengths)


def main(argv: Sequence[str]) -> None:
    """Measure, print the table, write the JSON."""
    arguments = parse(argv)
    result = measure(arguments)
    print_table(result)
    if arguments.json:
        write_json(arguments.json, result)
        print(f"written: {arguments.json}")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line; what is not given depends on size and device."""
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser("python -m benchmarks.retrieval_scoring", description=__doc__)
    parser.add_argument("--baseline", choices=BASELINES, required=True)
    parser.add_argument("--size", choices=("official", "tiny"), default="official")
    parser.add_argument("--images", type=whole(1), metavar="N", help="default 2, on a GPU 32")
    parser.add_argument("--texts", type=whole(1), metavar="M", help="with every image; default 256, on a GPU 1536")
    parser.add_argument("--official-pairs", type=whole(1), metavar="P", help="of them; default 32, on a GPU 4096")
    parser.add_argument(
        "--repetitions", type=whole(1), metavar="R", help="default as many as fit in 5 minutes, 3 to 10"
    )
    parser.add_argument("--precision", choices=("32", "tf32"), help="of products on a GPU; default tf32")
    parser.add_argument("--json", metavar="FILE", help="write the result here")
    arguments = parser.parse_args(argv)
    if arguments.precision == "tf32" and not on_gpu:
        parser.error("--precision tf32: torch sees no GPU here")
    arguments.precision = arguments.precision or ("tf32" if on_gpu else "32")
    arguments.device = "cuda" if on_gpu else "cpu"
    for name in ("images", "texts", "official_pairs"):
        if getattr(arguments, name) is None:
            setattr(arguments, name, getattr(sizes()[arguments.size], name)[arguments.device])
    if arguments.texts < arguments.images:
        parser.error(f"--texts {arguments.texts}: give at least as many as --images, {arguments.images}")
    return arguments


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Pairs per second of both ways, the ways taking turns, their ratio, and FLOPs."""
    device, size = arguments.device, sizes()[arguments.size]
    torch.set_float32_matmul_precision(PRECISIONS[arguments.precision].products)
    work = Work(size, arguments.images, arguments.texts, arguments.official_pairs, device)
    calls = {"official": work.official, "ours": work.ours}
    say("count the FLOPs")
    gflop = {name: counted(call) / work.pairs[name] / 1e9 for name, call in calls.items()}
    say("compare the scores, which warms up")
    difference = float((work.ours()[:, work.official_texts] - work.official()).abs().max())
    seconds = time_steps(calls, device, TIME_BUDGET, say, arguments.repetitions)
    speed = {name: [work.pairs[name] / value for value in values] for name, values in seconds.items()}
    ratios = [ours / official for ours, official in zip(speed["ours"], speed["official"], strict=True)]
    per_pair = {name: 1 / statistics.median(values) for name, values in speed.items()}
    device_name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    return {
        "pairs_per_second": {name: statistics.median(values) for name, values in speed.items()},
        "pairs_per_second_spread": {name: [min(values), max(values)] for name, values in speed.items()},
        "ratio": statistics.median(ratios),
        "ratio_spread": [min(ratios), max(ratios)],
        "gflop_per_pair": {**gflop, "floor": floor_flops(size, work.lengths) / 1e9},
        "largest_difference": difference,
        **(throughput(gflop, per_pair, device_name, arguments.precision) if device == "cuda" else {}),
        "settings": {
            **{name: getattr(arguments, name) for name in ("baseline", "size", "images", "texts", "precision")},
            **{"pairs": work.pairs, "mean_tokens": statistics.mean(work.lengths), "image_tokens": size.tokens},
            "repetitions": len(ratios),
        },
        "machine": machine(device_name),
    }


def counted(call: Any) -> int:
    """FLOPs of a call, whose products are skipped."""
    with sdpa_kernel(SDPBackend.MATH), SkippedProducts({}) as skipped:
        call()
    return sum(skipped.flops.values())


def print_table(result: Mapping[str, Any]) -> None:
    """A row for each way, and the floor."""
    settings, gflop = result["settings"], result["gflop_per_pair"]
    tokens = f"{settings['mean_tokens']:.1f} tokens a text, {settings['image_tokens']} an image"
    grid = Table(title=f"{settings['baseline']}, {settings['size']}: {tokens}", title_justify="left")
    for column in ("", "pairs per second", "to the official loop", "GFLOP per pair"):
        grid.add_column(column, justify="right" if column else "left")
    speed, ratio = result["pairs_per_second"], {"official": 1.0, "ours": result["ratio"]}
    for name, title in (("official", "plain official loop"), ("ours", "our evaluation")):
        grid.add_row(title, f"{speed[name]:.1f}", f"{ratio[name]:.2f}", f"{gflop[name]:.3g}")
    grid.add_row("floor", "", "", f"{gflop['floor']:.3g}")
    Console(width=None if sys.stdout.isatty() else 120).print(grid)


if __name__ == "__main__":
    main(sys.argv[1:])
