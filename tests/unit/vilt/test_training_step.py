"""The training step computes what the plain formulas say, also in corners."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.unit.small_parts import gradients
from tests.unit.vilt.plain_step import batches, check_step
from tests.unit.vilt.small import GRID, Batch, batch_of, image_pair, vilt

CAPS = st.sampled_from([-1, 1, 5, 200])


@settings(max_examples=20, deadline=None)
@given(batches(), CAPS)
def test_pretraining_equals_the_plain_computation(drawn: tuple[Batch, Tensor], cap: int) -> None:
    check_step(vilt(("itm", "mlm", "mpp"), max_image_len=cap), *drawn)


@settings(max_examples=8, deadline=None)
@given(batches(), CAPS)
def test_retrieval_training_equals_the_plain_computation(drawn: tuple[Batch, Tensor], cap: int) -> None:
    model = vilt(("irtr",), max_image_len=cap, loss_names={**vilt(()).config["loss_names"], "itm": 0.5, "irtr": 1})
    assert model.current_tasks == ["irtr"]
    check_step(model, *drawn)


@settings(max_examples=5, deadline=None)
@given(batches(), CAPS)
def test_vqa_equals_the_plain_computation(drawn: tuple[Batch, Tensor], cap: int) -> None:
    check_step(vilt(("vqa",), max_image_len=cap), *drawn)


@settings(max_examples=5, deadline=None)
@given(batches(), CAPS)
def test_nlvr2_equals_the_plain_computation(drawn: tuple[Batch, Tensor], cap: int) -> None:
    batch, itm_labels = drawn
    check_step(vilt(("nlvr2",), max_image_len=cap), image_pair(batch), itm_labels)


@pytest.mark.parametrize("tasks", [("itm", "mlm", "mpp"), ("irtr",), ("vqa",), ("nlvr2",)])
def test_images_that_look_like_padding_are_as_large_as_the_batch_says(tasks: tuple[str, ...]) -> None:
    """Every image, true or false, begins with pixels whose channels sum to 0."""
    batch = batch_of([5, 4, 6], sizes=[(3, 4), (2, 2), (1, 3)], false_sizes=[(2, 3), (3, 1), (3, 4)], false_texts=2)
    for name in ("image", "false_image_0"):
        batch[name][0][..., 0] = 0  # by its first column an image without rows
    batch |= {"vqa_labels": [[1]] * 3, "vqa_scores": [[1.0]] * 3}
    check_step(vilt(tasks), image_pair(batch) if tasks == ("nlvr2",) else batch, torch.tensor([0, 1, 0]))


@settings(max_examples=5, deadline=None)
@given(batches(), st.sampled_from([("mlm",), ("itm",), ("mpp",)]))
def test_one_objective_alone(drawn: tuple[Batch, Tensor], tasks: tuple[str, ...]) -> None:
    check_step(vilt(tasks), *drawn)


# Corners -------------------------------------------------------------------------------------------------


def test_a_batch_without_a_masked_token_has_loss_0_and_finite_gradients() -> None:
    model = vilt()
    outputs = model(batch_of([5, 4], masked=[]), torch.tensor([0, 1]))
    assert outputs["mlm_loss"] == 0
    assert all(torch.isfinite(g).all() for g in gradients(model, {"mlm": outputs["mlm_loss"]}).values())


def test_captions_without_words_are_no_nan() -> None:
    model = vilt()
    outputs = model(batch_of([2, 2], masked=[]), torch.tensor([0, 1]))
    losses = {key: value for key, value in outputs.items() if key.endswith("_loss")}
    assert losses["itm_wpa_loss"] == 0
    assert all(torch.isfinite(g).all() for g in gradients(model, losses).values())


def test_drawn_matching_labels_are_returned() -> None:
    outputs = vilt()(batch_of([5, 4, 6, 7, 3]))
    assert sorted(outputs["itm_labels"].tolist()) == [0, 0, 0, 1, 1]  # odd: one negative more


def test_without_a_task_forward_is_infer() -> None:
    model, batch = vilt(()), batch_of([5, 4])
    outputs, expected = model(batch), model.infer(batch)
    assert outputs.keys() == expected.keys()
    assert torch.equal(outputs["cls_feats"], expected["cls_feats"])


def test_infer_takes_the_official_arguments_and_returns_the_official_keys() -> None:
    model, batch = vilt(), batch_of([5, 4], sizes=[(3, 4), (2, 1)])
    clean = model.infer(batch)
    shapes = {key: tuple(value.shape) for key, value in clean.items() if isinstance(value, Tensor)}
    states = {"text_feats": (2, 5, 16), "image_feats": (2, 13, 16), "cls_feats": (2, 16), "raw_cls_feats": (2, 16)}
    inputs = {"image_masks": (2, 13), "text_labels": (2, 5), "text_ids": (2, 5), "text_masks": (2, 5)}
    assert shapes == {**states, **inputs}
    patch_index, grid = clean["patch_index"]
    assert clean["image_labels"] is None and patch_index.shape == (2, 12, 2) and grid == GRID
    assert clean["image_masks"].sum(dim=1).tolist() == [1 + 12, 1 + 2]
    assert torch.equal(clean["raw_cls_feats"], clean["text_feats"][:, 0])
    assert torch.equal(model.infer(batch, mask_text=True)["text_ids"], batch["text_ids_mlm"])
    again = model.infer(
        batch, image_embeds=model.encode_image(batch["image"][0]).states, image_masks=clean["image_masks"]
    )
    assert torch.allclose(again["cls_feats"], clean["cls_feats"], atol=1e-6) and again["patch_index"] is None


def test_infer_reads_the_second_image_with_its_own_modality() -> None:
    model = vilt(("nlvr2",))
    batch = image_pair(batch_of([5, 4]))
    second = model.infer(batch, image_token_type_idx=2)["cls_feats"]
    alone = {**batch, "image": batch["image_1"], "sizes": {}}
    del alone["image_0"], alone["image_1"]
    assert torch.allclose(second, model.infer(alone, image_token_type_idx=2)["cls_feats"], atol=1e-6)
    assert not torch.allclose(second, model.infer(alone)["cls_feats"])


def test_sizes_tell_a_grey_image_from_padding() -> None:
    """A pixel whose channels sum to 0 is one where the batch says so, and padding where it does not."""
    model, batch = vilt(), batch_of([5, 4])
    batch["image"][0][1] = 0
    assert model.infer(batch)["image_masks"].sum(dim=1).tolist() == [13, 13]
    del batch["sizes"]
    with pytest.raises(ValueError, match=r"image 1 of the batch .* batch\['sizes'\]"):
        model.infer(batch)
