"""The demo's command lines: each baseline's own launcher, task and small model, and a folder that no other demo has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from demo.baselines import BASELINES
from demo.settings import PAIRS, Settings, parse
from demo.sizes import REPOSITORY
from vlp.sacred_dialect.baseline import sacred_baselines
from vlp.yaml_dialect.command_line import resolved

TASKS = {
    "meter": ("task_mlm_itm_clip_bert", "task_finetune_irtr_coco_clip_bert", "roberta-tiny"),
    "vilt": ("task_mlm_itm", "task_finetune_irtr_coco", "bert-tiny"),
}


def test_demos_of_all_baselines_can_stand_beside_each_other() -> None:
    folders = [parse(["--baseline", name]).output for name in BASELINES]
    assert len(set(folders)) == len(BASELINES) and parse([]) == parse(["--baseline", "meter"])
    assert all(folder.parent == folders[0].parent for folder in folders)


def commands_of(settings: Settings, name: str) -> dict[str, list[str]]:
    """Every command of the run ``name``, by what it does."""
    about = settings.about
    return {"pretraining": about.pretraining(settings, 99, name), **about.evaluations(settings, 99, name)}


@pytest.mark.parametrize("name", sacred_baselines())
def test_commands_are_official_ones_of_the_baseline(name: str, tmp_path: Path) -> None:
    settings = parse(["--baseline", name, "--output", str(tmp_path), "--steps", "7"])
    pretraining, retrieval, tokenizer = TASKS[name]
    commands = commands_of(settings, "epic")
    assert list(commands) == ["pretraining", "objectives", "retrieval"]
    for kind, command in commands.items():
        assert command[1:3] == ["run.py", "with"]
        assert command[3] == (retrieval if kind == "retrieval" else pretraining)
        assert {f"tokenizer={tmp_path / tokenizer}", "vocab_size=99", "tiny"} <= set(command)
        assert ("epic" in command) == (kind != "retrieval")
        assert settings.about.shown(command).startswith(f"cd {name} && python run.py with {command[3]} ")
    assert "max_steps=7" in commands["pretraining"]
    teacher = f"teacher_path={settings.checkpoint('vanilla')}"
    assert teacher in commands["pretraining"] and teacher not in commands_of(settings, "vanilla")["pretraining"]


@pytest.mark.parametrize("kind", ["pretraining", "objectives", "retrieval"])
@pytest.mark.parametrize("name", sacred_baselines())
def test_the_runs_differ_by_epic_alone(name: str, kind: str, tmp_path: Path) -> None:
    settings = parse(["--baseline", name, "--output", str(tmp_path), "--batch", "6", "--processes", "3", "--seed", "5"])
    vanilla, epic = (commands_of(settings, run)[kind] for run in ("vanilla", "epic"))
    added = [] if kind == "retrieval" else ["epic", f"teacher_path={settings.checkpoint('vanilla')}"]
    own = [item.replace(str(tmp_path / "vanilla"), str(tmp_path / "epic")) for item in vanilla]
    assert epic == [*own, *added] and own != vanilla
    processes = 3 if kind == "pretraining" else 1  # the evaluations of both runs share the machine
    of_processes = {f"num_gpus={processes}", "per_gpu_batchsize=6", f"batch_size={6 * processes}"}
    assert {*of_processes, "seed=5"} <= set(epic)
    evaluates = {"test_only=True", f"load_path={settings.checkpoint('epic')}"} <= set(epic)
    assert evaluates == (kind != "pretraining") and f"log_dir={tmp_path / 'epic'}" in epic
    assert ("eval_split=val" in epic) == (kind == "objectives")
    assert ("get_recall_metric=True" in epic) == (kind == "retrieval")


@pytest.fixture
def albef(tmp_path: Path) -> Settings:
    sizes = ("--steps", "7", "--batch", "6", "--processes", "3", "--seed", "5", "--train-images", "27")
    return parse(["--baseline", "albef", "--output", str(tmp_path), *sizes])


def read(settings: Settings, name: str) -> dict[str, dict[str, Any]]:
    """The configurations that the baseline's scripts read from the commands of the run ``name``."""
    scripts = settings.description.scripts
    configs = {}
    for kind, command in commands_of(settings, name).items():
        script = {"pretraining": "Pretrain", "retrieval": "Retrieval"}[kind]
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=3", f"{script}.py"]
        assert command[1:6] == launcher
        shown = f"cd {settings.baseline} && torchrun --standalone --nproc_per_node=3 {script}.py --config "
        assert settings.about.shown(command).startswith(shown)
        configs[kind] = resolved(scripts[script].command, command[6:])
    return configs


def test_commands_of_albef_are_read_by_its_scripts(albef: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """54 captions in batches of 3 times 6 make epochs of 3 steps."""
    monkeypatch.chdir(REPOSITORY / "albef")
    for name in ("coco.json", "coco_val.json", "coco_test.json"):
        albef.path("data", "lists").mkdir(parents=True, exist_ok=True)
        albef.path("data", "lists", name).touch()
    albef.path("data", "raw").mkdir()
    for name in ("vanilla", "epic"):
        albef.checkpoint(name).parent.mkdir(parents=True)
        albef.checkpoint(name).touch()
    vanilla, epic = (read(albef, name) for name in ("vanilla", "epic"))
    for config in (*vanilla.values(), *epic.values()):
        assert (config["seed"], config["bert_config"]["vocab_size"], config["queue_size"]) == (5, 99, 2 * 18)
        assert config["text_encoder"] == str(albef.language_model) and config["bert_config"]["hidden_size"] < 768
        assert config["bert_config"]["num_hidden_layers"] == albef.about.text_layers
    pretraining, retrieval = epic["pretraining"], epic["retrieval"]
    assert pretraining["init"] == {"vision": str(albef.image_encoder), "text": "pretrained"}
    assert (pretraining["max_steps"], pretraining["schedular"]["epochs"], pretraining["batch_size"]) == (7, 3, 6)
    assert retrieval["evaluate"] and retrieval["checkpoint"] == str(albef.checkpoint("epic"))
    assert retrieval["k_test"] == 10  # of 200 images; officially 256 of 5000
    assert retrieval["test_file"] == str(albef.path("data", "lists", "coco_test.json"))
    assert epic["pretraining"]["epic"]["enabled"] and not vanilla["pretraining"]["epic"]["enabled"]
    differing = [key for key, value in pretraining.items() if vanilla["pretraining"][key] != value]
    assert sorted(differing) == ["epic", "output_dir", "teacher_path"]
    assert pretraining["teacher_path"] == str(albef.checkpoint("vanilla"))


@pytest.fixture
def xvlm(tmp_path: Path) -> Settings:
    sizes = ("--steps", "9", "--batch", "6", "--processes", "3", "--seed", "5", "--train-images", "30")
    return parse(["--baseline", "xvlm", "--output", str(tmp_path), *sizes])


def test_commands_of_x_vlm_are_read_by_its_scripts(xvlm: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """60 captions in batches of 3 times 6 make epochs of 4 iterations and 2 steps of regions."""
    monkeypatch.chdir(REPOSITORY / "xvlm")
    for folder in ("lists", "streams/coco", "streams/vg_regions", "raw"):
        xvlm.path("data", folder).mkdir(parents=True)
    for name in ("coco_val.json", "coco_test.json"):
        xvlm.path("data", "lists", name).touch()
    for name in ("vanilla", "epic"):
        xvlm.checkpoint(name).parent.mkdir(parents=True)
        xvlm.checkpoint(name).touch()
    vanilla, epic = (read(xvlm, name) for name in ("vanilla", "epic"))
    for config in (*vanilla.values(), *epic.values()):
        assert (config["seed"], config["text_config"]["vocab_size"], config["image_res"]) == (5, 99, 64)
        assert config["text_encoder"] == str(xvlm.language_model) and config["text_config"]["hidden_size"] < 768
        assert config["text_config"]["num_hidden_layers"] == xvlm.about.text_layers
    pretraining, retrieval = epic["pretraining"], epic["retrieval"]
    assert pretraining["init"] == {"vision": str(xvlm.image_encoder), "text": "pretrained"}
    assert (pretraining["max_steps"], pretraining["schedular"]["epochs"], pretraining["train_dataset_size"]) == (
        9,
        2,
        60,
    )
    assert pretraining["train_file_regions"] == str(xvlm.path("data", "streams", "vg_regions"))
    assert pretraining["regions"]["batch_size"] == 6 and pretraining["regions"]["max_images"] == 2
    assert retrieval["evaluate"] and retrieval["checkpoint"] == str(xvlm.checkpoint("epic"))
    assert epic["pretraining"]["epic"]["enabled"] and not vanilla["pretraining"]["epic"]["enabled"]
    differing = [key for key, value in pretraining.items() if vanilla["pretraining"][key] != value]
    assert sorted(differing) == ["epic", "output_dir", "teacher_path"]
    assert pretraining["teacher_path"] == str(xvlm.checkpoint("vanilla"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="processes are GPUs there")
@pytest.mark.parametrize(("name", "processes"), [("meter", 2), ("vilt", 2), ("albef", 1), ("xvlm", 1)])
def test_a_step_has_as_many_pairs_in_one_process_as_in_two(name: str, processes: int) -> None:
    settings = parse(["--baseline", name])
    assert settings.processes == processes
    assert settings.batch * settings.processes == PAIRS
    assert parse(["--baseline", name, "--processes", "4"]).batch == PAIRS // 4
    assert parse(["--baseline", name, "--processes", "4", "--batch", "5"]).batch == 5
    assert parse(["--baseline", name, "--processes", "999"]).batch == 2  # matching needs two


def test_an_unknown_baseline_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--baseline", "blip"])
    assert "choose from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--steps", "0"], "argument --steps: '0' is not a whole number of 1 or more"),
        (["--batch", "1"], "argument --batch: '1' is not a whole number of 2 or more"),
        (["--seed", "-1"], "argument --seed: '-1' is not a whole number of 0 or more"),
        (["--train-images", "x"], "argument --train-images: 'x' is not a whole number of 1 or more"),
        (["--processes", "0"], "argument --processes: '0' is not a whole number of 1 or more"),
        (["--output", __file__], f"--output {__file__} is no folder"),
    ],
)
def test_what_cannot_be_run_is_refused_at_once(
    given: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(given)
    assert capsys.readouterr().err.rstrip().endswith(message)
