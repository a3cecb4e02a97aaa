"""A small evaluation of retrieval, and what it must score by single pairs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins import Precision
from torch import Tensor

from epic_common.language_models.small import FAMILIES
from vlp.evaluation.reranked_retrieval import RerankedScores, official_metrics
from vlp.nn.cross_attention import Seen
from vlp.nn.padding import PaddedLayout

CAPTIONS = ["a dog", "a black dog runs", "two cats", "a red ball on the grass", "a man", "a man and a dog on a boat"]
IMAGE_OF = [0, 0, 1, 2, 3, 3]


class Images:
    """An evaluation split of four images."""

    text, txt2img = CAPTIONS, dict(enumerate(IMAGE_OF))

    def __len__(self) -> int:
        return 4


def evaluated(model: Any, precision: Precision | None = None) -> Any:
    """The model with a trainer around it that has the split "val"."""
    datamodule = SimpleNamespace(
        sets={"val": Images()},
        eval_splits=("val",),
        tokenizer=FAMILIES["bert"].train_tokenizer(CAPTIONS, 150, 30),
    )
    model._trainer = SimpleNamespace(
        datamodule=datamodule, global_rank=0, world_size=1, precision_plugin=precision or Precision(), loggers=[]
    )
    return model.eval()


def check_single_pairs(model: Any, images: Tensor) -> None:
    """Two evaluations of an :func:`evaluated` model on four images give what its single pairs do."""
    for _ in range(2):  # the second starts anew
        model.start_evaluation("val")
        for rows in (torch.tensor([0, 1]), torch.tensor([2, 3])):
            model.evaluation_step({"image": images[rows], "image_index": rows}, "val")
        got = model.evaluation_results("val")

    encoded = model._trainer.datamodule.tokenizer(CAPTIONS)["input_ids"]
    similar, logits = torch.zeros(4, 6), torch.zeros(4, 6)
    with torch.no_grad():
        for i in range(4):
            image, image_feat = model.image_states(images[i : i + 1])
            for t, ids in enumerate(encoded):
                layout = PaddedLayout(torch.ones(1, len(ids), dtype=torch.bool))
                similar[i, t] = (image_feat * model.text_states(torch.tensor([ids]), layout)[1]).sum()
                logits[i, t] = model.itm_head(model.bert(torch.tensor([ids]), layout, image, Seen())[:, 0])[0, 1]
    scores = []
    for direction in (1, 0):
        kept = torch.zeros(4, 6).scatter(direction, similar.topk(2, dim=direction).indices, 1.0).bool()
        scores.append(torch.where(kept, logits, -100.0))
    expected = official_metrics(RerankedScores(scores[0], scores[1].T), torch.tensor(IMAGE_OF))
    assert got == pytest.approx(expected)
    assert 0 < got["r_mean"] < 100
