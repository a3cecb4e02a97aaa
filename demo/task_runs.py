"""The runs of ``demo.tasks``: their data, their official command lines, and what each starts from."""

from __future__ import annotations

import json
import resource
import shlex
import sys

from demo.settings import REPOSITORY
from demo.stages import Stage, run_command
from demo.task_recipes import TaskRecipes, TaskSettings, words_of_lists
from demo.task_recipes_albef import ALBEF
from demo.task_recipes_xvlm import XVLM
from epic_common.language_models.fit import FitSettings, fit_language_model
from scenes.coco_layout import Request, write_coco
from scenes.task_layouts import write_tasks
from vlp.files import write_json

BASELINES = {"albef": ALBEF, "xvlm": XVLM}
SECONDS = 90  # of a run that its baseline says nothing of
CAPTIONS_PER_IMAGE = 2
POSITIONS = 40


def stages(settings: TaskSettings) -> list[Stage]:
    """In order; the seconds are those of one core."""
    data, about = settings.data, BASELINES[settings.baseline]
    seconds = about.seconds(settings)
    return [
        Stage("render the scenes", 15, data / "tasks", lambda: render(settings, about)),
        Stage("convert them", 5, data / about.converted, lambda: about.convert(settings)),
        Stage(
            "fit the small language model", 60, settings.language_model / "config.json", lambda: fit(settings, about)
        ),
        *(_run_stage(settings, name, seconds.get(name, SECONDS)) for name in about.runs(settings)),
    ]


def _run_stage(settings: TaskSettings, name: str, seconds: float) -> Stage:
    return Stage(name, seconds, settings.done(name), lambda: launch(settings, name))


# Data ----------------------------------------------------------------------------------------------------


def render(settings: TaskSettings, about: TaskRecipes) -> None:
    """Scenes in the raw layouts of all tasks."""
    counts = settings.train_images, settings.val_images, settings.test_images
    write_coco(settings.data / "coco", Request(*counts, CAPTIONS_PER_IMAGE, about.image_size, settings.seed))
    write_tasks(settings.data / "coco", settings.data / "tasks", about.layouts)


def fit(settings: TaskSettings, about: TaskRecipes) -> None:
    """The masked LM that stands in for a released BERT: tokenizer and start of the text encoder."""
    path = settings.data / "texts.txt"
    path.write_text("\n".join(words_of_lists(settings, about.texts)))
    sizes = FitSettings(family="bert", steps=settings.lm_steps, max_length=POSITIONS, layers=4, seed=settings.seed)
    fit_language_model(path, settings.language_model, sizes)


# Runs ----------------------------------------------------------------------------------------------------


def launch(settings: TaskSettings, name: str) -> None:
    """Run a script, or go on with it, and note the processor time of this call."""
    command = arguments(settings, name)
    shown = f"cd {settings.baseline} && " + shlex.join(["python", *command[1:]])
    print(f"      $ {shown}", flush=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run_command(command, REPOSITORY / settings.baseline, settings.output / f"{name}.log", shows=("step ",))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    write_json(settings.done(name), {"cpu_seconds": round(seconds, 1), "command": shown})


def arguments(settings: TaskSettings, name: str) -> list[str]:
    """The official command of a run with the baseline's small model."""
    about = BASELINES[settings.baseline]
    recipe = about.recipes(settings)[name]
    config = f"./configs/tiny/{recipe.config or recipe.script}.yaml"
    vocabulary = json.loads((settings.language_model / "config.json").read_text())["vocab_size"]
    flags = [
        *("--config", config, "--output_dir", str(settings.output / name)),
        *(*about.text_encoder(str(settings.language_model)), "--seed", str(settings.seed)),
        *(("--checkpoint", str(recipe.checkpoint)) if recipe.checkpoint else ()),
    ]
    text = [f"{about.text_config}.vocab_size={vocabulary}", f"{about.text_config}.max_position_embeddings={POSITIONS}"]
    return [
        sys.executable,
        f"{recipe.script}.py",
        *flags,
        *(about.learning(recipe) if recipe.epochs else ["--evaluate"]),
        *recipe.items,
        *text,
        "num_workers=0",
    ]
