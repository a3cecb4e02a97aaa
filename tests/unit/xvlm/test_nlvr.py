"""NLVR2 and its first stage: two images of a text, classes, forced and drawn images (docs/official/xvlm.md §7.3)."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tests.unit.xvlm.small_tasks import task_batch, task_model
from vlp.losses.text_assignment import Assignment
from vlp.nn.cross_attention import Seen
from vlp.nn.padding import PaddedLayout


@pytest.mark.parametrize("task", ["nlvr", "nlvr_pretrain"])
def test_both_images_have_the_same_keys_and_values(task: str) -> None:
    layers = task_model(task).bert.layers
    assert len(layers) == 6  # 2 of text, 2 x 2 of fusion
    for i in (2, 4):
        left, right = (layers[j].crossattention.self for j in (i, i + 1))
        assert left.key is right.key and left.value is right.value and left.query is not right.query


def test_a_statement_sees_its_left_and_its_right_image_by_turns() -> None:
    model, batch = task_model("nlvr").eval(), task_batch("nlvr")
    logits = []
    for row, (ids, mask) in enumerate(zip(batch["text_ids"], batch["text_masks"], strict=True)):
        layout = PaddedLayout(torch.ones(1, int(mask.sum()), dtype=torch.bool))
        pair = [model.vision_encoder(batch["image"][i : i + 1]) for i in (row, row + 3)]
        states = model.bert.text(ids[None, : int(mask.sum())], layout)
        for i in range(2, 6):
            states = model.bert.layers[i](states, layout, pair[i % 2], Seen())
        logits.append(model.cls_head(states[:, 0]))
    outputs = model(batch)
    torch.testing.assert_close(outputs["logits"], torch.cat(logits), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(outputs["nlvr_loss"], F.cross_entropy(torch.cat(logits), batch["labels"]))


def test_accuracy_counts_each_statement_once() -> None:
    model, batch = task_model("nlvr").eval(), task_batch("nlvr")
    batch["labels"] = model.class_logits(batch).argmax(dim=1)
    batch["labels"][0] = 1 - batch["labels"][0]
    model.start_evaluation("val")
    for _ in range(2):  # a sampler's padding
        model.evaluation_step(batch, "val")
    assert model.evaluation_results("val") == {"acc": pytest.approx(2 / 3)}


def test_the_text_assignment_of_shown_images() -> None:
    model, batch = task_model("nlvr_pretrain").eval(), task_batch("nlvr_pretrain")
    shown = Assignment(*torch.tensor([[0, 2, 0], [1, 1, 1], [0, 1, 2]]))
    images = model.vision_encoder(batch["image"])
    layout = PaddedLayout(batch["text_masks"].bool())
    states = model.bert(batch["text_ids"], layout, [images[[0, 2, 0]], images[[1, 1, 1]]], Seen())
    expected = F.cross_entropy(model.ta_head(states[:, 0]), torch.tensor([0, 1, 2]))
    torch.testing.assert_close(model(batch, shown)["ta_loss"], expected, rtol=1e-4, atol=1e-5)


def test_images_are_drawn_by_their_projections() -> None:
    model, batch = task_model("nlvr_pretrain").eval(), task_batch("nlvr_pretrain")
    images = model.vision_encoder(batch["image"])
    first = model.vision_proj(images[:, 0])
    cosine = F.cosine_similarity(first[:, None], first[None], dim=-1)
    torch.testing.assert_close(model.similarities(images), cosine / 0.07, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="batch_size=2: NLVR2's text assignment needs at least 3"):
        model(task_batch("nlvr_pretrain", lengths=(4, 5)))
