"""Loaders over JSON lists: shares of the processes, whole batches, the position that a run goes on from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.unit.data.lists import captions, tokenizer, write_images, write_list
from vlp.data.errors import DataError
from vlp.data.json.collate import JsonCollator
from vlp.data.json.datamodule import JsonDataModule, Part
from vlp.data.json.dataset import Roots
from vlp.data.json.datasets import PretrainDataset, RetrievalEvalDataset, StatementTestDataset
from vlp.data.json.transforms import EvalTransform, TrainTransform
from vlp.data.masking import TokenMasker
from vlp.training.resume import check_batches

HERE = Roots({"image_root": ""})
TOKENIZER = tokenizer()
ROWS, BATCH = 11, 2


class Module(JsonDataModule):
    """Pre-training pairs, and two evaluation splits, of which "val" is not shared out."""

    eval_splits = ("val", "test")

    def __init__(self, folder: Path, workers: int = 0, processes: int = 1, rank: int = 0, batch: int = BATCH) -> None:
        masker = TokenMasker(TOKENIZER.mask_token_id, len(TOKENIZER), {0, 2})
        collate = JsonCollator(TOKENIZER, 25, 512, masker)
        plain = JsonCollator(TOKENIZER, 25, 512)
        train = PretrainDataset([folder / "pairs.json"], HERE, TrainTransform(16, (0.5, 1.0)), seed=3)
        val = RetrievalEvalDataset([folder / "val.json"], HERE, EvalTransform(16))
        test = StatementTestDataset([folder / "test.json"], HERE, EvalTransform(16))
        parts = {
            "train": Part(train, batch, collate),
            "val": Part(val, BATCH, plain, sharded=False),
            "test": Part(test, BATCH, plain),
        }
        super().__init__({"seed": 3, "num_workers": workers}, TOKENIZER, parts)
        device = SimpleNamespace(root_device=torch.device("cpu"))
        self.trainer = SimpleNamespace(world_size=processes, global_rank=rank, strategy=device)  # type: ignore[assignment]

    def batches(self, epoch: int) -> Iterator[dict[str, Any]]:
        """The batches that remain of an epoch, each counted once it is used."""
        loader = self.train_dataloader()
        assert self.train_sampler is not None
        self.train_sampler.set_epoch(epoch)
        for batch in loader:
            yield batch
            self.train_sampler.consumed(self.samples_in(batch))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lists")
    captions(path, "pairs", ROWS, caption=["a man", "two dogs", "playing snow"])
    captions(path, "val", 5, caption=["a man", "snow"])
    write_images(path, ["1.png"])
    row = {"images": ["1.png", "1.png"], "label": "True"}
    write_list(path / "test.json", [{**row, "sentence": f"{i}"} for i in range(5)])
    return path


def equal(a: Any, b: Any) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[key], b[key]) if isinstance(a[key], torch.Tensor) else a[key] == b[key] for key in a
    )


def test_processes_share_the_rows_in_whole_batches(folder: Path) -> None:
    """Of 11 rows each of 2 processes has 6, padded from the start; together they are torch's permutation."""
    shares = [[i for batch in Module(folder, 0, 2, rank).batches(4) for i in batch["index"]] for rank in range(2)]
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(3 + 4)).tolist()
    order.append(order[0])
    assert shares == [order[0::2], order[1::2]]
    assert [len(list(Module(folder, 0, 2, rank, batch=4).batches(0))) for rank in range(2)] == [1, 1]
    assert len(Module(folder, 0, 1, 0, batch=4).train_dataloader()) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_goes_on_in_the_middle_of_an_epoch(folder: Path, workers: int) -> None:
    whole = [batch for epoch in range(2) for batch in Module(folder).batches(epoch)]
    first = Module(folder, workers)
    done = list(first.batches(0))
    iterator = first.batches(1)
    done += [next(iterator) for _ in range(3)]
    state = first.state_dict()  # the third batch is not used yet
    resumed = Module(folder, workers=2 - workers)
    resumed.load_state_dict(state)
    rest = list(resumed.batches(1))
    assert len(whole) == 10 and len(done) == 8 and len(rest) == 3
    assert all(equal(a, b) for a, b in zip(whole, done + rest[1:], strict=True))
    assert equal(done[-1], rest[0])


def test_a_position_fits_the_data_and_the_batches(folder: Path) -> None:
    module = Module(folder)
    iterator = module.batches(0)
    next(iterator), next(iterator)
    state = module.state_dict()
    assert state["position"] == BATCH
    module.check_position(state, processes=1)
    with pytest.raises(ValueError, match="num_replicas was 1, is 2"):
        module.check_position(state, processes=2)
    check_batches(Module(folder), state["position"])
    with pytest.raises(ValueError, match="batches of 3"):
        check_batches(Module(folder, batch=3), state["position"])
    list(iterator)
    end = module.state_dict()["position"]
    assert end == ROWS // BATCH * BATCH == len(module.train_dataloader()) * BATCH
    check_batches(Module(folder, batch=4), end)  # the epoch is done, whatever the batches


def test_an_evaluation_is_shared_out_or_seen_by_all(folder: Path) -> None:
    for loaders in ("val_dataloader", "test_dataloader"):
        seen = []
        for rank in range(2):
            val, test = getattr(Module(folder, 0, 2, rank), loaders)()
            assert [i for batch in val for i in batch["image_index"].tolist()] == list(range(5))
            seen.append([i for batch in test for i in batch["index"]])
        assert seen == [[0, 2, 4], [1, 3, 0]]


def test_without_validation_no_split_is_scored_in_a_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Module, "has_validation", False)
    assert Module(folder).val_dataloader() == []
    assert len(Module(folder).test_dataloader()) == 2


def test_fewer_rows_than_a_batch_are_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"11 training rows for 2 process\(es\) make no whole batch of 7"):
        Module(folder, 0, 2, 0, batch=7).train_dataloader()


def test_workers_draw_as_the_process_itself(folder: Path) -> None:
    for a, b in zip(Module(folder, 0).batches(2), Module(folder, 2).batches(2), strict=True):
        assert equal(a, b)
