"""VQAv2's submission file: every question once, the vocabulary's words, nothing of other runs."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from vlp.evaluation.vqa import Predictions, write_submission

ANSWERS = {0: "yes", 1: "2", 3: "café"}


def test_the_best_answer_of_every_question_once(tmp_path: Path) -> None:
    predictions = Predictions()
    predictions.add([262144002, 7], torch.tensor([[0.0, 3.0, 1.0, 2.0], [5.0, 1.0, 0.0, 0.0]]))
    predictions.add([262144001, 7], torch.tensor([[0.0, 0.0, 0.0, 1.0], [5.0, 1.0, 0.0, 0.0]]))  # 7 again: padding
    predictions.gather()
    path = tmp_path / "result" / "vqa_submit_meter.json"
    path.parent.mkdir()
    path.write_text("of an earlier run")
    (path.parent / "vqa_submit_0.json").write_text('[{"question_id": 1, "answer": "stale"}]')
    write_submission(path, predictions, ANSWERS)
    assert json.loads(path.read_text(encoding="utf-8")) == [
        {"question_id": 7, "answer": "yes"},
        {"question_id": 262144001, "answer": "café"},
        {"question_id": 262144002, "answer": "2"},
    ]


def test_an_id_without_an_answer_is_officially_unknown(tmp_path: Path) -> None:
    predictions = Predictions()
    predictions.add([5], torch.tensor([[0.0, 0.0, 1.0]]))
    write_submission(tmp_path / "out.json", predictions, ANSWERS)
    assert json.loads((tmp_path / "out.json").read_text()) == [{"question_id": 5, "answer": "unknown"}]
