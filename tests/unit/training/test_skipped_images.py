"""Broken images and broken processes: what the other ranks and the main process learn of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tests.launch.launcher import address
from tests.unit.data.raw import image_bytes, write_table
from vlp.data.arrow.datasets import build_dataset
from vlp.data.arrow.mixed import MixedDataset
from vlp.data.arrow.writer import CAPTION
from vlp.data.errors import DataError
from vlp.data.transforms import build_transform
from vlp.distributed import lost_peer
from vlp.training.failures import plain_failures
from vlp.training.skipped_images import SkippedImages


def loader(folder: Path, images: list[bytes | None], workers: int = 0) -> DataLoader[Any]:
    rows = [{"image": data, "caption": ["a"], "image_id": f"x_{i}", "split": ""} for i, data in enumerate(images)]
    write_table(folder / "vg.arrow", rows, CAPTION)
    return DataLoader(
        MixedDataset([build_dataset("vg", "train", folder, [build_transform("clip", 16)])]),
        num_workers=workers,
        collate_fn=lambda samples: torch.zeros(len(samples)),
    )


class Step(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.zeros(1))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.p.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def work(rank: int, folder: str, port: int) -> None:
    torch.set_num_threads(1)
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": str(rank)})
    own = Path(folder, str(rank))
    own.mkdir()
    # Rank 0 meets two broken images, one of them null; rank 1 meets one, in a worker.
    good = image_bytes()
    data = loader(own, [b"", good, None, good] if rank == 0 else [good, b"no image", good, good], workers=rank)
    trainer = L.Trainer(
        accelerator="cpu",
        strategy="ddp",
        devices=1,
        num_nodes=2,
        max_epochs=1,
        callbacks=[SkippedImages()],
        log_every_n_steps=1,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Step(), data)
    shown = {name: float(value) for name, value in trainer.callback_metrics.items()}
    lost = False
    if rank == 0:
        try:
            for _ in range(100):
                dist.all_reduce(torch.zeros(1))
        except RuntimeError as error:
            lost = lost_peer(error)
    torch.save({"shown": shown, "lost": lost}, f"{folder}/{rank}.pt")


def test_two_ranks_count_together_and_the_loss_of_one_is_recognised(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    port = int(address()["MASTER_PORT"])
    mp.start_processes(work, (str(tmp_path), port), nprocs=2, start_method="fork")
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert [result["shown"] for result in results] == [{"data/skipped/vg": 3.0}] * 2
    assert results[0]["lost"]
    # Rank 0 reads 4 samples and 2 rows twice over, rank 1 reads 4 and one over again.
    line = "skipped 3 of 11 images (vg): they could not be read, the next ones were taken"
    assert [text for text in capfd.readouterr().out.splitlines() if "skipped" in text] == [line]


@pytest.mark.parametrize("workers", [0, 1])
def test_broken_data_is_one_line_also_from_a_worker(workers: int, tmp_path: Path) -> None:
    data = loader(tmp_path, [b""] * 3, workers)
    with pytest.raises(SystemExit) as stopped, plain_failures(rank=0):
        list(data)
    assert stopped.value.code == "error: dataset vg (train): no image at all can be read"


def test_errors_of_the_program_keep_their_traceback() -> None:
    with pytest.raises(RuntimeError, match="shapes"), plain_failures(rank=0):
        raise RuntimeError("shapes cannot be multiplied")
    assert DataError("plain").plain == "plain"
