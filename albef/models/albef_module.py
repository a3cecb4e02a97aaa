"""What every model of ALBEF trains with: AdamW, its schedule, and the weight of the momentum model's soft targets.

Source: docs/official/albef.md §5, §6, §7.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from albef.epoch_schedule import epoch_schedule
from vlp.yaml_dialect.epoch_module import EpochModule


class AlbefModule(EpochModule):
    """A model of ALBEF; a subclass gives ``forward(batch, alpha)``."""

    optimizer_kind: ClassVar = "adamW"

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

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The official ones: :func:`decay_groups`."""
        return decay_groups(self.named_parameters(), self.config["optimizer"]["weight_decay"])

    def schedule(self, optimizer: Optimizer, steps: int) -> LambdaLR:
        times = self.config["schedular"]
        names = ("min_lr", "warmup_lr", "warmup_epochs", "epochs")
        return epoch_schedule(
            optimizer, steps, lr=self.config["optimizer"]["lr"], **{name: times[name] for name in names}
        )


def decay_groups(named_parameters: Iterable[tuple[str, nn.Parameter]], weight_decay: float) -> list[dict[str, Any]]:
    """Two groups of what is trained: without decay whatever has exactly one dimension or is a ``.bias``; the rest.

    So embeddings, positions and the 0-d temperature are decayed.
    """
    without, decayed = list[nn.Parameter](), list[nn.Parameter]()
    for name, parameter in named_parameters:
        if parameter.requires_grad:
            (without if parameter.dim() == 1 or name.endswith(".bias") else decayed).append(parameter)
    return [{"params": without, "weight_decay": 0.0}, {"params": decayed, "weight_decay": weight_decay}]
