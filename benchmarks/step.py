"""``python -m benchmarks.step --baseline meter``: what a training pair costs, as ratios to the official step.

FLOPs are those of matrix products and convolutions, forward and backward, in float32 and train mode with dropout,
without optimiser; a multiply-add is two. Seconds and peak memory are measured with fused attention where they fit.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any

import torch
import transformers
from torch import Tensor

from benchmarks.baseline import VARIANTS, Batch, Steps, Variant
from benchmarks.counting import count_flops
from benchmarks.lengths import caption_lengths
from benchmarks.measuring import Memory, available_memory, measure_memory, time_steps
from benchmarks.meter_step import MeterSteps
from benchmarks.table import print_tables
from benchmarks.vilt_step import ViltSteps
from vlp.files import write_json

BASELINES: dict[str, type[Steps]] = {"meter": MeterSteps, "vilt": ViltSteps}
PAIRS = 8
CPU_PAIRS = 2  # of a timed step on a CPU, but of the tiny size
TIME_BUDGET = 150.0  # seconds; on two cores the official size is run twice in it


def main(argv: Sequence[str]) -> None:
    """Measure, print the tables, write the JSON."""
    arguments = parse(argv)
    result = measure(arguments)
    print_tables(result)
    if arguments.json:
        write_json(arguments.json, result)
        print(f"written: {arguments.json}")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.step", description=__doc__)
    sizes = "; ".join(f"{name} has {', '.join(steps.sizes)}" for name, steps in BASELINES.items())
    parser.add_argument("--baseline", choices=sorted(BASELINES), required=True)
    parser.add_argument(
        "--size",
        default="official",
        help=f"official = the paper's main setting, tiny = for a look at the command; {sizes}",
    )
    parser.add_argument(
        "--lengths",
        choices=("captions", "full"),
        default="captions",
        help="sentences as long as real captions (caption_lengths.json), or all of max_text_len",
    )
    parser.add_argument(
        "--batch",
        type=int,
        metavar="N",
        help=f"pairs of a step, 2 or more; default {PAIRS}, timed on a CPU {CPU_PAIRS} but for the tiny size",
    )
    parser.add_argument("--flops-only", action="store_true", help="count FLOPs; measure neither time nor memory")
    parser.add_argument("--json", metavar="FILE", help="write the result here")
    arguments = parser.parse_args(argv)
    if arguments.size not in BASELINES[arguments.baseline].sizes:
        parser.error(f"--size {arguments.size}: {sizes}")
    if arguments.batch is not None and arguments.batch < 2:
        parser.error(f"--batch {arguments.batch}: image-text matching needs 2 pairs or more")
    return arguments


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """The whole result: ratios to the first variant, and what they are made of."""
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    build, size = BASELINES[arguments.baseline], arguments.size
    on_cpu = build(size, "cpu")
    counted = sentence_lengths(on_cpu, arguments.lengths, arguments.batch or PAIRS)
    small = device == "cpu" and size != "tiny"
    timed = sentence_lengths(on_cpu, arguments.lengths, arguments.batch or (CPU_PAIRS if small else PAIRS))
    refused = refusal(on_cpu, device, len(timed), arguments.flops_only)
    memory: dict[str, Memory | None] = dict.fromkeys(VARIANTS)
    seconds: dict[str, float | None] = dict.fromkeys(VARIANTS)
    repetitions = 0
    if not refused:
        memory = {name: memory_of(build, size, device, name, timed) for name in VARIANTS}
    parts = {name: count(on_cpu, name, counted) for name in VARIANTS}
    if not refused:
        steps = on_cpu if device == "cpu" else build(size, device)
        found, repetitions = time_steps(runnable(steps, timed), device, TIME_BUDGET, say)
        seconds = {name: found[name] / len(timed) for name in VARIANTS}
    flops = {name: sum(found.values()) for name, found in parts.items()}
    peak = {name: m and m.peak for name, m in memory.items()}
    return {
        "flops": ratios(flops),
        "seconds": ratios(seconds),
        "memory": ratios(peak),
        "gflop_per_pair": flops,
        "gflop_per_pair_by_part": parts,
        "seconds_per_pair": seconds,
        "peak_gib": peak,
        "activations_gib_per_pair": {name: m and m.activations / len(timed) for name, m in memory.items()},
        "not_measured": refused,
        "parameters": {name: parameters(on_cpu.variant(name)) for name in VARIANTS},
        "settings": {
            **{name: getattr(arguments, name) for name in ("baseline", "size", "lengths")},
            "counted_tokens": counted,
            "timed_tokens": timed,
            "repetitions": repetitions,
        },
        "machine": machine(device),
    }


def sentence_lengths(steps: Steps, kind: str, pairs: int) -> list[int]:
    """Tokens of each sentence of a batch, special ones included."""
    longest = steps.max_text_len
    if kind == "full":
        return [longest] * pairs
    return [min(length, longest) for length in caption_lengths(steps.text_family, pairs)]


def refusal(steps: Steps, device: str, pairs: int, flops_only: bool) -> str:
    """Why neither time nor memory is measured; "" if they are."""
    if flops_only:
        return "--flops-only"
    if sys.platform != "linux":
        return f"memory is read from Linux's /proc, this is {sys.platform}"
    needed, available = steps.needed_gib(pairs), available_memory(device)
    if needed > available:
        return f"about {needed:.1f} GiB are needed for {pairs} pairs, {available:.1f} are free: try a smaller --batch"
    return ""


def count(steps: Steps, name: str, lengths: Sequence[int]) -> dict[str, float]:
    """GFLOP per pair of one variant, by part."""
    say(f"count the FLOPs of {name}")
    variant, batch = steps.variant(name), steps.batch(lengths)
    flops = count_flops(lambda: variant.step(batch), variant.parts)
    return {part: value / len(lengths) / 1e9 for part, value in flops.items()}


def parameters(variant: Variant) -> dict[str, int]:
    """Numbers of trained and of frozen parameters."""
    found = {p for roots in variant.parts.values() for root in roots for p in root.parameters()}
    trained = sum(p.numel() for p in found if p.requires_grad)
    return {"trained": trained, "frozen": sum(p.numel() for p in found) - trained}


def memory_of(
    build: Callable[[str, str], Steps], size: str, device: str, name: str, lengths: Sequence[int]
) -> Memory | None:
    """Memory of one variant, None if its process was killed."""
    say(f"measure the memory of {name}")
    try:
        return measure_memory(build, size, device, name, lengths)
    except BrokenProcessPool:
        say("  killed: the machine has too little memory for it")
        return None


def runnable(steps: Steps, lengths: Sequence[int]) -> dict[str, Callable[[], None]]:
    """Forward and backward of every variant on one batch."""
    batch = steps.batch(lengths)

    def run(step: Callable[[Batch], Tensor]) -> None:
        step(batch).backward()
        steps.clear_gradients()

    return {name: partial(run, steps.variant(name).step) for name in VARIANTS}


def ratios(values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Each value over the first; None where either is unknown."""
    first = next(iter(values.values()))
    return {name: value / first if value and first else None for name, value in values.items()}


def machine(device: str) -> dict[str, Any]:
    """Where this was measured, and with what."""
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine(),
        "cpu_threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def say(message: str) -> None:
    """Progress."""
    print(message, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
