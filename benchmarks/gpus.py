"""GPU types, as their vendors' public data sheets state them."""

from __future__ import annotations

from typing import NamedTuple

PRECISIONS = ("fp32", "tf32", "bf16")


class Gpu(NamedTuple):
    """Memory in GiB, and peak TFLOP/s (10^12, a multiply-add is two) of dense matrix products by precision."""

    sheet: str
    gib: float
    fp32: float
    tf32: float | None = None
    bf16: float | None = None

    def peak(self, precision: str) -> float | None:
        """TFLOP/s of one of ``PRECISIONS``, None where the GPU has none."""
        return getattr(self, precision)


# Sparsity, which the sheets also print and which doubles the figure, is left out. V100's 125 TFLOP/s are fp16's.
GPUS = {
    "V100-32": Gpu("NVIDIA V100 Tensor Core GPU, SXM2 32 GB", 32, 15.7),
    "A100-40": Gpu("NVIDIA A100 Tensor Core GPU, SXM 40 GB", 40, 19.5, 156, 312),
    "A100-80": Gpu("NVIDIA A100 Tensor Core GPU, SXM 80 GB", 80, 19.5, 156, 312),
    "H100-80": Gpu("NVIDIA H100 Tensor Core GPU, SXM5 80 GB", 80, 66.9, 494.7, 989.4),
}
