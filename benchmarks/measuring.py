"""Seconds and peak memory of a baseline's step variants, computed for real with fused attention."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.baseline import Steps

GIB = 2**30


class Memory(NamedTuple):
    """What one step of a variant takes, in GiB."""

    peak: float  # interpreter, weights, gradients and activations; on CUDA what PyTorch allocated
    activations: float  # kept for the backward pass


def time_steps(
    steps: Mapping[str, Callable[[], object]],
    device: str,
    budget: float,
    say: Callable[[str], None],
    most: int = 6,
) -> tuple[dict[str, float], int]:
    """Median seconds of each step, and over how many repetitions.

    A repetition runs every step once, the next one in reverse order, so that a slower minute of the machine meets all
    of them. The first one warms up; it counts only where ``budget`` seconds allow no other. At most ``most`` others.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    started = time.perf_counter()
    order = list(steps)
    for done in range(most + 1):
        elapsed = time.perf_counter() - started
        if done and elapsed * (done + 1) / done > budget:
            break
        say(f"time every step, {'warm-up' if not done else f'repetition {done}'}")
        for name in order:
            seconds[name].append(_seconds(steps[name], device))
        order.reverse()
    warm = {name: values[1:] or values for name, values in seconds.items()}
    return {name: statistics.median(values) for name, values in warm.items()}, len(next(iter(warm.values())))


def _seconds(step: Callable[[], object], device: str) -> float:
    _wait(device)
    started = time.perf_counter()
    step()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def measure_memory(
    build: Callable[[str, str], Steps], size: str, device: str, name: str, lengths: Sequence[int]
) -> Memory:
    """Memory of one step of variant ``name``, in a process of its own.

    Raises:
        BrokenProcessPool: the process was killed, as for lack of memory.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measure_memory, build, size, device, name, lengths).result()


def _measure_memory(
    build: Callable[[str, str], Steps], size: str, device: str, name: str, lengths: Sequence[int]
) -> Memory:
    steps = build(size, device)
    step, batch = steps.variant(name).step, steps.batch(lengths)
    gc.collect()
    kept: dict[int, int] = {}

    def note(saved: Tensor) -> Tensor:
        if not isinstance(saved if saved._base is None else saved._base, torch.nn.Parameter):
            storage = saved.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved):
        loss = step(batch)
    loss.backward()
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else _peak_resident()
    return Memory(peak / GIB, sum(kept.values()) / GIB)


def available_memory(device: str) -> float:
    """GiB that are free for this process."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0] / GIB
    return _kib(Path("/proc/meminfo"), "MemAvailable") * 1024 / GIB


def _peak_resident() -> int:
    """Bytes; getrusage would count what the parent held when it started this process."""
    return _kib(Path("/proc/self/status"), "VmHWM") * 1024


def _kib(file: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in file.read_text().splitlines() if line.startswith(name))
