"""A process's random states, saved in a checkpoint so that a resumed run draws what the unbroken one would."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor


def random_state(device: torch.device) -> dict[str, Any]:
    """State of Python's, NumPy's and torch's global generators; plain types and tensors.

    Of CUDA's generators that of this process's ``device`` alone, None on a CPU.
    """
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, list(internal), gauss],
        "numpy": [name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Go on from a state that :func:`random_state` gave.

    Raises:
        ValueError: as :func:`cuda_state`.
    """
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if (cuda := cuda_state(state, device)) is not None:
        torch.cuda.set_rng_state(cuda.cpu(), device)


def cuda_state(state: dict[str, Any], device: torch.device) -> Tensor | None:
    """The state of ``device``'s generator, None on a CPU; earlier checkpoints hold a list, one for each visible GPU.

    Raises:
        ValueError: there is none for that device, so that what is drawn on it would be lost.
    """
    saved = state["cuda"]
    on_gpu = len(saved) > 0 if isinstance(saved, list) else saved is not None
    if device.type != "cuda":
        if on_gpu:
            raise ValueError("its run drew on a GPU, and this process runs on the CPU: go on where there is a GPU")
        return None
    if not on_gpu:
        raise ValueError("its run drew on the CPU, and this process runs on a GPU: go on with CUDA_VISIBLE_DEVICES=''")
    if isinstance(saved, Tensor):
        return saved
    index = device.index or 0
    if index >= len(saved):
        raise ValueError(f"it holds random states of {len(saved)} GPUs, none of GPU {index}: go on with other GPUs")
    return saved[index]
