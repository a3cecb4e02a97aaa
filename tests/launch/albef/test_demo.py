"""The demo's numbers and examples of ALBEF, from the runs that the other tests look at."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from demo.baselines import BASELINES
from demo.examples import load_examples
from demo.judgement import Judgement
from demo.settings import Settings, parse
from scenes.coco_layout import TRUTH_FILE
from tests.launch.albef.launcher import AlbefLauncher, Run
from vlp.data.json.text import pre_caption


@pytest.fixture
def settings(albef: AlbefLauncher, vanilla: Run, epic: Run, tmp_path: Path) -> Settings:
    """As if the demo had made the runs."""
    for name, folder in (("vanilla", vanilla.directory), ("epic", epic.directory), ("data", albef.data)):
        (tmp_path / name).symlink_to(folder)
    return parse(["--baseline", "albef", "--output", str(tmp_path), "--batch", "4"])


def letters(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum())


def test_examples_show_what_the_trained_model_says(
    albef: AlbefLauncher, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    about, asked = BASELINES["albef"], list[Judgement]()

    def judge(model: Any, batch: dict[str, Any], ids: Tensor) -> Judgement:
        asked.append(about.judge(model, batch, ids))
        return asked[-1]

    monkeypatch.setitem(BASELINES, "albef", replace(about, judge=judge))
    saliency, verdicts, gradcam = load_examples(settings, 3)
    truth = (albef.data / "raw" / TRUTH_FILE).read_text().splitlines()
    captions = {pre_caption(each["raw"]): each for line in truth for each in json.loads(line)["captions"]}
    assert len(saliency) == len(verdicts) == 3 and len({shown.image.tobytes() for shown in saliency}) == 3
    assert gradcam and all(example.original_heat.shape == (2, 2) for example in gradcam)
    for number, (shown, verdict) in enumerate(zip(saliency, verdicts, strict=True)):
        text = "".join(token.removeprefix("##") for token in shown.tokens)
        (caption,) = {raw["raw"]: raw for clean, raw in captions.items() if letters(clean).startswith(text)}.values()
        assert sum(shown.alpha) == pytest.approx(1)
        # letter by letter, in the caption as it was written: whether the image alone tells it
        raw, spans = caption["raw"], caption["salient"]
        told = iter([any(a <= i < b for a, b in spans) for i, c in enumerate(raw) if c.isalnum()])
        of_tokens = [[next(told) for _ in token.removeprefix("##")] for token in shown.tokens]
        assert shown.salient == [any(flags) for flags in of_tokens] and any(shown.salient)
        assert verdict.original.tokens == shown.tokens and any(verdict.corrupted.replaced)
        for judgement, row in zip(asked[2 * number :], (verdict.original, verdict.corrupted), strict=False):
            assert row.consistent == pytest.approx(judgement.logits[0, 1:].sigmoid().tolist())


def test_what_no_command_measures(settings: Settings) -> None:
    """The same every time; ITC is the EPIC run's alone."""
    vanilla, epic = (settings.about.measured(settings, name) for name in ("vanilla", "epic"))
    assert 0 <= vanilla["accuracy"] <= 1 and 0 <= epic["epic_itc_auroc"] <= 1
    assert list(vanilla) == ["accuracy"] and settings.about.measured(settings, "vanilla") == vanilla
