"""EPIC in ViLT: Eq. 8 by brute force, a teacher that sees whole images, and what ViLT cannot have."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from epic_common.saliency import saliency_scores
from tests.unit.epic_vlp.kits import VILT_KIT
from tests.unit.vilt.small import GRID, PATCH, SIZE, Batch, batch_of, vilt
from vilt.modules.epic_vilt import ViltTeacher

LAYERS, HEADS, WIDTH = SIZE.layers, SIZE.heads, SIZE.width


def teacher_of(**changes: Any) -> ViltTeacher:
    made = vilt(tasks=("mlm",), cls=ViltTeacher, **changes)
    assert isinstance(made, ViltTeacher)
    return made


def scores_of(teacher: ViltTeacher, batch: Batch, layer: int = -2) -> Tensor:
    """Eq. 8's scores (B, n)."""
    return saliency_scores(*teacher.query_key(batch, layer))


def projected(teacher: ViltTeacher, batch: Batch, layer: int) -> Tensor:
    """[q | k | v] (B, n + 1 + P, 3 d) of a block in a plain full pass."""
    kept: list[Tensor] = []
    block: Any = teacher.transformer.blocks[layer]
    hook = block.attn.qkv.register_forward_hook(lambda _, args, out: kept.append(out))
    teacher.infer(batch)
    hook.remove()
    return kept[0]


@torch.no_grad()
@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.integers(3, 8), min_size=1, max_size=3),
    st.integers(-LAYERS, -1),
    st.lists(st.tuples(st.integers(1, GRID[0]), st.integers(1, GRID[1])), min_size=3, max_size=3),
    st.integers(0, 9),
)
def test_saliency_scores_are_equation_8(
    lengths: list[int], layer: int, sizes: list[tuple[int, int]], seed: int
) -> None:
    """Mean over heads of q_k·K_k, without 1/sqrt(d_h): the image class token's query, the text's keys."""
    torch.manual_seed(seed)
    teacher, batch = teacher_of(), batch_of(lengths, padded_to=9, sizes=sizes[: len(lengths)], seed=seed)
    qkv, size = projected(teacher, batch, layer), WIDTH // HEADS
    expected = torch.zeros(len(lengths), 9)
    for b in range(len(lengths)):
        for i in range(9):
            for h in range(HEADS):
                query = qkv[b, 9, h * size : (h + 1) * size]  # the class token follows the text
                key = qkv[b, i, WIDTH + h * size : WIDTH + (h + 1) * size]
                expected[b, i] += float(query @ key) / HEADS
    scores = scores_of(teacher, batch, layer)
    valid = batch["text_masks"].bool()
    assert scores.shape == (len(lengths), 9)
    assert torch.allclose(scores[valid], expected[valid], atol=1e-4)


def test_nothing_beyond_the_scores_is_computed() -> None:
    teacher, batch = teacher_of(), batch_of([6, 5])
    penultimate: Any = teacher.transformer.blocks[-2]
    for module in (
        *(penultimate.attn.proj, penultimate.norm2, penultimate.mlp),
        *(teacher.transformer.blocks[-1], teacher.transformer.norm, teacher.mlm_score, teacher.pooler),
    ):
        module.register_forward_pre_hook(lambda *_: pytest.fail("not needed for the saliency"))
    teacher.query_key(batch, -2)
    with pytest.raises(pytest.fail.Exception, match="not needed"):
        teacher.infer(batch)


def test_the_block_before_computes_the_text_and_the_class_token_alone() -> None:
    teacher, computed = teacher_of(), []
    before: Any = teacher.transformer.blocks[-3]
    before.mlp.register_forward_pre_hook(lambda _, args: computed.append(len(args[0])))
    teacher.query_key(batch_of([6, 5], padded_to=9), -2)
    assert computed == [6 + 1 + 5 + 1]


@torch.no_grad()
def test_a_teacher_sees_all_patches_whatever_the_student_draws() -> None:
    batch = batch_of([6, 5, 7], sizes=[GRID, (1, 2), (2, 2)])
    torch.manual_seed(3)
    whole = teacher_of(max_image_len=-1)
    capped = ViltTeacher({**whole.config, "max_image_len": 2}, whole.transformer)
    capped.load_state_dict(whole.state_dict())
    scores = [scores_of(capped.eval(), batch) for _ in range(3)]
    assert all(torch.equal(each, scores[0]) for each in scores)
    assert torch.equal(scores[0], scores_of(whole, batch))


@torch.no_grad()
def test_the_scores_of_a_pair_do_not_depend_on_its_batch() -> None:
    """A saliency cache needs it: alone, a small image is padded less, a short sentence not at all."""
    teacher, sizes = teacher_of(), [GRID, (1, 2), (2, 2)]
    together = batch_of([9, 5, 7], sizes=sizes)
    scores = scores_of(teacher, together)
    for i, (rows, columns) in enumerate(sizes):
        n = int(together["text_masks"][i].sum())
        alone = {
            "text_ids": together["text_ids"][i : i + 1, :n],
            "text_masks": together["text_masks"][i : i + 1, :n],
            "image": [together["image"][0][i : i + 1, :, : rows * PATCH, : columns * PATCH]],
            "sizes": {"image": together["sizes"]["image"][i : i + 1]},
        }
        assert torch.allclose(scores_of(teacher, alone)[0], scores[i, :n], atol=1e-5)


def test_a_language_model_conditioned_on_the_image_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="image_conditioned=True is not possible with ViLT: it has no image encoder"):
        VILT_KIT.epic_model("lm_cond")


def test_patches_are_embedded_once_for_all_objectives() -> None:
    model, rows = VILT_KIT.epic_model(), []
    model.transformer.patch_embed.proj.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    model(batch_of([7, 5, 9, 4]), torch.tensor([0, 1, 0, 1]))
    assert rows == [6]  # four true images and the false ones of the two mismatched pairs
