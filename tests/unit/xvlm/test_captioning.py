"""X-VLM's captioning: the smoothed loss behind the prompt, captions written and scored, and what all decoders share.

Source: docs/official/xvlm.md §7.2, §7.5.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from benchmarks.host_waits import HostWaits
from tests.parity.fixture import check_keys
from tests.unit.xvlm.decoding import LOSSES, PROMPT, Words, in_evaluation, official_model, task_batch, task_model
from tests.unit.xvlm.small import PAD, SEP, VOCAB
from tests.unit.xvlm.tables import key_table
from vlp.data.errors import DataError
from vlp.losses.cross_entropy import smoothed_cross_entropy
from vlp.nn.cross_attention import Seen
from vlp.nn.padding import PaddedLayout
from vlp.training.ddp import unused_parameters

REFERENCES = {0: ["w120 w121", "w130"], 1: ["w140 w141 w142"], 2: ["w150"]}


def log_probabilities(model: Any, image: Tensor, ids: Tensor) -> Tensor:
    """Of the token behind each of one sentence (n,), (n, V)."""
    layout = PaddedLayout(torch.ones_like(ids[None], dtype=torch.bool))
    states = model.text_decoder.bert(ids[None], layout, model.vision_encoder(image[None]), Seen())
    return model.text_decoder.logits(states)[0].log_softmax(dim=1)


@torch.no_grad()
@pytest.mark.parametrize(("task", "prompt"), [("captioning", 3), ("captioning_pretrain", 1)])
def test_the_loss_is_the_official_formula(task: str, prompt: int) -> None:
    """Fine-tuning alone is smoothed: 0.9 at the target, 0.1 / V at every other token."""
    model, batch = task_model(task), task_batch(task)
    losses = []
    for image, ids, mask in zip(batch["image"], batch["text_ids"], batch["text_masks"], strict=True):
        ids = ids[: int(mask.sum())]
        log_p = log_probabilities(model, image, ids)
        for place in range(prompt, len(ids)):
            weights = torch.full((VOCAB,), 0.1 / VOCAB if task == "captioning" else 0.0)
            weights[ids[place]] = 0.9 if task == "captioning" else 1.0
            losses.append(-float(weights @ log_p[place - 1]))
    assert model(batch)["lm_loss"].item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_without_smoothing_it_is_the_cross_entropy() -> None:
    logits, targets = torch.randn(5, 7, requires_grad=True), torch.tensor([0, 6, 3, 3, 1])
    expected = torch.nn.functional.cross_entropy(logits, targets)
    torch.testing.assert_close(smoothed_cross_entropy(logits, targets, 0.0), expected)
    nothing = smoothed_cross_entropy(logits[:0], targets[:0], 0.1)
    nothing.backward()
    assert nothing.item() == 0 and logits.grad is not None


@torch.no_grad()
def test_greedy_captions_are_the_likeliest_next_tokens() -> None:
    model, images = task_model("captioning", num_beams=1), task_batch("captioning")["image"]
    found = model.generate(images, Words())
    for image, caption in zip(images, found, strict=True):
        ids = list(PROMPT)
        while len(ids) < 9:
            log_p = log_probabilities(model, image, torch.tensor(ids))[-1]
            if len(ids) < 5:
                log_p[SEP] = -torch.inf
            if (token := int(log_p.argmax())) == SEP:
                break
            ids.append(token)
        assert caption == ids[len(PROMPT) :]


@torch.no_grad()
def test_wide_beams_find_the_best_caption_of_all() -> None:
    """Of captions of up to two tokens, with few words to choose from."""
    model, images = task_model("captioning"), task_batch("captioning")["image"]
    words = [110, 130, 140, 150]
    model.text_decoder.cls.predictions.bias.fill_(-1e4)
    model.text_decoder.cls.predictions.bias[[*words, SEP]] = 0.0
    model.config |= {"num_beams": 25, "min_length": 4, "max_length": 5}
    for image, found in zip(images, model.generate(images, Words()), strict=True):
        scores: dict[tuple[int, ...], float] = {}
        for length in (1, 2):
            for caption in itertools.product(words, repeat=length):
                ids = [*PROMPT, *caption, *([SEP] if length == 1 else [])]  # two are as many as there may be
                log_p = log_probabilities(model, image, torch.tensor(ids))
                total = sum(float(log_p[i - 1, ids[i]]) for i in range(len(PROMPT), len(ids)))
                scores[caption] = total / (len(PROMPT) + length)
        assert tuple(found) == max(scores, key=lambda caption: scores[caption])


def references(folder: Path) -> str:
    rows = [{"image_id": image, "caption": text} for image, texts in REFERENCES.items() for text in texts]
    path = folder / "gt.json"
    path.write_text(json.dumps({"annotations": rows}))
    return str(path)


@torch.no_grad()
@pytest.mark.parametrize(("evaluate", "name"), [(False, "test_epoch2.json"), (True, "test_eval.json")])
def test_captions_are_written_and_scored(evaluate: bool, name: str, tmp_path: Path) -> None:
    model = task_model("captioning", evaluate=evaluate, test_gt_file=references(tmp_path))
    in_evaluation(model, "test", tmp_path)
    images = task_batch("captioning")["image"]
    model.evaluation_step({"image": images, "image_id": [0, 1, 2]}, "test")
    model.evaluation_step({"image": images[:1], "image_id": [0]}, "test")  # the sampler's padding
    scores = model.evaluation_results("test")
    assert {"Bleu_1", "Bleu_4", "CIDEr"} <= scores.keys()
    written = json.loads((tmp_path / "result" / name).read_text())
    expected = Words().batch_decode(model.generate(images, Words()), skip_special_tokens=True)
    assert written == [{"image_id": i, "caption": caption} for i, caption in enumerate(expected)]


def in_two(rank: int, folder: str) -> None:
    """Rank ``rank`` of two, of which the second sees an image of the first again."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    model = task_model("captioning", test_gt_file=str(Path(folder, "gt.json")))
    in_evaluation(model, "test", Path(folder), rank)
    rows = ([0, 1], [2, 0])[rank]
    with torch.no_grad():
        model.evaluation_step({"image": task_batch("captioning")["image"][rows], "image_id": rows}, "test")
    Path(folder, f"{rank}.json").write_text(json.dumps(model.evaluation_results("test")))
    dist.destroy_process_group()


@torch.no_grad()
def test_two_processes_score_what_one_does(tmp_path: Path) -> None:
    path, alone = references(tmp_path), tmp_path / "alone"
    model = in_evaluation(task_model("captioning", test_gt_file=path), "test", alone)
    model.evaluation_step({"image": task_batch("captioning")["image"], "image_id": [0, 1, 2]}, "test")
    expected = model.evaluation_results("test")
    mp.start_processes(in_two, (str(tmp_path),), nprocs=2, start_method="fork")
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)] == [expected] * 2
    files = [json.loads((folder / "result/test_epoch2.json").read_text()) for folder in (tmp_path, alone)]
    assert sorted(files[0], key=lambda row: row["image_id"]) == files[1]


def test_what_cannot_be_written_or_scored(tmp_path: Path) -> None:
    path = references(tmp_path)
    with pytest.raises(ValueError, match=r"max_length=3: \[CLS\] and prompt='w110 w111 ' are 3 tokens"):
        in_evaluation(task_model("captioning", max_length=3, test_gt_file=path), "test", tmp_path)
    with pytest.raises(DataError, match=r"none\.json: cannot be read"):
        in_evaluation(task_model("captioning", test_gt_file=str(tmp_path / "none.json")), "test", tmp_path)
    model = in_evaluation(task_model("captioning", test_gt_file=path), "test", tmp_path)
    model.captions.take([7], ["w1"])
    with pytest.raises(DataError, match=r"gt\.json: has no caption of image 7"):
        model.evaluation_results("test")


# What all tasks with a decoder share ---------------------------------------------------------------------


def gradients(task: str, **changes: Any) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of one step of a fresh model."""
    model = task_model(task, **changes)
    loss = model(task_batch(task))[LOSSES[task]]
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("task", LOSSES)
@pytest.mark.parametrize("changes", [{"pack_text": False}, {"gradient_checkpointing": True}])
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
    assert {name for name, _ in model.named_parameters()} - grads.keys() == unused_parameters(model)


@pytest.mark.parametrize("task", LOSSES)
def test_padding_changes_nothing(task: str) -> None:
    model, batch = task_model(task), task_batch(task)
    changed = {**batch, "text_ids": batch["text_ids"].masked_fill(~batch["text_masks"].bool(), 150)}
    assert PAD not in changed["text_ids"]
    torch.testing.assert_close(model(changed)[LOSSES[task]], model(batch)[LOSSES[task]])


@pytest.mark.parametrize("task", LOSSES)
def test_no_host_waits_in_forward_and_backward(task: str) -> None:
    model, batch = task_model(task), task_batch(task)
    with HostWaits() as waits:
        model(batch)[LOSSES[task]].backward()
    assert waits.operations > 100 and waits.found == Counter()


@pytest.mark.parametrize("task", ["captioning", "captioning_pretrain"])
def test_the_rate_is_one(task: str) -> None:
    """Officially nothing of captioning is new; the four groups stay."""
    sizes = [len(group["params"]) for group in task_model(task).parameter_groups()]
    assert sizes[0] and sizes[1] and sizes[2:] == [0, 0]


@pytest.mark.parametrize(("task", "res", "window"), [("captioning", 384, 12), ("captioning_pretrain", 224, 7)])
def test_the_official_state(task: str, res: int, window: int) -> None:
    check_keys(official_model(task, res, window).state_dict(), key_table(task))
