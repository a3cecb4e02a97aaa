"""The precision of a step's products on a GPU, and how much of the GPU's peak the step reaches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.baseline import Batch, Variant
from benchmarks.gpus import GPUS, Gpu


class Precision(NamedTuple):
    """How float32 products are computed, what autocast casts to, and which of a GPU's peaks holds."""

    products: str
    autocast: torch.dtype | None
    peak: str


PRECISIONS = {
    "32": Precision("highest", None, "fp32"),
    "tf32": Precision("high", None, "tf32"),
    "bf16": Precision("high", torch.bfloat16, "bf16"),
    "16": Precision("high", torch.float16, "bf16"),  # the sheets state the same peak for both
}
# What torch.cuda.get_device_name() says; other forms of the same chips (PCIe) have other peaks.
DEVICES = {
    "Tesla V100-SXM2-32GB": "V100-32",
    "NVIDIA A100-SXM4-40GB": "A100-40",
    "NVIDIA A100-SXM4-80GB": "A100-80",
    "NVIDIA H100 80GB HBM3": "H100-80",
}


def computed_in(variant: Variant, precision: str) -> Variant:
    """The variant with its forward in a precision of ``PRECISIONS``; float16 comes without a scaler's few products."""
    chosen = PRECISIONS[precision]
    torch.set_float32_matmul_precision(chosen.products)
    torch.backends.cudnn.allow_tf32 = chosen.products != "highest"
    if chosen.autocast is None:
        return variant
    return variant._replace(step=_autocast(variant.step, chosen.autocast))


def _autocast(step: Callable[[Batch], Tensor], dtype: torch.dtype) -> Callable[[Batch], Tensor]:
    def run(batch: Batch) -> Tensor:
        with torch.autocast("cuda", dtype):
            return step(batch)

    return run


def throughput(
    gflop: Mapping[str, float], seconds: Mapping[str, float | None], device_name: str, precision: str
) -> dict[str, dict[str, float | None]]:
    """TFLOP/s of every variant from its GFLOP and seconds of a pair, and their share of the device's peak if known."""
    gpu: Gpu | None = GPUS[DEVICES[device_name]] if device_name in DEVICES else None
    peak = gpu and gpu.peak(PRECISIONS[precision].peak)
    reached = {name: value and gflop[name] / value / 1000 for name, value in seconds.items()}
    return {
        "tflop_per_second": reached,
        "share_of_peak": {name: value / peak if value and peak else None for name, value in reached.items()},
    }
