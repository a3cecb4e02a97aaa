"""The precision of float32 products on a GPU (``matmul_precision``); those of a CPU are left as they are."""

from __future__ import annotations

import logging
import os
from typing import Literal

import torch

log = logging.getLogger(__name__)

MatmulPrecision = Literal["highest", "high", "medium"]


def set_matmul_precision(precision: MatmulPrecision) -> None:
    """Let float32 products and convolutions of GPUs be float32 ("highest") or TF32, where a GPU has it.

    Only for a process that computes on a GPU: torch's setting is one for all devices, and with "medium" a CPU's
    products would be bf16's.
    """
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = precision != "highest"
    if os.environ.get("LOCAL_RANK", "0") == "0":
        kind = "float32" if precision == "highest" else "TF32 where the GPU has it"
        log.info("[precision] float32 products on the GPU: %s (matmul_precision=%s)", kind, precision)
