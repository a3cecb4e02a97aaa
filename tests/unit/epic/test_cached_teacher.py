"""The teacher that reads the saliency cache: its scores are those that the teacher gave, or the pair is named."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from epic_common.generator import build_generator
from epic_common.saliency_cache.identity import Pairs, SaliencyCacheError, pair_key
from epic_common.saliency_cache.reader import CachedTeacher
from epic_common.saliency_cache.writer import scores_of
from epic_common.teacher import Teacher
from tests.unit.epic.small_cache import write
from tests.unit.epic.tiny import (
    VOCABULARY,
    WIDTH,
    TinyEpic,
    TinyModel,
    batch_of,
    config_of,
    language_model,
    step,
)


def cached(tmp_path: Path, batches: Sequence[dict[str, Tensor]], teacher: Teacher) -> CachedTeacher:
    chunks = []
    for batch in batches:
        pairs = pairs_of(batch)
        chunks.append(list(zip(pairs.keys, scores_of(teacher, batch, pairs), strict=True)))
    return CachedTeacher(write(tmp_path, chunks), pairs_of)


def pairs_of(batch: dict[str, Tensor]) -> Pairs:
    images = [hashlib.blake2b(image.numpy().tobytes(), digest_size=16).hexdigest() for image in batch["image"]]
    texts = [str(row[mask.bool()].tolist()) for row, mask in zip(batch["ids"], batch["mask"], strict=True)]
    keys = [pair_key(image, text) for image, text in zip(images, texts, strict=True)]
    return Pairs(keys, batch["mask"], [f"pair {i}" for i in range(len(keys))])


def test_scores_are_the_teachers_in_any_batch_and_padding(tmp_path: Path) -> None:
    teacher = Teacher(TinyModel())
    batches = [batch_of(6, 3, 5, seed=seed) for seed in range(3)]
    reader = cached(tmp_path, batches, teacher)
    rows = [{name: values[i : i + 1] for name, values in batch.items()} for batch in batches for i in range(3)]
    mixed = {name: torch.cat([rows[i][name] for i in (7, 0, 5, 5)]) for name in rows[0]}
    wider = {**mixed, **{name: torch.nn.functional.pad(mixed[name], (0, 2)) for name in ("ids", "mask")}}
    for batch in (*batches, mixed, wider):
        ours, theirs, valid = reader.saliency(batch), teacher.saliency(batch), batch["mask"].bool()
        assert ours.shape == theirs.shape and not ours[~valid].any()
        torch.testing.assert_close(ours[valid], theirs[valid], rtol=1e-5, atol=1e-6)


def test_the_same_scores_give_the_same_masks_and_losses(tmp_path: Path) -> None:
    """Bit for bit, in training and in evaluation: from the objective's side a cache is the teacher."""

    class Rounded(Teacher):
        def saliency(self, batch: Any) -> Tensor:
            return super().saliency(batch) * batch["mask"]

    torch.manual_seed(0)
    model, student, lm = TinyModel(), TinyModel(), language_model()
    batches = [batch_of(6, 3, 8, seed=seed) for seed in range(3)]
    config = config_of("epic", generator_dropout=False)
    made = []
    for teacher in (Rounded(model), cached(tmp_path, batches, Teacher(model))):
        torch.manual_seed(1)
        epic = TinyEpic(config, VOCABULARY, WIDTH, build_generator(config, VOCABULARY, lm), seed=3)
        epic.teacher = teacher
        made.append(run(epic, student, batches))
    for ours, theirs in zip(*made, strict=True):
        assert torch.equal(ours, theirs)


def run(epic: TinyEpic, student: TinyModel, batches: Sequence[dict[str, Tensor]]) -> list[Tensor]:
    results = []
    for mode in (True, False):
        epic.train(mode)
        for batch in batches:
            losses, corruption = step(epic, student, batch)
            results += [corruption.masked, corruption.input_ids, corruption.log_alpha, *losses.values()]
    return results


def test_a_pair_that_is_not_there_is_named(tmp_path: Path) -> None:
    reader = cached(tmp_path, [batch_of(6, 3)], Teacher(TinyModel()))
    batch = batch_of(6, 3)
    batch["image"][1] += 1
    with pytest.raises(
        SaliencyCacheError, match=r"has no scores for pair 1: it is incomplete, or stale because.*again: t"
    ):
        reader.saliency(batch)


def test_scores_of_another_length_are_not_used(tmp_path: Path) -> None:
    reader = cached(tmp_path, [batch_of(6, 3)], Teacher(TinyModel()))
    batch = batch_of(6, 3)
    keys, mask, names = pairs_of(batch)
    reader.pairs_of = lambda _: Pairs(keys[::-1], mask, names)
    with pytest.raises(SaliencyCacheError, match=r"has 5 scores, not 8, for pair 0"):
        reader.saliency(batch)


def test_the_teacher_is_known_by_its_hash(tmp_path: Path) -> None:
    assert cached(tmp_path, [batch_of(4)], Teacher(TinyModel())).sha256 == "ab"
