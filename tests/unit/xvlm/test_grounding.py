"""Weakly supervised grounding: maps of patches, and phrases that no box answers (docs/official/xvlm.md §7.4)."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.xvlm.small_tasks import task_batch, task_model
from vlp.evaluation.grounding import GroundingAccuracy, Referent, best_box
from vlp.nn.attention import attention_weights
from vlp.nn.cross_attention import Seen
from vlp.nn.padding import PaddedLayout

BOXES = [(x, y, 32.0, 32.0) for y in (0.0, 32.0, 64.0) for x in (0.0, 32.0, 64.0)]  # one for each patch


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    batch = task_batch("retrieval")
    return batch["image"], batch["text_ids"], batch["text_masks"]


@pytest.mark.parametrize(
    "changes",
    [{}, {"gradient_checkpointing": True}, pytest.param({"compile": "eager"}, marks=pytest.mark.slow)],
    ids=lambda changes: next(iter(changes), "plain"),
)
def test_the_map_is_attention_times_positive_gradient_over_all_positions(changes: dict[str, Any]) -> None:
    model, block = task_model("grounding").eval(), 2
    images, ids, mask = inputs()
    layout, layer = PaddedLayout(mask.bool()), model.bert.layers[block]
    with torch.no_grad():
        image, text = model.image_states(images)[0], model.bert.text(ids, layout)
        hidden = layer.attention(text, text, layout, layout)
    cross = layer.crossattention
    q, k, v = (
        cross.self.split_heads(each)
        for each in (cross.self.query(hidden), cross.self.key(image), cross.self.value(image))
    )
    attention = attention_weights(q, k, None).detach().requires_grad_()
    fused = cross.output((attention @ v).transpose(1, 2).flatten(2), hidden)
    states = layer.output(layer.intermediate(fused), fused)
    states = model.bert.fuse(states, layout, image, Seen(), start=block + 1)
    (gradient,) = torch.autograd.grad(model.itm_head(states[:, 0])[:, 1].sum(), attention)
    contribution = (attention * gradient.clamp(min=0)).mean(dim=1)[:, :, 1:] * mask[:, :, None]
    expected = contribution.sum(dim=1) / mask.shape[1]  # padding counts
    maps = task_model("grounding", **changes).eval().grounding_maps(images, ids, mask)
    assert maps.shape == (3, 3, 3) and not maps.requires_grad
    torch.testing.assert_close(maps.flatten(1), expected, rtol=1e-3, atol=1e-7)


def test_a_phrase_that_no_box_answers_is_wrong_also_as_the_first() -> None:
    model = task_model("grounding").eval()
    maps = model.grounding_maps(*inputs())
    found = [best_box(one, BOXES, 96, 96) for one in maps]
    assert all(found)
    referents = {i: Referent("val", box, BOXES, 96, 96) for i, box in enumerate(found) if box}
    referents[0] = Referent("val", BOXES[0], [], 96, 96)  # a detector that has found nothing
    model._accuracy = GroundingAccuracy(referents)
    image, ids, mask = inputs()
    for no_gradient in (torch.no_grad, torch.inference_mode):
        model.start_evaluation("val")
        with no_gradient():
            batch = {"image": image + 0, "text_ids": ids + 0, "text_masks": mask + 0}
            rows = {"dataset": ["x"] * 3, "index": [0, 1, 2], "ref_id": [0, 1, 2]}
            model.evaluation_step({**batch, **rows}, "val")
        assert model.evaluation_results("val") == {"val_d": pytest.approx(2 / 3)}


def test_references_are_read_with_and_without_a_detector(tmp_path: Path) -> None:
    ref = {"ref_id": 4, "ann_id": 9, "image_id": 3, "split": "testB", "sentences": []}
    (tmp_path / "refcoco+").mkdir()
    (tmp_path / "refcoco+/refs(unc).p").write_bytes(pickle.dumps([ref]))
    content = {
        "images": [{"id": 3, "file_name": "a.jpg", "width": 40, "height": 30}],
        "annotations": [{"id": 9, "bbox": [1, 2, 3, 4]}],
    }
    (tmp_path / "refcoco+/instances.json").write_text(json.dumps(content))
    (tmp_path / "dets.json").write_text(json.dumps({"3": [[0, 0, 9, 9]]}))
    files: dict[str, Any] = {"refcoco_data": str(tmp_path), "det_file": str(tmp_path / "dets.json")}
    for task, proposals in (("grounding", [(0, 0, 9, 9)]), ("bbox", ())):
        model = task_model(task, **(files if task == "grounding" else {"refcoco_data": str(tmp_path)}))
        model.check_data(None)
        assert model.accuracy.referents == {4: Referent("testB", (1, 2, 3, 4), proposals, 40, 30)}
