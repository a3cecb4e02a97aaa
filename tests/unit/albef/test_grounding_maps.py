"""Grad-CAM of ALBEF's grounding: every way to run the model gives the same maps, and leaves nothing behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.unit.albef.small import config_of, pretraining_batch
from tests.unit.small_parts import stirred
from vlp.evaluation import grounding as scoring
from vlp.nn.attention import attention_weights
from vlp.nn.padding import PaddedLayout

BLOCKS = {"itm": 2, "itc": 1}


def grounding(mode: str, **changes: Any) -> Any:
    """A small model with stirred weights, which is not trained."""
    from albef.models.model_grounding import ALBEF

    torch.manual_seed(0)
    block = {"gradcam_mode": mode, "block_num": BLOCKS[mode]}
    return stirred(ALBEF(config_of(**{"distill": True, **block, **changes}))).eval()


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    batch = pretraining_batch()
    return batch["image"], batch["text_ids"], batch["text_masks"]


@pytest.mark.parametrize("mode", BLOCKS)
@pytest.mark.parametrize("changes", [{"gradient_checkpointing": True}, {"compile": "eager"}])
def test_every_way_to_run_the_model_gives_the_same_maps(mode: str, changes: dict[str, Any]) -> None:
    expected = grounding(mode).grounding_maps(*inputs())
    assert expected.shape == (3, 2, 2) and (expected > 0).any() and (expected >= 0).all()
    model = grounding(mode, **changes)
    with torch.no_grad():
        model.bert.text(*inputs()[1:2], PaddedLayout(inputs()[2].bool()))  # compiled layers have run before
        model.image_states(inputs()[0])
    torch.testing.assert_close(model.grounding_maps(*inputs()), expected)


@pytest.mark.parametrize("mode", BLOCKS)
def test_maps_need_no_trained_weights_and_leave_no_gradients(mode: str) -> None:
    model = grounding(mode)
    expected = model.grounding_maps(*inputs())
    assert not expected.requires_grad and all(p.grad is None for p in model.parameters())
    assert all(layer.crossattention.self.attention_map is None for layer in model.bert.layers[2:])
    states = model.image_states(inputs()[0])[0]
    model.requires_grad_(False)
    torch.testing.assert_close(model.grounding_maps(*inputs()), expected)
    assert torch.equal(model.image_states(inputs()[0])[0], states)


def test_the_map_of_matching_by_differences() -> None:
    """d logit / d attention of a whole patch column by moving it: the sum over heads and tokens of the gradient."""
    model = grounding("itm", bert_config={**config_of()["bert_config"], "num_hidden_layers": 3}).double()
    images, ids, mask = (each[:1] for each in inputs())
    images = images.double()
    layer, layout = model.bert.layers[2], PaddedLayout(mask.bool())
    with torch.no_grad():
        image, text = model.image_states(images)[0], model.bert.text(ids, layout)
        hidden, cross = layer.attention(text, text, layout, layout), layer.crossattention
        q, k, v = (
            cross.self.split_heads(each)
            for each in (cross.self.query(hidden), cross.self.key(image), cross.self.value(image))
        )
        attention = attention_weights(q, k, None)

        @torch.no_grad()
        def logit(attention: Tensor) -> float:
            fused = cross.output((attention @ v).transpose(1, 2).flatten(2), hidden)
            return float(model.itm_head(layer.output(layer.intermediate(fused), fused)[:, 0])[0, 1])

        expected = torch.zeros(ids.shape[1], 4, dtype=torch.double)
        for head in range(2):
            for patch in range(4):
                moved = attention.clone()
                moved[0, head, 0, 1 + patch] += 1e-6
                slope = (logit(moved) - logit(attention)) / 1e-6
                expected[0, patch] += attention[0, head, 0, 1 + patch] * max(slope, 0) / 2
    maps, logits = model.token_maps(images, ids, mask)
    assert float(logits[0, 1]) == pytest.approx(logit(attention))
    torch.testing.assert_close(maps[0].flatten(1), expected, rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(
        model.grounding_maps(images, ids, mask)[0].flatten(), expected.mean(dim=0), rtol=1e-3, atol=1e-7
    )


@pytest.mark.parametrize("mode", BLOCKS)
def test_a_batch_is_scored_where_gradients_are_off(mode: str) -> None:
    """As in the trainer's evaluation, also in inference mode, whose tensors take no part in a graph."""
    model = grounding(mode)
    maps = model.grounding_maps(*inputs())
    quadrants: list[scoring.Box] = [(x, y, 8.0, 8.0) for y in (0.0, 8.0) for x in (0.0, 8.0)]
    best = [box for one in maps if (box := scoring.best_box(one, quadrants, 16, 16))]
    assert len(best) == 3 and len(set(best)) > 1
    others = [next(box for box in quadrants if box != mine) for mine in best]
    referents = {
        split + row: scoring.Referent(name, boxes[row], quadrants, 16, 16)
        for split, name, boxes in ((0, "val", best), (10, "testA", others))
        for row in range(3)
    }
    model._accuracy = scoring.GroundingAccuracy(referents)
    image, ids, mask = inputs()
    for no_gradient in (torch.no_grad, torch.inference_mode):
        model.start_evaluation("val")
        with no_gradient():
            for split, name in ((0, "val"), (10, "test")):
                batch = {"image": image + 0, "text_ids": ids + 0, "text_masks": mask + 0}
                rows = {"dataset": [name] * 3, "index": [0, 1, 2], "ref_id": [split, split + 1, split + 2]}
                model.evaluation_step({**batch, **rows}, "val")
        assert model.evaluation_results("val") == {"val_d": 1.0, "testA_d": 0.0}
