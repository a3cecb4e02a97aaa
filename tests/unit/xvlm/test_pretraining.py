"""X-VLM's pre-training steps: with all savings they are the plain ones, and no host waits for them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.host_waits import HostWaits
from tests.unit.small_parts import Batch
from tests.unit.xvlm.small import pretraining, pretraining_batch, region_batch
from vlp.losses.matching import draw
from vlp.losses.total import losses_of, total_loss
from vlp.nn.cross_attention import Seen
from vlp.nn.fusion_passes import Negatives
from vlp.nn.padding import PaddedLayout
from vlp.nn.step_plan import step_plan
from xvlm.models.xvlm import negative_weights

BATCHES: dict[str, Any] = {"images": pretraining_batch, "regions": region_batch}
DRAWN = {
    "images": Negatives(torch.tensor([2, 0, 1]), torch.tensor([1, 2, 2])),
    "regions": Negatives(torch.tensor([2, 0, 1, 4, 3]), torch.tensor([4, 2, 3, 0, 2])),
}


def step(model: Any, stream: str, batch: Batch | None = None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Losses, and the gradients of their sum."""
    outputs = model(BATCHES[stream]() if batch is None else batch, DRAWN[stream])
    total_loss(outputs).backward()
    return losses_of(outputs), {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("stream", BATCHES)
@pytest.mark.parametrize("changes", [{"gradient_checkpointing": True}, {"pack_text": False}])
def test_every_way_to_compute_a_step_gives_its_losses_and_gradients(changes: dict[str, Any], stream: str) -> None:
    losses, grads = step(pretraining(), stream)
    others, other_grads = step(pretraining(**changes), stream)
    torch.testing.assert_close(others, losses)
    torch.testing.assert_close(other_grads, grads, rtol=1e-4, atol=1e-6)
    assert all(grad is not None for grad in grads.values())


@pytest.mark.slow
def test_compiled_layers_give_a_step_s_losses_and_gradients() -> None:
    sizes: dict[str, Any] = {
        "text_config": {"num_hidden_layers": 2, "fusion_layer": 1},
        "vision_config": {"depths": [2, 1, 1, 1]},
    }
    losses, grads = step(pretraining(**sizes), "images")
    others, other_grads = step(pretraining(**sizes, compile="eager"), "images")
    torch.testing.assert_close(others, losses)
    torch.testing.assert_close(other_grads, grads, rtol=1e-4, atol=1e-6)


# Regions -------------------------------------------------------------------------------------------------


def cut_to(region: Tensor, mask: Tensor) -> Tensor:
    """The tokens (N, c) of a region that can be seen, its token 0 computed patch by patch."""
    inside = [region[i] for i in range(1, len(region)) if mask[i]]
    return torch.stack([torch.stack(inside).mean(dim=0), *inside])


def test_regions_are_what_a_loop_over_their_patches_gives() -> None:
    """Every sentence alone, its image cut to the patches of its region: no mask, no packing, no batch."""
    model, batch, negatives = pretraining(), region_batch(), DRAWN["regions"]
    outputs = model(batch, negatives)
    whole, masks = model.vision_encoder(batch["image"]), batch["image_atts"].bool()
    seen = [cut_to(whole[batch["idx_to_group_img"][b]], masks[b]) for b in range(len(masks))]

    def fused(ids: Tensor, mask: Tensor, image: Tensor) -> Tensor:
        short = ids[mask.bool()][None]
        return model.bert(short, PaddedLayout(torch.ones_like(short).bool()), image[None], Seen())[0]

    size, ids, words = len(masks), batch["text_ids"], batch["text_masks"]
    pairs = [(b, b) for b in range(size)]
    pairs += [(b, int(image)) for b, image in enumerate(negatives.images)]
    pairs += [(int(text), b) for b, text in enumerate(negatives.texts)]
    logits = model.itm_head(torch.stack([fused(ids[text], words[text], seen[image])[0] for text, image in pairs]))
    torch.testing.assert_close(outputs["itm_logits"], logits)

    masked = [fused(batch["text_ids_mlm"][b], words[b], seen[b]) for b in range(size)]
    read = torch.cat([masked[b][batch["text_labels_mlm"][b][words[b].bool()] != -100] for b in range(size)])
    torch.testing.assert_close(outputs["mlm_logits"], model.text_encoder.logits(read))

    shown = [whole[batch["idx_to_group_img"][b]] for b in range(size)]
    coord = torch.stack([model.bbox_head(fused(ids[b], words[b], shown[b])[0]).sigmoid() for b in range(size)])
    torch.testing.assert_close(outputs["box_coord"], coord)

    image_feat = torch.stack([model.image_feat(each[None])[0] for each in seen])
    text_feat = model.text_feat(model.bert.text(ids, PaddedLayout(words.bool())), PaddedLayout())
    similar, own = image_feat @ text_feat.T / model.temp, torch.arange(size)
    expected = (torch.nn.functional.cross_entropy(similar, own) + torch.nn.functional.cross_entropy(similar.T, own)) / 2
    torch.testing.assert_close(outputs["itc_loss"], expected)


def test_a_region_of_all_patches_is_its_image() -> None:
    model, batch = pretraining(), region_batch()
    regions, whole = model.vision_encoder.regions(
        batch["image"], batch["idx_to_group_img"], torch.ones_like(batch["image_atts"])
    )
    torch.testing.assert_close(regions, whole[batch["idx_to_group_img"]])


def test_patches_outside_a_region_have_no_part_in_it() -> None:
    """Their gradient by what regions alone are asked is zero; by the boxes, which see whole images, it is not."""
    model, batch = pretraining(), region_batch(lengths=(6, 3), image_of=(0, 1))
    batch["image_atts"][0, 5:] = 0  # else a whole image
    kept: list[Tensor] = []
    regions = model.vision_encoder.regions

    def keep(*inputs: Tensor) -> tuple[Tensor, Tensor]:
        made, whole = regions(*inputs)
        kept.append(made)
        made.retain_grad()
        return made, whole

    model.vision_encoder.regions = keep
    outputs = model(batch, Negatives(torch.tensor([1, 0]), torch.tensor([1, 0])))
    (outputs["itc_loss"] + outputs["itm_loss"] + outputs["mlm_loss"]).backward()
    assert kept[0].grad is not None
    outside = batch["image_atts"] == 0
    assert outside.any() and not kept[0].grad[outside].any() and kept[0].grad[~outside].any(dim=-1).all()


def test_whole_images_count_for_the_boxes_only_if_told() -> None:
    batch = region_batch()
    expected = {}
    for told in (False, True):
        losses, _ = step(pretraining(calc_image_bbox_loss=told), "regions", batch)
        rows = slice(None) if told else batch["is_image"] == 0
        coord = pretraining()(batch, DRAWN["regions"])["box_coord"]
        expected[told] = (coord - batch["target_bbox"])[rows].abs().sum(dim=1).mean()
        torch.testing.assert_close(losses["bbox_loss"], expected[told])
    assert expected[False] != expected[True]


# Streams and parameters ----------------------------------------------------------------------------------


def test_the_box_head_rests_on_images_with_a_gradient_of_zeros() -> None:
    _, grads = step(pretraining(), "images")
    zeros = {name for name, grad in grads.items() if not grad.any()}
    assert {name for name in grads if name.startswith("bbox_head")} <= zeros
    assert all("bbox_head" in name or name.endswith(("key.bias", "qkv.bias")) for name in zeros)


@pytest.mark.parametrize("changes", [{"train_file_regions": []}, {"regions": {"iter_perc": 0.0}}])
def test_without_regions_the_box_head_is_told_to_be_unused(changes: dict[str, Any]) -> None:
    model = pretraining(**changes)
    _, grads = step(model, "images")
    assert [name for name, grad in grads.items() if grad is None] == model.unused_parameters()
    assert len(model.unused_parameters()) == 6 and pretraining().unused_parameters() == []


@pytest.mark.parametrize("stream", BATCHES)
def test_a_batch_without_a_masked_token_has_no_mlm_loss_and_gradients_everywhere(stream: str) -> None:
    batch = BATCHES[stream]()
    batch["text_labels_mlm"].fill_(-100)
    losses, grads = step(pretraining(), stream, batch)
    assert losses["mlm_loss"].item() == 0
    assert all(grad is not None and grad.isfinite().all() for grad in grads.values())


def test_regions_of_whole_images_alone_have_no_box_loss() -> None:
    batch = region_batch()
    batch["is_image"].fill_(1)
    losses, grads = step(pretraining(), "regions", batch)
    assert losses["bbox_loss"].item() == 0 == losses["giou_loss"].item()
    assert all(grad is not None and grad.isfinite().all() for grad in grads.values())


@pytest.mark.parametrize(("start", "kept"), [(0.7, 0.5), (0.0, 0.001)])
def test_the_temperature_is_kept_within_its_bounds(start: float, kept: float) -> None:
    model = pretraining()
    model.temp.data.fill_(start)
    model(pretraining_batch(), DRAWN["images"])
    assert model.temp.item() == pytest.approx(kept)


# Negatives -----------------------------------------------------------------------------------------------


def test_negatives_are_drawn_by_the_official_weights() -> None:
    torch.manual_seed(0)
    similar = torch.tensor([[9.0, 1.0, 0.0, -40.0], [0.0, 0.0, 1.0, 2.0], [3.0, 1.0, 0.0, 0.0], [0.0, 1.0, 2.0, 9.0]])
    weights = negative_weights(similar, torch.eye(4).bool())
    expected = (similar.softmax(dim=1) + 1e-5) * (1 - torch.eye(4))
    torch.testing.assert_close(weights, expected)
    counts = torch.zeros(4, 4)
    for _ in range(4000):
        counts[torch.arange(4), draw(weights)] += 1
    torch.testing.assert_close(counts / 4000, weights / weights.sum(dim=1, keepdim=True), atol=0.04, rtol=0)
    assert not counts.diag().any()


def test_negatives_are_never_of_the_own_image() -> None:
    model, image_id = pretraining(), torch.tensor([7, 3, 7, 5])
    features = torch.nn.functional.normalize(torch.randn(2, 4, 8), dim=-1)
    for _ in range(20):
        images, texts, missing = model.hard_negatives(*features, image_id)
        assert all((image_id[drawn] != image_id).all() for drawn in (images, texts)) and not missing.any()
    assert model.hard_negatives(*features, torch.full((4,), 7)).missing.all()


def test_sentences_of_one_image_are_all_true() -> None:
    model, image_id = pretraining(), torch.tensor([7, 3, 7, 5])
    image_feat, text_feat = torch.nn.functional.normalize(torch.randn(2, 4, 8), dim=-1)
    similar = image_feat @ text_feat.T / model.temp
    total = torch.zeros(())
    for b in range(4):
        same = [j for j in range(4) if image_id[j] == image_id[b]]
        for scores in (similar[b], similar[:, b]):
            total = total - scores.log_softmax(dim=0)[same].mean() / 8
    torch.testing.assert_close(model.contrast(image_feat, text_feat, image_id)["itc_loss"], total)


# Cost ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", BATCHES)
@pytest.mark.parametrize("pack_text", [True, False])
def test_no_host_waits_in_forward_and_backward(stream: str, pack_text: bool) -> None:
    model, batch = pretraining(dropout=0.1, pack_text=pack_text).train(), BATCHES[stream]()
    batch |= step_plan(batch)
    with HostWaits() as waits:
        total_loss(model(batch)).backward()
    assert not waits.found
