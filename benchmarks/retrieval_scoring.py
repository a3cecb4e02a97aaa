"""``python -m benchmarks.retrieval_scoring --baseline meter``: pairs of an image and a text scored in a second.

METER and ViLT score every image with every caption, ALBEF and X-VLM k_test candidates of each: all but a little of the
time goes into the pairs' passes through the fusion layers. They are scored as our evaluation does and as a plain loop
does that computes everything for every pair, by the same random weights, with captions of real lengths. What a pair
that both directions of a re-ranking ask for saves is not in the figures: every pair is scored once here.

FLOPs are those of matrix products; a multiply-add is two. The floor is the fusion pass alone: of METER and ViLT ours
less both encoders, of ALBEF and X-VLM what the valid tokens of a pair cost where an image's keys and values are free.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from rich.table import Table

from benchmarks.counting import SkippedProducts, count_products
from benchmarks.measuring import time_steps
from benchmarks.precision import PRECISIONS, throughput
from benchmarks.scoring_pairs import COUNTS, PairsWork
from benchmarks.scoring_reranked import RerankedWork, sizes
from benchmarks.step import machine, say
from benchmarks.table import figure
from vlp.arguments import whole
from vlp.console import stdout_console
from vlp.files import write_json
from vlp.safe_output import make_output_safe

RERANKED = ("albef", "xvlm")
BASELINES = ("meter", "vilt", *RERANKED)
TIME_BUDGET = 300.0


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
    parser.add_argument("--images", type=whole(1), metavar="N", help="default a few, on a GPU more")
    parser.add_argument(
        "--texts", type=whole(1), metavar="M", help="with every image; default 64 or 256, on a GPU 1536"
    )
    parser.add_argument("--official-pairs", type=whole(1), metavar="P", help="of them, for the plain loop")
    parser.add_argument(
        "--repetitions", type=whole(1), metavar="R", help="default as many as fit in 5 minutes, 3 to 10"
    )
    parser.add_argument("--precision", choices=("32", "tf32"), help="of products on a GPU; default tf32")
    parser.add_argument("--flops-only", action="store_true", help="nothing is computed but counts")
    parser.add_argument("--json", metavar="FILE", help="write the result here")
    arguments = parser.parse_args(argv)
    if arguments.precision == "tf32" and not on_gpu:
        parser.error("--precision tf32: torch sees no GPU here")
    arguments.precision = arguments.precision or ("tf32" if on_gpu else "32")
    arguments.device = "cuda" if on_gpu else "cpu"
    counts = sizes(arguments.baseline) if arguments.baseline in RERANKED else COUNTS
    for name in ("images", "texts", "official_pairs"):
        if getattr(arguments, name) is None:
            setattr(arguments, name, getattr(counts[arguments.size], name)[arguments.device])
    if arguments.baseline in RERANKED and arguments.texts < arguments.images:
        parser.error(f"--texts {arguments.texts}: give at least as many as --images, {arguments.images}")
    return arguments


def work_of(arguments: argparse.Namespace) -> PairsWork | RerankedWork:
    """The pairs of a command line."""
    kind = RerankedWork if arguments.baseline in RERANKED else PairsWork
    counts = (arguments.images, arguments.texts, arguments.official_pairs)
    return kind(arguments.baseline, arguments.size, *counts, arguments.device)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Pairs per second of both ways, the ways taking turns, their ratio, and FLOPs."""
    torch.set_float32_matmul_precision(PRECISIONS[arguments.precision].products)
    say("build the model")
    if arguments.flops_only:  # no product is computed, not even of what the pairs are made from
        with SkippedProducts({}):
            work = work_of(arguments)
    else:
        work = work_of(arguments)
    calls = {"official": work.official, "ours": work.ours}
    say("count the FLOPs")
    gflop = {name: sum(count_products(call, {}).values()) / work.pairs[name] / 1e9 for name, call in calls.items()}
    per_image, per_text = work.encoder_flops()
    device_name = "cpu"
    if arguments.device == "cuda":
        device_name = torch.cuda.get_device_name()
    elif not arguments.flops_only:
        device_name = platform.processor() or platform.machine()
    return {
        **({} if arguments.flops_only else timed(arguments, work, gflop, device_name)),
        "gflop_per_pair": {**gflop, "floor": work.floor() / 1e9},
        "gflop_per_image": per_image / 1e9,
        "gflop_per_text": per_text / 1e9,
        "settings": {
            **{name: getattr(arguments, name) for name in ("baseline", "size", "images", "texts", "precision")},
            **{"pairs": work.pairs, "mean_tokens": statistics.mean(work.lengths), "image_tokens": work.image_tokens},
        },
        "machine": machine(device_name),
    }


def timed(
    arguments: argparse.Namespace, work: PairsWork | RerankedWork, gflop: Mapping[str, float], device_name: str
) -> dict[str, Any]:
    """The part of the result that comes from scoring for real."""
    say("compare the scores, which warms up")
    difference = float((work.ours()[:, work.official_texts] - work.official()).abs().max())
    calls = {"official": work.official, "ours": work.ours}
    seconds = time_steps(calls, arguments.device, TIME_BUDGET, say, arguments.repetitions)
    speed = {name: [work.pairs[name] / value for value in values] for name, values in seconds.items()}
    ratios = [ours / official for ours, official in zip(speed["ours"], speed["official"], strict=True)]
    per_pair = {name: 1 / statistics.median(values) for name, values in speed.items()}
    on_gpu = arguments.device == "cuda"
    return {
        "pairs_per_second": {name: statistics.median(values) for name, values in speed.items()},
        "pairs_per_second_spread": {name: [min(values), max(values)] for name, values in speed.items()},
        "ratio": statistics.median(ratios),
        "ratio_spread": [min(ratios), max(ratios)],
        "repetitions": len(ratios),
        "largest_difference": difference,
        **(throughput(gflop, per_pair, device_name, arguments.precision) if on_gpu else {}),
    }


def print_table(result: Mapping[str, Any]) -> None:
    """A row for each way, and the floor."""
    settings, gflop = result["settings"], result["gflop_per_pair"]
    tokens = f"{settings['mean_tokens']:.1f} tokens a text, {settings['image_tokens']} an image"
    grid = Table(title=f"{settings['baseline']}, {settings['size']}: {tokens}", title_justify="left")
    for column in ("", "pairs per second", "to the plain loop", "GFLOP per pair"):
        grid.add_column(column, justify="right" if column else "left")
    ratio = {"official": 1.0, "ours": result.get("ratio")}
    for name, title in (("official", "plain loop"), ("ours", "our evaluation")):
        speed = result.get("pairs_per_second", {}).get(name)
        grid.add_row(title, figure(speed, ".1f"), figure(speed and ratio[name], ".2f"), figure(gflop[name], ".3g"))
    grid.add_row("floor", "", "", f"{gflop['floor']:.3g}")
    stdout_console().print(grid)


if __name__ == "__main__":
    make_output_safe()
    main(sys.argv[1:])
