"""The heads of VQAv2, NLVR2 and SNLI-VE: their losses are the formulas', their metrics the splits'.

Source: docs/official/meter.md §7.2, §7.3, §7.4.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lightning as L
import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from meter.modules.checkpoints import load_checkpoint
from meter.modules.encoders import Encoders
from meter.modules.meter_module import METERTransformerSS
from tests.launch.launcher import address
from tests.unit.meter.small import Batch, batch_of, config_of, meter, text_tower, vision_tower
from tests.unit.small_parts import gradients, save
from vlp.losses.total import total_loss
from vlp.nn.padding import PaddedLayout
from vlp.sacred_dialect.task_metrics import soft_score

ANSWERS = 7
TASKS = ("vqa", "nlvr2", "snli")
LENGTHS = (5, 7, 3)


def model_of(task: str, **changes: Any) -> METERTransformerSS:
    return meter(tasks=[task], vqav2_label_size=ANSWERS, **changes)


def asked(task: str, lengths: Sequence[int] = LENGTHS) -> Batch:
    """A batch of the task as METER's collation gives it."""
    batch = batch_of(lengths, padded_to=9)
    size = len(lengths)
    if task == "vqa":
        labels = [[i, (i + 3) % ANSWERS][: 1 + i % 2] for i in range(size)]
        return {**batch, "vqa_labels": labels, "vqa_scores": [[0.3, 1.0][: len(found)] for found in labels]}
    if task == "snli":
        return {**batch, "labels": [i % 3 for i in range(size)]}
    images = {"image_0": batch.pop("image"), "image_1": batch.pop("false_image_0")}
    return {**batch, **images, "answers": [i % 2 == 0 for i in range(size)]}


def plain_loss(model: METERTransformerSS, task: str, batch: Batch) -> Tensor:
    """docs/official/meter.md §7 word for word: a full pass per image, targets written out."""
    if task == "nlvr2":
        pairs = [model.infer(batch, image_token_type_idx=kind)["cls_feats"] for kind in (1, 2)]
        logits = model.nlvr2_classifier(torch.cat(pairs, dim=1))
        return F.cross_entropy(logits, torch.tensor([int(answer) for answer in batch["answers"]]))
    pair = model.infer(batch)["cls_feats"]
    if task == "snli":
        return F.cross_entropy(model.snli_classifier(pair), torch.tensor(batch["labels"]))
    p = model.vqa_classifier(pair).sigmoid()
    targets = torch.zeros_like(p)
    for row, (labels, scores) in enumerate(zip(batch["vqa_labels"], batch["vqa_scores"], strict=True)):
        for label, score in zip(labels, scores, strict=True):
            targets[row, label] = score
    return -(targets * p.log() + (1 - targets) * (1 - p).log()).mean() * ANSWERS


@pytest.mark.parametrize("vision", ["clip", "swin"])
@pytest.mark.parametrize("task", TASKS)
def test_loss_and_gradients_are_those_of_the_formulas(task: str, vision: str) -> None:
    model, batch = model_of(task, vision=vision), asked(task)
    if vision == "swin":
        for name in [name for name in batch if name.startswith(("image", "false_image"))]:
            batch[name] = [F.interpolate(batch[name][0], size=64)]
    outputs = model(batch)
    expected = plain_loss(model, task, batch)
    assert total_loss(outputs).item() == pytest.approx(expected.item(), rel=1e-5)
    ours = gradients(model, {"loss": outputs[f"{task}_loss"]})
    for name, gradient in gradients(model, {"loss": expected}).items():
        assert torch.allclose(ours[name], gradient, rtol=1e-4, atol=1e-6), name


@pytest.mark.parametrize("task", TASKS)
def test_text_is_encoded_once_and_each_image_once(task: str) -> None:
    model, batch = model_of(task), asked(task)
    seen: dict[str, list[int]] = {"text": [], "image": []}
    model.vit_model.register_forward_pre_hook(lambda _, args: seen["image"].append(len(args[0])))
    encode = model.encode_text

    def counted(ids: Tensor, layout: PaddedLayout) -> Tensor:
        seen["text"].append(len(ids))
        return encode(ids, layout)

    with patch.object(model, "encode_text", counted):
        model(batch)
    assert (sum(seen["text"]), sum(seen["image"])) == (3, 6 if task == "nlvr2" else 3)


def test_the_soft_score_is_that_of_the_best_answer() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 1.0, 0.0], [0.0, 0.0, 9.0]])
    targets = torch.tensor([[1.0, 0.6, 0.0], [0.3, 1.0, 0.0], [1.0, 1.0, 0.0]])
    assert soft_score(logits, targets).item() == pytest.approx((0.6 + 0.3 + 0.0) / 3)


def test_questions_without_answers_have_logits_and_no_loss() -> None:
    model, batch = model_of("vqa"), asked("vqa")
    unanswered = {**batch, "vqa_labels": [[]] * 3, "vqa_scores": [[]] * 3}
    outputs = model(unanswered)
    assert outputs.keys() == {"vqa_logits"} and torch.equal(outputs["vqa_logits"], model(batch)["vqa_logits"])
    model.train().text_transformer.eval()  # in training a batch without an answer that counts is one of wrong answers
    assert model(unanswered)["vqa_loss"].item() == pytest.approx(plain_loss(model, "vqa", unanswered).item(), rel=1e-5)


QUESTIONS = [[31, 7, 5], [9, 31]]  # of two ranks; the sampler's padding gave one to both


def run_of(**options: Any) -> L.Trainer:
    """Of one epoch, which leaves nothing behind."""
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return L.Trainer(**{"accelerator": "cpu", "devices": 1, "max_epochs": 1, **quiet, **options})


def loader(batches: Sequence[Batch]) -> DataLoader[Any]:
    return DataLoader(list(batches), batch_size=None, collate_fn=lambda batch: batch)  # type: ignore[arg-type]


def answered(batches: list[list[int]], trainer: L.Trainer) -> dict[int, int]:
    """Question id -> answer id after a test of this process, whose model always has the same weights."""
    torch.manual_seed(0)
    model, asked = model_of("vqa"), list[Batch]()
    for questions in batches:
        each = [batch_of([3 + question % 5], padded_to=8, seed=question) for question in questions]
        batch: Batch = {key: torch.cat([b[key] for b in each]) for key in each[0] if key.startswith("text_")}
        images = [torch.cat([b["image"][0] for b in each])]
        unanswered: list[list[int]] = [[]] * len(each)
        asked.append({**batch, "image": images, "qid": questions, "vqa_labels": unanswered, "vqa_scores": unanswered})
    trainer.test(model, loader(asked), verbose=False)
    return model.vqa_predictions.of_question


def answer(rank: int, folder: str, meet: dict[str, str]) -> None:
    """Take the place of rank ``rank`` of two."""
    os.environ.update({**meet, "NODE_RANK": str(rank)})
    trainer = run_of(strategy="ddp", num_nodes=2, use_distributed_sampler=False)
    torch.save(answered([QUESTIONS[rank]], trainer), f"{folder}/{rank}.pt")


def test_two_ranks_answer_together_what_one_process_answers(tmp_path: Path) -> None:
    expected = answered(QUESTIONS, run_of())
    assert len(set(expected.values())) > 1
    mp.start_processes(answer, (str(tmp_path), address()), nprocs=2, start_method="fork")
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found == expected and list(found) == [5, 7, 9, 31]


# Built and loaded ----------------------------------------------------------------------------------------


def test_heads_start_as_bert_does() -> None:
    torch.manual_seed(0)
    config = config_of(tasks=["vqa"], hidden_size=64, vqav2_label_size=500)
    fresh = METERTransformerSS(config, Encoders(vision_tower(), text_tower()))
    head: Any = fresh.vqa_classifier
    first, norm, _, last = head
    std = 0.02 * math.sqrt(768 / 64)
    assert first.weight.std().item() == pytest.approx(std, rel=0.05) == last.weight.std().item()
    assert not first.bias.any() and not last.bias.any() and not norm.bias.any() and bool((norm.weight == 1).all())


def test_a_new_model_leaves_its_encoders_as_they_came() -> None:
    towers = Encoders(vision_tower(), text_tower())
    before = [{name: value.clone() for name, value in tower.state_dict().items()} for tower in towers]
    model = METERTransformerSS(config_of(), towers)
    for tower, state in zip((model.vit_model, model.text_transformer), before, strict=True):
        assert all(torch.equal(value, tower.state_dict()[name]) for name, value in state.items())


def test_a_new_models_second_image_starts_with_the_type_of_the_first() -> None:
    config = config_of(tasks=["nlvr2"])
    types = METERTransformerSS(config, Encoders(vision_tower(), text_tower())).token_type_embeddings.weight
    assert len(types) == 3 and torch.equal(types[2], types[1]) and not torch.equal(types[1], types[0])


@pytest.mark.parametrize("task", TASKS)
def test_a_pre_training_checkpoint_starts_a_task(task: str, tmp_path: Path) -> None:
    source, target = meter(), model_of(task)
    built = {name: value.clone() for name, value in target.state_dict().items() if "classifier" in name}
    missing = load_checkpoint(target, save(source, tmp_path))
    state, theirs = target.state_dict(), source.state_dict()
    assert missing == list(built) and all(torch.equal(state[name], value) for name, value in built.items())
    for name in state.keys() & theirs.keys() - {"token_type_embeddings.weight"}:
        assert torch.equal(state[name], theirs[name]), name
    rows = [0, 1, 1] if task == "nlvr2" else [0, 1]
    assert torch.equal(state["token_type_embeddings.weight"], theirs["token_type_embeddings.weight"][rows])


@pytest.mark.parametrize("task", TASKS)
def test_a_fine_tuned_checkpoint_is_restored_whole(task: str, tmp_path: Path) -> None:
    source, target = model_of(task), model_of(task)
    assert load_checkpoint(target, save(source, tmp_path)) == []
    state = target.state_dict()
    assert all(torch.equal(state[name], value) for name, value in source.state_dict().items())


# Metrics -------------------------------------------------------------------------------------------------


def logged(model: METERTransformerSS, batches: Sequence[Batch]) -> dict[str, float]:
    """What an epoch over ``batches`` logs, of training or evaluation as the model is in the one mode or the other."""
    trainer = run_of()
    if model.training:
        trainer.fit(model, loader(batches))
    else:
        trainer.validate(model, loader(batches), verbose=False)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


@pytest.mark.parametrize("task", ["nlvr2", "snli"])
@torch.no_grad()
def test_evaluation_tells_dev_from_test_by_the_name_of_the_table(task: str) -> None:
    model = model_of(task)
    first, second = asked(task), asked(task, (4, 8, 3, 6, 5))  # of unequal weight in the means of either split
    first["table_name"] = [f"{task}_dev", f"{task}_test1", f"{task}_dev"]
    second["table_name"] = [f"{task}_dev"] * 3 + [f"{task}_test1"] * 2
    found = logged(model, [first, second])
    hits: dict[str, list[float]] = {"dev": [], "test": []}
    losses: dict[str, list[float]] = {"dev": [], "test": []}
    for batch in (first, second):
        outputs = model(batch)
        each = F.cross_entropy(outputs[f"{task}_logits"], outputs[f"{task}_labels"], reduction="none")
        right = outputs[f"{task}_logits"].argmax(dim=1) == outputs[f"{task}_labels"]
        for row, table in enumerate(batch["table_name"]):
            part = "dev" if "dev" in table else "test"
            hits[part].append(float(right[row]))
            losses[part].append(float(each[row]))
    for part in ("dev", "test"):
        assert found[f"{task}/{part}/accuracy_epoch"] == pytest.approx(sum(hits[part]) / len(hits[part]))
        assert found[f"{task}/{part}/loss_epoch"] == pytest.approx(sum(losses[part]) / len(losses[part]), rel=1e-5)
    assert found["val/the_metric"] == pytest.approx(found[f"{task}/dev/accuracy_epoch"])
    assert f"{task}/val/loss" not in found


@pytest.mark.parametrize(("task", "quantity"), [("vqa", "score"), ("nlvr2", "accuracy"), ("snli", "accuracy")])
def test_training_logs_the_official_tags_and_means_over_samples(task: str, quantity: str) -> None:
    model = model_of(task, learning_rate=1e-12).train()  # which changes nothing
    model.text_transformer.eval()  # the one part with dropout
    batches = [asked(task), asked(task, (6, 4, 3, 8, 5, 7, 4))]
    alone = [logged(model, [batch]) for batch in batches]
    found = logged(model, batches)
    tags = {f"{task}/train/{name}{end}" for name in ("loss", quantity) for end in ("", "_epoch")}
    assert found.keys() == tags | {"train/the_metric"}
    for name in ("loss", quantity):
        of_batches = [each[f"{task}/train/{name}_epoch"] for each in alone]
        assert found[f"{task}/train/{name}_epoch"] == pytest.approx((3 * of_batches[0] + 7 * of_batches[1]) / 10)
        assert of_batches[0] != pytest.approx(of_batches[1], rel=1e-3)
    assert found["train/the_metric"] == pytest.approx(found[f"{task}/train/{quantity}_epoch"])
