"""Metrics of METER's and ViLT's evaluations under the names of the paper's columns."""

from __future__ import annotations

from typing import Any

import pytest

from vlp.sacred_dialect.paper_metrics import named_scores, paper_metrics

FLICKR: dict[str, Any] = {"datasets": ["f30k"], "eval_split": "val", "loss_names": {"irtr": 1, "itm": 0.5}}
RECALLS = {"recalls/ir_r1": 0.5, "recalls/tr_r10": 0.75, "val/the_metric": 1.25}


@pytest.mark.parametrize(
    ("trained_on", "way"),
    [
        (FLICKR, "ft"),
        ({**FLICKR, "datasets": ["coco"]}, "zs"),
        ({**FLICKR, "loss_names": {"irtr": 0, "itm": 1, "mlm": 1}}, "zs"),
        ({}, "zs"),
    ],
)
def test_recalls_are_those_of_a_model_that_was_fine_tuned_on_the_data_or_not(
    trained_on: dict[str, Any], way: str
) -> None:
    found = paper_metrics(FLICKR, RECALLS, trained_on)
    assert found == {"val": {f"f30k_{way}_ir_r1": 50.0, f"f30k_{way}_tr_r10": 75.0}}


def test_accuracies_stand_under_their_own_splits() -> None:
    metrics = {"nlvr2/dev/accuracy_epoch": 0.5, "nlvr2/test/accuracy_epoch": 0.25, "nlvr2/dev/loss_epoch": 0.7}
    assert paper_metrics(FLICKR, metrics, {}) == {"val": {"nlvr2_dev": 50.0}, "test": {"nlvr2_test": 25.0}}
    assert paper_metrics(FLICKR, {"snli/test/accuracy_epoch": 0.5}, {}) == {"test": {"snli_ve_test": 50.0}}


def test_what_no_table_has_is_left_out() -> None:
    assert paper_metrics(FLICKR, {"vqa/val/score_epoch": 0.5}, {}) == {}


def test_scores_have_the_names_of_both_dialects() -> None:
    found = named_scores("test", {**RECALLS, "vqa/val/score_epoch": 0.5, "nlvr2/dev/accuracy_epoch": 0.25})
    assert found == {"test": {"img_r1": 50.0, "txt_r10": 75.0, "vqa score": 50.0}, "val": {"acc": 0.25}}
