"""Zero-shot retrieval of a pre-training checkpoint through the launcher, against a full pass for every pair."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.launch.launcher import OTHERS_SLOW, SHARED_CODE, Launcher, Result
from vlp.checkpoint.export import export
from vlp.checkpoint.loading import load_into
from vlp.data.tokenizers import encode
from vlp.evaluation.recall import Recalls, recalls
from vlp.sacred_dialect.baseline import SacredBaseline

# Both name itm 0.5 in retrieval: METER trains a task from any value on, ViLT from 1.
MATCHING = {"meter": 2, "vilt": 0}


@torch.no_grad()
def every_pair(baseline: SacredBaseline, config: dict[str, Any]) -> Recalls:
    """The official loop: each image repeated for all captions, everything encoded again."""
    datamodule = baseline.datamodule(config)
    model: Any = baseline.model(config).eval()
    load_into(model, config["load_path"], baseline.layout)
    images = datamodule.dataset("coco", "test", image_only=True, false_draws=False)
    captions = datamodule.dataset("coco", "test", false_draws=False)
    texts = [captions[i]["text"] for i in range(len(captions))]
    encoded = encode(datamodule.tokenizer, texts, config["max_text_len"])
    ids, masks = torch.tensor(encoded.ids), torch.tensor(encoded.masks)
    rows = []
    for i in range(len(images)):
        image = images[i]["image"][0].expand(len(texts), -1, -1, -1)
        batch = {"text_ids": ids, "text_masks": masks, "text_labels": ids, "image": [image]}
        rows.append(model.rank_output(model.infer(batch)["cls_feats"])[:, 0])
    scores = torch.stack(rows)
    # Pairs must differ by more than what the order of additions changes, or ranks mean nothing.
    assert (scores.flatten().sort().values.diff() > 1e-6).float().mean() > 0.9
    return recalls(scores, torch.tensor([captions.row(i) for i in range(len(captions))]))


def test_recalls_are_those_of_every_pair(launcher: Launcher, vanilla: Result) -> None:
    has_the_recalls_of_every_pair("test", launcher, vanilla)


@OTHERS_SLOW
def test_another_split_can_be_evaluated(launcher: Launcher, vanilla: Result) -> None:
    has_the_recalls_of_every_pair("val", launcher, vanilla)


def has_the_recalls_of_every_pair(split: str, launcher: Launcher, vanilla: Result) -> None:
    run = launcher.retrieve(vanilla.checkpoint, f"eval_split={split}", "load_path=" + str(vanilla.checkpoint))
    assert run.directory.parent.name == "finetune_irtr_coco_seed0_from_last"
    results = json.loads((run.directory / "results.json").read_text())
    expected = every_pair(launcher.baseline, run.config())
    for name, value in expected._asdict().items():
        assert results["metrics"][f"recalls/{name}"] == pytest.approx(value), name
    assert (results["baseline"], results["eval_split"]) == (launcher.name, split)
    assert (results["checkpoint"], results["datasets"]) == (str(vanilla.checkpoint), ["coco"])
    assert results["checkpoint_sha256"] == hashlib.sha256(vanilla.checkpoint.read_bytes()).hexdigest()
    columns = {f"coco_zs_{name}": 100 * value for name, value in expected._asdict().items()}
    assert results["paper"] == {split: pytest.approx(columns)}
    printed = re.search(r"^(\(.*\)) 0$", run.output, re.MULTILINE)  # the official tuple, and the global step
    assert printed and ast.literal_eval(printed[1]) == pytest.approx(tuple(expected))
    heads = ("TR@1", "TR@5", "TR@10", "IR@1", "IR@5", "IR@10")
    table = re.search(rf"^ split +(.*)\n.*\n {split} +(.*)$", run.output, re.MULTILINE)
    assert table
    scores = dict(zip(re.split("  +", table[1].strip()), map(float, table[2].split()), strict=True))
    named = {head: 100 * getattr(expected, head.lower().replace("@", "_r")) for head in heads}
    assert {head: scores[head] for head in heads} == pytest.approx(named, abs=6e-3)
    assert f"results: {run.directory / 'results.json'}" in run.output


@OTHERS_SLOW
def test_an_epic_checkpoint_is_evaluated_like_a_vanilla_one(launcher: Launcher, epic: Result) -> None:
    run = launcher.retrieve(epic.checkpoint)
    assert "not in this model: " in run.output and "epic.head" in run.output
    assert Path(run.directory / "results.json").exists()


def test_retrieval_is_fine_tuned(launcher: Launcher, vanilla: Result) -> None:
    run = launcher.run(
        *(*launcher.finetuning("irtr_coco"), "get_recall_metric=False"),
        *launcher.items("max_steps=2", "draw_false_text=3", f"load_path={vanilla.checkpoint}"),
    )
    assert len(run.values("irtr/train/irtr_loss")) == 2
    assert len(run.values("itm/train/loss")) == MATCHING[launcher.name]
    before, after = (torch.load(r.checkpoint, weights_only=True)["state_dict"] for r in (vanilla, run))
    assert torch.equal(after["itm_score.fc.weight"], before["itm_score.fc.weight"])  # frozen
    assert not torch.equal(after["rank_output.weight"], before["itm_score.fc.weight"][1:])  # starts there, is trained
    assert torch.allclose(after["rank_output.weight"], before["itm_score.fc.weight"][1:], atol=0.02)


@SHARED_CODE
def test_losses_of_a_checkpoint_can_be_measured(launcher: Launcher, epic: Result) -> None:
    run = launcher.pretrain(*("test_only=True", f"load_path={epic.checkpoint}", *launcher.teacher))
    metrics = json.loads((run.directory / "results.json").read_text())["metrics"]
    assert {"mlm/val/loss_epoch", "itm/val/accuracy_epoch", "epic/val/epic_itc_auroc"} <= metrics.keys()
    assert "recalls/ir_r1" not in metrics


@pytest.mark.slow
def test_two_processes_share_the_images(launcher: Launcher, vanilla: Result) -> None:
    last = ("test_only=True", f"load_path={vanilla.checkpoint}")
    one, two = (launcher.cold(*launcher.retrieval, *launcher.items(*last, f"num_gpus={count}")) for count in (1, 2))
    metrics = [json.loads((run.directory / "results.json").read_text())["metrics"] for run in (one, two)]
    for name in ("ir_r1", "ir_r5", "ir_r10", "tr_r1", "tr_r5", "tr_r10"):
        assert metrics[0][f"recalls/{name}"] == metrics[1][f"recalls/{name}"], name


@pytest.mark.slow
@SHARED_CODE
def test_an_exported_folder_is_evaluated_like_its_checkpoint(launcher: Launcher, epic: Result, tmp_path: Path) -> None:
    export(epic.checkpoint, tmp_path / "hub")
    runs = [launcher.retrieve(weights) for weights in (epic.checkpoint, tmp_path / "hub")]
    metrics = [json.loads((run.directory / "results.json").read_text())["metrics"] for run in runs]
    assert metrics[0] == metrics[1] and "recalls/ir_r1" in metrics[0]
