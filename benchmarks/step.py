"""``python -m benchmarks.step --baseline meter``: what a training pair costs, as ratios to the official step.

FLOPs are those of matrix products and convolutions, forward and backward, in train mode with dropout, without
optimiser; a multiply-add is two. Seconds, peak memory and the operations that are dispatched are measured, with fused
attention, where they fit.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any, NamedTuple

import torch
import transformers

from benchmarks.albef_step import AlbefSteps
from benchmarks.baseline import Batch, Steps, Variant
from benchmarks.counting import count_flops
from benchmarks.host_waits import HostWaits
from benchmarks.lengths import caption_lengths
from benchmarks.measuring import LEAST, MOST, count_operations, time_steps
from benchmarks.memory import Memory, available_memory, measure_memory
from benchmarks.meter_step import MeterSteps
from benchmarks.precision import PRECISIONS, computed_in, throughput
from benchmarks.table import print_tables
from benchmarks.vilt_step import ViltSteps
from benchmarks.xvlm_step import XvlmSteps
from vlp.arguments import whole
from vlp.files import write_json
from vlp.safe_output import make_output_safe

BASELINES: dict[str, type[Steps]] = {"albef": AlbefSteps, "meter": MeterSteps, "vilt": ViltSteps, "xvlm": XvlmSteps}
PAIRS = 8
CPU_PAIRS = 2  # of a timed step on a CPU, but of the tiny size
TIME_BUDGET = 300.0  # seconds of repetitions; two cores run METER's official size five times in it, ViLT's ten times

Measured = Mapping[str, float | None]  # by variant


class Setup(NamedTuple):
    """What is measured: a size of a baseline on a device, less the savings that are turned off."""

    baseline: str
    size: str
    device: str
    precision: str
    without: tuple[str, ...]

    def steps(self, device: str) -> Steps:
        """Its steps on ``device``."""
        return BASELINES[self.baseline](self.size, device, self.without)

    def runnable(self, steps: Steps, name: str, lengths: Sequence[int]) -> tuple[Variant, Batch]:
        """One variant in the precision of the setup, and a batch for it."""
        return computed_in(steps.variant(name), self.precision), steps.batch(lengths)


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
    parser.add_argument(
        "--repetitions",
        type=whole(1),
        metavar="N",
        help=f"timed runs of every step; default {LEAST} to {MOST}, as many as {TIME_BUDGET:.0f} seconds allow",
    )
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="KEY",
        help="turn off a saving, a key of the baseline's config; "
        + "; ".join(f"{name} has {', '.join(steps.switches)}" for name, steps in BASELINES.items()),
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="of products on a GPU; default tf32, as in the official environment; a CPU computes in 32",
    )
    parser.add_argument("--flops-only", action="store_true", help="count FLOPs; run no step")
    parser.add_argument("--json", metavar="FILE", help="write the result here")
    arguments = parser.parse_args(argv)
    steps = BASELINES[arguments.baseline]
    if arguments.size not in steps.sizes:
        parser.error(f"--size {arguments.size}: {sizes}")
    if arguments.batch is not None and arguments.batch < 2:
        parser.error(f"--batch {arguments.batch}: image-text matching needs 2 pairs or more")
    for key in arguments.without:
        if key not in steps.switches:
            parser.error(f"--without {key}: {arguments.baseline} has {', '.join(steps.switches)}")
    on_gpu = torch.cuda.is_available()
    if arguments.precision not in (None, "32") and not on_gpu:
        parser.error(f"--precision {arguments.precision}: torch sees no GPU here, and on a CPU a step is timed in 32")
    arguments.precision = arguments.precision or ("tf32" if on_gpu else "32")
    return arguments


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """The whole result: ratios to the first variant, and what they are made of."""
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    setup = Setup(arguments.baseline, arguments.size, device, arguments.precision, tuple(arguments.without))
    on_cpu = setup.steps("cpu")
    counted = sentence_lengths(on_cpu, arguments.lengths, arguments.batch or PAIRS)
    small = device == "cpu" and setup.size != "tiny"
    timed = sentence_lengths(on_cpu, arguments.lengths, arguments.batch or (CPU_PAIRS if small else PAIRS))
    refused = refusal(on_cpu, device, len(timed), arguments.flops_only)
    memory = {name: None if refused else memory_of(setup, name, timed) for name in on_cpu.variants}
    parts = {name: count(on_cpu, name, counted) for name in on_cpu.variants}
    flops = {name: sum(found.values()) for name, found in parts.items()}
    ran: dict[str, Any] = {"not_measured": refused}
    if not refused:
        ran |= run(setup, on_cpu if device == "cpu" else setup.steps(device), timed, arguments.repetitions)
    seconds = ran.get("seconds_per_pair", dict.fromkeys(flops))
    device_name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    return {
        "flops": ratios(flops),
        "seconds": dict.fromkeys(flops),
        **of_memory(memory, len(timed)),
        "gflop_per_pair": flops,
        "gflop_per_pair_by_part": parts,
        "seconds_per_pair": seconds,
        **ran,
        **(throughput(flops, seconds, device_name, setup.precision) if device == "cuda" else {}),
        "parameters": {name: parameters(on_cpu.variant(name)) for name in flops},
        "settings": {
            **{name: getattr(arguments, name) for name in ("baseline", "size", "lengths", "precision", "without")},
            "counted_tokens": counted,
            "timed_tokens": timed,
            "repetitions": len(next(iter(ran.get("seconds_by_repetition", {"": ()}).values()))),
        },
        "machine": machine(device_name),
    }


def sentence_lengths(steps: Steps, kind: str, pairs: int) -> list[int]:
    """Tokens of each sentence of a batch, special ones included."""
    longest = steps.max_text_len
    if kind == "full":
        return [longest] * pairs
    fewer = 2 - steps.special_tokens  # than the table counts
    return [min(length - fewer, longest) for length in caption_lengths(steps.text_family, pairs)]


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


def memory_of(setup: Setup, name: str, lengths: Sequence[int]) -> Memory | None:
    """Memory of one variant, None if its process was killed."""
    say(f"measure the memory of {name}")
    try:
        return measure_memory(partial(prepared, setup, name, lengths), setup.device)
    except BrokenProcessPool:
        say("  killed: the machine has too little memory for it")
        return None


def prepared(setup: Setup, name: str, lengths: Sequence[int]) -> tuple[Variant, Batch]:
    """One variant of models built for it, and its batch."""
    return setup.runnable(setup.steps(setup.device), name, lengths)


def of_memory(memory: Mapping[str, Memory | None], pairs: int) -> dict[str, Any]:
    """The part of the result that is memory."""
    peak = {name: m and m.peak for name, m in memory.items()}
    accumulating = {name: m and m.peak_accumulating for name, m in memory.items()}
    return {
        "memory": ratios(peak),
        "memory_accumulating": ratios(accumulating),
        "peak_gib": peak,
        "peak_accumulating_gib": accumulating,
        "peak_growth_gib": {name: m and m.growth for name, m in memory.items()},
        "activations_gib_per_pair": {name: m and m.activations / pairs for name, m in memory.items()},
    }


def run(setup: Setup, steps: Steps, lengths: Sequence[int], repetitions: int | None) -> dict[str, Any]:
    """The part of the result that comes from running every variant, forward and backward."""
    calls = {name: partial(run_once, *setup.runnable(steps, name, lengths)) for name in steps.variants}
    dispatched: dict[str, HostWaits] = count_operations(calls, setup.device, say)
    seconds = time_steps(calls, setup.device, TIME_BUDGET, say, repetitions)
    per_pair = {name: [value / len(lengths) for value in values] for name, values in seconds.items()}
    first = per_pair[steps.variants[0]]
    paired = {name: [a / b for a, b in zip(values, first, strict=True)] for name, values in per_pair.items()}
    return {
        "seconds": {name: statistics.median(values) for name, values in paired.items()},
        "seconds_spread": {name: [min(values), max(values)] for name, values in paired.items()},
        "seconds_per_pair": {name: statistics.median(values) for name, values in per_pair.items()},
        "seconds_per_pair_spread": {name: [min(values), max(values)] for name, values in per_pair.items()},
        "seconds_by_repetition": per_pair,
        "operations": {name: found.operations for name, found in dispatched.items()},
        "host_waits": {name: found.total for name, found in dispatched.items()},
        "host_waits_by_operation": {name: dict(found.found) for name, found in dispatched.items()},
    }


def run_once(variant: Variant, batch: Batch) -> None:
    """What belongs to a step: forward, loss, backward, and its gradients freed."""
    variant.step(batch).backward()
    variant.clear_gradients()


def ratios(values: Measured) -> dict[str, float | None]:
    """Each value over the first; None where either is unknown."""
    first = next(iter(values.values()))
    return {name: value / first if value and first else None for name, value in values.items()}


def machine(device_name: str) -> dict[str, Any]:
    """Where this was measured, and with what."""
    return {
        "device": device_name,
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
    make_output_safe()
    main(sys.argv[1:])
