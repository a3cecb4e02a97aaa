"""X-VLM's retrieval: several positives over all ranks, pairs without a negative, the evaluation by single pairs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.nn import functional as F

from tests.unit.reranked import check_single_pairs, evaluated
from tests.unit.xvlm.small import IMAGE
from tests.unit.xvlm.small_tasks import task_batch, task_model
from vlp.data.errors import DataError
from vlp.nn.packed_text import TextPlan


def contrast(image_feat: Tensor, text_feat: Tensor, ids: list[int], temperature: float) -> float:
    """The official loss, sentence by sentence: every pair of one image is true, in equal shares."""
    similar, total = (image_feat @ text_feat.T / temperature).detach(), 0.0
    for scores in (similar, similar.T):
        for row, own in zip(scores, ids, strict=True):
            true = [j for j, other in enumerate(ids) if other == own]
            total -= sum(float(row.log_softmax(dim=0)[j]) for j in true) / len(true) / len(ids) / 2
    return total


def test_captions_of_one_image_are_all_true() -> None:
    model, batch = task_model("retrieval").eval(), task_batch("retrieval")
    ids = batch["image_id"].tolist()
    assert ids == [5, 6, 5]
    features = []
    for row, mask in enumerate(batch["text_masks"]):
        ids_of_row = batch["text_ids"][row : row + 1, : int(mask.sum())]
        layout = model.text_layout(plan(torch.ones_like(ids_of_row)))
        text = model.text_states(ids_of_row, layout)[1]
        features.append((model.image_states(batch["image"][row : row + 1])[1], text))
    image, text = (torch.cat(part) for part in zip(*features, strict=True))
    assert model(batch)["itc_loss"].item() == pytest.approx(contrast(image, text, ids, model.temp.item()), rel=1e-5)


def plan(mask: Tensor) -> TextPlan:
    return TextPlan.of(mask)


def test_the_temperature_is_not_clamped() -> None:
    model = task_model("retrieval")
    model.temp.data.fill_(0.7)
    model(task_batch("retrieval"))
    assert model.temp.item() == pytest.approx(0.7)


def test_negatives_show_another_image_by_their_similarity() -> None:
    model, ids = task_model("retrieval"), torch.tensor([5, 9, 5, 7])
    generator = torch.Generator().manual_seed(3)
    images, texts = (F.normalize(torch.randn(4, 8, generator=generator), dim=1) for _ in range(2))
    torch.manual_seed(0)
    drawn = [model.hard_negatives(images, texts, ids) for _ in range(4000)]
    similar = images @ texts.T / model.temp
    for scores, found in ((similar.T, [each.images for each in drawn]), (similar, [each.texts for each in drawn])):
        weights = (scores.softmax(dim=1) + 1e-5) * (ids[:, None] != ids)
        shares = F.one_hot(torch.stack(found), 4).float().mean(dim=0)
        assert torch.allclose(shares, weights / weights.sum(dim=1, keepdim=True), atol=0.04)
        assert (shares[ids[:, None] == ids] == 0).all()


def test_pairs_without_another_image_are_positives_alone() -> None:
    model, batch = task_model("retrieval").eval(), task_batch("retrieval")
    batch["image_id"] = torch.tensor([5, 5, 5])
    outputs = model(batch)
    torch.testing.assert_close(outputs["itm_loss"], F.cross_entropy(outputs["itm_logits"][:3], torch.ones(3).long()))


def test_the_evaluation_is_that_of_single_pairs() -> None:
    images = torch.randn(4, 3, IMAGE, IMAGE, generator=torch.Generator().manual_seed(5))
    check_single_pairs(evaluated(task_model("retrieval")), images)


def test_a_k_test_beyond_the_data_is_refused_before_training() -> None:
    datamodule = evaluated(task_model("retrieval"))._trainer.datamodule
    with pytest.raises(DataError, match="k_test=5: the split 'val' has 4 images and 6 texts; set k_test to 4 or less"):
        task_model("retrieval", k_test=5).check_data(datamodule)


# Two processes ---------------------------------------------------------------------------------------------


def of_rank(rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features of three pairs, and their images, of which the ranks have one in common."""
    generator = torch.Generator().manual_seed(rank)
    image, text = (F.normalize(torch.randn(3, 8, generator=generator), dim=1) for _ in range(2))
    return image, text, torch.tensor(((5, 9, 5), (7, 5, 8))[rank])


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    image, text, ids = of_rank(rank)
    image.requires_grad_()
    loss = task_model("retrieval").contrast(image, text, ids)["itc_loss"]
    loss.backward()
    torch.save({"loss": loss.detach(), "grad": image.grad}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_contrast_all_pairs_of_both(tmp_path: Path) -> None:
    mp.start_processes(work, (str(tmp_path),), nprocs=2, start_method="fork")
    images, texts, ids = (torch.cat(parts) for parts in zip(of_rank(0), of_rank(1), strict=True))
    images.requires_grad_()
    model = task_model("retrieval")
    whole = model.contrast(images, texts, ids)["itc_loss"]
    whole.backward()
    assert whole.item() == pytest.approx(contrast(images.detach(), texts, ids.tolist(), model.temp.item()), rel=1e-5)
    assert images.grad is not None
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found["loss"], whole.detach())
        # Each rank has the gradient of its own slice.
        torch.testing.assert_close(found["grad"], images.grad[3 * rank : 3 * rank + 3])
