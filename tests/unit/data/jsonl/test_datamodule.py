"""Two streams in one loader: the order of steps, shares of processes, and going on after any batch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import vlp.data.jsonl.datamodule as under_test
from tests.unit.data.jsonl.files import binary, pairs, write_lines
from tests.unit.data.lists import tokenizer
from vlp.checkpoint.weights import read_checkpoint
from vlp.data.errors import DataError
from vlp.data.json.transforms import EvalTransform, TrainTransform
from vlp.data.jsonl.datamodule import Source, StreamDataModule
from vlp.data.jsonl.lines import JsonLines
from vlp.data.jsonl.mixed import region_iterations, steps_of_epoch
from vlp.data.jsonl.pairs import PairCollator, PairReader
from vlp.data.jsonl.region_batch import RegionCollator
from vlp.data.jsonl.regions import RegionReader
from vlp.data.jsonl.rows import RowImages
from vlp.data.jsonl.texts import TextReader, masker_of
from vlp.data.read_guard import Guarded

TOKENIZER = tokenizer()
ROWS, BATCH, STEPS = 13, 3, 4


class Module(StreamDataModule):
    """Pairs and, with a share of iterations, regions."""

    def __init__(
        self, folder: Path, workers: int = 0, processes: int = 1, rank: int = 0, share: float = 0.5, batch: int = BATCH
    ) -> None:
        images = RowImages("binary", None)
        texts = TextReader(TOKENIZER, masker_of(TOKENIZER), max_words=30, max_tokens=30)
        pair = PairReader(images, "caption", texts, TrainTransform(32, (0.2, 1.0)))
        region = RegionReader(images, texts, 32, 16, max_regions=3, min_perc_in_image=0.5)
        sources = {"images": Source(JsonLines([folder / "pairs"], chunk=200), pair, PairCollator(0), batch, workers)}
        if share:
            lines = JsonLines([folder / "regions.jsonl"], chunk=200)
            sources["regions"] = Source(lines, region, RegionCollator(4, 0), 2, workers)
        config = {"seed": 3, "train_dataset_size": STEPS * batch * processes, "output_dir": str(folder)}
        super().__init__(config, TOKENIZER, sources, batch, share)
        device = SimpleNamespace(root_device=torch.device("cpu"))
        self.trainer = SimpleNamespace(world_size=processes, global_rank=rank, strategy=device)  # type: ignore[assignment]

    def batches(self) -> Iterator[dict[str, Any]]:
        """Batches of one epoch after the other, each counted once it is used."""
        while True:
            for batch in self.train_dataloader():
                self.consumed(batch)
                yield batch


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("streams")
    pairs(path / "pairs" / "a.jsonl", ROWS - 3)
    pairs(path / "pairs" / "b.jsonl", 3)
    elements = [{"caption": f"thing {i}", "bb": [i, i, 20, 15]} for i in range(4)]
    write_lines(path / "regions.jsonl", [{"binary": binary(i), "elems": elements} for i in range(7)])
    return path


def equal(a: Any, b: Any) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[key], b[key]) if isinstance(a[key], torch.Tensor) else a[key] == b[key] for key in a
    )


def saved(module: Module, path: Path) -> dict[str, Any]:
    """The state as a checkpoint holds it."""
    torch.save({"state_dict": {}, "data": module.state_dict()}, path)
    return read_checkpoint(path)["data"]


def test_an_epoch_has_its_batches_in_the_official_order(folder: Path) -> None:
    module = Module(folder)
    assert len(module.train_dataloader()) == STEPS + STEPS // 2
    for epoch in range(3):
        batches = list(islice(module.batches(), STEPS + STEPS // 2))
        chosen = region_iterations(3, epoch, STEPS, 0.5)
        at = iter((batch["stream"], batch["iteration"], batch["ends_iteration"]) for batch in batches)
        for step in range(STEPS):
            if chosen[step]:
                assert next(at) == ("regions", epoch * STEPS + step, False)
            assert next(at) == ("images", epoch * STEPS + step, True)


@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 300), st.floats(0, 1))
def test_the_share_of_iterations_with_regions_is_exact(seed: int, epoch: int, steps: int, share: float) -> None:
    chosen = region_iterations(seed, epoch, steps, share)
    assert chosen.sum() == round(share * steps) and len(chosen) == steps
    assert np.array_equal(chosen, region_iterations(seed, epoch, steps, share))


def test_epochs_choose_other_iterations() -> None:
    assert len({region_iterations(0, epoch, 40, 0.5).tobytes() for epoch in range(20)}) == 20


def test_one_stream_alone_has_a_batch_in_every_iteration(folder: Path) -> None:
    module = Module(folder, share=0)
    assert [batch["iteration"] for batch in islice(module.batches(), 2 * STEPS)] == list(range(2 * STEPS))
    module.sources = {"regions": Module(folder).sources["regions"]}
    module._loader = None
    batches = list(islice(module.batches(), STEPS))
    assert {(batch["stream"], batch["ends_iteration"]) for batch in batches} == {("regions", True)}


def test_a_pass_over_all_processes_and_lanes_holds_every_row_once(folder: Path) -> None:
    """Batches reach into the next pass: of 3 processes with 2 lanes each enough are read for the whole first one."""
    keys: Counter[tuple[int, str, int]] = Counter()
    for rank in range(3):
        module = Module(folder, processes=3, rank=rank, share=0)
        module.sources["images"] = module.sources["images"]._replace(
            workers=2, collate=lambda samples: {"keys": [sample["_key"] for sample in samples]}
        )
        stream = module.train_dataloader().streams["images"]
        stream.workers = 0
        keys.update((key.epoch, key.dataset, key.index) for _ in range(12) for key in stream.next()["keys"])
    first = {(dataset, index): number for (turn, dataset, index), number in keys.items() if turn == 0}
    assert len(first) == ROWS and set(first.values()) == {1}
    assert set(keys.values()) == {1}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("done", [0, 1, 4, 6, 8, 15])
def test_a_run_goes_on_exactly_after_any_batch(folder: Path, workers: int, done: int, tmp_path: Path) -> None:
    whole = list(islice(Module(folder, workers).batches(), done + 9))
    module = Module(folder, workers)
    assert len(list(islice(module.batches(), done))) == done
    again = Module(folder, workers)
    again.load_state_dict(saved(module, tmp_path / "state.pt"))
    assert again.batches_done(None) == done % 6
    rest = list(islice(again.batches(), 9))
    assert all(equal(a, b) for a, b in zip(rest, whole[done:], strict=True))


@pytest.mark.parametrize("workers", [0, 1, 2, 3, 4, 9])
def test_the_number_of_workers_may_change_where_a_run_goes_on(folder: Path, workers: int, tmp_path: Path) -> None:
    """The run began with 4: three would not share its lanes evenly, so that two are used."""
    first = Module(folder, 4, share=0)
    list(islice(first.batches(), 5))
    state = saved(first, tmp_path / "state.pt")
    again = Module(folder, workers, share=0)
    again.load_state_dict(state)
    assert again.train_dataloader().streams["images"].workers == {3: 2, 9: 4}.get(workers, workers)
    rest = [batch["text"] for batch in islice(again.batches(), 6)]
    assert rest == [batch["text"] for batch in islice(first.batches(), 6)]


def test_workers_stop_and_start_again_without_a_loss(folder: Path) -> None:
    module, whole = Module(folder, 2, share=0), list(islice(Module(folder, 2, share=0).batches(), 5))
    before = list(islice(module.batches(), 3))
    module.teardown("fit")
    assert all(equal(a, b) for a, b in zip(before + list(islice(module.batches(), 2)), whole, strict=True))


def test_each_process_goes_on_at_its_own_place(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    modules = [Module(folder, processes=2, rank=rank, share=0) for rank in range(2)]
    for module in modules:
        list(islice(module.batches(), 3))
    own = [module.state_dict()["positions"][0] for module in modules]
    monkeypatch.setattr(under_test, "gathered", lambda value: own)
    state = saved(modules[0], tmp_path / "state.pt")
    for rank, module in enumerate(modules):
        again = Module(folder, processes=2, rank=rank, share=0)
        again.load_state_dict(state)
        assert equal(next(again.batches()), next(module.batches()))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"processes": 2}, "processes was 1, is 2"),
        ({"share": 0.25}, "share of regions was 0.5, is 0.25"),
        ({"share": 0}, "the files are others"),
        ({"batch": 2}, "samples of a batch was"),
    ],
)
def test_another_run_cannot_go_on(folder: Path, changes: dict[str, Any], says: str) -> None:
    state = Module(folder).state_dict()
    other = Module(folder, **changes)
    with pytest.raises(ValueError, match=says):
        other.check_position(state, other._processes()[0])
    Module(folder).check_position(state, 1)


def test_files_that_have_grown_are_others(folder: Path, tmp_path: Path) -> None:
    state = Module(folder, share=0).state_dict()
    pairs(tmp_path / "pairs" / "a.jsonl", ROWS - 3)
    pairs(tmp_path / "pairs" / "b.jsonl", 4)
    with pytest.raises(ValueError, match="the files are others"):
        Module(tmp_path, share=0).check_position(state, 1)


def test_what_is_counted_is_named_by_stream(folder: Path) -> None:
    module = Module(folder)
    list(islice(module.batches(), 6))
    dataset = module.train_dataloader().dataset
    assert isinstance(dataset, Guarded)
    guards = dataset.guards
    assert guards["images: pairs"].reads == STEPS * BATCH and not guards["images: pairs"].failures
    assert guards["regions: regions"].reads == STEPS // 2 * 2
    assert set(guards) == {
        f"{name}{kind}" for name in ("images: pairs", "regions: regions") for kind in ("", " (boxes)")
    }


def test_a_run_leaves_the_files_that_it_reads(folder: Path, tmp_path: Path) -> None:
    Module(folder).write_report(tmp_path)
    written = json.loads((tmp_path / "data.json").read_text())
    sizes = [{"file": str(path), "bytes": path.stat().st_size} for path in sorted((folder / "pairs").iterdir())]
    assert written["streams"]["images"] == sizes
    unknown = {"rows": None, "published": None, "coverage": None}
    assert written["coverage"] == {
        "images": [{"name": "pairs", **unknown}],
        "regions": [{"name": "regions", **unknown}],
    }


def test_keys_that_no_row_has_are_found_before_the_run(folder: Path) -> None:
    pair = PairReader(
        RowImages("picture", None), "caption", TextReader(TOKENIZER, None, max_words=9, max_tokens=9), EvalTransform(16)
    )
    source = Source(JsonLines([folder / "pairs"]), pair, PairCollator(0), BATCH, 0)
    config = {"seed": 0, "train_dataset_size": 9, "output_dir": ""}
    with pytest.raises(DataError, match=r"a.jsonl: line at byte 0: lacks 'picture' \(images.image_key=picture\)"):
        StreamDataModule(config, TOKENIZER, {"images": source}, BATCH)


def test_the_last_batch_of_an_epoch_is_rounded_up() -> None:
    assert steps_of_epoch(5114489, 128, 8) == 4995 and steps_of_epoch(256, 128, 1) == 2
