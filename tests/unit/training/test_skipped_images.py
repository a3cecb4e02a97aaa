"""Broken images and broken processes: what the other ranks and the main process learn of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.utils.data import DataLoader

from tests.unit.data.raw import image_bytes, write_table
from vlp.data.arrow.dataset import MixedDataset
from vlp.data.arrow.datasets import build_dataset
from vlp.data.arrow.writer import CAPTION
from vlp.data.errors import DataError
from vlp.data.transforms import build_transform
from vlp.distributed import lost_peer
from vlp.training.failures import plain_failures
from vlp.training.skipped_images import SkippedImages, counts


def loader(folder: Path, images: list[bytes | None], workers: int = 0) -> DataLoader[Any]:
    rows = [{"image": data, "caption": ["a"], "image_id": f"x_{i}", "split": ""} for i, data in enumerate(images)]
    write_table(folder / "vg.arrow", rows, CAPTION)
    return DataLoader(
        MixedDataset([build_dataset("vg", "train", folder, [build_transform("clip", 16)])]),
        num_workers=workers,
        collate_fn=lambda samples: samples,
    )


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    own = Path(folder, str(rank))
    own.mkdir()
    # Rank 0 meets two broken images, one of them null; rank 1 meets one, in a worker.
    data = loader(
        own, [b"", image_bytes(), None, image_bytes()] if rank == 0 else [image_bytes(), b"no image"], workers=rank
    )
    assert len(list(data)) == (4, 2)[rank]
    trainer: Any = SimpleNamespace(train_dataloader=data, is_global_zero=rank == 0)
    found = counts(trainer, torch.device("cpu"))
    SkippedImages().on_train_end(trainer, SimpleNamespace(device=torch.device("cpu")))  # type: ignore[arg-type]
    lost = False
    if rank == 0:
        try:
            for _ in range(100):
                dist.all_reduce(torch.zeros(1))
        except RuntimeError as error:
            lost = lost_peer(error)
    torch.save({"found": found, "lost": lost}, f"{folder}/{rank}.pt")


def test_two_ranks_count_together_and_the_loss_of_one_is_recognised(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mp.start_processes(work, (str(tmp_path),), nprocs=2, start_method="fork")
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    # Rank 0 reads 4 samples and 2 rows twice over, rank 1 reads 2 and one over again.
    assert [result["found"] for result in results] == [{"vg": (6 + 3, 3)}] * 2
    assert results[0]["lost"]
    line = "skipped 3 of 9 images (vg): they could not be read, the next ones were taken"
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
