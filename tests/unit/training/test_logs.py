"""What a run prints and leaves behind, through a real Trainer."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vlp.training.progress import PlainProgress, clock, progress_callback
from vlp.training.run_log import JsonLinesLogger, write_run_header


class Constant(L.LightningModule):
    """Its loss is 2.5 for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.zeros(1))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.log("mlm/train/loss", 2.5)
        return 2.5 + 0 * self.p.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def train(folder: Path, steps: int = 4, accumulate: int = 1, **options: Any) -> None:
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=steps,
        accumulate_grad_batches=accumulate,
        log_every_n_steps=2,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=folder,
        **options,
    )
    trainer.fit(Constant(), DataLoader(torch.zeros(3, 1)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (75, "1:15"),
        (59.6, "1:00"),
        (3599.4, "59:59"),
        (3599.6, "1:00:00"),
        (3700, "1:01:40"),
        (-3, "0:00"),
    ],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize("accumulate", [1, 2])
def test_progress_lines(accumulate: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, 4, accumulate, logger=False, callbacks=[PlainProgress(every=0)])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    pattern = re.compile(r"step (\d)/4 · loss 2\.500 · [\d.e+]+ steps/s · (\d+:\d\d) left")
    found = [pattern.fullmatch(line) for line in lines]
    assert all(found), lines
    steps = [match[1] for match in found if match]
    assert list(dict.fromkeys(steps)) == ["1", "2", "3", "4"]
    assert found[-1] is not None and found[-1][2] == "0:00"


def test_progress_is_sparse_but_shows_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, logger=False, callbacks=[PlainProgress(every=3600)])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert len(lines) == 1 and lines[0].startswith("step 4/4")


def test_a_pipe_gets_plain_lines() -> None:
    assert isinstance(progress_callback(), PlainProgress)


def test_metrics_are_one_json_line_a_step(tmp_path: Path) -> None:
    train(tmp_path, logger=[JsonLinesLogger(tmp_path / "run")])
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [(record["step"], record["mlm/train/loss"]) for record in records] == [(1, 2.5), (3, 2.5)]


def test_nan_and_tensors_are_written(tmp_path: Path) -> None:
    logger = JsonLinesLogger(tmp_path / "new" / "run")
    logger.log_metrics({"a": float("nan"), "b": torch.tensor(1.5)}, step=7)  # type: ignore[dict-item]
    (line,) = (tmp_path / "new" / "run" / "metrics.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert record["a"] != record["a"] and (record["b"], record["step"]) == (1.5, 7)


def test_the_header_holds_config_and_versions(tmp_path: Path) -> None:
    write_run_header(tmp_path, {"seed": 3, "datasets": ["coco"], "epic": {"mask_ratio": 0.35}})
    content = json.loads((tmp_path / "config.json").read_text())
    assert content["config"] == {"seed": 3, "datasets": ["coco"], "epic": {"mask_ratio": 0.35}}
    assert content["versions"]["torch"] == torch.__version__
    assert {"python", "lightning", "transformers", "timm"} <= content["versions"].keys()
