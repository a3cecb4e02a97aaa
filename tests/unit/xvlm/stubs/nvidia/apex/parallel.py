"""``apex.parallel``: gradients are averaged once, when the backward pass is done."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch.autograd import Variable

from apex.amp import calls


class DistributedDataParallel(torch.nn.Module):
    def __init__(self, module: torch.nn.Module, delay_allreduce: bool = False) -> None:
        super().__init__()
        calls.append(("DistributedDataParallel", delay_allreduce))
        self.module = module
        for parameter in module.parameters():
            dist.broadcast(parameter.data, 0)
            if parameter.requires_grad:
                parameter.register_hook(self._queue)
        self._queued = False

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        self._queued = False
        return self.module(*inputs, **kwargs)

    def _queue(self, grad: Any) -> None:
        if not self._queued:
            self._queued = True
            Variable._execution_engine.queue_callback(self._average)

    def _average(self) -> None:
        for parameter in self.module.parameters():
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad.div_(dist.get_world_size())
