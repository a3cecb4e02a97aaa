"""The weight of the momentum model's soft targets in every step (docs/official/albef.md §5, §7)."""

from __future__ import annotations

from typing import Any

import torch

from vlp.yaml_dialect.epoch_module import EpochModule


class DistilledModule(EpochModule):
    """A model of ALBEF; a subclass gives ``forward(batch, alpha)``."""

    def alpha(self, epoch: int, iteration: int, batches: int) -> float:
        """The weight of the soft targets: grows over epoch 0 from 0, then it is ``config["alpha"]``.

        Without ``warm_up`` it is that from the start; a config without ``alpha`` distils nothing.
        """
        weight = self.config.get("alpha", 0.0)
        ramp = epoch == 0 and self.config.get("warm_up", True)
        return weight * min(1.0, iteration / batches) if ramp else weight

    def step_outputs(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        alpha = self.alpha(self.current_epoch, batch_idx, int(self.trainer.num_training_batches))
        # A tensor of the host, which Lightning leaves there: it would copy a float to the device.
        self.log("train/alpha", torch.tensor(alpha), batch_size=1)
        outputs: dict[str, Any] = self(batch, alpha)
        return outputs
