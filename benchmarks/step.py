"""``python -m benchmarks.step --baseline meter``: the cost of a training pair, as ratios to the official step.

FLOPs are those of matrix products and convolutions, forward and backward, in train mode with dropout and in float32,
without optimiser; one multiply-add is two.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.table import Table

from benchmarks.baseline import VARIANTS, Steps
from benchmarks.counting import count_flops
from benchmarks.lengths import caption_lengths
from benchmarks.meter_step import MeterSteps
from vlp.files import write_json

BASELINES: dict[str, type[Steps]] = {"meter": MeterSteps}
LENGTHS = {
    "captions": "those of real captions (caption_lengths.json)",
    "full": "every sentence as long as max_text_len allows",
}


def main(argv: Sequence[str]) -> None:
    """Measure, print the tables, write the JSON."""
    arguments = parse(argv)
    torch.manual_seed(0)
    steps = BASELINES[arguments.baseline](arguments.size)
    lengths = sentence_lengths(steps, arguments.lengths, arguments.batch)
    parts = {name: count(steps, name, lengths) for name in VARIANTS}
    flops = {name: sum(found.values()) for name, found in parts.items()}
    nothing = dict.fromkeys(VARIANTS)
    result = {
        "flops": ratios(flops),
        "seconds": nothing,
        "memory": nothing,
        "gflops_per_pair": flops,
        "gflops_per_pair_by_part": parts,
        "settings": {
            "baseline": arguments.baseline,
            "size": arguments.size,
            "lengths": arguments.lengths,
            "tokens": lengths,
        },
        "machine": machine(),
    }
    print_tables(result)
    if arguments.json:
        write_json(arguments.json, result)
        print(f"written: {arguments.json}")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.step", description=__doc__)
    parser.add_argument("--baseline", choices=sorted(BASELINES), required=True)
    parser.add_argument("--size", choices=("official", "ablation", "tiny"), default="official")
    parser.add_argument("--lengths", choices=sorted(LENGTHS), default="captions", help=str(LENGTHS))
    parser.add_argument("--batch", type=int, default=8, help="pairs of a step, 2 or more; default 8")
    parser.add_argument("--json", metavar="FILE", help="write the result here")
    arguments = parser.parse_args(argv)
    if arguments.batch < 2:
        parser.error(f"--batch {arguments.batch}: image-text matching needs 2 pairs or more")
    return arguments


def sentence_lengths(steps: Steps, kind: str, batch: int) -> list[int]:
    """Tokens of each sentence of the batch, special ones included."""
    longest = steps.max_text_len
    if kind == "full":
        return [longest] * batch
    return [min(length, longest) for length in caption_lengths(steps.tokenizer_family, batch)]


def count(steps: Steps, name: str, lengths: Sequence[int]) -> dict[str, float]:
    """GFLOP per pair of one variant, by part."""
    variant, batch = steps.variant(name), steps.batch(lengths)
    print(f"counting {name}", flush=True)
    flops = count_flops(lambda: variant.step(batch), variant.parts)
    return {part: value / len(lengths) / 1e9 for part, value in flops.items()}


def ratios(values: Mapping[str, float]) -> dict[str, float]:
    """Each value over the first."""
    first = next(iter(values.values()))
    return {name: value / first for name, value in values.items()}


def machine() -> dict[str, Any]:
    """Where this was measured."""
    return {
        "platform": platform.platform(),
        "cpu_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def print_tables(result: Mapping[str, Any]) -> None:
    """Ratios, and GFLOP per pair by part."""
    table = Table("step", "ratio of FLOPs", "GFLOP per pair", title=str(result["settings"]))
    for name, ratio in result["flops"].items():
        table.add_row(name, f"{ratio:.3f}", f"{result['gflops_per_pair'][name]:.2f}")
    by_part = result["gflops_per_pair_by_part"]
    names = list(dict.fromkeys(part for found in by_part.values() for part in found))
    parts = Table("GFLOP per pair", *VARIANTS)
    for part in names:
        parts.add_row(part, *(f"{by_part[name].get(part, 0):.2f}" for name in VARIANTS))
    console = Console()
    console.print(table, parts)


if __name__ == "__main__":
    main(sys.argv[1:])
