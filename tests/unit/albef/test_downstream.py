"""VQA, SNLI-VE and NLVR2: savings change nothing, distillation, momentum, the assignment's draws, evaluation."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.nn import functional as F

from benchmarks.host_waits import HostWaits
from tests.unit.albef.small import CLS, PAD, SEP, task_batch, task_model
from vlp.losses.text_assignment import NEITHER, OWN_FIRST, OWN_SECOND, draw_assignment
from vlp.nn.step_plan import step_plan
from vlp.training.ddp import unused_parameters

LOSSES = {"vqa": "vqa_loss", "ve": "ve_loss", "nlvr": "nlvr_loss", "nlvr_pretrain": "ta_loss"}
DISTILLED = ["vqa", "ve", "nlvr"]


def gradients(task: str, alpha: float = 0.4, **changes: Any) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of one step of a fresh model."""
    model = task_model(task, **changes)
    torch.manual_seed(5)  # the assignment's draws
    loss = model(task_batch(task), alpha)[LOSSES[task]]
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("changes", [{"pack_text": False}, {"gradient_checkpointing": True}])
@pytest.mark.parametrize("task", LOSSES)
def test_savings_change_no_gradient(task: str, changes: dict[str, Any]) -> None:
    loss, expected = gradients(task)
    other, got = gradients(task, **changes)
    assert other == pytest.approx(loss, rel=1e-5)
    assert got.keys() == expected.keys()
    for name, grad in got.items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("task", LOSSES)
def test_every_parameter_is_trained_but_those_that_are_said_not_to(task: str) -> None:
    model, (_, grads) = task_model(task), gradients(task)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained - grads.keys() == unused_parameters(model)
    assert not any("_m." in name for name in trained)


@pytest.mark.parametrize("task", DISTILLED)
def test_alpha_0_is_the_loss_without_momentum_models(task: str) -> None:
    loss, _ = gradients(task, alpha=0.0)
    model = task_model(task)
    plain = task_model(task, distill=False)
    plain.load_state_dict({name: t for name, t in model.state_dict().items() if "_m." not in name})
    alone = plain(task_batch(task), 0.4)
    assert alone[LOSSES[task]].item() == pytest.approx(loss, rel=1e-6) and alone["momentum_logits"] is None
    assert not any("_m." in name for name in plain.state_dict())


@pytest.mark.parametrize("task", DISTILLED)
def test_the_momentum_models_follow_before_they_teach(task: str) -> None:
    model = task_model(task)
    before = {name: p.clone() for name, p in model.named_parameters()}
    model(task_batch(task), 0.4)
    for trained, followed in ((name, name.replace(".", "_m.", 1)) for name in before if "_m." not in name):
        expected = 0.995 * before[followed] + 0.005 * before[trained]
        torch.testing.assert_close(model.get_parameter(followed), expected)


@pytest.mark.parametrize("task", LOSSES)
def test_no_host_waits_in_forward_and_backward(task: str) -> None:
    model, batch = task_model(task), task_batch(task)
    batch |= step_plan(batch)
    with HostWaits() as waits:
        model(batch, 0.4)[LOSSES[task]].backward()
    assert waits.operations > 100 and waits.found == Counter()


def test_the_answers_of_a_question_are_weighted_and_summed() -> None:
    model, batch = task_model("vqa", distill=False), task_batch("vqa")
    expected, answer = 0.0, 0
    for row, count in enumerate(batch["answer_counts"]):
        one = {key: value[row : row + 1] for key, value in batch.items() if key in ("image", "text_ids", "text_masks")}
        for _ in range(count):
            length = int(batch["answer_masks"][answer].sum())
            some = {"answer_ids": batch["answer_ids"][answer : answer + 1, :length], "answer_counts": [1]}
            some["answer_masks"] = torch.ones_like(some["answer_ids"])
            some["answer_weights"] = torch.ones(1)
            loss = model({**one, **some}, 0.0)["vqa_loss"].item()
            expected += float(batch["answer_weights"][answer]) * loss / len(batch["text_ids"])
            answer += 1
    assert model(batch, 0.0)["vqa_loss"].item() == pytest.approx(expected, rel=1e-5)


def test_an_answer_token_sees_none_behind_it() -> None:
    model, batch = task_model("vqa"), task_batch("vqa")
    logits = model(batch, 0.0)["logits"]
    last = batch["answer_masks"].sum(dim=1) - 1
    changed = batch["answer_ids"].clone()
    changed[torch.arange(len(changed)), last] = 150
    torch.testing.assert_close(model({**batch, "answer_ids": changed}, 0.0)["logits"], logits)


def test_left_and_right_images_are_told_apart() -> None:
    model, batch = task_model("nlvr"), task_batch("nlvr")
    swapped = torch.cat(list(reversed(batch["image"].chunk(2))))
    assert not torch.allclose(model.class_logits(batch), model.class_logits({**batch, "image": swapped}), atol=1e-4)


def test_draws_of_the_text_assignment() -> None:
    torch.manual_seed(0)
    similarities = torch.randn(4, 4)
    drawn = [draw_assignment(similarities) for _ in range(4000)]
    first, second, labels = (torch.stack(part) for part in zip(*drawn, strict=True))
    own = torch.arange(4).expand_as(labels)
    assert torch.equal(labels == OWN_FIRST, first == own) and torch.equal(labels == OWN_SECOND, second == own)
    assert (first != second).all()
    for label in (OWN_FIRST, OWN_SECOND, NEITHER):
        assert float((labels == label).float().mean()) == pytest.approx(1 / 3, abs=0.02)
    weights = similarities[0, 1:].softmax(dim=0)
    beside = second[:, 0][labels[:, 0] == OWN_FIRST]
    for i in range(3):
        assert float((beside == i + 1).float().mean()) == pytest.approx(float(weights[i]), abs=0.04)
    # Two draws without replacement.
    neither = labels[:, 0] == NEITHER
    pairs = torch.stack([first[:, 0], second[:, 0]], dim=1)[neither].tolist()
    expected = weights[0] * weights[1] / (1 - weights[0])
    assert pairs.count([1, 2]) / len(pairs) == pytest.approx(float(expected), abs=0.04)


def test_the_text_assignment_needs_three() -> None:
    with pytest.raises(ValueError, match="batch_size=2"):
        task_model("nlvr_pretrain")(task_batch("ve", lengths=(4, 5)), 0.0)


@pytest.mark.parametrize("task", ["ve", "nlvr"])
def test_accuracy_counts_each_item_once(task: str) -> None:
    model, batch = task_model(task), task_batch(task)
    batch["labels"] = model.class_logits(batch).argmax(dim=1)
    batch["labels"][0] = 1 - batch["labels"][0].clamp(max=1)
    model.start_evaluation("val")
    model.evaluation_step(batch, "val")
    model.evaluation_step(batch, "val")  # a sampler's padding
    assert model.evaluation_results("val") == {"acc": pytest.approx(2 / 3)}
    model.start_evaluation("val")
    assert model.evaluation_results("val")["acc"] != model.evaluation_results("val")["acc"]  # NaN


def tokenizer(texts: list[str], **_: Any) -> dict[str, Any]:
    """``w150 w151[SEP]`` -> ids, padded."""
    rows = [[CLS, *(int(word[1:]) for word in text.removesuffix("[SEP]").split()), SEP] for text in texts]
    most = max(map(len, rows))
    ids = torch.tensor([row + [PAD] * (most - len(row)) for row in rows])
    return {"input_ids": ids.tolist(), "attention_mask": (ids != PAD).long().tolist()}


ANSWERS = ["w120", "w121 w122", "w130 w131 w132", "w140"]


def evaluating(tmp_path: Path, rank: int = 0) -> Any:
    """A VQA model in the evaluation of a run of eight epochs that has ended."""
    model = task_model("vqa", output_dir=str(tmp_path))
    answers = SimpleNamespace(answer_list=ANSWERS)
    data = SimpleNamespace(sets={"test": answers}, tokenizer=tokenizer, eval_splits=("test",))
    state = SimpleNamespace(fn="test")
    model._trainer = SimpleNamespace(datamodule=data, current_epoch=8, global_rank=rank, state=state)
    model.start_evaluation("test")
    return model


def written(tmp_path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((tmp_path / "result" / "vqa_result_epoch7.json").read_text())
    return found


def questions(rows: list[int]) -> dict[str, Any]:
    """Some rows of a batch of three questions, which all have the same annotation."""
    batch = task_batch("vqa")
    some = {key: batch[key][rows] for key in ("image", "text_ids", "text_masks", "labels")}
    return {
        **some,
        "question_id": rows,
        "index": rows,
        "dataset": ["x"] * len(rows),
        "answers": [["w140"] * 10] * len(rows),
    }


def in_two(rank: int, folder: str) -> None:
    """Rank ``rank`` of two, of which the second sees a question of the first again."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    rows, model, classifier = ([0, 1], [2, 0])[rank], evaluating(Path(folder), rank), task_model("ve")
    model.evaluation_step(questions(rows), "test")
    classifier.start_evaluation("val")
    classifier.evaluation_step(questions(rows), "val")
    results = {"vqa": model.evaluation_results("test"), "ve": classifier.evaluation_results("val")}
    Path(folder, f"{rank}.json").write_text(json.dumps(results))
    dist.destroy_process_group()


def test_two_processes_score_what_one_does(tmp_path: Path) -> None:
    alone, classifier = evaluating(tmp_path / "alone"), task_model("ve")
    alone.evaluation_step(questions([0, 1, 2]), "test")
    classifier.start_evaluation("val")
    classifier.evaluation_step(questions([0, 1, 2]), "val")
    expected = {"vqa": alone.evaluation_results("test"), "ve": classifier.evaluation_results("val")}
    mp.start_processes(in_two, (str(tmp_path),), nprocs=2, start_method="fork")
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)] == [expected] * 2
    assert written(tmp_path) == written(tmp_path / "alone") and len(written(tmp_path)) == 3


def test_answers_are_ranked_and_written(tmp_path: Path) -> None:
    model, batch = evaluating(tmp_path), task_batch("vqa")
    best = [ANSWERS[i] for i in model.rank(batch, model.candidate_ids, model.candidate_masks).ids[:, 0]]
    batch["answers"] = [[best[0]] * 10, ["w199"] * 10, []]
    model.evaluation_step(batch, "test")
    model.evaluation_step(batch, "test")
    assert model.evaluation_results("test") == {"acc": 0.5}
    assert written(tmp_path) == [{"question_id": i, "answer": answer} for i, answer in enumerate(best)]


def test_ranking_by_one_sequence_at_a_time() -> None:
    model, batch = task_model("vqa"), task_batch("vqa")
    encoded = tokenizer(["w120[SEP]", "w121 w122[SEP]", "w130 w131 w132[SEP]", "w140[SEP]"])
    ids, masks = torch.tensor(encoded["input_ids"]), torch.tensor(encoded["attention_mask"])
    found = model.rank(batch, ids, masks)
    for row in range(3):
        one = {key: batch[key][row : row + 1] for key in ("image", "text_ids", "text_masks")}
        scores = []
        for candidate in range(4):
            some = {"answer_ids": ids[candidate : candidate + 1], "answer_masks": masks[candidate : candidate + 1]}
            logits = model({**one, **some, "answer_counts": [1], "answer_weights": torch.ones(1)}, 0.0)["logits"]
            tokens = ids[candidate, 1 : int(masks[candidate].sum())]
            loss = F.cross_entropy(logits, tokens, reduction="sum")
            scores.append((logits[0].log_softmax(dim=0)[tokens[0]].item(), loss.item()))
        kept = sorted(range(4), key=lambda c: -scores[c][0])[:3]
        assert found.ids[row].tolist() == sorted(kept, key=lambda c: scores[c][1] - scores[c][0])


def test_more_candidates_wanted_than_there_are(tmp_path: Path) -> None:
    model = evaluating(tmp_path)
    model.check_data(model.trainer.datamodule)
    model.config["k_test"] = 5
    with pytest.raises(ValueError, match=r"k_test=5: answer_list=answers\.json has 4 answers"):
        model.check_data(model.trainer.datamodule)
