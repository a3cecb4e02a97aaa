"""Batches with image-text matching: whose labels they are, and which false images are read for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import count, islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.fabric.utilities.apply_func import move_data_to_device
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_structure
from torch.utils.data import DataLoader
from torch.utils.data._utils.pin_memory import pin_memory

from tests.unit.data.raw import image_bytes, write_table
from tests.unit.vilt.test_datamodule import config
from vilt.datamodules.multitask_datamodule import MTDataModule
from vlp.data.arrow import dataset as dataset_module
from vlp.data.arrow.writer import CAPTION
from vlp.data.collate import Batch, Plan
from vlp.data.draws import SampleKey, itm_labels_of_batch

TABLES = {f"coco_caption_karpathy_{split}": images for split, images in (("train", 4), ("restval", 1), ("test", 5))}
ON = {"loss_names": {"mlm": 1, "itm": 1}, "datasets": ["vg", "coco"], "draw_false_image": 1, "per_gpu_batchsize": 5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with two captions each: 24 pairs to train on, 10 of coco to validate and test. One image is wide."""
    folder, numbers = tmp_path_factory.mktemp("tables"), count()
    for table, images in {"vg": 7, **TABLES}.items():
        rows = []
        for number in islice(numbers, images):
            image = image_bytes(number, size=(40 + 3 * (number % 5) if number else 120, 40 + 2 * (number % 4)))
            names = {"image_id": f"{number}.jpg", "split": table.rpartition("_")[2]}
            rows.append({"image": image, "caption": [f"{number} a", f"{number} b"], **names})
        write_table(folder / f"{table}.arrow", rows, CAPTION)
    return folder


def opened(folder: Path, rank: int | None = None, device: str = "cpu", **changes: Any) -> MTDataModule:
    """The data module of a pre-training run; with ``rank`` that of one process of two."""
    data = MTDataModule(config(folder, **{**ON, "seed": 3, "image_size": 64, **changes}))
    if rank is not None:
        strategy = SimpleNamespace(root_device=torch.device(device))
        data.trainer = SimpleNamespace(world_size=2, global_rank=rank, strategy=strategy)  # type: ignore[assignment]
    return data


def epoch_of(data: MTDataModule, epoch: int = 0) -> list[Batch]:
    """All training batches of an epoch, the trainer counting them."""
    loader = data.train_dataloader()
    assert data.train_sampler is not None
    data.train_sampler.set_epoch(epoch)
    return list(counted(data, loader))


def counted(data: MTDataModule, loader: DataLoader[Any]) -> Iterator[Batch]:
    for batch in loader:
        yield batch
        assert data.train_sampler is not None
        data.train_sampler.consumed(data.samples_in(batch))


def labels(batches: list[Batch]) -> list[list[int]]:
    return [batch["itm_labels"].tolist() for batch in batches]


def same(one: Any, other: Any) -> bool:
    """Whether two batches, or parts of them, are equal to the bit."""
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


few = st.integers(0, 9)
keys = st.builds(SampleKey, few, few, st.sampled_from(["vg", "coco"]), st.integers(0, 10**6))


@given(keys, st.integers(1, 65))
def test_half_of_a_batch_keeps_its_image(key: SampleKey, size: int) -> None:
    found = itm_labels_of_batch(key, size)
    assert Counter(found) == Counter({1: size // 2, 0: size - size // 2}) and len(found) == size
    assert itm_labels_of_batch(SampleKey(**vars(key)), size) == found


@pytest.mark.parametrize(("size", "orders"), [(4, 6), (5, 10)])
def test_every_order_is_as_likely(size: int, orders: int) -> None:
    counts = Counter(tuple(itm_labels_of_batch(SampleKey(0, 0, "vg", i), size)) for i in range(400 * orders))
    assert len(counts) == orders
    statistic = sum((count - 400) ** 2 / 400 for count in counts.values())
    assert statistic < orders - 1 + 4 * (2 * (orders - 1)) ** 0.5  # chi square: its mean and four deviations


def test_a_batch_is_the_same_with_any_number_of_workers(folder: Path) -> None:
    alone = epoch_of(opened(folder))
    assert [batch["itm_labels"].sum() for batch in alone] == [2, 2, 2, 2, 2]
    assert len({tuple(row) for row in labels(alone)}) > 1
    assert all(same(batch["itm_negatives"], (batch["itm_labels"] == 0).nonzero()[:, 0]) for batch in alone)
    assert same(epoch_of(opened(folder, num_workers=2)), alone)


def test_other_epochs_seeds_and_ranks_have_other_labels(folder: Path) -> None:
    data = opened(folder)
    first, second = epoch_of(data), epoch_of(data, epoch=1)
    ranks = [epoch_of(opened(folder, rank)) for rank in (0, 1)]
    found = [labels(first), labels(second), labels(epoch_of(opened(folder, seed=4))), *map(labels, ranks)]
    assert all(one != other for i, one in enumerate(found) for other in found[:i])
    assert same(epoch_of(opened(folder), epoch=1), second)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_epoch_goes_on_with_the_same_batches(folder: Path, workers: int) -> None:
    """The state is that of a run whose workers are ahead of it."""
    whole = epoch_of(opened(folder), epoch=1)
    for consumed in range(len(whole)):
        data = opened(folder, num_workers=workers)
        loader = data.train_dataloader()
        assert data.train_sampler is not None
        data.train_sampler.set_epoch(1)
        batches = counted(data, loader)
        for _ in range(consumed + 1):  # the last one is there, but its step was not made
            next(batches)
        resumed = opened(folder, num_workers=workers)
        resumed.load_state_dict(data.state_dict())
        assert same(list(resumed.train_dataloader()), whole[consumed:])


@pytest.mark.parametrize("draws", [1, 3])
def test_a_batch_has_what_whole_samples_have_less_the_false_images_that_nobody_reads(folder: Path, draws: int) -> None:
    """To the bit, whatever the transforms drew."""
    data, smaller = opened(folder, draw_false_image=draws, draw_false_text=2), []
    data.collate.plans.clear()  # they are made of the labels
    sampler, mixed = data.new_train_sampler(1, 0), data.sets["train"]
    for epoch in range(6):
        sampler.set_epoch(epoch)
        indices = list(sampler)
        for number, batch in enumerate(epoch_of(data, epoch)):
            whole = data.collate([mixed[i] for i in indices[5 * number : 5 * number + 5]])
            assert {*batch} - {*whole} == {"itm_labels", "itm_negatives"}
            assert all(same(batch[key], whole[key]) for key in whole if "image" not in key and key != "sizes")
            for key, sizes in whole["sizes"].items():
                rows = batch["itm_negatives"] if key == "false_image_0" else slice(None)
                assert same(batch["sizes"][key], sizes[rows])
                compare(batch[key][0], whole[key][0][rows], sizes[rows])
            largest = torch.cat([*batch["sizes"].values()]).amax(0)
            assert {batch[key][0].shape[2:] for key in batch["sizes"]} == {tuple(largest.tolist())}
            smaller.append(batch["image"][0].shape != whole["image"][0].shape)
    assert any(smaller) or draws > 1  # where the wide image was a false one of a pair that keeps its own


def compare(padded: Tensor, expected: Tensor, sizes: Tensor) -> None:
    """Images inside padding of different sizes."""
    for one, other, (height, width) in zip(padded, expected, sizes.tolist(), strict=True):
        assert torch.equal(one[:, :height, :width], other[:, :height, :width])
        assert one[:, height:].eq(0).all() and one[:, :, width:].eq(0).all()


@pytest.mark.parametrize(("draws", "decoded"), [(1, 5 + 3), (2, 3 * 5)])
def test_images_are_decoded_once_where_they_are_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch, draws: int, decoded: int
) -> None:
    """With further false images the first one is read for the draws that it takes before theirs."""
    decode, calls = dataset_module.decode_image, []

    def counting(data: bytes, mode: str | None) -> Any:
        calls.append(data)
        return decode(data, mode)

    monkeypatch.setattr(dataset_module, "decode_image", counting)
    data = opened(folder, draw_false_image=draws)
    for batch in data.train_dataloader():
        if len(batch["text"]) == 5:
            assert len(calls) == decoded
            assert len(batch["false_image_0"][0]) == 3
        calls.clear()
    last = 4 + 2 if draws == 1 else 3 * 4
    assert sum(guard.reads for guard in data.sets["train"].guards.values()) == 4 * decoded + last


def test_validation_and_test_have_labels_too(folder: Path) -> None:
    data = opened(folder, datasets=["coco"])
    for loader in (data.val_dataloader(), data.test_dataloader()):
        batches = list(loader)
        assert [sorted(row) for row in labels(batches)] == [[0, 0, 0, 1, 1]] * 2
        assert {len(batch["false_image_0"][0]) for batch in batches} == {3}
        assert same(list(loader), batches)


@pytest.mark.parametrize("changes", [{"loss_names": {"mlm": 1, "itm": 0}}, {"loss_names": {"mlm": 1}}])
def test_a_run_without_matching_gets_whole_samples(folder: Path, changes: dict[str, Any]) -> None:
    data = opened(folder, **changes)
    indices = list(data.new_train_sampler(1, 0))
    (batch, *_), mixed = epoch_of(data), data.sets["train"]
    assert same(batch, data.collate([mixed[i] for i in indices[:5]])) and not {"itm_labels", "itm_negatives"} & {*batch}
    assert len(batch["false_image_0"][0]) == 5
    assert "false_image_0" not in epoch_of(opened(folder, draw_false_image=0))[0]


class Lengths(NamedTuple):
    """What a plan may return."""

    of_each: Tensor
    longest: int


class Planned(MTDataModule):
    """A data module whose model wants to know the lengths."""

    def plans(self) -> list[Plan]:
        return [*super().plans(), lengths]


def lengths(batch: Batch) -> Batch:
    each = batch["text_masks"].sum(1)
    return {"lengths": Lengths(each, int(each.max()))}


def further(offset: int, batch: Batch) -> Batch:
    """A plan that reads another's keys."""
    return {"seen": sorted(batch), "more": batch["lengths"].longest + offset}


@pytest.mark.parametrize("workers", [0, 2])
def test_plans_add_to_the_finished_batch_in_order(folder: Path, workers: int) -> None:
    data = Planned(config(folder, **{**ON, "num_workers": workers, "image_size": 64}))
    data.collate.plans.append(partial(further, 7))
    for batch in data.train_dataloader():
        assert isinstance(batch["lengths"], Lengths)
        assert same(batch["lengths"].of_each, batch["text_masks"].sum(1))
        assert batch["more"] == max(batch["lengths"].of_each.tolist()) + 7
        assert batch["seen"] == sorted({*batch} - {"seen", "more"})


def test_a_batch_keeps_its_structure_in_pinned_memory_and_on_its_way_to_a_device(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every tensor, wherever it stands, is pinned and moved."""
    pinned: list[Tensor] = []

    def pin(tensor: Tensor) -> Tensor:  # a CPU-only torch cannot
        pinned.append(tensor)
        return tensor.clone()

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    data = Planned(config(folder, **{**ON, "image_size": 64}))
    data.collate.plans.append(lambda batch: {"nested": {"parts": [batch["lengths"], (batch["itm_labels"], 3)]}})
    batch = next(iter(data.train_dataloader()))
    tensors = [leaf for leaf in tree_leaves(batch) if isinstance(leaf, Tensor)]
    copy = pin_memory(batch)
    assert tree_structure(copy) == tree_structure(batch) and same(copy, batch)
    assert {*map(id, pinned)} == {*map(id, tensors)}
    moved = move_data_to_device(batch, torch.device("meta"))
    assert tree_structure(moved) == tree_structure(batch) and type(moved["lengths"]) is Lengths
    leaves = tree_leaves(moved)
    assert [leaf.device.type for leaf in leaves if isinstance(leaf, Tensor)] == ["meta"] * len(tensors)
    assert [x for x in leaves if not isinstance(x, Tensor)] == [x for x in tree_leaves(batch) if type(x) is not Tensor]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_memory_is_pinned_for_a_gpu_alone(folder: Path, device: str) -> None:
    data = opened(folder, rank=0, device=device, datasets=["coco"])
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        assert isinstance(loader, DataLoader) and loader.pin_memory == (device == "cuda")
