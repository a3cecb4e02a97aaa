"""What every model of X-VLM trains with: AdamW, the linear schedule, and the official means in log.txt.

Source: docs/official/xvlm.md §1.6, §5.6, §6.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from vlp.training import schedules
from vlp.yaml_dialect.epoch_module import EpochModule

NO_REGIONS = 0.5  # what the means of the boxes are fed in an iteration without regions


class XvlmModule(EpochModule):
    """A model of X-VLM; a subclass gives ``forward(batch)`` and ``parameter_groups()``.

    An iteration is a batch of images, and before some of them one of regions: each is an optimiser step, the schedule
    advances once. Which batch is an iteration's last one is said by its ``ends_iteration``; without it, each is.
    The models of the pre-training stages say ``since_start = True``: officially their means are never reset.
    """

    optimizer_kind: ClassVar = "adamw"
    # The meters that batches of regions feed, where they come beside those of images.
    region_meters: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self._iteration_ends = True  # with the batch of this step

    def schedule(self, optimizer: Optimizer, steps: int) -> LambdaLR:
        """Linear, up from 0 over ``num_warmup_steps`` iterations (a float: that share of all), then down to 0."""
        times, rate = self.config["schedular"], self.config["optimizer"]["lr"]
        total = times.get("num_training_steps") or times["epochs"] * steps
        return schedules.schedule(optimizer, rate, total, times["num_warmup_steps"])

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """After each optimiser step: the schedule counts iterations."""
        if not self._iteration_ends:
            return
        scheduler.step()
        self.count_rate("lr", group=0)  # officially that of the next iteration
        if self.since_start:
            self.count_rate("lr_large", group=2)

    @property
    def logged_means(self) -> tuple[str, ...]:
        return (*self.meters, "lr", "lr_large") if self.since_start else ("lr", *self.meters)

    def count_step(self, batch: dict[str, Any], outputs: Mapping[str, Any]) -> None:
        """Regions count for the boxes alone; an iteration without them counts :data:`NO_REGIONS` there."""
        self._iteration_ends = ends = batch.get("ends_iteration", True)
        if self.region_meters:
            self._log_this_step_alone()
        tag = "train" if ends else "train/regions"
        for meter, key in self.meters.items():
            if key in outputs:
                self.log(f"{tag}/{meter}", outputs[key].detach(), batch_size=1)
            if (meter in self.region_meters) != ends:
                self.count(meter, outputs[key])
        for meter in self.region_meters if ends else ():
            # One value of each iteration: nothing where this one has had regions, which a resumed run knows, too.
            counted = getattr(self, f"train_{meter}").weight
            filler = torch.full((), NO_REGIONS, device=self.device)
            self.count(meter, filler, weight=batch["iteration"] + 1 - counted)

    def _log_this_step_alone(self) -> None:
        """Lightning would go on logging what the last batch of the other stream gave."""
        for key, value in (self.trainer._results or {}).items():
            value.has_reset = value.has_reset or key.startswith("training_step.")
