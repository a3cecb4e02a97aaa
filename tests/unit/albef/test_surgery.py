"""What each script makes of a checkpoint's tensors, against the official table of every key."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from albef.models.checkpoints import SURGERY
from tests.unit.albef.tables import key_table, rows

SOURCES = {"nlvr": "nlvr_pretrain"}  # the others start from pre-training


def numbered(task: str) -> dict[str, Tensor]:
    """A state dict of the task's official names whose values say which name they had."""
    return {name: torch.tensor(i) for i, name in enumerate(key_table(task))}


@pytest.mark.parametrize("task", ["retrieval", "ve", "vqa", "nlvr_pretrain", "nlvr"])
def test_every_key_receives_the_official_one(task: str) -> None:
    source, expected = numbered(SOURCES.get(task, "pretrain")), numbered(task)
    loaded = SURGERY[task](source, expected)
    names = list(source)
    got = {name: names[int(loaded[name])] if name in loaded else "-" for name in expected}
    official = {row["model_key"]: row["pretrain_key"].split(" ")[0] for row in rows("surgery") if row["task"] == task}
    assert got == official


@pytest.mark.parametrize("task", list(SURGERY))
def test_a_file_of_the_task_itself_is_taken_as_it_is(task: str) -> None:
    state = numbered(task)
    assert SURGERY[task](state, state) == state


def test_both_momentum_texts_are_doubled_alike() -> None:
    loaded = SURGERY["nlvr_pretrain"](numbered("pretrain"), numbered("nlvr_pretrain"))
    for copy in ("text_encoder", "text_encoder_m"):
        first, second = (loaded[f"{copy}.encoder.layer.{i}.crossattention.self.key.weight"] for i in (16, 17))
        assert torch.equal(first, second)
    assert "text_encoder.encoder.layer.18.attention.self.key.weight" not in loaded
