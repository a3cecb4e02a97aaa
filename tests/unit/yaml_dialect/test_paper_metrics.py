"""Metrics under the names of the paper's columns."""

from __future__ import annotations

from typing import Any

from vlp.yaml_dialect.paper_metrics import data_set, paper_metrics

RECALLS = {"txt_r1": 90.0, "txt_r_mean": 95.0, "img_r10": 80.0, "r_mean": 90.0}
FLICKR: dict[str, Any] = {
    **{"train_file": ["data/flickr30k_train.json"], "k_test": 128},
    **{"val_file": "data/flickr30k_val.json", "test_file": ["data/flickr30k_test.json"]},
}


def test_recalls_are_those_of_a_model_that_was_fine_tuned_on_the_data_or_not() -> None:
    coco = {**FLICKR, "train_file": ["data/coco_train.json"]}
    pretrained = {"train_file": ["data/flickr30k.json"]}  # no key of retrieval
    for trained_on, way in ((FLICKR, "ft"), (coco, "zs"), (pretrained, "zs"), ({}, "zs")):
        found = paper_metrics("retrieval", FLICKR, {"test": RECALLS}, trained_on)
        assert found == {"test": {f"f30k_{way}_tr_r1": 90.0, f"f30k_{way}_ir_r10": 80.0}}


def test_accuracies_are_in_percent() -> None:
    results = {"val": {"acc": 0.8}, "test": {"acc": 0.75}}
    assert paper_metrics("nlvr", {}, results, {}) == {"val": {"nlvr2_dev": 80.0}, "test": {"nlvr2_test": 75.0}}
    assert paper_metrics("ve", {}, results, {})["test"] == {"snli_ve_test": 75.0}


def test_what_no_table_has_is_left_out() -> None:
    assert paper_metrics("grounding", {}, {"val": {"val_d": 0.5}}, {}) == {}
    assert paper_metrics("retrieval", {**FLICKR, "test_file": "mine.json"}, {"test": RECALLS}, {}) == {"test": {}}
    assert data_set([]) is None and data_set("lists/coco_test.json") == "coco"
