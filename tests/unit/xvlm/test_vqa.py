"""X-VLM's VQA: the decoder's sizes and rates, the weighted loss, ranking, the result file.

Source: docs/official/xvlm.md §7.2.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.parity.fixture import check_keys
from tests.unit.xvlm.decoding import Words, in_evaluation, official_model, task_batch, task_model
from tests.unit.xvlm.tables import key_table
from vlp.data.json.text import encode_cls
from vlp.nn.cross_attention import Seen
from vlp.nn.padding import PaddedLayout
from xvlm.models.checkpoints import load_checkpoint

ANSWERS = ["w120", "w121 w122", "w130 w131 w132", "w140"]


def alone(batch: dict[str, Any], row: int, answer: int) -> tuple[Tensor, Tensor, Tensor]:
    """Image, question and answer without padding, a batch of one each."""
    length, tokens = int(batch["text_masks"][row].sum()), int(batch["answer_masks"][answer].sum())
    return batch["image"][row, None], batch["text_ids"][row, None, :length], batch["answer_ids"][answer, None, :tokens]


def sequence_log_p(model: Any, image: Tensor, question: Tensor, answer: Tensor) -> list[float]:
    """log p of each token behind the first of one answer, as the official passes compute it."""
    states = model.text_encoder(
        question, PaddedLayout(torch.ones_like(question).bool()), model.vision_encoder(image), Seen()
    )
    decoded = model.text_decoder.bert(answer, PaddedLayout(torch.ones_like(answer).bool()), states, Seen())
    log_p = model.text_decoder.logits(decoded)[0].log_softmax(dim=1)
    return [float(log_p[i, token]) for i, token in enumerate(answer[0, 1:].tolist())]


@torch.no_grad()
def test_the_loss_sums_answers_by_their_weights() -> None:
    model, batch = task_model("vqa"), task_batch("vqa")
    rows = torch.arange(3).repeat_interleave(torch.tensor(batch["answer_counts"])).tolist()
    losses = [-sum(sequence_log_p(model, *alone(batch, row, answer))) for answer, row in enumerate(rows)]
    expected = sum(w * loss for w, loss in zip(batch["answer_weights"].tolist(), losses, strict=True)) / 3
    assert model(batch)["vqa_loss"].item() == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def test_ranking_counts_the_first_token_twice() -> None:
    model, batch = task_model("vqa"), task_batch("vqa")
    candidates = encode_cls(Words(), [f"{answer}[SEP]" for answer in ANSWERS], 40, spelled=True)  # type: ignore[arg-type]
    found = model.rank(batch, *candidates)
    for row in range(3):
        image, question, _ = alone(batch, row, 0)
        log_p = [
            sequence_log_p(model, image, question, ids[None, : int(mask.sum())])
            for ids, mask in zip(*candidates, strict=True)
        ]
        kept = sorted(range(len(ANSWERS)), key=lambda c: -log_p[c][0])[:3]
        total = {c: log_p[c][0] + sum(log_p[c]) for c in kept}
        order = sorted(kept, key=lambda c: -total[c])
        assert found.ids[row].tolist() == order
        norm = sum(map(math.exp, total.values()))
        expected = torch.tensor([math.exp(total[c]) / norm for c in order])
        torch.testing.assert_close(found.probabilities[row], expected, rtol=1e-4, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize(("evaluate", "name"), [(False, "vqa_result_epoch2.json"), (True, "vqa_eval.json")])
def test_the_result_file(evaluate: bool, name: str, tmp_path: Path) -> None:
    model, batch = task_model("vqa", evaluate=evaluate), task_batch("vqa")
    in_evaluation(model, "test", tmp_path, answer_list=ANSWERS)
    best = model.rank(batch, model.candidate_ids, model.candidate_masks).ids[:, 0].tolist()
    batch["answers"] = [[ANSWERS[best[0]]] * 10, ["none"] * 10, None]
    model.evaluation_step(batch, "test")
    model.evaluation_step(batch, "test")  # what a sampler repeats counts once
    assert model.evaluation_results("test") == {"acc": 0.5}
    written = json.loads((tmp_path / "result" / name).read_text())
    assert written == [{"question_id": i, "answer": ANSWERS[candidate]} for i, candidate in enumerate(best)]


def test_too_few_answers(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"k_test=3: answer_list=answers\.json has 2 answers"):
        in_evaluation(task_model("vqa"), "test", tmp_path, answer_list=ANSWERS[:2])


def test_the_doubled_rate_is_of_the_decoders_keys_and_values() -> None:
    model = task_model("vqa", num_dec_layers=2)
    layers = [f"text_decoder.bert.encoder.layer.{i}.crossattention.self" for i in range(2)]
    expected = {
        f"{layer}.{part}.{kind}" for layer in layers for part in ("key", "value") for kind in ("weight", "bias")
    }
    assert set(model.init_params) == expected
    groups = model.parameter_groups()
    assert [len(group["params"]) for group in groups[2:]] == [4, 4]  # 24 of six layers
    assert [group["lr"] for group in groups] == [1e-4, 1e-4, 2e-4, 2e-4]


def test_the_decoder_starts_from_the_fusion_layers(tmp_path: Path) -> None:
    """All but the keys and values of what it attends to, whose width is another."""
    from tests.unit.xvlm.small import pretraining

    source, model = pretraining().state_dict(), task_model("vqa", seed=3)
    built = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.save({"model": source}, tmp_path / "4m.th")
    missing = load_checkpoint(model, tmp_path / "4m.th", "vqa")
    loaded = model.state_dict()
    for i in range(2):
        for part in (
            "attention.self.query",
            "crossattention.self.query",
            "crossattention.output.dense",
            "output.dense",
        ):
            own, theirs = f"text_decoder.bert.encoder.layer.{i}.{part}.weight", f"encoder.layer.{2 + i}.{part}.weight"
            assert torch.equal(loaded[own], source[f"text_encoder.bert.{theirs}"])
            assert torch.equal(loaded[f"text_encoder.{theirs}"], source[f"text_encoder.bert.{theirs}"])
    word = "embeddings.word_embeddings.weight"
    assert torch.equal(loaded[f"text_decoder.bert.{word}"], source[f"text_encoder.bert.{word}"])
    assert torch.equal(loaded["text_decoder.cls.predictions.bias"], source["text_encoder.cls.predictions.bias"])
    assert all(torch.equal(loaded[name], built[name]) for name in model.init_params)
    assert set(missing) == set(model.init_params)


@pytest.mark.parametrize(("table", "res", "window"), [("vqa", 384, 12), ("vqa_480", 480, 15)])
def test_the_official_state(table: str, res: int, window: int) -> None:
    model = official_model("vqa", res, window)
    check_keys(model.state_dict(), key_table(table))
    assert len(model.init_params) == 24
