"""DDP that waits for no gradient that never comes, where the model says which those are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vlp.training.rendezvous import met


def names_below(module: nn.Module, prefixes: Iterable[str]) -> list[str]:
    """Names of the parameters of ``module`` that begin with one of ``prefixes``."""
    return [name for name, _ in module.named_parameters() if name.startswith(tuple(prefixes))]


def unused_parameters(model: nn.Module) -> set[str] | None:
    """Names of the parameters that no training step gives a gradient; None where they are not known.

    A model tells them by a method ``unused_parameters``, and so does each module that is added to it later, by names of
    its own (EPIC).
    """
    if not hasattr(model, "unused_parameters"):
        return None
    found: set[str] = set()
    for prefix, module in model.named_modules():
        if hasattr(module, "unused_parameters"):
            names = module.unused_parameters()
            if names is None:
                return None
            found.update(f"{prefix}.{name}".lstrip(".") for name in names)
    return found


class WaitingDDP(DDPStrategy):
    """``DDPStrategy`` that waits for the other processes to a limit, and says for which; see :func:`met`."""

    def setup_distributed(self) -> None:
        """Meet the other processes.

        Raises:
            MissingRanks: some have not come.
        """
        self.set_world_ranks()
        assert self.cluster_environment is not None
        with met(self.cluster_environment):
            super().setup_distributed()


class KnownUnusedDDP(WaitingDDP):
    """``WaitingDDP`` that searches each step for unused parameters only where the model does not tell them.

    With ``equal_buffers`` the model's buffers are sent to all processes once: each makes the same of them.
    """

    def __init__(self, *, equal_buffers: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._equal_buffers = equal_buffers

    def configure_ddp(self) -> None:
        """Build DDP without the unused parameters in its buckets; they are still sent to every rank."""
        model = self.lightning_module
        assert model is not None
        names = unused_parameters(model)
        self._ddp_kwargs["find_unused_parameters"] = names is None
        own = dict(model.named_parameters())
        self._unused = {name: own[name] for name in sorted(names or ()) if own[name].requires_grad}
        # DDP reduces what needs a gradient while it is built.
        for parameter in self._unused.values():
            parameter.requires_grad_(False)
        super().configure_ddp()
        if self._equal_buffers and isinstance(self.model, DistributedDataParallel):
            self.model.broadcast_buffers = False  # from here on: the keyword would leave out the first time, too
        for parameter in self._unused.values():
            parameter.requires_grad_(True)

    def post_backward(self, closure_loss: Tensor) -> Any:
        """Refuse a gradient that the ranks have not averaged.

        Raises:
            RuntimeError: a parameter that the model calls unused has one.
        """
        super().post_backward(closure_loss)
        if used := [name for name, parameter in self._unused.items() if parameter.grad is not None]:
            raise RuntimeError(f"unused_parameters() of the model names {used[0]}, which got a gradient")
