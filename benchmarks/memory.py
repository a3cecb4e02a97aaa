"""Peak memory of a baseline's step variants, each in a process of its own."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.baseline import Batch, Variant

GIB = 2**30
# Of malloc.h: blocks from so many bytes on are mapped one by one, and go back to the system when they are freed.
_M_MMAP_THRESHOLD, _MAPPED_FROM = -3, 64 * 1024


class Memory(NamedTuple):
    """What a variant takes, in GiB; peaks are those of the steps after the first, whose buffers then exist.

    On a CPU a peak is what is resident: interpreter, weights, gradients, activations and the libraries' buffers. On
    CUDA it is what PyTorch allocated.
    """

    peak: float  # of a step that begins without gradients
    peak_accumulating: float  # of one that adds to the gradients of the step before
    activations: float  # kept for the backward pass
    growth: float  # of the peak from the second step to the third


def measure_memory(prepare: Callable[[], tuple[Variant, Batch]], device: str) -> Memory:
    """Memory of a variant over four steps, in a process of its own, where ``prepare`` makes it and a batch for it.

    Raises:
        BrokenProcessPool: the process was killed, as for lack of memory.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measure_memory, prepare, device).result()


def _measure_memory(prepare: Callable[[], tuple[Variant, Batch]], device: str) -> Memory:
    _return_freed_memory()
    torch.manual_seed(0)
    variant, batch = prepare()
    gc.collect()
    kept: dict[int, int] = {}

    def note(saved: Tensor) -> Tensor:
        if not isinstance(saved if saved._base is None else saved._base, torch.nn.Parameter):
            storage = saved.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved):
        loss = variant.step(batch)
    loss.backward()
    del loss
    variant.clear_gradients()
    second = _peak(variant, batch, device)
    variant.clear_gradients()
    third = _peak(variant, batch, device)
    accumulating = _peak(variant, batch, device)
    return Memory(max(second, third) / GIB, accumulating / GIB, sum(kept.values()) / GIB, growth=(third - second) / GIB)


def _peak(variant: Variant, batch: Batch, device: str) -> int:
    """Bytes at the peak of one forward and backward."""
    _forget_peak(device)
    variant.step(batch).backward()
    return torch.cuda.max_memory_allocated() if device == "cuda" else _kib(Path("/proc/self/status"), "VmHWM") * 1024


def _forget_peak(device: str) -> None:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM to what is resident


def _return_freed_memory() -> None:
    """Let glibc give every freed tensor back at once.

    By default it keeps freed blocks of up to 32 MiB in its heap, more or fewer by the order in which they were freed:
    then the resident peak exceeds what is in use by half a GiB at the official size, and not by the same in every
    variant.
    """
    ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM)


def available_memory(device: str) -> float:
    """GiB that are free for this process."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0] / GIB
    return _kib(Path("/proc/meminfo"), "MemAvailable") * 1024 / GIB


def _kib(file: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in file.read_text().splitlines() if line.startswith(name))
