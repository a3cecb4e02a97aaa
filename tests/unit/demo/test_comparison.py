"""The demo's numbers: read from both runs' evaluations, with what chance would give, and told as they are."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from demo.comparison import Comparison, compare, print_table, write_results
from demo.report import Score
from demo.settings import Settings, parse

IMAGES = 12
VALUES = {"vanilla": (0.25, 0.5, 0.4), "epic": (0.5, 0.25, 0.4)}  # retrieval of texts, of images, masked tokens


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return parse(["--output", str(tmp_path), "--test-images", str(IMAGES), "--steps", "7"])


@pytest.fixture
def comparison(settings: Settings) -> Comparison:
    for name, (tr, ir, accuracy) in VALUES.items():
        found = {
            "objectives": {"mlm/val/accuracy_epoch": accuracy, "epic/val/epic_itc_auroc": 0.75, "itm/val/loss": 9.0},
            "retrieval": {
                f"recalls/{way}_r{k}": r + k / 100 for way, r in (("tr", tr), ("ir", ir)) for k in (1, 5, 10)
            },
        }
        if name == "vanilla":
            del found["objectives"]["epic/val/epic_itc_auroc"]
        settings.path(name).mkdir()
        settings.path(name, "evaluated.json").write_text(json.dumps(found))
    return compare(settings)


def test_every_score_is_that_of_its_run(comparison: Comparison) -> None:
    scores = {score.name: score for score in comparison.scores}
    for k in (1, 5, 10):
        assert (scores[f"TR R@{k}"].vanilla, scores[f"TR R@{k}"].epic) == pytest.approx((25 + k, 50 + k))
        assert (scores[f"IR R@{k}"].vanilla, scores[f"IR R@{k}"].epic) == pytest.approx((50 + k, 25 + k))
    tokens, auroc = scores["masked-token accuracy"], scores["ITC AUROC"]
    assert (tokens.vanilla, tokens.epic, tokens.chance) == (pytest.approx(40), pytest.approx(40), None)
    assert (auroc.vanilla, auroc.epic, auroc.chance, auroc.unit) == (None, 0.75, 0.5, "")


def test_the_scores_of_albef(tmp_path: Path) -> None:
    """Its scripts give percent; what none of them measures stands beside them."""
    settings = parse(["--baseline", "albef", "--output", str(tmp_path), "--test-images", str(IMAGES)])
    for name, (tr, ir, accuracy) in VALUES.items():
        recalls = {f"test_{way}_r{k}": 100 * r + k for way, r in (("txt", tr), ("img", ir)) for k in (1, 5, 10)}
        measured = {"accuracy": accuracy, **({"epic_itc_auroc": 0.75} if name == "epic" else {})}
        found = {"retrieval": {**recalls, "test_r_mean": 3.0, "val_txt_r1": 2.0}, "measured": measured}
        settings.path(name).mkdir()
        settings.path(name, "evaluated.json").write_text(json.dumps(found))
    scores = {score.name: (score.vanilla, score.epic) for score in compare(settings).scores}
    for k in (1, 5, 10):
        assert scores[f"TR R@{k}"] == pytest.approx((25 + k, 50 + k))
        assert scores[f"IR R@{k}"] == pytest.approx((50 + k, 25 + k))
    assert scores["masked-token accuracy"] == pytest.approx((40, 40)) and scores["ITC AUROC"] == (None, 0.75)


def chances(images: int, k: int) -> tuple[float, float]:
    """In percent, over all orders: one of an image's two captions, and a caption's image, among the first ``k``."""
    places = list(itertools.combinations(range(2 * images), 2))
    return 100 * sum(first < k for first, _ in places) / len(places), 100 * sum(i < k for i in range(images)) / images


@pytest.mark.parametrize("images", [1, 4, IMAGES])
def test_chance_is_that_of_a_random_order(images: int, comparison: Comparison, settings: Settings) -> None:
    few = parse(["--output", str(settings.output), "--test-images", str(images)])
    scores = {score.name: score.chance for score in compare(few).scores}
    for k in (1, 5, 10):
        assert (scores[f"TR R@{k}"], scores[f"IR R@{k}"]) == pytest.approx(chances(images, k))


def test_the_remark_says_where_epic_is_better_and_where_worse(comparison: Comparison) -> None:
    better, worse = comparison.remark.split("below in")
    assert better == "EPIC is above vanilla in TR R@1, TR R@5, TR R@10; "
    assert worse.startswith(" IR R@1, IR R@5, IR R@10. One run each of 7 steps on ")


def test_table_and_file_hold_the_scores(
    comparison: Comparison, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    print_table(comparison, settings)
    rows = [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines()]
    assert ["TR", "R@1", "26.0", "51.0", f"{chances(IMAGES, 1)[0]:.1f}"] in rows
    assert ["ITC", "AUROC", "–", "0.750", "0.500"] in rows and ["masked-token", "accuracy", "40.0", "40.0", "–"] in rows
    write_results(settings.path("results.json"), comparison, settings, ["cd meter && python run.py"])
    written = json.loads(settings.path("results.json").read_text())
    assert [Score(**score) for score in written["scores"]] == comparison.scores
    assert written["commands"] == ["cd meter && python run.py"] and written["settings"]["steps"] == 7
    assert written["checkpoints"] == {name: str(settings.checkpoint(name)) for name in VALUES}
