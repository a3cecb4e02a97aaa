"""A fifth baseline pre-trains with EPIC, resumes bit by bit and retrieves through the shared parts alone."""

from __future__ import annotations

import json
import math
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from patches.tree import read_tree, vanilla, write_tree
from tests.launch.launcher import LOSSES, ROOT, Launcher, Result
from tests.launch.test_resume import ITEMS, after_steps, continues
from vlp.baseline import REGISTRY, get_baseline
from vlp.checkpoint.__main__ import main as checkpoint_tool
from vlp.checkpoint.inspection import inspect
from vlp.checkpoint.loading import load_into
from vlp.data.tokenizers import encode
from vlp.evaluation.retrieval import score_pairs
from vlp.sacred_dialect.baseline import SacredBaseline
from vlp.sacred_dialect.retrieval import tokenized

NAME, DESCRIPTION = "fifth", "tests.fifth.baseline"


@pytest.fixture(autouse=True, scope="module")
def registered() -> Iterator[None]:
    """The one line that registers a baseline."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(REGISTRY, NAME, DESCRIPTION)
        yield


@pytest.fixture(scope="module")
def fifth(registered: None, launchers: Callable[[str], Launcher]) -> Launcher:
    return launchers(NAME)


@pytest.fixture(scope="module")
def items(fifth: Launcher) -> tuple[str, ...]:
    """A run with EPIC that validates and saves in mid-epoch, the vanilla run as its teacher."""
    return (*ITEMS, *fifth.teacher)


@pytest.fixture(scope="module")
def whole(fifth: Launcher, items: tuple[str, ...]) -> Result:
    return fifth.pretrain(*items)


def all_finite(run: Result) -> bool:
    return all(math.isfinite(value) for line in run.metrics for value in line.values())


def test_vanilla_pre_training(fifth: Launcher) -> None:
    run = fifth.vanilla
    assert run.directory.parent.name == "pretrain_seed0_from_"
    for tag in (*LOSSES[NAME], "mlm/train/accuracy", "itm/train/accuracy"):
        assert len(run.values(tag)) == 3 and len(run.values(tag.replace("train", "val"))) == 1, tag
    assert all_finite(run)
    assert not any(tag.startswith("epic") for line in run.metrics for tag in line)


def test_pre_training_with_epic(fifth: Launcher) -> None:
    run = fifth.epic
    for tag in (*LOSSES[NAME], "epic/train/epic_itc", "epic/train/epic_gen", "epic/train/epic_saliency_entropy"):
        assert len(run.values(tag)) == 3 and len(run.values(tag.replace("train", "val"))) == 1, tag
    assert all_finite(run)
    assert f"[epic] teacher {fifth.vanilla.checkpoint}, sha256" in run.output
    # Same initial weights, batch and dropout.
    for tag in LOSSES[NAME]:
        assert run.values(tag)[0] == fifth.vanilla.values(tag)[0]


def test_an_earlier_state_of_the_student_proposes_replacements(fifth: Launcher) -> None:
    run = fifth.pretrain("max_steps=2", *fifth.teacher, "epic_vlm_sas")
    assert len(run.values("epic/train/epic_itc")) == 2 and all_finite(run)


@pytest.mark.parametrize(("number", "saves", "status"), [(signal.SIGKILL, 1, -signal.SIGKILL), (signal.SIGTERM, 0, 75)])
def test_stopped_and_gone_on_with(
    number: signal.Signals, saves: int, status: int, fifth: Launcher, whole: Result, items: tuple[str, ...]
) -> None:
    command = (*items, f"save_every_n_steps={saves}")
    broken = fifth.pretrain(*command, check=False, during=after_steps(2, number))
    assert broken.status == status, broken.output
    resumed = fifth.pretrain(*command, "resume_from=auto", log_dir=broken.log_dir)
    assert "[resume] auto: no last.ckpt" not in resumed.output
    continues(broken, resumed, whole)


class Scores(NamedTuple):
    """Of all pairs on the evaluation split."""

    one_by_one: Tensor  # (N images, M captions), each pair in a pass of its own with all its padding
    shared: Tensor  # (N, M)
    owners: list[int]  # the image of each caption


@torch.no_grad()
def score(baseline: SacredBaseline, config: dict[str, Any]) -> Scores:
    datamodule = baseline.datamodule(config)
    model: Any = baseline.model(config).eval()
    load_into(model, config["load_path"], baseline.layout)
    images = datamodule.dataset("coco", "test", image_only=True, false_draws=False)
    captions = datamodule.dataset("coco", "test", false_draws=False)
    texts, longest = [captions[j]["text"] for j in range(len(captions))], config["max_text_len"]
    padded = encode(datamodule.tokenizer, texts, longest)
    rows = []
    for i in range(len(images)):
        image = model.encode_image(images[i]["image"][0][None])
        pairs = zip(torch.tensor(padded.ids).split(1), torch.tensor(padded.masks).split(1), strict=True)
        rows.append(torch.cat([model.rank_output(model.pooled(ids, mask, image)).squeeze(1) for ids, mask in pairs]))
    cut = tokenized(datamodule.tokenizer, texts, longest)
    shared = score_pairs(model, lambda i: images[i]["image"][0], len(images), cut)
    return Scores(torch.stack(rows), shared, [captions.row(j) for j in range(len(captions))])


def test_zero_shot_retrieval_is_that_of_every_pair(fifth: Launcher) -> None:
    run = fifth.retrieve(fifth.vanilla.checkpoint)
    scores, shared, owners = score(fifth.baseline, run.config())
    torch.testing.assert_close(shared, scores, rtol=1e-4, atol=1e-6)
    # Pairs must differ by more than what the order of additions changes, or ranks mean nothing.
    assert (scores.flatten().sort().values.diff() > 1e-6).float().mean() > 0.9
    results = json.loads((run.directory / "results.json").read_text())
    assert results["baseline"] == NAME
    image_ranks = [int((scores[:, j] > scores[i, j]).sum()) for j, i in enumerate(owners)]
    text_ranks = [
        int((scores[i] > max(scores[i, j] for j, owner in enumerate(owners) if owner == i)).sum())
        for i in range(len(scores))
    ]
    for k in (1, 5, 10):
        for name, ranks in (("ir", image_ranks), ("tr", text_ranks)):
            expected = sum(rank < k for rank in ranks) / len(ranks)
            assert results["metrics"][f"recalls/{name}_r{k}"] == pytest.approx(expected), (name, k)


def test_the_checkpoint_tool_knows_it_by_its_title(
    fifth: Launcher, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, title = fifth.epic.checkpoint, get_baseline(NAME).title
    assert checkpoint_tool(["inspect", str(path)]) == 0
    assert title in capsys.readouterr().out
    assert inspect(path)["baseline"] == title
    monkeypatch.delitem(REGISTRY, NAME)
    assert inspect(path)["baseline"] is None


def test_epic_off_is_vanilla_to_the_bit(fifth: Launcher, tmp_path: Path) -> None:
    """The marked lines and EPIC's file taken out, in a place where neither epic_common nor epic_vlp can be imported."""
    write_tree({}, vanilla(read_tree(str(fifth.folder))), tmp_path)
    (tmp_path / "tests" / "__init__.py").touch()
    shutil.copytree(ROOT / "vlp", tmp_path / "vlp", ignore=shutil.ignore_patterns("__pycache__"))
    for package in ("epic_common", "epic_vlp"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(f"raise ImportError('vanilla imports {package}')")
    stripped = fifth.cold(*fifth.pretraining, *fifth.items("val_check_interval=3"), root=tmp_path)
    assert len(stripped.values("mlm/train/loss")) == 3 and stripped.metrics == fifth.vanilla.metrics
    ours, theirs = (torch.load(r.checkpoint, weights_only=True)["state_dict"] for r in (fifth.vanilla, stripped))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert "epic" not in stripped.config() and "epic" in fifth.vanilla.config()
