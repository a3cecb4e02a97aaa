"""A step on a device without values: whatever asks for one fails, so that on a GPU nothing waits and nothing is copied.

torch's "meta" device knows shapes and types alone. It refuses what the host would wait for on a GPU (``item``,
``nonzero``, a mask as an index) and products of tensors on different devices; what else touches the host is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from epic_common.random_stream import RandomStream
from tests.unit.training.small_runs import built, write_data
from vlp.losses.total import total_loss

META = torch.device("meta")


class OnHost(TorchDispatchMode):
    """Counts by name the operations that read or make a tensor in the host's memory."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(isinstance(leaf, Tensor) and leaf.device != META for leaf in tree_leaves((args, kwargs, result))):
            self.found[func._overloadpacket.__name__] += 1
        return result


@pytest.fixture
def meta(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What torch does not know of that device: autocast, and generators, whose numbers would be no values either."""
    draws = ("exponential_", torch.Tensor.exponential_), ("randint", torch.randint)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(RandomStream, "_new", lambda *_: None)
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda self, generator=None: draws[0][1](self))
    monkeypatch.setattr(torch, "randint", lambda *given, generator=None, **named: draws[1][1](*given, **named))
    yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_data(folder)
    return folder


VARIANTS = ("vanilla", "epic", "epic_itc_rand", "epic_lm_fixed")
CASES = [*((name, variant) for name in ("meter", "vilt") for variant in VARIANTS), ("meter", "epic_lm_cond")]


@pytest.mark.usefixtures("meta")
@pytest.mark.parametrize(("name", "variant"), CASES)
def test_forward_and_backward_touch_nothing_on_the_host(name: str, variant: str, folder: Path) -> None:
    named = () if variant == "vanilla" else ("epic", variant)
    run = built(name, folder, *named)
    batch = move_data_to_device(next(iter(run.datamodule.train_dataloader())), META)
    model: Any = run.model.to(META).train()
    if model.epic is not None and model.epic.teacher is not None:
        model.epic.teacher.place(META)
    with OnHost() as host:
        loss = total_loss(model(batch))
        loss.backward()
    assert loss.device == META and not host.found
    assert any(p.grad is not None for p in model.parameters())


def test_what_waits_or_is_copied_is_found() -> None:
    mask = torch.ones(3, dtype=torch.bool, device=META)
    for waits in (lambda: mask.nonzero(), lambda: mask.any().item(), lambda: bool(mask.any())):
        with pytest.raises((RuntimeError, NotImplementedError)):
            waits()
    with OnHost() as host:
        torch.tensor([1.0]).to(META)
    assert host.found["_to_copy"] == 1
