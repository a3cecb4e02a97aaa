"""EPIC in METER: Eq. 8 by brute force, and what a teacher leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from epic_common.saliency import saliency_scores
from meter.modules.epic_meter import MeterTeacher
from tests.unit.epic_vlp.kits import METER_KIT
from tests.unit.meter.small import HEADS, IMAGE_SIZE, LAYERS, WIDTH, batch_of, meter
from vlp.nn.attention import CoAttentionLayer


def teacher_of(vision: str = "clip", **changes: Any) -> MeterTeacher:
    made = meter(vision, tasks=("mlm",), cls=MeterTeacher, **changes)
    assert isinstance(made, MeterTeacher)
    return made


# Eq. 8 ---------------------------------------------------------------------------------------------------


@contextmanager
def projections(layer: CoAttentionLayer) -> Iterator[dict[str, Tensor]]:
    """What a fusion layer's cross-attention projects its queries and keys to during a pass."""
    kept: dict[str, Tensor] = {}
    cross = layer.crossattention.self
    hooks = [
        module.register_forward_hook(lambda _, args, out, name=name: kept.__setitem__(name, out))
        for name, module in (("q", cross.query), ("k", cross.key))
    ]
    yield kept
    for hook in hooks:
        hook.remove()


@torch.no_grad()
@pytest.mark.parametrize("vision", ["clip", "swin"])
@settings(max_examples=6, deadline=None)
@given(st.lists(st.integers(3, 8), min_size=1, max_size=3), st.integers(-LAYERS, -1), st.integers(0, 9))
def test_saliency_scores_are_equation_8(vision: str, lengths: list[int], layer: int, seed: int) -> None:
    """Mean over heads of q_k·K_k, without 1/sqrt(d_h), from the projections of a plain full pass."""
    torch.manual_seed(seed)
    teacher = teacher_of(vision)
    batch = batch_of(lengths, padded_to=9, image_size=IMAGE_SIZE[vision], seed=seed)
    fusion = teacher.cross_modal_image_layers[layer]
    assert isinstance(fusion, CoAttentionLayer)
    with projections(fusion) as kept:
        teacher.infer(batch)
    # CLIP: image token 0 is the class token. Swin has none: the query of the mean token.
    query = kept["q"][:, 0] if vision == "clip" else kept["q"].mean(dim=1)
    size = WIDTH // HEADS
    expected = torch.zeros(len(lengths), 9)
    for b in range(len(lengths)):
        for i in range(9):
            heads = [slice(h * size, (h + 1) * size) for h in range(HEADS)]
            expected[b, i] = sum(float(query[b, part] @ kept["k"][b, i, part]) for part in heads) / HEADS
    scores = saliency_scores(*teacher.query_key(batch, layer))
    valid = batch["text_masks"].bool()
    assert scores.shape == (len(lengths), 9)
    assert torch.allclose(scores[valid], expected[valid], atol=1e-4)


@pytest.mark.parametrize("vision", ["clip", "swin"])
def test_nothing_beyond_the_scores_is_computed(vision: str) -> None:
    teacher = teacher_of(vision)
    layer = teacher.cross_modal_image_layers[-2]
    assert isinstance(layer, CoAttentionLayer)
    forbidden: list[nn.Module] = [
        teacher.cross_modal_image_layers[-1],
        *teacher.cross_modal_text_layers[-2:],
        *(layer.crossattention.self.value, layer.crossattention.output, layer.intermediate, layer.output),
        *(teacher.mlm_score, teacher.cross_modal_text_pooler, teacher.cross_modal_image_pooler),
    ]
    for module in forbidden:
        module.register_forward_pre_hook(lambda *_: pytest.fail("not needed for the saliency"))
    batch = batch_of([6, 5], image_size=IMAGE_SIZE[vision])
    teacher.query_key(batch, -2)
    with pytest.raises(pytest.fail.Exception, match="not needed"):
        teacher.infer(batch)


# LM (cond.) ----------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("vision", ["clip", "swin"])
def test_the_generator_is_given_the_pooled_image(vision: str) -> None:
    """CLIP's class token and no other; of Swin, which has none, the mean over all tokens."""
    kit = replace(METER_KIT, student=partial(meter, vision), teacher=partial(teacher_of, vision))
    model, batch = kit.epic_model("lm_cond"), batch_of([7, 5, 9], image_size=IMAGE_SIZE[vision])
    image = model.encode_image(batch["image"][0])
    first, rest = image[:, :1], image[:, 1:]

    def loss(*parts: Tensor) -> float:
        entering = model.epic.to_pass(model, model.prepared(batch), torch.cat(parts, dim=1))
        return float(model.outputs_of([entering], model.prepared(batch)["plan"]["text"])["epic_gen_loss"])

    expected, other = loss(first, rest), torch.randn(WIDTH)
    changed = [loss(first + other, rest) != expected, loss(first, rest + other) != expected]
    assert changed == [True, vision == "swin"]
    if vision == "swin":
        same = [loss(rest, first), loss(first + other, rest[:, :1] - other, rest[:, 1:])]
        assert same == pytest.approx([expected, expected], rel=1e-5)
