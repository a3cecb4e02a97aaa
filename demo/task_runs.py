"""The stages of ``demo.tasks``: the data of its runs, and the runs by their official command lines."""

from __future__ import annotations

import resource
import shlex
import sys

from demo.sizes import CAPTIONS_PER_IMAGE, POSITIONS, REPOSITORY
from demo.stages import Stage, run_command
from demo.task_recipes import TaskRecipes, TaskSettings
from demo.task_recipes_albef import ALBEF
from demo.task_recipes_meter import METER
from demo.task_recipes_vilt import VILT
from demo.task_recipes_xvlm import XVLM
from epic_common.language_models.fit import RELEASED_RATE, FitSettings, fit_language_model
from scenes.coco_layout import Request, write_coco
from scenes.task_layouts import write_tasks
from vlp.baseline import get_baseline
from vlp.files import write_json

BASELINES: dict[str, TaskRecipes] = {"meter": METER, "vilt": VILT, "albef": ALBEF, "xvlm": XVLM}
SECONDS = 90  # of a run that its baseline says nothing of


def stages(settings: TaskSettings) -> list[Stage]:
    """In order; the seconds are those of one core."""
    about = BASELINES[settings.baseline]
    seconds = about.seconds(settings)
    return [
        *data_stages(settings),
        *(_run_stage(settings, name, seconds.get(name, SECONDS)) for name in about.runs(settings)),
    ]


def data_stages(settings: TaskSettings) -> list[Stage]:
    """Everything that runs read: the scenes, what they are converted to, and the language model."""
    data, about = settings.data, BASELINES[settings.baseline]
    fitted = settings.language_model / "config.json"
    return [
        Stage("render the scenes", 15, data / "tasks", lambda: render(settings, about)),
        Stage("convert them", 5, data / about.converted, lambda: about.convert(settings)),
        Stage("fit the small language model", 60, fitted, lambda: fit(settings, about)),
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
    """The masked LM that stands in for a released one: tokenizer, and where a text encoder is trained, its start."""
    path = settings.data / "texts.txt"
    path.write_text("\n".join(about.texts(settings)))
    family = get_baseline(settings.baseline).text_family
    sizes = FitSettings(
        family=family,
        steps=settings.lm_steps,
        mlm_prob=RELEASED_RATE,
        max_length=POSITIONS,
        layers=about.text_layers,
        seed=settings.seed,
    )
    fit_language_model(path, settings.language_model, sizes)


# Runs ----------------------------------------------------------------------------------------------------


def launch(settings: TaskSettings, name: str) -> None:
    """Run a script, or go on with it, and note the processor time of this call."""
    command = BASELINES[settings.baseline].arguments(settings, name)
    shown = f"cd {settings.baseline} && " + shlex.join(["python", *command])
    print(f"      $ {shown}", flush=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    log = settings.output / f"{name}.log"
    run_command([sys.executable, *command], REPOSITORY / settings.baseline, log)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    write_json(settings.done(name), {"cpu_seconds": round(seconds, 1), "command": shown})
