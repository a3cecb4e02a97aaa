"""EPIC's own random stream: one torch.Generator per rank, apart from every other source of randomness."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


class RandomStream:
    """The draws of M and of the replacements, keyed by (seed, rank), on the device where they are needed.

    Args:
        seed: the run's seed.
        rank: the process's rank; every rank draws other numbers.
    """

    def __init__(self, seed: int, rank: int) -> None:
        self._key = f"{seed}/{rank}"
        self._generator: torch.Generator | None = None
        self._saved: Tensor | None = None

    def on(self, device: torch.device) -> torch.Generator:
        """The stream on ``device``; it goes on from its last draw, or from the state that was set.

        Raises:
            ValueError: the state that was set came from another kind of device.
        """
        if self._generator is None or self._generator.device != device:
            self._generator = self._new(device, "training")
            if self._saved is not None:
                try:
                    self._generator.set_state(self._saved)
                except RuntimeError as error:
                    raise ValueError(
                        f"EPIC's saved random state does not fit device {device}: it was saved on another kind of "
                        "device; resume there"
                    ) from error
                self._saved = None
        return self._generator

    def evaluation(self, device: torch.device) -> torch.Generator:
        """A fresh generator, always at its start: evaluation repeats its draws and leaves the stream alone."""
        return self._new(device, "evaluation")

    def state(self) -> Tensor:
        """The state to save, uint8 on the CPU; empty before the first draw."""
        if self._generator is not None:
            return self._generator.get_state()
        return torch.empty(0, dtype=torch.uint8) if self._saved is None else self._saved

    def set_state(self, state: Tensor) -> None:
        """Go on from a state that :meth:`state` gave."""
        self._generator = None
        self._saved = state.cpu() if state.numel() else None

    def _new(self, device: torch.device, purpose: str) -> torch.Generator:
        # The CPU generator seeds itself from 32 bits only: seed and rank must be mixed, not put side by side.
        mixed = hashlib.sha256(f"{self._key}/{purpose}".encode()).digest()[:4]
        return torch.Generator(device).manual_seed(int.from_bytes(mixed, "big"))
