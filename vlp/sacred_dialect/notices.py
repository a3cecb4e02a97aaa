"""What is legal in a run of METER or ViLT but hardly meant, and what its data do not allow."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from vlp.sacred_dialect.settings import accumulation, processes_per_node


def batches_per_epoch(config: Mapping[str, Any], samples: int) -> int:
    """Batches of each process in a pass over ``samples`` samples, the last one incomplete."""
    processes = processes_per_node(config) * config["num_nodes"]
    return math.ceil(math.ceil(samples / processes) / config["per_gpu_batchsize"])


def check_validation(config: Mapping[str, Any], batches: int) -> None:
    """Refuse a validation that no epoch of ``batches`` batches reaches.

    Raises:
        ValueError: naming ``val_check_interval``.
    """
    interval = config["val_check_interval"]
    if isinstance(interval, int) and interval > batches:
        raise ValueError(
            f"val_check_interval={interval} is more than the {batches} batches that each process has in an epoch: "
            f"{batches} or less, or 1.0 for an epoch's end"
        )


def odd_settings(config: Mapping[str, Any], batches: int) -> Iterator[str]:
    """A line for each setting that surely is not meant, for a training set of ``batches`` batches a process."""
    c = config
    if twice := [name for name, count in Counter(c["datasets"]).items() if count > 1]:
        yield f"datasets={c['datasets']} reads {', '.join(twice)} more than once: its pairs count double"
    yield from _odd_batches(config, batches)
    yield from _odd_schedule(config, batches)
    if c["load_path"] and c["resume_from"]:
        yield f"load_path={c['load_path']} is not read: resume_from has all weights"


def _odd_batches(config: Mapping[str, Any], batches: int) -> Iterator[str]:
    wanted, accumulated = config["batch_size"], accumulation(config)
    processes = processes_per_node(config) * config["num_nodes"]
    real = accumulated * config["per_gpu_batchsize"] * processes
    if real != wanted:
        yield (
            f"batch_size={wanted}, but an optimiser step has {real} pairs: {accumulated} x "
            f"per_gpu_batchsize={config['per_gpu_batchsize']} x {processes} process(es)"
        )
    if accumulated > batches:
        yield (
            f"batch_size={wanted} accumulates {accumulated} batches, but an epoch has {batches}: each epoch ends with "
            "an optimiser step of fewer pairs"
        )
    elif math.ceil(batches / accumulated) == 1:
        yield f"batch_size={wanted} makes a whole epoch ({batches} batch(es) a process) one optimiser step"


def _odd_schedule(config: Mapping[str, Any], batches: int) -> Iterator[str]:
    steps = config["max_steps"] or batches * config["max_epoch"] // accumulation(config)
    warmup = config["warmup_steps"]
    if isinstance(warmup, int) and warmup >= steps:
        yield f"warmup_steps={warmup} is no shorter than the run of {steps} optimiser steps: the peak is never reached"
    if warmup == 1.0 and isinstance(warmup, float):
        yield "warmup_steps=1.0 is a fraction, the whole run; 1 would be one optimiser step"
