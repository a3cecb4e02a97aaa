"""What the guard stops and what it leaves to a loss scaler, through a real Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vlp.training.finite_guard import FiniteGuard


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
        callbacks=[FiniteGuard()],
        accumulate_grad_batches=accumulate,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **options,
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
