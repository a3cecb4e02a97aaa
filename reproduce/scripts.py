"""Write <baseline>/scripts/*.sh: pre-training on 1 GPU, 8 GPUs and several nodes, and the tasks of the tables."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from reproduce.experiments import REPOSITORY, Experiments, Stage, load, on_machines
from vlp.files import atomic_open, regular
from vlp.yaml_dialect.yaml_file import read_yaml

BASELINES = {"meter": "METER", "vilt": "ViLT", "albef": "ALBEF", "xvlm": "X-VLM"}
TASKS = {
    **{"coco": "retrieval on COCO", "f30k": "retrieval on Flickr30k", "vqa": "VQAv2", "nlvr2": "NLVR2"},
    "snli": "SNLI-VE",
}
MACHINES = {"1gpu": (1, 1), "8gpus": (8, 1), "4nodes": (8, 4)}  # GPUs of each node, nodes
# Nothing accumulates in these baselines: with more GPUs than officially each takes fewer pairs.
BATCHES = {"albef": ("batch_size",), "xvlm": ("images.batch_size", "regions.batch_size", "regions.max_images")}
MADE_BY = "# Made by: python -m reproduce scripts"
WIDTH = 110


@dataclass(frozen=True)
class Variable:
    """An environment variable, and what a script says where it is not set."""

    name: str
    message: str


OUTPUT = Variable("OUTPUT", "folder of the run")
ARROW = Variable("DATA_ROOT", "folder of the Arrow tables (docs/data.md)")
IMAGES = Variable("DATA_ROOT", "folder of the raw data sets with their images (docs/data.md)")
TEACHER = Variable("TEACHER", "checkpoint of a vanilla pre-training")
PRETRAINED = Variable("CHECKPOINT", "checkpoint of a pre-training")
ADDRESS = Variable("MASTER_ADDR", "address of the first node, the same on all")
RANK = Variable("NODE_RANK", "number of this node, from 0 on")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def main(arguments: argparse.Namespace) -> int:
    """Write them, and remove those that were made before and are made no more."""
    made = scripts(load())
    for name, text in made.items():
        with atomic_open(REPOSITORY / name) as handle:
            handle.write(text.encode())
    for path in (path for baseline in BASELINES for path in (REPOSITORY / baseline / "scripts").glob("*.sh")):
        if path.relative_to(REPOSITORY).as_posix() not in made and MADE_BY in regular(path).read_text(encoding="utf-8"):
            path.unlink()
    print(f"written: {len(made)} scripts in {', '.join(f'{name}/scripts' for name in BASELINES)}")
    return 0


def scripts(experiments: Experiments) -> dict[str, str]:
    """Path below the repository -> text."""
    made = {}
    for stage in experiments.stages.values():
        baseline, data, variant, task = [*stage.name.split("/"), "", "", ""][:4]
        if baseline not in BASELINES or data not in ("4m", "16m"):  # an ablation, or a check of data
            continue
        if stage.kind == "pretrain":
            ending = "" if variant == "vanilla" else f"_{variant}"
            title = f"{BASELINES[baseline]}{' with EPIC' if ending else ''}, {data.upper()}: pre-training"
            for name, (gpus, nodes) in machines_of(stage).items():
                made[f"{baseline}/scripts/{task}_{data}{ending}_{name}.sh"] = script(stage, title, gpus, nodes)
        elif (data, variant) == ("4m", "vanilla") and stage.kind in ("finetune", "evaluate"):
            name, title = downstream(task)
            made[f"{baseline}/scripts/{name}.sh"] = script(
                stage, f"{BASELINES[baseline]}: {title}", stage.gpus, stage.nodes
            )
    return dict(sorted(made.items()))


def machines_of(stage: Stage) -> dict[str, tuple[int, int]]:
    """``MACHINES``, and the official ones where those are several nodes."""
    return {**MACHINES, **({f"{stage.nodes}nodes": (stage.gpus, stage.nodes)} if stage.nodes > 1 else {})}


def downstream(task: str) -> tuple[str, str]:
    """Name and title of the script of a stage: ``coco_ft_eval`` is evaluate_coco.sh."""
    about = TASKS[task.split("_")[0]]
    for ending, verb, says in (
        ("_ft_eval", "evaluate_", "score {} after fine-tuning"),
        ("_eval", "evaluate_", "score {} after fine-tuning"),
        ("_zs", "zero_shot_", "zero-shot {}"),
        ("_pretrain", "pretrain_", "what comes before fine-tuning for {}"),
        ("_ft", "finetune_", "fine-tune for {}"),
    ):
        if task.endswith(ending):
            return verb + task.removesuffix(ending), says.format(about)
    return f"finetune_{task}", f"fine-tune for {about}"


def script(stage: Stage, title: str, gpus: int, nodes: int) -> str:
    """The text of a script that runs a stage on ``gpus`` of each of ``nodes`` machines."""
    words = [*_launched(on_machines(stage.command, gpus, nodes), nodes), *_batches(stage, gpus * nodes)]
    if stage.kind != "pretrain":
        words = [re.sub(r"^(num_gpus|--nproc_per_node)=\d+$", r"\1={gpus}", word) for word in words]
    command = [_bash(word) for word in words]
    variables = {_variable(word): None for word in stage.command}
    needed = [each for each in variables if each is not None]
    program = next(word for word in words if word.endswith(".py"))
    machines = f"{nodes} nodes of {gpus} GPUs" if nodes > 1 else f"{gpus} GPU{'s' * (gpus > 1)}"
    lines = [
        "#!/usr/bin/env bash",
        f"# {title}, on {machines}{', the same command on each node' if nodes > 1 else ''}.",
        *(f"# {line}" for line in _remarks(stage, gpus, nodes)),
        f"{MADE_BY}. Further arguments go to {program}.",
        "set -euo pipefail",
        *_checks([*needed, *_meeting(words, nodes)]),
        *(f'{each.name}=$(realpath -m -- "${each.name}")' for each in needed),
        *_exports(words, nodes),
        'cd -- "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/.."',
        *_wrapped(["exec", *command, '"$@"']),
    ]
    return "\n".join(lines) + "\n"


# The command -------------------------------------------------------------------------------------------------------


def _launched(words: list[str], nodes: int) -> list[str]:
    """With the flags that say where torchrun's processes meet."""
    if words[0] != "torchrun":
        return words
    place = ["--rdzv_backend=c10d", "--rdzv_endpoint={meeting}"] if nodes > 1 else ["--standalone"]
    return [words[0], *place, *words[1:]]


def _batches(stage: Stage, processes: int) -> list[str]:
    """Items that keep the pairs of a step those of the official number of GPUs, where these are more."""
    official, keys = stage.gpus * stage.nodes, BATCHES.get(stage.baseline, ())
    if stage.kind != "pretrain" or processes <= official:
        return []
    sizes = {key: official_batch(stage, key) * official for key in keys}
    if uneven := [key for key, size in sizes.items() if size % processes]:
        raise ValueError(f"{stage.name}: {uneven[0]} of {official} GPUs does not divide among {processes}")
    return [f"{key}={size // processes}" for key, size in sizes.items()]


def official_batch(stage: Stage, key: str) -> int:
    """A number of the YAML file that a stage's command names."""
    value: Any = read_yaml(str(REPOSITORY / stage.baseline / stage.command[stage.command.index("--config") + 1]))
    for part in key.split("."):
        value = value[part]
    return int(value)


def _remarks(stage: Stage, gpus: int, nodes: int) -> Iterator[str]:
    """How the number of GPUs is changed, and how one that is not official changes the training."""
    official = stage.gpus * stage.nodes
    if stage.kind != "pretrain":
        yield "GPUS in the environment is another number of GPUs."
    elif gpus * nodes == official:
        return
    elif stage.baseline not in BATCHES:
        yield f"Officially {official} GPUs. Gradients are accumulated to as many pairs per step."
    elif gpus * nodes > official:
        there = official_batch(stage, BATCHES[stage.baseline][0])
        here = there * official // (gpus * nodes)
        same = next(name for name, each in machines_of(stage).items() if each == (stage.gpus, stage.nodes))
        total = official * there
        yield f"Officially {official} GPUs of {there} pairs; here each takes {here}: as many per step, {total}."
        yield f"A hard negative is one of a GPU's {here - 1} other pairs, not of {there - 1} as with …_{same}.sh."
    else:
        here, there = (official_batch(stage, BATCHES[stage.baseline][0]) * each for each in (gpus * nodes, official))
        yield f"Officially {official} GPUs. Nothing accumulates: a step has {here} pairs instead of {there}."


# Bash --------------------------------------------------------------------------------------------------------------

_PLACEHOLDERS = {
    "{data}/arrow": ARROW,
    "{data}/raw": IMAGES,
    "{output}": OUTPUT,
}
_FOUND = re.compile(r"\{(?:data|output|checkpoint:[^{}]+)\}(?:/(?:arrow|raw))?")


def _variable(word: str) -> Variable | None:
    """That a word of a command holds."""
    found = _FOUND.search(word)
    if found is None:
        return None
    if found[0].startswith("{checkpoint:"):
        if word.startswith("teacher_path="):
            return TEACHER
        stage = found[0][1:-1].rsplit("/", 1)[1]
        return (
            PRETRAINED
            if stage == "pretrain"
            else Variable("CHECKPOINT", f"checkpoint that {downstream(stage)[0]}.sh leaves")
        )
    return _PLACEHOLDERS[found[0]]


def _bash(word: str) -> str:
    """A word, with variables instead of placeholders."""
    for text, value in (("{meeting}", '"$MASTER_ADDR:$MASTER_PORT"'), ("{gpus}", '"${GPUS:-8}"')):
        if word.endswith(text):
            return word.replace(text, value)
    variable = _variable(word)
    if variable is None:
        return shlex.quote(word)
    before, after = (shlex.quote(part) if part else "" for part in _FOUND.split(word))
    return f'{before}"${variable.name}"{after}'


def _meeting(words: list[str], nodes: int) -> list[Variable]:
    """What several nodes need: torchrun numbers them itself."""
    return [] if nodes == 1 else [ADDRESS] if words[0] == "torchrun" else [ADDRESS, RANK]


def _exports(words: list[str], nodes: int) -> list[str]:
    if nodes == 1:
        return []
    port = 'MASTER_PORT="${MASTER_PORT:-29500}"'
    return [port] if words[0] == "torchrun" else [f"export MASTER_ADDR NODE_RANK {port}"]


def _checks(needed: list[Variable]) -> list[str]:
    return [f': "${{{each.name}:?{each.message}}}"' for each in needed]


def _wrapped(words: list[str]) -> Iterator[str]:
    """Lines of at most ``WIDTH`` characters, where words allow it."""
    line = words[0]
    for word in words[1:]:
        if len(line) + len(word) > WIDTH - 3:
            yield f"{line} \\"
            line = f"    {word}"
        else:
            line += f" {word}"
    yield line
