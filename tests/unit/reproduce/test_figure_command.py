"""``python -m reproduce figure``: what it draws of a checkpoint, and what it refuses."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from demo.baselines import BASELINES
from demo.settings import parse
from epic_common.config import EpicConfig
from epic_common.objective import Epic
from epic_common.vocabulary import Vocabulary
from epic_vlp.attach import load_generator
from meter.baseline import BASELINE as METER
from meter.modules.meter_module import METERTransformerSS
from reproduce.__main__ import main
from reproduce.figures.command import add_arguments
from reproduce.figures.configuration import config_of
from tests.launch.launcher import ENVIRONMENT, ROOT
from tests.launch.test_demo import run_demo
from tests.unit.albef.small import pretraining as small_albef
from tests.unit.meter.small import saved_teacher, small_run
from tests.unit.small_parts import stirred
from vlp.baseline import get_baseline
from vlp.data.tokenizers import load_tokenizer

CAPTION = "w1 w2 w3"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vanilla METER (teacher.ckpt), one with EPIC (epic.ckpt), the first's bare weights, and an image."""
    folder = tmp_path_factory.mktemp("figures")
    Image.new("RGB", (70, 50), "red").save(folder / "image.png")
    torch.manual_seed(0)
    vanilla = saved_teacher(folder, epic={"enabled": False})
    torch.save(torch.load(vanilla, weights_only=True)["state_dict"], folder / "bare.ckpt")
    config = small_run(folder, epic={"enabled": True})
    model: Any = METERTransformerSS(config)
    tokenizer, settings = load_tokenizer(folder), EpicConfig.from_dict(config["epic"])
    generator = load_generator(METER, config, settings, tokenizer)
    model.epic = Epic(settings, Vocabulary.from_tokenizer(tokenizer), config["hidden_size"], generator)
    state = stirred(model).state_dict()
    torch.save({"state_dict": state, "hyper_parameters": {"config": config}}, folder / "epic.ckpt")
    torch.save(small_albef().state_dict(), folder / "albef.ckpt")
    return folder


def figure(number: str, folder: Path, *argv: str, **changes: str) -> int:
    """Run the command in this process, METER's unless ``changes`` say otherwise."""
    given = {"baseline": "meter", "checkpoint": str(folder / "teacher.ckpt"), **changes}
    flags = [word for name, value in given.items() if value for word in (f"--{name}", value)]
    return main(["figure", number, *flags, *argv])


def pair_of(folder: Path, caption: str = CAPTION) -> list[str]:
    return ["--image", str(folder / "image.png"), "--caption", caption]


def test_the_saliency_of_any_pair_is_drawn(folder: Path, tmp_path: Path) -> None:
    image = folder / "image.png"
    pairs = tmp_path / "pairs.json"
    pairs.write_text(json.dumps([{"image": str(image), "caption": "w4 w5"}]))
    assert figure("4", folder, *pair_of(folder), "--pairs", str(pairs), output=str(tmp_path)) == 0
    record = json.loads((tmp_path / "figure4.json").read_text())
    assert [row["tokens"] for row in record["pairs"]] == [["w1", "w2", "w3"], ["w4", "w5"]]
    for row in record["pairs"]:
        assert sum(row["alpha"]) == pytest.approx(1) and len(set(row["alpha"])) == len(row["alpha"])
    assert len(record["checkpoint"]["sha256"]) == 64 and record["command"].startswith("python -m reproduce")
    for number in (1, 2):
        assert Image.open(tmp_path / f"figure4_{number}.png").width > 100
        assert (tmp_path / f"figure4_{number}.pdf").read_bytes().startswith(b"%PDF")


def test_the_verdicts_on_a_word_and_on_another_are_drawn(folder: Path, tmp_path: Path) -> None:
    words = [*pair_of(folder), "--word", "w2", "--replace", "w9"]
    epic = str(folder / "epic.ckpt")
    assert figure("5", folder, *words, checkpoint=epic, output=str(tmp_path)) == 0
    (row,) = json.loads((tmp_path / "figure5.json").read_text())["pairs"]
    assert (row["original"]["word"], row["replaced"]["word"]) == ("w2", "w9")
    assert row["replaced_caption"] == "w1 w9 w3"
    for verdict in (row["original"], row["replaced"]):
        assert 0 < verdict["consistent"] < 1
        assert all(value >= 0 for line in verdict["heat"] for value in line)
    assert row["original"]["consistent"] != row["replaced"]["consistent"]

    saved = tmp_path / "chosen"
    assert figure("5", folder, *pair_of(folder), checkpoint=epic, output=str(saved)) == 0
    assert figure("4", folder, *pair_of(folder), checkpoint=epic, output=str(saved)) == 0
    (row,) = json.loads((saved / "figure5.json").read_text())["pairs"]
    (shown,) = json.loads((saved / "figure4.json").read_text())["pairs"]
    most = max(zip(shown["alpha"], shown["tokens"], strict=True))[1]
    assert row["original"]["word"] == most != row["replaced"]["word"]


def test_bare_weights_need_a_configuration(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = str(folder / "bare.ckpt")
    assert figure("4", folder, *pair_of(folder), checkpoint=bare) == 1
    assert "holds no configuration of ours: add the official command line's, --with task_mlm" in capsys.readouterr().err
    config = small_run(folder)
    sizes = [f"{key}={config[key]}" for key in ("vocab_size", "input_text_embed_size", "hidden_size")]
    items = ["--with", "task_mlm_itm_clip_bert", "tiny", f"tokenizer={folder}", *sizes]
    assert figure("4", folder, *pair_of(folder), *items, checkpoint=bare, output=str(tmp_path / "bare")) == 0
    assert figure("4", folder, *pair_of(folder), output=str(tmp_path / "own")) == 0
    rows = [json.loads((tmp_path / name / "figure4.json").read_text())["pairs"][0] for name in ("bare", "own")]
    assert rows[0]["alpha"] == pytest.approx(rows[1]["alpha"])


REFUSED = {
    "a missing image": ("4", ["--image", "none.png", "--caption", "w1"], {}, "--image none.png: no such file"),
    "no image file": ("4", ["--image", __file__, "--caption", "w1"], {}, "no JPEG, PNG"),
    "an empty caption": ("4", ["--image", "IMAGE", "--caption", " "], {}, "the caption ' ' has no word"),
    "another baseline": (
        *("4", ["PAIR"], {"baseline": "vilt"}),
        "its keys are those of METER, not of ViLT",
    ),
    "another dialect": ("4", ["PAIR"], {"baseline": "albef"}, "its keys are those of METER, not of ALBEF"),
    "no configuration": (
        *("4", ["PAIR"], {"baseline": "albef", "checkpoint": "albef.ckpt"}),
        "holds no configuration of ours: add the official command line's, --config albef/configs/Pretrain.yaml",
    ),
    "no EPIC": ("5", ["PAIR"], {}, "was trained without EPIC and judges no token"),
    "no such word": (
        *("5", ["PAIR", "--word", "zebra"], {"checkpoint": "epic.ckpt"}),
        "--word zebra: no word of the caption 'w1 w2 w3'; it has w1, w2, w3",
    ),
    "the same word": (
        *("5", ["PAIR", "--word", "w2", "--replace", "W2"], {"checkpoint": "epic.ckpt"}),
        "--replace W2: no other word than 'w2'",
    ),
    "a missing checkpoint": ("4", ["PAIR"], {"checkpoint": "none.ckpt"}, "none.ckpt: no such file"),
    "an unknown key": ("4", ["PAIR", "--with", "imagesize=3"], {}, "unknown config key 'imagesize'"),
    "a wrong value": ("4", ["PAIR", "--with", "image_size=-3"], {}, "image_size=-3"),
    "another's flag": ("4", ["PAIR", "--config", "a.yaml"], {}, "METER has named configs instead"),
    "its val split": (
        *("2a", ["--steps", "3", "--held-out", "a.json", "--with", "data_root=.", "per_gpu_batchsize=2"], {}),
        "--held-out a.json: METER has a val split",
    ),
    "no data": ("2b", ["--steps", "3"], {}, "data_root"),
    "no steps": (
        "2a",
        ["--with", "data_root=.", "per_gpu_batchsize=2"],
        {},
        "figure 2a trains its models: give --steps",
    ),
    "nothing at all": ("2a", ["--steps", "3"], {"checkpoint": ""}, "no configuration is given: add the official"),
    "half a comparison": (
        *("2b", ["--language-model", "x", "--with", "task_mlm_itm_clip_bert", "data_root=.", "per_gpu_batchsize=2"]),
        *({"checkpoint": ""}, "--language-model is compared with a checkpoint: give --checkpoint, too"),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_serve_ends_in_a_line(
    case: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    number, argv, changes, says = REFUSED[case]
    argv = [word for each in argv for word in (pair_of(folder) if each == "PAIR" else [each])]
    argv = [str(folder / "image.png") if word == "IMAGE" else word for word in argv]
    changes = {key: str(folder / value) if key == "checkpoint" and value else value for key, value in changes.items()}
    assert figure(number, folder, *argv, output=str(tmp_path), **changes) == 1
    error = capsys.readouterr().err
    assert says in error and all(line.startswith("error: ") for line in error.splitlines()), error
    assert not list(tmp_path.rglob("figure*"))


def test_a_checkpoint_that_holds_objects_is_not_unpickled(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "objects.ckpt"
    torch.save({"state_dict": {}, "hyper_parameters": {"config": Trap()}}, path)
    assert figure("4", folder, *pair_of(folder), checkpoint=str(path)) == 1
    assert "holds pickled Python objects" in capsys.readouterr().err and not Trap.sprung


class Trap:
    """Notes that it was unpickled."""

    sprung = False

    def __setstate__(self, state: Any) -> None:
        Trap.sprung = True

    def __getstate__(self) -> dict[str, int]:
        return {"a": 1}


def printed_commands() -> list[list[str]]:
    """Every call that docs/reproduce.md prints, as the words behind ``figure``."""
    text = (ROOT / "docs/reproduce.md").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.startswith("python -m reproduce figure ")]
    return [shlex.split(line, comments=True)[4:] for line in lines]


def test_the_printed_commands_are_accepted() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert {parser.parse_args(words).figure for words in printed_commands()} == {"2a", "2b", "4", "5"}
    for given in map(parser.parse_args, printed_commands()):
        if given.config is None and given.checkpoint is None:
            config = config_of(get_baseline(given.baseline), None, None, given.items, trains=True)
            assert config["loss_names"]["mlm"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("baseline", BASELINES)
def test_all_figures_of_a_baseline_on_scenes(baseline: str, tmp_path: Path) -> None:
    made = run_demo(baseline, tmp_path, **{"lm-steps": 200})  # a language model that finds some words
    assert made.returncode == 0, made.stdout + made.stderr
    about = BASELINES[baseline]
    settings = parse(["--baseline", baseline, "--output", str(tmp_path)])
    vanilla, epic = (str(about.checkpoint(settings, name)) for name in ("vanilla", "epic"))
    image = next(tmp_path.joinpath("data", "raw", "val2014").iterdir())
    pair = ["--image", str(image), "--caption", "Two red balls to the left of a small green tree."]

    def drawn(number: str, *argv: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "reproduce", "figure", number, "--baseline", baseline, *argv]
        command += ["--output", str(tmp_path / "figures")]
        result = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=900)
        assert result.returncode == 0, result.stdout + result.stderr
        for path in (line.split(": ")[1] for line in result.stdout.splitlines() if line.startswith("written: ")):
            assert Path(path).stat().st_size > 1000
        return json.loads((tmp_path / "figures" / f"figure{number}.json").read_text())

    for checkpoint in (vanilla, epic):
        (row,) = drawn("4", "--checkpoint", checkpoint, *pair)["pairs"]
        assert sum(row["alpha"]) == pytest.approx(1) and "red" in row["tokens"]
    (row,) = drawn("5", "--checkpoint", epic, *pair)["pairs"]
    assert row["original"]["word"] != row["replaced"]["word"]

    shards = sorted(map(str, tmp_path.glob("data/streams/coco/*.jsonl")))
    held_out = {
        "albef": ["--held-out", str(tmp_path / "data/lists/coco_val.json")],
        "xvlm": ["--held-out", shards[-1:][0] if shards else "", "--with", f"train_file={shards[:-1]}"],
    }
    repeats = ["--checkpoint", vanilla, "--steps", "16", "--repeats", "2", "--held-out-pairs", "12"]
    repeats += held_out.get(baseline, [])
    curves = drawn("2a", *repeats)
    assert curves["steps"] == list(range(17)) and len(curves["with_image"]["mean"]) == 17
    weights = [each.stat().st_mtime_ns for each in sorted(tmp_path.glob("figures/figure2/*/models.ckpt"))]
    drop = drawn("2b", *repeats)
    assert len(weights) == 2
    assert weights == [each.stat().st_mtime_ns for each in sorted(tmp_path.glob("figures/figure2/*/models.ckpt"))]
    for name in ("with_image", "text_only"):
        assert drop[name]["mean"][0] == 0
        for row, curve in zip(drop["repeats"], curves["repeats"], strict=True):
            assert row["accuracy"][name][0] == curve[name][-1]  # nothing corrupted: where training ended

    language_model = str(settings.language_model)
    there = ["--checkpoint", vanilla, "--language-model", language_model, *repeats[4:]]
    compared = drawn("2b", *there)
    assert compared["measured"]["language_model"] == language_model and not compared["measured"].get("weights_sha256")
    accuracies = [row["accuracy"]["text_only"][0] for row in compared["repeats"]]
    assert max(accuracies) < 1 and compared["repeats"][0]["accuracy"] != drop["repeats"][0]["accuracy"]
