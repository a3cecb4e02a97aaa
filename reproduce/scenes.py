"""The same stages by the same launchers with models that a CPU trains, on drawn scenes: ``--scale scenes``.

A stage keeps its script, its named configs or EPIC's keys, its data sets and what it starts from. What makes it small
are the overrides of ``demo.tasks``; here is which of them goes with which stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from demo.sizes import POSITIONS
from demo.task_recipes import Recipe, TaskSettings
from demo.task_recipes_xvlm import counted, lines
from demo.task_recipes_yaml import lists
from demo.task_runs import BASELINES
from reproduce.experiments import REPOSITORY, WITH_LISTS, Experiments, Row, Stage
from reproduce.scenes_data import FORMS, SIZES, settings_of
from scenes.coco_layout import TRUTH_FILE
from vlp.yaml_dialect.yaml_file import read_yaml

# The last part of a stage's name -> the run of demo.tasks that makes it small.
RUNS = {
    **{"pretrain": "Pretrain", "coco_zs": "zero_shot", "f30k_zs": "zero_shot"},
    **{"coco_ft": "Retrieval", "f30k_ft": "Retrieval", "vqa": "VQA", "nlvr2": "NLVR", "snli": "VE"},
}
TESTED = ("coco_ft", "f30k_ft", "vqa", "nlvr2", "snli")  # METER and ViLT score what these leave in stages of their own
STAGES_BEFORE = {"albef": "Pretrain_nlvr", "xvlm": "NLVR_pretrain"}
# Keys of the official commands that go with the official sizes.
SIZES_OF_RUNS = ("image_size", "per_gpu_batchsize", "max_steps", "num_workers", "save_every_n_steps")
FILES = ("train_file", "val_file", "test_file", "train_file_regions", "answer_list")
ANSWERS = "answers"  # the stage that scores VQA's answers, in place of the evaluation server


def at_scale(experiments: Experiments, scale: str, root: Path) -> Experiments:
    """The experiments with small stages; their data must be prepared (:mod:`reproduce.scenes_data`)."""
    stages = {name: _small(stage, scale, root) for name, stage in experiments.stages.items()}
    for stage in list(stages.values()):
        if stage.scored and stage.name.endswith(("/vqa", "/vqa_eval")):
            scored = _answers(stage, settings_of(stage.baseline, scale, root))
            stages[scored.name] = scored
    made = Experiments(stages, experiments.rows, experiments.figures)
    rows = {name: _with_answers(row, made) for name, row in experiments.rows.items()}
    return Experiments(stages, rows, experiments.figures)


def _small(stage: Stage, scale: str, root: Path) -> Stage:
    if stage.kind == "check":
        return replace(stage, command=_checked(stage, scale, root))
    if stage.kind == "prepare":
        return replace(stage, command=_prepared(stage, scale, root), gpus=min(stage.gpus, 1))
    settings = settings_of(stage.baseline, scale, root)
    if not (settings.language_model / "config.json").exists():
        return stage  # of a baseline that does not run here
    recipe = _recipe(stage, settings, SIZES[scale].most_epochs)
    make = _script if stage.baseline in WITH_LISTS else _items
    command = tuple(word.replace("{data}/raw", str(settings.data)) for word in make(stage, settings, recipe))
    return replace(stage, command=command, gpus=1, nodes=1, checkpoint=_checkpoint(stage, recipe))


def _recipe(stage: Stage, settings: TaskSettings, most_epochs: int) -> Recipe:
    """What makes the stage small."""
    about, name = BASELINES[stage.baseline], stage.name.rsplit("/", 1)[-1]
    tested = name.removesuffix("_eval")
    if name == "nlvr2_pretrain":
        run = STAGES_BEFORE[stage.baseline]
    elif name.endswith("_eval") and tested in TESTED:
        run = f"{RUNS[tested]}_test"
    else:
        run = RUNS[name]
    recipe = about.recipes(settings)[run]
    return recipe if run == "Pretrain" else recipe._replace(epochs=min(recipe.epochs, most_epochs))


def _checkpoint(stage: Stage, recipe: Recipe) -> str:
    """The name with this run's number of epochs in it."""
    if stage.baseline == "albef" and stage.checkpoint[-6:-4].isdecimal():
        return f"checkpoint_{recipe.epochs - 1:02d}.pth"
    if stage.checkpoint.startswith(("model_state_step_", "model_state_epoch_9")):
        return f"model_state_epoch_{recipe.epochs - 1}.th"
    return stage.checkpoint


# METER and ViLT ---------------------------------------------------------------------------------------------------


def _items(stage: Stage, settings: TaskSettings, recipe: Recipe) -> list[str]:
    """The official items, then what makes them small; a later named config wins, and a key is given once."""
    small = [item for item in BASELINES[stage.baseline].overrides(settings, recipe) if not item.startswith("datasets=")]
    given = {item.partition("=")[0] for item in small if "=" in item}
    official = [word for word in stage.command[3:] if _key(word) not in {*given, *SIZES_OF_RUNS}]
    values = [word for word in official if "=" in word]
    named = [word for word in (*official, *small) if "=" not in word]
    return [*stage.command[:3], *named, *(item for item in small if "=" in item), *values]


def _key(word: str) -> str:
    return word.partition("=")[0] if "=" in word else ""


# ALBEF and X-VLM --------------------------------------------------------------------------------------------------


def _script(stage: Stage, settings: TaskSettings, recipe: Recipe) -> list[str]:
    """The script with its small configuration, the official one's data sets and its choices of EPIC."""
    words, about = list(stage.command), BASELINES[stage.baseline]
    place = words.index("--config") + 1
    official = read_yaml(REPOSITORY / stage.baseline / words[place])
    words[place] = f"./configs/tiny/{recipe.config or recipe.script}.yaml"
    own = [*_files(stage, official, settings), *_epic(official)]
    keys = {_key(item) for item in own}
    small = [item for item in about.overrides(settings, recipe) if _key(item) not in keys and item != "--evaluate"]
    keys |= {_key(item) for item in small}
    kept = [
        word for word in words if not _key(word) or word.startswith("--") or _key(word) not in {*keys, *SIZES_OF_RUNS}
    ]
    return [*kept, *small, *own]


def _files(stage: Stage, official: Mapping[str, Any], settings: TaskSettings) -> list[str]:
    """The files that the official configuration names, as they were converted; of VQA those with answers."""
    named = {key: official[key] for key in FILES if key in official}
    if stage.name.endswith("/vqa"):
        named |= {"train_file": ["data/vqa_train.json", "data/vg_qa.json"], "test_file": ["data/vqa_val.json"]}
    items = []
    for key, value in named.items():
        paths = [_converted(each, settings) for each in (value if isinstance(value, list) else [value])]
        items.append(f"{key}=[{','.join(paths)}]" if isinstance(value, list) else f"{key}={paths[0]}")
    if "train_dataset_size" in official:
        pairs = sum(counted(settings, Path(each).name, "rows") for each in official["train_file"])
        items.append(f"train_dataset_size={pairs}")
    return items


def _converted(official: str, settings: TaskSettings) -> str:
    folder = lines(settings) if "pretrain_4m" in official else lists(settings)
    return str(folder / Path(official).name)


def _epic(official: Mapping[str, Any]) -> list[str]:
    return [f"epic.{key}={value}" for key, value in official.get("epic", {}).items() if value != ""]


# What comes before and after --------------------------------------------------------------------------------------


def _checked(stage: Stage, scale: str, root: Path) -> tuple[str, ...]:
    """The check of the converted scenes."""
    _, form, _ = stage.name.split("/")
    baseline = "xvlm" if form == "lines" else next(name for name, own in FORMS.items() if own == form)
    settings = settings_of(baseline, scale, root)
    words = [word.replace("{data}/raw", str(settings.data)) for word in stage.command]
    words = [word.replace("{data}", str(settings.data)) for word in words]
    if form == "arrow":
        return tuple(words)
    moved = [_converted(word, settings) if word.startswith(("albef/", "xvlm/")) else word for word in words]
    if "vqa" in stage.name:  # scenes have questions of Visual Genome in lists of their own
        moved = [word for word in moved if not word.endswith("/vqa_test.json")]
    return (*moved, *(("--image-root", str(settings.data)) if form == "lines" else ()))


def _prepared(stage: Stage, scale: str, root: Path) -> tuple[str, ...]:
    """The fitted language model starts from the small one; the captions are those of the scenes."""
    settings = settings_of("meter", scale, root)
    changed = {"{data}/arrow": str(settings.data / "arrow"), "roberta-base": str(settings.language_model)}
    changed["20000"] = str(settings.lm_steps)
    shorter = ("--max-length", str(POSITIONS)) if "--init" in stage.command else ()
    return (*(changed.get(word, word) for word in stage.command), *shorter)


def _answers(stage: Stage, settings: TaskSettings) -> Stage:
    """The stage that does what VQAv2's evaluation server does."""
    truth = settings.data / "coco" / TRUTH_FILE
    command = ("python", "-m", "reproduce", "answers", f"{{folder:{stage.name}}}", "--truth", str(truth))
    name = f"{stage.name.rsplit('/', 1)[0]}/{ANSWERS}"
    return Stage(name, "evaluate", "", command, (stage.name,), gpus=0)


def _with_answers(row: Row, experiments: Experiments) -> Row:
    scored = f"{row.model}/{ANSWERS}"
    return replace(row, stages=(*row.stages, scored)) if _has_vqa(row) and scored in experiments.stages else row


def _has_vqa(row: Row) -> bool:
    return any(cell.column.startswith("vqa") for cell in row.cells)
