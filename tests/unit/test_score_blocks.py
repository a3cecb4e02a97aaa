"""Retrieval that was killed goes on from its blocks of scores, bit by bit, and never from those of something else."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor

from tests.unit import test_reranked_retrieval as reranked
from tests.unit.meter.test_recall import CAPTIONS, TOKENIZER, retrieval_model
from vlp.evaluation import score_blocks
from vlp.evaluation.reranked_retrieval import RerankedRetrieval
from vlp.evaluation.retrieval import score_pairs
from vlp.evaluation.score_blocks import ScoreBlocks
from vlp.sacred_dialect.retrieval import tokenized

IMAGES = 5


@pytest.fixture(autouse=True)
def after_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_blocks, "SECONDS", 0.0)


class Killed(BaseException):
    """In place of a signal."""


class Meter:
    """All pairs of five images and seven captions."""

    model: Any

    def __init__(self) -> None:
        self.model, self.calls = retrieval_model("clip"), 0
        self.images = torch.randn(IMAGES, 3, 32, 32, generator=torch.Generator().manual_seed(1))
        self.captions, self.dies_after = list(CAPTIONS), IMAGES
        score = self.model.score_captions
        self.model.score_captions = lambda image, captions: self.counted(score, image, captions)

    def counted(self, score: Callable[..., Tensor], *arguments: Any) -> Tensor:
        """A row; the evaluation ends where it would be one too many."""
        if self.calls == self.dies_after:
            self.die()
        self.calls += 1
        return score(*arguments)

    def die(self) -> None:
        raise Killed

    def scores(self, folder: Path | None) -> Tensor:
        texts = tokenized(TOKENIZER, self.captions, 12)
        blocks = ScoreBlocks(folder, self.model)
        return score_pairs(self.model, self.images.__getitem__, IMAGES, texts, blocks=blocks)


class Reranked(Meter):
    """The same with k_test candidates of each row: rows of those alone."""

    def __init__(self) -> None:
        self.model, self.calls, self.dies_after = reranked.Scorer(), 0, reranked.IMAGES
        self.model.config = {"k_test": reranked.K}
        self.images, self.ids, self.mask = reranked.data()
        self.captions = []
        row = RerankedRetrieval._row
        self.row = lambda *arguments: self.counted(row, *arguments)

    def scores(self, folder: Path | None) -> Tensor:
        blocks = ScoreBlocks(folder, self.model)
        evaluation = RerankedRetrieval(self.model, reranked.IMAGES, reranked.TEXTS, reranked.K, "val", blocks=blocks)
        evaluation._row = lambda *arguments: self.row(evaluation, *arguments)  # type: ignore[method-assign]
        evaluation.add_texts(self.ids, self.mask)
        evaluation.add_images(self.images, torch.arange(reranked.IMAGES))
        return torch.stack([evaluation.scores().image_to_text])


KINDS = pytest.mark.parametrize("kind", [Meter, Reranked])


def killed_after(rows: int, kind: type[Meter], folder: Path) -> None:
    """An evaluation that ends after some rows."""
    evaluation = kind()
    evaluation.dies_after = rows
    with pytest.raises(Killed):
        evaluation.scores(folder)


def work(_: int, folder: str) -> None:
    torch.set_num_threads(1)
    score_blocks.SECONDS = 0.0
    evaluation = Meter()
    evaluation.dies_after = 3
    evaluation.die = lambda: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
    evaluation.scores(Path(folder))


@pytest.mark.slow
def test_a_process_that_a_signal_ends(tmp_path: Path) -> None:
    with pytest.raises(mp.ProcessExitedException, match="SIGKILL"):
        mp.start_processes(work, (str(tmp_path),), nprocs=1, start_method="spawn")
    resumed = Meter()
    assert torch.equal(resumed.scores(tmp_path), Meter().scores(None)) and resumed.calls == IMAGES - 3


@KINDS
def test_a_killed_evaluation_goes_on(kind: type[Meter], tmp_path: Path) -> None:
    whole = kind()
    expected = whole.scores(None)
    killed_after(3, kind, tmp_path)
    assert len(list(tmp_path.glob("scores_*/*.safetensors"))) == 3
    resumed = kind()
    assert torch.equal(resumed.scores(tmp_path), expected)
    assert resumed.calls == whole.calls - 3
    assert not list(tmp_path.iterdir())  # it is complete


def changed_weights(evaluation: Meter) -> None:
    with torch.no_grad():
        next(iter(evaluation.model.parameters())).add_(1e-3)


def changed_config(evaluation: Meter) -> None:
    evaluation.model.config = {**evaluation.model.config, "precision": "bf16"}


def changed_text(evaluation: Meter) -> None:
    if evaluation.captions:
        evaluation.captions[0] = "w1 w1 w1"
    else:
        assert isinstance(evaluation, Reranked)
        evaluation.ids = evaluation.ids.clone()
        evaluation.ids[0, 1] += 1


@KINDS
@pytest.mark.parametrize("change", [changed_weights, changed_config, changed_text])
def test_nothing_of_another_evaluation_is_taken(
    kind: type[Meter], change: Callable[[Meter], None], tmp_path: Path
) -> None:
    killed_after(3, kind, tmp_path)
    other, alone = kind(), kind()
    change(other)
    change(alone)
    assert torch.equal(other.scores(tmp_path), alone.scores(None))
    assert other.calls == alone.calls
    assert len(list(tmp_path.glob("scores_*"))) == 1  # the killed one may still go on


@KINDS
def test_the_row_of_another_image_is_computed(kind: type[Meter], tmp_path: Path) -> None:
    killed_after(3, kind, tmp_path)
    other, alone = kind(), kind()
    for each in (other, alone):
        each.images = each.images.clone()
        each.images[1] += 0.01
    assert torch.equal(other.scores(tmp_path), alone.scores(None))
    assert alone.calls - other.calls in (1, 2)  # of the re-ranked, other texts may choose an old image, too


def test_a_damaged_block_is_computed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    killed_after(3, Meter, tmp_path)
    path = sorted(tmp_path.glob("scores_*/*.safetensors"))[0]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    resumed = Meter()
    assert torch.equal(resumed.scores(tmp_path), Meter().scores(None)) and resumed.calls == IMAGES - 2
    assert "scores that are not used, and computed again" in caplog.text and path.name in caplog.text


def test_places_and_names_may_differ(tmp_path: Path) -> None:
    killed_after(3, Meter, tmp_path)
    moved = Meter()
    moved.model.config = {**moved.model.config, "log_dir": "else", "num_workers": 7, "load_path": "else.ckpt"}
    moved.scores(tmp_path)
    assert moved.calls == IMAGES - 3


def test_a_short_evaluation_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_blocks, "SECONDS", 60.0)
    monkeypatch.setattr(ScoreBlocks, "_identity", lambda _: pytest.fail("the weights were hashed"))
    Meter().scores(tmp_path)
    assert not list(tmp_path.iterdir())


def test_two_ranks_find_each_other_s_rows(tmp_path: Path) -> None:
    whole, first = Meter(), Meter()
    expected = whole.scores(None)
    texts = list(tokenized(TOKENIZER, CAPTIONS, 12))
    blocks = ScoreBlocks(tmp_path, first.model, rank=1)
    score_pairs(first.model, first.images.__getitem__, IMAGES, texts, rank=1, world=2, blocks=blocks)
    assert first.calls == 2 and list(tmp_path.glob("scores_*"))  # rank 0 removes them
    alone = Meter()
    assert torch.equal(alone.scores(tmp_path), expected) and alone.calls == IMAGES - 2


def test_a_full_disk_ends_the_keeping_not_the_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(score_blocks, "atomic_open", full)
    assert torch.equal(Meter().scores(tmp_path), Meter().scores(None))
    assert "scores cannot be kept, the evaluation goes on" in caplog.text


def test_both_encoders_see_every_item_once() -> None:
    seen = {"images": 0, "texts": 0}
    evaluation = Reranked()
    image_states, text_states = evaluation.model.image_states, evaluation.model.text_states

    def images(given: Tensor) -> Any:
        seen["images"] += len(given)
        return image_states(given)

    def texts(ids: Tensor, layout: Any) -> Any:
        seen["texts"] += len(ids)
        return text_states(ids, layout)

    evaluation.model.image_states, evaluation.model.text_states = images, texts
    evaluation.scores(None)
    assert seen == {"images": reranked.IMAGES, "texts": reranked.TEXTS}
