"""The shell scripts of the baselines: as committed they are those that the command writes, and each starts its run."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from reproduce.configs import resolved_config
from reproduce.experiments import REPOSITORY, Stage, load
from reproduce.scripts import BASELINES, MACHINES, MADE_BY, downstream, scripts
from vlp.sacred_dialect.settings import accumulation
from vlp.yaml_dialect.yaml_file import read_yaml

STUB = """#!/bin/sh
printf '%s\\0' "$(basename "$0")" "$@" > "$RECORD/argv"
printf '%s\\0' "$(pwd)" "$MASTER_ADDR" "$MASTER_PORT" "$NODE_RANK" > "$RECORD/place"
"""
# Relative, and with a space: the scripts change their folder.
VARIABLES = {
    **{"DATA_ROOT": "the data", "OUTPUT": "the output", "TEACHER": "the teacher.pth", "CHECKPOINT": "start here.pth"},
    **{"MASTER_ADDR": "node0", "NODE_RANK": "3"},
}


@cache
def made() -> Mapping[str, str]:
    return scripts(load())


def names(baseline: str) -> list[str]:
    return [name for name in made() if name.startswith(f"{baseline}/")]


class Started:
    """What a script has started, in a folder with stubs of python and torchrun."""

    def __init__(self, folder: Path, script: str, arguments: list[str], variables: Mapping[str, str]) -> None:
        (folder / "bin").mkdir(exist_ok=True)
        for program in ("python", "torchrun"):
            (folder / "bin" / program).write_text(STUB)
            (folder / "bin" / program).chmod(stat.S_IRWXU)
        place = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "RECORD": str(folder), "CDPATH": str(REPOSITORY)}
        command = ["bash", os.path.relpath(REPOSITORY / script, folder), *arguments]
        self.done = subprocess.run(command, cwd=folder, env={**place, **variables}, capture_output=True, text=True)
        self.folder = folder

    def recorded(self, name: str) -> list[str]:
        return (self.folder / name).read_bytes().decode().split("\0")[:-1]


def config_of(words: list[str], baseline: str) -> dict[str, Any]:
    return resolved_config(Stage("script", "pretrain", baseline, tuple(words)), words)


def test_the_committed_ones_are_those_of_the_command() -> None:
    """After a change of experiments.yaml: python -m reproduce scripts, then python -m patches write."""
    paths = [path for baseline in BASELINES for path in (REPOSITORY / baseline / "scripts").glob("*.sh")]
    committed = {path.relative_to(REPOSITORY).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    assert committed == made() and len(committed) > 60
    assert all(MADE_BY in text for text in committed.values())


def test_there_is_one_for_each_size_and_each_task() -> None:
    for baseline in BASELINES:
        sizes = {f"pretrain_4m{kind}_{size}.sh" for kind in ("", "_epic") for size in MACHINES}
        assert {f"{baseline}/scripts/{size}" for size in sizes} <= set(names(baseline))
    for task in ("coco", "f30k", "vqa", "nlvr2", "snli"):
        assert f"meter/scripts/finetune_{task}.sh" in made() and f"meter/scripts/evaluate_{task}.sh" in made()
    assert downstream("coco_ft_eval")[0] == "evaluate_coco" and downstream("f30k_zs")[0] == "zero_shot_f30k"


def test_shellcheck_has_nothing_to_say() -> None:
    command = [str(Path(sys.executable).with_name("shellcheck")), *(str(REPOSITORY / name) for name in made())]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("baseline", BASELINES)
def test_each_starts_a_run_that_the_configuration_allows(baseline: str, tmp_path: Path) -> None:
    for name in names(baseline):
        started = Started(tmp_path, name, ["seed=7"], VARIABLES)
        assert started.done.returncode == 0, (name, started.done.stderr)
        words, place = started.recorded("argv"), started.recorded("place")
        assert place[0] == str(REPOSITORY / baseline), name
        config = config_of(words, baseline)
        checks_places(name, words, config, tmp_path)
        checks_processes(name, words, place, config)


def checks_places(name: str, words: list[str], config: Mapping[str, Any], folder: Path) -> None:
    """Its variables, made absolute, are where they belong, and the further argument has come through."""
    text = made()[name]
    assert config["seed"] == 7
    assert config.get("log_dir", config.get("output_dir")) == str(folder / "the output")
    if "DATA_ROOT" in text:
        roots = [config[key] for key in ("data_root", "image_root", "vqa_root") if config.get(key)]
        assert str(folder / "the data") in roots, name
    is_epic = "_epic_" in name
    assert bool(config.get("epic", {}).get("enabled")) == is_epic == ("TEACHER" in text) == ("epic" in text.lower())
    if is_epic:
        assert config["teacher_path"] == str(folder / "the teacher.pth")
    if "/pretrain_4m" not in name and "/pretrain_16m" not in name:
        assert config.get("load_path", config.get("checkpoint")) == str(folder / "start here.pth"), name
    assert any(item.startswith(str(folder)) or f"={folder}" in item for item in words)


def checks_processes(name: str, words: list[str], place: list[str], config: Mapping[str, Any]) -> None:
    """As many as its name says; a step of the official number of pairs, or a line that says otherwise."""
    machines = {**MACHINES, "3nodes": (8, 3)}
    gpus, nodes = next((each for key, each in machines.items() if name.endswith(f"{key}.sh")), (8, 1))
    if words[0] == "python":
        assert (config["num_gpus"], config["num_nodes"]) == (gpus, nodes), name
        pairs = accumulation(config) * config["per_gpu_batchsize"] * gpus * nodes
        assert "/pretrain_" not in name or pairs == config["batch_size"]
        assert nodes == 1 or place[1:] == ["node0", "29500", "3"]
    else:
        assert f"--nproc_per_node={gpus}" in words and (f"--nnodes={nodes}" in words) == (nodes > 1), name
        assert ("--rdzv_endpoint=node0:29500" in words) == (nodes > 1) == ("--standalone" not in words)


# Pairs of a step: docs/official.
STEPS = {"albef/4m": 512, "albef/16m": 512, "xvlm/4m": 1024, "xvlm/16m": 3072}
PAGES = {"albef": "albef.md", "xvlm": "xvlm.md"}


@pytest.mark.parametrize("recipe", STEPS)
def test_several_nodes_keep_the_step_and_say_what_their_hard_negatives_are_drawn_from(
    recipe: str, tmp_path: Path
) -> None:
    (baseline, data), total = recipe.split("/"), STEPS[recipe]
    start, pool = f"{baseline}/scripts/pretrain_{data}_", {}
    for name in (name for name in names(baseline) if name.startswith(start) and name[len(start)].isdigit()):
        count, machines = re.fullmatch(r"(\d+)(\w+)\.sh", name.removeprefix(start)).groups()  # type: ignore[union-attr]
        gpus = int(count) * (8 if machines == "nodes" else 1)
        words = Started(tmp_path, name, [], VARIABLES).recorded("argv")
        here = sizes_of(config_of(words, baseline))
        there = sizes_of(read_yaml(REPOSITORY / baseline / words[words.index("--config") + 1]))
        assert here == [size * total // max(gpus * there[0], total) for size in there]
        head = [int(number) for number in re.findall(r"\d+", "".join(made()[name].split("\n# ")[2:4]))]
        if gpus * there[0] > total:
            assert gpus * here[0] == total
            unit = there[0] if total < 24 * there[0] else 8 * there[0]  # 8 GPUs, or nodes of them
            assert head == [total // there[0], there[0], here[0], total, here[0] - 1, there[0] - 1, total // unit]
            page = " ".join((REPOSITORY / "docs" / PAGES[baseline]).read_text(encoding="utf-8").split())
            assert f"{gpus} GPUs × {here[0]}" in page or f"{gpus} × {here[0]}" in page
            assert re.search(rf"\b{here[0] - 1}\b", page) and re.search(rf"\b{there[0] - 1}\b", page)
        pool[gpus] = here[0]
    assert pool[total // there[0]] == there[0]  # one script is the official run
    assert 32 in pool and 1 in pool


def sizes_of(config: Mapping[str, Any]) -> list[int]:
    """Pairs of a GPU's batch; of X-VLM's regions the rows, and the images that they are in."""
    if "regions" not in config:
        return [config["batch_size"]]
    return [config["images"]["batch_size"], config["regions"]["batch_size"], config["regions"]["max_images"]]


def test_fewer_gpus_than_officially_say_that_a_step_is_smaller() -> None:
    assert "a step has 64 pairs instead of 512" in made()["albef/scripts/pretrain_4m_1gpu.sh"]


@pytest.mark.parametrize("name", ["meter/scripts/pretrain_4m_epic_4nodes.sh", "albef/scripts/finetune_nlvr2.sh"])
def test_a_variable_that_is_not_set_is_named(name: str, tmp_path: Path) -> None:
    needed = re.findall(r'^: "\$\{(\w+):\?([^}]+)\}"', made()[name], re.MULTILINE)
    assert len(needed) >= 3
    for variable, message in needed:
        for left in ({}, {variable: ""}):
            others = {key: value for key, value in VARIABLES.items() if key != variable}
            started = Started(tmp_path, name, [], {**others, **left})
            assert started.done.returncode and f"{variable}: {message}" in started.done.stderr
            assert not (tmp_path / "argv").exists()


def test_the_number_of_gpus_of_a_task_is_a_variable(tmp_path: Path) -> None:
    for baseline, expected in (("meter", "num_gpus=2"), ("xvlm", "--nproc_per_node=2")):
        started = Started(tmp_path, f"{baseline}/scripts/finetune_vqa.sh", [], {**VARIABLES, "GPUS": "2"})
        assert expected in started.recorded("argv")
