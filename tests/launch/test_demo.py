"""The demo from its command line, at a size that only shows that every stage runs."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from demo.baselines import BASELINES
from demo.examples import load_examples
from demo.judgement import Judgement
from demo.settings import parse
from scenes.coco_layout import TRUTH_FILE
from tests.launch.launcher import ENVIRONMENT, ROOT, Launcher, Result
from vlp.data.tokenizers import load_tokenizer

SIZES = {
    **{"train-images": 40, "val-images": 8, "test-images": 8, "corpus-lines": 200, "lm-steps": 3, "encoder-steps": 3},
    **{"steps": 11, "batch": 4},
}
COMMANDS = {"albef": 4, "xvlm": 4}  # no script of theirs scores the objectives of pre-training


def run_demo(baseline: str, output: Path, **changes: int) -> subprocess.CompletedProcess[str]:
    flags = [word for name, value in {**SIZES, **changes}.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "demo", "--baseline", baseline, "--output", str(output), *flags]
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=1200)


def test_examples_show_what_the_trained_model_says(
    launcher: Launcher, epic: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, about = parse(["--baseline", launcher.name, "--output", str(tmp_path)]), BASELINES[launcher.name]
    settings.run_directory("epic").parent.mkdir(parents=True)
    settings.run_directory("epic").symlink_to(epic.directory)
    settings.path("data").symlink_to(launcher.data)
    asked: list[tuple[list[int], Judgement]] = []

    def judge(model: Any, batch: dict[str, Any], ids: Tensor) -> Judgement:
        asked.append((ids[0].tolist(), about.judge(model, batch, ids)))
        return asked[-1][1]

    monkeypatch.setitem(BASELINES, launcher.name, replace(about, judge=judge))
    saliency, verdicts, gradcam = load_examples(settings, 3)
    captions = {
        caption["raw"]: caption
        for line in (launcher.data / "raw" / TRUTH_FILE).read_text().splitlines()
        for caption in json.loads(line)["captions"]
    }
    assert len(saliency) == len(verdicts) == 3 and len({shown.image.tobytes() for shown in saliency}) == 3
    assert gradcam
    tokenizer = load_tokenizer(launcher.language_model)
    for number, (shown, verdict) in enumerate(zip(saliency, verdicts, strict=True)):
        letters = "".join(token.removeprefix("##") for token in shown.tokens).lower()  # a long caption is cut
        (caption,) = {text for text in captions if text.replace(" ", "").lower().startswith(letters)}
        assert sum(shown.alpha) == pytest.approx(1)
        # letter by letter, without the spaces: whether the image alone tells it
        told = [any(a <= i < b for a, b in captions[caption]["salient"]) for i, c in enumerate(caption) if c != " "]
        ends = list(itertools.accumulate(len(token.removeprefix("##")) for token in shown.tokens))
        assert shown.salient == [any(told[start:end]) for start, end in zip([0, *ends], ends, strict=False)]
        assert verdict.original.tokens == shown.tokens and not any(verdict.original.replaced)
        assert any(verdict.corrupted.replaced)
        (ids, true), (corrupted, other) = asked[2 * number : 2 * number + 2]
        assert ids[:-1] == tokenizer(caption)["input_ids"][: len(ids) - 1] and len(corrupted) == len(ids)
        assert verdict.original.consistent == pytest.approx(true.logits[0, 1:-1].sigmoid().tolist())
        assert verdict.corrupted.consistent == pytest.approx(other.logits[0, 1:-1].sigmoid().tolist())
        assert list(verdict.corrupted.replaced) == [i != j for i, j in zip(ids[1:-1], corrupted[1:-1], strict=True)]
        for heat in (example for example in gradcam if example.caption == caption):
            changed = [i for i, replaced in enumerate(verdict.corrupted.replaced) if replaced]
            token = max(changed, key=lambda i: shown.alpha[i])
            assert (heat.original, heat.replaced) == (shown.tokens[token], verdict.corrupted.tokens[token])
            for judgement, drawn in ((true, heat.original_heat), (other, heat.replaced_heat)):
                assert drawn.tolist() == judgement.heat(token + 1).tolist()


@pytest.mark.slow
@pytest.mark.parametrize("baseline", BASELINES)
def test_the_demo_compares_two_runs_and_goes_on_where_it_stopped(baseline: str, tmp_path: Path) -> None:
    first = run_demo(baseline, tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    scores = {score["name"]: score for score in results["scores"]}
    assert set(scores) == {
        *(f"{way} R@{k}" for way in ("TR", "IR") for k in (1, 5, 10)),
        *("masked-token accuracy", "ITC AUROC"),
    }
    assert scores["ITC AUROC"]["vanilla"] is None and 0 <= scores["ITC AUROC"]["epic"] <= 1
    assert scores["IR R@1"]["chance"] == pytest.approx(100 / 8)
    assert len(results["commands"]) == COMMANDS.get(baseline, 6) and all(
        command in first.stdout for command in results["commands"]
    )
    assert all(command.startswith(f"cd {baseline} && ") for command in results["commands"])
    page = (tmp_path / "report.html").read_text()
    assert "Grad-CAM" in page and "https://" not in page
    assert f"<title>{BASELINES[baseline].description.title} without and with EPIC</title>" in page
    for name in ("vanilla", "epic"):
        assert list((tmp_path / name).rglob("events.out.tfevents.*"))

    (tmp_path / "epic" / "evaluated.json").unlink()
    second = run_demo(baseline, tmp_path)
    assert second.returncode == 0, second.stdout + second.stderr
    assert second.stdout.count("already there") == 6
    assert json.loads((tmp_path / "results.json").read_text())["scores"] == results["scores"]

    other = run_demo(baseline, tmp_path, steps=12)
    assert other.returncode != 0 and "steps was 11, is 12" in other.stderr
