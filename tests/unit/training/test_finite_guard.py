"""What the guard stops, what it tells other ranks and what it leaves to a loss scaler, through a real Trainer."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.multiprocessing as mp
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.host_waits import HostWaits
from tests.launch.launcher import address
from vlp.training.finite_guard import FiniteGuard
from vlp.training.preemption import Preemption
from vlp.training.run_log import LastCheckpoint


class Fragile(L.LightningModule):
    """Step ``bad`` (from 0) has a loss or a gradient that is not finite."""

    def __init__(self, bad: int, what: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.bad, self.what, self.step_losses = bad, what, {}  # type: ignore[var-annotated]

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        loss = self.weight.sum()
        if batch_idx == self.bad:
            if self.what == "loss":
                loss = loss * torch.inf
            elif self.what == "gradient":
                loss = loss + (self.weight[0] - self.weight[0]).sqrt()  # 0, with an infinite slope
            else:
                loss = loss * 1e34  # finite, but not times a scale of 65536
        self.step_losses = {"a_loss": loss.detach()}
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def collate(samples: list[int]) -> dict[str, Any]:
    return {"text": [f"caption {i}" for i in samples], "raw_index": samples, "x": torch.tensor(samples)}


def fit(model: L.LightningModule, folder: Path, accumulate: int = 1, **options: Any) -> L.Trainer:
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        accumulate_grad_batches=accumulate,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **{"callbacks": [FiniteGuard()], "enable_checkpointing": False, **options},
    )
    trainer.fit(model, DataLoader(range(8), 2, collate_fn=collate))  # type: ignore[arg-type]
    return trainer


@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize(("accumulate", "steps"), [(1, 2), (2, 1)])
def test_the_step_is_not_made(what: str, accumulate: int, steps: int, tmp_path: Path) -> None:
    model = Fragile(bad=2, what=what)
    with pytest.raises(SystemExit, match=rf"not finite in step {steps + 1}, rank 0") as stop:
        fit(model, tmp_path, accumulate)
    # d loss / d weight is 1: each step that was made took 0.1 away.
    assert model.weight.tolist() == pytest.approx([1 - 0.1 * steps] * 2)
    message = str(stop.value)
    if what == "loss":
        assert "'a_loss': 'inf'" in message and "caption 4" in message and "caption 5" in message
        assert "caption 3" not in message and "caption 6" not in message
    else:
        assert "gradients are not finite" in message and "weight" in message


def test_an_overflow_that_the_loss_scaler_handles_does_not_stop(tmp_path: Path) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=65536.0)
    model = Fragile(bad=1, what="overflow")
    fit(model, tmp_path, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    assert scaler.get_scale() == 65536 / 2
    assert model.weight.tolist() == pytest.approx([0.7, 0.7])  # three of four steps


def test_a_loss_that_is_not_finite_stops_a_scaled_run_too(tmp_path: Path) -> None:
    scaler = torch.amp.GradScaler("cpu")
    with pytest.raises(SystemExit, match="a loss that is not finite in step 2, rank 0"):
        fit(Fragile(bad=1, what="loss"), tmp_path, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])


class Ask(Callback):
    """A signal to this process, during a step or after it."""

    def __init__(self, step: int, after: bool) -> None:
        self.step, self.after = step, after

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if not self.after and trainer.global_step + 1 == self.step:
            os.kill(os.getpid(), signal.SIGUSR1)

    def on_before_zero_grad(self, trainer: L.Trainer, *_: Any) -> None:
        if self.after and trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGUSR1)


def one_of_two(rank: int, folder: str, meet: dict[str, str], after: bool, bad: int) -> None:
    """Rank 0 gets a signal at step 2; rank 1 has an infinite loss in step ``bad`` (from 0)."""
    torch.set_num_threads(1)
    os.environ.update({**meet, "NODE_RANK": str(rank)})
    last = LastCheckpoint()
    preemption = Preemption(last)
    own = Ask(2 if rank == 0 else -1, after)
    callbacks = [own, preemption, FiniteGuard(preemption), last]
    model = Fragile(bad if rank == 1 else -1, "loss")
    nodes: dict[str, Any] = {"strategy": "ddp", "devices": 1, "num_nodes": 2, "use_distributed_sampler": False}
    status: Any = 0
    try:
        fit(model, Path(folder), callbacks=callbacks, enable_checkpointing=True, **nodes)
    except SystemExit as stop:
        status = stop.code
    Path(folder, f"rank_{rank}.json").write_text(json.dumps({"status": status, "step": model.global_step}))


@pytest.mark.parametrize(
    ("after", "bad", "statuses", "step"),
    [
        (False, -1, [75, 75], 2),  # known to both at the end of the step
        (True, -1, [75, 75], 3),  # only after that
        (False, 1, ["error: a loss that is not finite in step 2, rank 1", 1], 1),  # nothing is saved of such a step
    ],
)
def test_two_ranks_end_at_the_same_step(
    after: bool, bad: int, statuses: list[int | str], step: int, tmp_path: Path
) -> None:
    mp.start_processes(one_of_two, (str(tmp_path), address(), after, bad), nprocs=2, start_method="fork")
    ends = [json.loads((tmp_path / f"rank_{rank}.json").read_text()) for rank in range(2)]
    assert [end["step"] for end in ends] == [step, step]
    for end, status in zip(ends, statuses, strict=True):
        assert str(end["status"]).startswith(str(status))
    saved = tmp_path / "checkpoints" / "last.ckpt"
    assert saved.exists() == (bad < 0)
    assert not saved.exists() or torch.load(saved, weights_only=True)["global_step"] == step


def test_a_checkpoint_waits_once(tmp_path: Path) -> None:
    trainer = fit(Fragile(bad=-1, what="loss"), tmp_path)
    (guard,) = (callback for callback in trainer.callbacks if isinstance(callback, FiniteGuard))  # type: ignore[attr-defined]
    with HostWaits() as waits:
        guard.on_save_checkpoint(trainer, trainer.lightning_module, {})
    assert waits.total == 1
