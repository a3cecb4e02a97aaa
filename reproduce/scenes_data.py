"""What small runs read: drawn scenes in every raw layout, converted as the real data, and a small language model."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import transformers

from demo.task_recipes import TaskRecipes, TaskSettings
from demo.task_recipes_sacred import SacredTasks
from demo.task_recipes_xvlm import lines
from demo.task_recipes_yaml import lists
from demo.task_runs import BASELINES, fit, render
from reproduce import state
from vlp.config.schema import ConfigError
from vlp.data.json.convert import convert as convert_lists
from vlp.data.jsonl.convert import Options
from vlp.data.jsonl.convert import convert as convert_lines
from vlp.files import read_json, write_json

# Baselines that read the same files share them.
FORMS = {"meter": "arrow", "vilt": "arrow", "albef": "albef", "xvlm": "xvlm"}
PAIRS = ("f30k", "vg", "gcc", "sbu", "cc12m")
LAYOUTS = {
    "arrow": (*PAIRS, "vqa", "nlvr2", "snli"),
    "albef": (*PAIRS, "vqa", "nlvr2", "snli", "refcoco+"),
    "xvlm": (*PAIRS, "vqa", "nlvr2", "refcoco+", "coco_objs", "obj365", "openimages"),
}
LISTS = {
    "albef": {name: name for name in (*PAIRS, "vqa", "nlvr2", "snli", "refcoco+")} | {"vg_qa": "vg"},
    "xvlm": {name: name for name in ("f30k", "vqa", "nlvr2", "refcoco+")} | {"vg_qa": "vg"},
}
LINES = {
    **{"vg": "vg", "sbu": "sbu", "cc3m": "gcc", "cc12m": "cc12m", "coco_objs": "coco_objs", "vg_objs": "vg"},
    **{"vg_regions": "vg", "refcoco_rm_leak": "refcoco+", "obj365": "obj365", "openimages": "openimages"},
}


@dataclass(frozen=True)
class Sizes:
    """Of the scenes and of the runs on them; ``most_epochs`` are those of fine-tuning at most."""

    train_images: int
    val_images: int
    test_images: int
    lm_steps: int
    pretrain_epochs: int
    most_epochs: int


SIZES = {
    "scenes": Sizes(600, 60, 100, 300, 3, 2),
    "smoke": Sizes(64, 24, 24, 20, 1, 1),  # that stages run; nothing is learned
}


def settings_of(baseline: str, scale: str, root: Path) -> TaskSettings:
    """The demo's settings of a baseline, in an output root."""
    sizes = SIZES[scale]
    return TaskSettings(
        baseline=baseline,
        output=root / "data" / FORMS[baseline],
        tasks=(),
        train_images=sizes.train_images,
        val_images=sizes.val_images,
        test_images=sizes.test_images,
        lm_steps=sizes.lm_steps,
        pretrain_epochs=sizes.pretrain_epochs,
    )


def prepare(baseline: str, scale: str, root: Path) -> None:
    """Make what the runs of a baseline read, if it is not there yet.

    Raises:
        ConfigError: the output root holds scenes of another scale.
    """
    settings, sizes = settings_of(baseline, scale, root), dataclasses.asdict(SIZES[scale])
    about, form, done = BASELINES[baseline], FORMS[baseline], settings.output / "sizes.json"
    with state.locked(settings.output):
        if done.exists() and read_json(done) != sizes:
            raise ConfigError(f"{settings.output} holds scenes of other sizes: remove {root}, or give another --output")
        if not done.exists():
            print(f"drawing scenes in the layouts of the data sets, and converting them: {settings.data}", flush=True)
            if not (settings.data / "tasks").exists():
                render(settings, dataclasses.replace(about, layouts=LAYOUTS[form]))
            _convert(settings, about, form)
            write_json(done, sizes)
        if not (settings.language_model / "config.json").exists():
            print(f"fitting a small language model: {settings.language_model}", flush=True)
            transformers.logging.disable_progress_bar()
            fit(settings, about)


def _convert(settings: TaskSettings, about: TaskRecipes, form: str) -> None:
    """By the converters of the real data."""
    tasks, data = settings.data / "tasks", settings.data
    if isinstance(about, SacredTasks):
        dataclasses.replace(about, layouts=LAYOUTS[form]).convert(settings)
        return
    for name, layout in {"coco": "", **LISTS[form]}.items():
        root = tasks / layout if layout else data / "coco"
        convert_lists(name, root, lists(settings), image_root=data, quiet=True)
    for name, layout in {"coco": "", **LINES}.items() if form == "xvlm" else ():
        root = tasks / layout if layout else data / "coco"
        convert_lines(name, root, lines(settings), Options(image_root=str(data), shards=1), quiet=True)
