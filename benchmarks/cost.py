"""``python -m benchmarks.cost``: GPU hours, days and memory of a pre-training run, from the FLOPs of a pair.

hours = pairs x FLOPs per pair / (peak x utilisation). FLOPs, parameters and activations are those that
``python -m benchmarks.step --json`` measured (``benchmarks/measured``); the utilisation is an assumption.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.evaluation_cost import TEST_SETS, evaluation_cost, print_evaluation
from benchmarks.gpus import GPUS, PRECISIONS, Gpu
from vlp.arguments import whole
from vlp.console import stdout_console
from vlp.files import write_json
from vlp.safe_output import make_output_safe

MEASURED = Path(__file__).parent / "measured"
GIB = 2**30
# float32: weight, gradient and AdamW's two moments.
TRAINED_BYTES, FROZEN_BYTES = 16, 4


class Recipe(NamedTuple):
    """A pre-training run: steps of ``batch`` pairs, and the file that holds what a pair costs.

    ``regions`` is the share of the steps beside which X-VLM takes one of its region stream, of as many texts.
    """

    title: str
    steps: int
    batch: int
    measured: str
    regions: float = 0.0

    @property
    def pairs(self) -> int:
        """Of the whole run."""
        return self.steps * self.batch


RECIPES = {
    "meter": Recipe("METER, CLIP-B/16 and RoBERTa-base, 288 px", 100_000, 4096, "meter_official.json"),
    "meter-ablation": Recipe("METER, CLIP-B/32 and RoBERTa-base, 224 px", 50_000, 4096, "meter_ablation.json"),
    "vilt": Recipe("ViLT-B/32, 384 x 384", 200_000, 4096, "vilt_official.json"),
    "albef": Recipe("ALBEF, ViT-B/16 and BERT, 256 px, 4M", 300_000, 512, "albef_official.json"),
    "xvlm": Recipe("X-VLM, Swin-B and BERT, 224 px, 4M", 200_000, 1024, "xvlm_official.json", regions=0.5),
}
OFFICIAL_REGION, REGION = "region_official", "region"  # what they cost stands beside the variants


BASELINES = ("meter", "vilt", "albef", "xvlm")


class PaperRun(NamedTuple):
    """What the paper says of a run."""

    variant: str
    gpu: str
    gpus: int
    days: float


# "about 4 days on 32 A100 80G"; how its code computes the step is not said.
PAPER = {"meter": PaperRun("epic_naive", "A100-80", 32, 4.0)}


class Cost(NamedTuple):
    """One variant of a recipe on one type of GPU."""

    gflop_per_pair: float
    gpu_hours: dict[str, float | None]  # by precision, None where the GPU has none
    days: dict[str, float | None]  # on all GPUs together
    weights_gib: float
    activations_gib: float  # of the pairs that a GPU computes at once


def cost_of(recipe: Recipe, variant: str, gpu: Gpu, gpus: int, utilisation: float, pairs_per_gpu: int) -> Cost:
    """Hours and memory of one variant, a key of the measured file."""
    measured = measured_of(recipe)
    region = OFFICIAL_REGION if variant in ("vanilla_official", "epic_naive") else REGION
    steps = (variant, region) if recipe.regions else (variant,)
    shares = zip((1, recipe.regions), steps, strict=False)
    gflop = sum(share * measured["gflop_per_pair"][step] for share, step in shares)
    peaks = {precision: gpu.peak(precision) for precision in PRECISIONS}
    hours = {precision: peak and gpu_hours(recipe, gflop, peak, utilisation) for precision, peak in peaks.items()}
    return Cost(
        gflop,
        hours,
        {precision: value and value / gpus / 24 for precision, value in hours.items()},
        weights_gib(**measured["parameters"][variant]),
        max(measured["activations_gib_per_pair"][step] for step in steps) * pairs_per_gpu,
    )


def measured_of(recipe: Recipe) -> dict[str, Any]:
    """What ``benchmarks.step`` wrote for the recipe's size."""
    return json.loads((MEASURED / recipe.measured).read_text(encoding="utf-8"))


def gpu_hours(recipe: Recipe, gflop_per_pair: float, peak: float, utilisation: float) -> float:
    """Hours of one GPU at ``utilisation`` of ``peak`` TFLOP/s."""
    return recipe.pairs * gflop_per_pair * 1e9 / (peak * 1e12 * utilisation) / 3600


def implied_utilisation(recipe: Recipe, gflop_per_pair: float, peak: float, gpus: int, days: float) -> float:
    """The share of ``peak`` TFLOP/s at which a run takes ``days`` on ``gpus`` GPUs."""
    return gpu_hours(recipe, gflop_per_pair, peak, utilisation=1.0) / (gpus * days * 24)


def weights_gib(trained: int, frozen: int) -> float:
    """Weights, gradients and AdamW's two moments of trained parameters, weights of frozen ones; float32."""
    return (TRAINED_BYTES * trained + FROZEN_BYTES * frozen) / GIB


def main(argv: Sequence[str]) -> None:
    """Print a table for every recipe, write the JSON."""
    arguments = parse(argv)
    console, gpu = stdout_console(), GPUS[arguments.gpu]
    if arguments.evaluation:
        plan_evaluation(console, gpu, arguments)
        return
    result: dict[str, Any] = {"gpu": {"name": arguments.gpu, **gpu._asdict()}, "gpus": arguments.gpus}
    result |= {"utilisation": arguments.utilisation, "pairs_per_gpu": arguments.pairs_per_gpu, "recipes": {}}
    for name in arguments.recipe or RECIPES:
        recipe = RECIPES[name]
        costs = {
            variant: cost_of(recipe, variant, gpu, arguments.gpus, arguments.utilisation, arguments.pairs_per_gpu)
            for variant in measured_of(recipe)["flops"]
            if variant not in (OFFICIAL_REGION, REGION)
        }
        console.print(table_of(recipe, costs, arguments))
        result["recipes"][name] = {variant: cost._asdict() for variant, cost in costs.items()}
    print_assumptions(console, gpu, arguments)
    result["paper"] = {name: print_paper(console, name) for name in PAPER if name in result["recipes"]}
    if arguments.json:
        write_json(arguments.json, result)
        console.print(f"written: {arguments.json}", soft_wrap=True)


def plan_evaluation(console: Console, gpu: Gpu, arguments: argparse.Namespace) -> None:
    """The same for a retrieval evaluation of every baseline."""
    test_set, name = TEST_SETS[arguments.evaluation], arguments.evaluation
    costs = {each: evaluation_cost(each, test_set, gpu, arguments.utilisation) for each in BASELINES}
    print_evaluation(console, name, arguments.gpu, costs)
    console.print(f"Assumed: {arguments.utilisation:.0%} of the peak, at every precision.", soft_wrap=True)
    if arguments.json:
        found = {each: cost._asdict() for each, cost in costs.items()}
        write_json(arguments.json, {"gpu": arguments.gpu, "utilisation": arguments.utilisation, name: found})
        console.print(f"written: {arguments.json}", soft_wrap=True)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.cost", description=__doc__)
    parser.add_argument("--recipe", action="append", type=one_of(RECIPES), help=f"of {', '.join(RECIPES)}; default all")
    parser.add_argument("--evaluation", choices=TEST_SETS, help="plan a retrieval evaluation instead of a training")
    parser.add_argument("--gpu", type=one_of(GPUS), default="A100-80", help=f"of {', '.join(GPUS)}; default A100-80")
    parser.add_argument("--gpus", type=whole(1), default=32, metavar="N", help="how many; default 32")
    parser.add_argument("--pairs-per-gpu", type=whole(1), default=32, metavar="N", help="per_gpu_batchsize; default 32")
    parser.add_argument(
        "--utilisation", type=share, default=0.35, metavar="U", help="share of the peak that is reached; default 0.35"
    )
    parser.add_argument("--json", metavar="FILE", help="write the result here")
    return parser.parse_args(argv)


def one_of(known: Mapping[str, object]) -> Callable[[str], str]:
    """An argument that must be a key of ``known``."""

    def check(name: str) -> str:
        if name not in known:
            by_lower = {key.lower(): key for key in known}
            near = by_lower[difflib.get_close_matches(name.lower(), by_lower, 1, cutoff=0)[0]]
            raise argparse.ArgumentTypeError(f"{name!r} is unknown; the nearest is {near!r}")
        return name

    return check


def share(text: str) -> float:
    """A number above 0, at most 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share above 0, at most 1")
    return value


def table_of(recipe: Recipe, costs: Mapping[str, Cost], arguments: argparse.Namespace) -> Table:
    """Hours, days and memory of every variant."""
    table = Table(
        *("step", "GFLOP", *PRECISIONS, "GiB"),
        title=f"{recipe.title}: {recipe.steps:,} steps of {recipe.batch} pairs{_of_regions(recipe)}\n"
        f"GPU hours / days on {arguments.gpus} {arguments.gpu}",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    for variant, cost in costs.items():
        table.add_row(
            variant,
            f"{cost.gflop_per_pair:.1f}",
            *(_hours_and_days(cost.gpu_hours[precision], cost.days[precision]) for precision in PRECISIONS),
            f"{cost.weights_gib:.1f}+{cost.activations_gib:.1f}",
        )
    return table


def _of_regions(recipe: Recipe) -> str:
    return f", beside {recipe.regions:.0%} of them one of {recipe.batch} regions" if recipe.regions else ""


def _hours_and_days(hours: float | None, days: float | None) -> str:
    return "–" if hours is None else f"{hours:,.0f} / {days:.1f}"


def print_assumptions(console: Console, gpu: Gpu, arguments: argparse.Namespace) -> None:
    """What the figures rest on."""
    peaks = ", ".join(f"{p} {gpu.peak(p) or '-'}" for p in PRECISIONS)
    for line in (
        f"{arguments.gpu}: {gpu.sheet}; {gpu.gib:g} GiB; peak TFLOP/s, dense: {peaks}.",
        "precision=32 computes in tf32 where the GPU has it (matmul_precision=high, the default; highest: fp32), "
        "bf16 and 16 at bf16's peak.",
        f"Assumed: {arguments.utilisation:.0%} of the peak, at every precision. GFLOP per training pair, forward and "
        "backward, captions of real lengths.",
        "GiB in float32: weights, gradients and AdamW's moments (16 bytes a trained parameter, 4 a frozen one) + what "
        f"{arguments.pairs_per_gpu} pairs keep for the backward pass, measured. Not counted: CUDA's own memory, "
        "communication buffers, fragmentation.",
    ):
        console.print(line, soft_wrap=True)


def print_paper(console: Console, name: str) -> dict[str, float | None]:
    """The utilisation that the paper's time implies, by precision."""
    run = PAPER[name]
    gflop = measured_of(RECIPES[name])["gflop_per_pair"][run.variant]
    peaks = {precision: GPUS[run.gpu].peak(precision) for precision in PRECISIONS}
    implied = {
        precision: peak and implied_utilisation(RECIPES[name], gflop, peak, run.gpus, run.days)
        for precision, peak in peaks.items()
    }
    console.print(
        f"Paper: about {run.days:g} days on {run.gpus} {run.gpu}. With the step {run.variant} that is "
        + ", ".join(f"{value:.0%} of the peak of {p}" for p, value in implied.items() if value)
        + "; more than 100% means that it was not run so.",
        soft_wrap=True,
    )
    return implied


if __name__ == "__main__":
    make_output_safe()
    main(sys.argv[1:])
