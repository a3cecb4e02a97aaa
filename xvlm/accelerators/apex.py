"""NVIDIA's apex in place of torch's AMP and DDP, as the official pre-training has it (docs/official/xvlm.md §6)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

import torch
from lightning.pytorch.plugins.precision import Precision
from torch import Tensor, nn
from torch.optim import Optimizer

from vlp.training.ddp import KnownUnusedDDP
from xvlm.accelerators.bounded_scaler import LEAST, MOST

_HOW = (
    "build NVIDIA's, a release that has apex.amp, as https://github.com/NVIDIA/apex says, or take "
    "accelerator.backend=native, which needs none"
)


def load_apex(config: Mapping[str, Any]) -> ModuleType:
    """NVIDIA's package, with ``amp`` and ``parallel``.

    Raises:
        ValueError: it is not there, is another project's, or cannot serve this run.
    """
    if config["shard_optimizer"]:
        raise ValueError("shard_optimizer=True divides states that apex holds: accelerator.backend=native, or False")
    if not _on_gpu(config):
        raise ValueError("accelerator.backend=apex computes on GPUs alone: take accelerator.backend=native here")
    try:
        found = importlib.import_module("apex")
    except ImportError as error:
        raise ValueError(f"accelerator.backend=apex: there is no package apex ({error}): {_HOW}") from None
    for part in ("amp", "parallel"):
        try:
            importlib.import_module(f"apex.{part}")
        except ImportError:
            where = getattr(found, "__file__", None) or "apex"
            raise ValueError(
                f"accelerator.backend=apex: {where} has no apex.{part}: it is a release that came without, or PyPI's "
                f"apex, another project (pip uninstall apex): {_HOW}"
            ) from None
    return found


def _on_gpu(config: Mapping[str, Any]) -> bool:
    return torch.cuda.is_available() and config["device"] != "cpu"


class ApexPrecision(Precision):
    """``apex.amp`` at an opt level.

    Attributes:
        scaler: tells the guard of a step that overflows are a loss scaler's affair.
    """

    def __init__(self, apex: ModuleType, opt_level: str, loss_scale: Any) -> None:
        """``loss_scale`` is "dynamic" or a number."""
        self.apex, self.opt_level, self.loss_scale = apex, opt_level, loss_scale
        self.scaler: Any = apex.amp
        self._optimizers: list[Optimizer] = []

    def connect(
        self, model: nn.Module, optimizers: list[Optimizer], lr_schedulers: list[Any]
    ) -> tuple[nn.Module, list[Optimizer], list[Any]]:
        """Initialise what is to be trained, on its device and not wrapped yet; an evaluation has no optimiser."""
        if optimizers:
            self.apex.amp.initialize(
                model,
                optimizers[0],
                opt_level=self.opt_level,
                keep_batchnorm_fp32=None,
                loss_scale=self.loss_scale,
                max_loss_scale=MOST,
                min_loss_scale=LEAST,
            )
        self._optimizers = optimizers
        return model, optimizers, lr_schedulers

    def backward(self, tensor: Tensor, model: Any, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        with self.apex.amp.scale_loss(tensor, optimizer) as scaled:
            super().backward(scaled, model, optimizer, *args, **kwargs)

    def optimizer_step(  # type: ignore[override]
        self, optimizer: Any, model: Any, closure: Callable[[], Any], **kwargs: Any
    ) -> Any:
        """The backward pass first: after an overflow it has replaced ``optimizer.step`` by one that does nothing."""
        result = closure()
        self._after_closure(model, optimizer)
        optimizer.step(**kwargs)
        return result

    def main_params(self, optimizer: Optimizer) -> Iterator[nn.Parameter]:
        """Those whose gradients are clipped."""
        masters: Iterator[nn.Parameter] = self.apex.amp.master_params(optimizer)
        return masters

    def state_dict(self) -> dict[str, Any]:
        """The loss scale; at O2 also the float32 weights, of which the model has float16 copies."""
        state = {"amp": self.apex.amp.state_dict()}
        return {**state, "masters": [p.detach().clone() for p in self._masters()]} if self.opt_level == "O2" else state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.apex.amp.load_state_dict(state_dict["amp"])
        with torch.no_grad():
            for master, saved in zip(self._masters(), state_dict.get("masters", ()), strict=False):
                master.copy_(saved)

    def _masters(self) -> Iterator[nn.Parameter]:
        return (p for optimizer in self._optimizers for p in self.main_params(optimizer))


class ApexDDP(KnownUnusedDDP):
    """``apex.parallel.DistributedDataParallel``: gradients are averaged once, when all of them are there."""

    def configure_ddp(self) -> None:
        """Not yet: apex wraps what amp has initialised."""
        self._unused = {}

    def setup_precision_plugin(self) -> None:
        super().setup_precision_plugin()
        plugin = self.precision_plugin
        assert isinstance(plugin, ApexPrecision) and self.model is not None
        if self.optimizers:
            self.model = plugin.apex.parallel.DistributedDataParallel(self.model, delay_allreduce=True)
