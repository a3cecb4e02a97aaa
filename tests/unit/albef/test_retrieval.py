"""ALBEF's retrieval: several positives, pairs without a negative, and the evaluation against single pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor
from torch.nn import functional as F

from albef.models.contrastive_model import Similarities
from benchmarks.host_waits import HostWaits
from tests.unit.albef.small import IMAGE, config_of, pretraining_batch
from tests.unit.reranked import check_single_pairs, evaluated
from tests.unit.small_parts import Batch, stirred
from vlp.data.errors import DataError
from vlp.evaluation.reranked_retrieval import RerankedRetrieval
from vlp.losses.matching import same_image
from vlp.losses.total import losses_of, total_loss
from vlp.nn.fusion_passes import Negatives
from vlp.nn.step_plan import step_plan

DRAWN = Negatives(torch.tensor([1, 0, 1]), torch.tensor([1, 2, 1]))


def retrieval(**changes: Any) -> Any:
    """A small model with stirred weights."""
    from albef.models.model_retrieval import ALBEF

    torch.manual_seed(0)
    return stirred(ALBEF(config_of(**{"distill": True, "k_test": 2, **changes})))


def batch_of(*image_ids: int) -> Batch:
    """As many pairs, those of one image with different captions."""
    given = pretraining_batch(lengths=(6, 3, 9)[: len(image_ids)])
    wanted = {key: given[key] for key in ("image", "text", "text_ids", "text_masks")}
    return {**wanted, "image_id": torch.tensor(image_ids)}


def step(model: Any, batch: Batch, negatives: Negatives | None = DRAWN) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Losses, and the gradients of their sum."""
    outputs = model(batch, 0.4, negatives)
    total_loss(outputs).backward()
    return losses_of(outputs), {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("changes", [{"gradient_checkpointing": True}, {"pack_text": False}, {"compile": "eager"}])
def test_every_way_to_compute_a_step_gives_its_losses_and_gradients(changes: dict[str, Any]) -> None:
    losses, grads = step(retrieval(), batch_of(5, 9, 5))
    others, other_grads = step(retrieval(**changes), batch_of(5, 9, 5))
    assert list(losses) == ["ita_loss", "itm_loss"]
    torch.testing.assert_close(others, losses)
    torch.testing.assert_close(other_grads, grads, rtol=1e-4, atol=1e-6)
    assert all(grad is not None for grad in grads.values())


def test_targets_are_shared_among_all_features_of_an_image() -> None:
    model = retrieval()
    model.idx_queue[0, :5] = torch.tensor([9, 5, 7, 5, 5])
    ids, candidates = [5, 9, 5], [5, 9, 5, 9, 5, 7, 5, 5, *[-100] * 7]
    got = model.true_targets(torch.tensor(ids))
    for row, own in zip(got.tolist(), ids, strict=True):
        same = [candidate == own for candidate in candidates]
        assert row == pytest.approx([1 / sum(same) if one else 0 for one in same])


def test_the_queue_remembers_the_images_behind_the_loss_of_their_step() -> None:
    model, targets = retrieval(), []
    contrast = model.contrast

    def noted(image: Tensor, text: Tensor, momentum: Any, own: Tensor, alpha: float) -> Any:
        targets.append(own)
        return contrast(image, text, momentum, own, alpha)

    model.contrast = noted
    for _ in range(2):
        model(batch_of(5, 9, 5), 0.4, DRAWN)
    assert model.idx_queue[0].tolist() == [5, 9, 5, 5, 9, 5, *[-100] * 6] and model.queue_ptr.item() == 6
    assert targets[0][0].tolist() == [0.5, 0, 0.5, *[0] * 12]
    assert targets[1][0].tolist() == [0.25, 0, 0.25, 0.25, 0, 0.25, *[0] * 9]


def test_without_distillation_the_teacher_says_nothing() -> None:
    batch, plain = batch_of(5, 9, 5), retrieval(distill=False)
    (hard, _), (soft, _) = step(plain, batch), step(retrieval(), batch)
    assert hard["ita_loss"].item() == pytest.approx(retrieval()(batch, 0.0, DRAWN)["ita_loss"].item())
    assert hard["ita_loss"].item() != pytest.approx(soft["ita_loss"].item())


def test_the_temperature_is_not_clamped() -> None:
    model = retrieval()
    model.temp.data.fill_(0.7)
    model(batch_of(5, 9, 5), 0.4, DRAWN)
    assert model.temp.item() == pytest.approx(0.7)


def test_negatives_show_another_image() -> None:
    model, ids = retrieval(), torch.tensor([5, 9, 5])
    likely = same_image(ids).float() * 1e4  # whose softmax leaves the others nothing
    for _ in range(20):
        drawn = model.hard_negatives(Similarities(likely, likely), same_image(ids))
        assert (ids[drawn.images] != ids).all() and (ids[drawn.texts] != ids).all()
        assert not drawn.missing.any()


def test_pairs_without_another_image_are_positives_alone() -> None:
    model, batch = retrieval(), batch_of(5, 5, 5)
    losses, grads = step(model, batch, negatives=None)
    logits = model(batch, 0.4)["itm_logits"]
    expected = F.cross_entropy(logits[:3], torch.ones(3).long())
    torch.testing.assert_close(losses["itm_loss"], expected)
    assert all(grad.isfinite().all() for grad in grads.values())


def test_the_mean_of_matching_is_over_the_pairs_that_there_are() -> None:
    model, batch, missing = retrieval(), batch_of(5, 9, 7), torch.tensor([False, True, False])
    outputs = model(batch, 0.4, DRAWN._replace(missing=missing))
    log_p = outputs["itm_logits"].log_softmax(dim=1)
    terms = [log_p[i, 1] for i in range(3)] + [log_p[i, 0] for i in (3, 5, 6, 8)]
    torch.testing.assert_close(outputs["itm_loss"], -sum(terms) / 7)


def test_no_host_waits_in_forward_and_backward() -> None:
    model, batch = retrieval(dropout=0.1).train(), batch_of(5, 9, 5)
    batch |= step_plan(batch)
    with HostWaits() as waits:
        total_loss(model(batch, 0.4)).backward()
    assert not waits.found


# Evaluation ----------------------------------------------------------------------------------------------


def test_the_evaluation_is_that_of_single_pairs() -> None:
    images = torch.randn(4, 3, IMAGE, IMAGE, generator=torch.Generator().manual_seed(5))
    check_single_pairs(evaluated(retrieval()), images)


def test_a_k_test_beyond_the_data_is_refused_before_training() -> None:
    datamodule = evaluated(retrieval())._trainer.datamodule
    with pytest.raises(DataError, match="k_test=5: the split 'val' has 4 images and 6 texts; set k_test to 4 or less"):
        retrieval(k_test=5).check_data(datamodule)
    retrieval(k_test=4).check_data(datamodule)


def test_pairs_are_scored_in_the_precision_of_the_run() -> None:
    model = evaluated(retrieval(), MixedPrecision("bf16-mixed", "cpu"))
    types = []
    model.itm_head.register_forward_hook(lambda module, args, output: types.append(output.dtype))
    model.start_evaluation("val")
    model.evaluation_step({"image": torch.randn(4, 3, IMAGE, IMAGE), "image_index": torch.arange(4)}, "val")
    model.evaluation_results("val")
    assert set(types) == {torch.bfloat16}


def test_candidates_are_chosen_by_all_digits() -> None:
    """Two texts whose similarities to an image differ by less than bfloat16 can say."""
    model = retrieval()
    evaluation = RerankedRetrieval(model, 1, 2, 1, "val")
    ids = torch.tensor([[101, 120, 130], [101, 140, 150]])
    with torch.no_grad():
        evaluation.add_texts(ids, torch.ones_like(ids))
        evaluation.add_images(torch.randn(1, 3, IMAGE, IMAGE), torch.tensor([0]))
        states, lengths, features = evaluation._encoded_texts[0]
        features = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 1e-4]]), dim=1)
        evaluation._encoded_texts[0] = (states, lengths, features)
        evaluation._image_features = F.normalize(torch.tensor([[1.0, 1.0]]), dim=1)
        with torch.autocast("cpu", torch.bfloat16):
            scores = evaluation.scores()
    assert scores.image_to_text[0, 1] > -100 and scores.image_to_text[0, 0] == -100


# Two processes -------------------------------------------------------------------------------------------


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    model = retrieval()
    model(batch_of(*((5, 9, 5), (7, 5, 8))[rank]), 0.4, DRAWN)
    queues = {name: getattr(model, name) for name in ("image_queue", "text_queue", "idx_queue", "queue_ptr")}
    torch.save(queues, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_all_ranks_queue_the_features_and_images_of_all(tmp_path: Path) -> None:
    mp.start_processes(work, (str(tmp_path),), nprocs=2, start_method="spawn")
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first["idx_queue"][0, :7].tolist() == [5, 9, 5, 7, 5, 8, -100] and first["queue_ptr"].item() == 6
    alone = retrieval()
    alone(batch_of(5, 9, 5), 0.4, DRAWN)
    torch.testing.assert_close(first["image_queue"][:, :3], alone.image_queue[:, :3])
