"""What the runs of a baseline read: scenes, converted as real data are, and the language model."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from demo.sizes import POSITIONS
from demo.stages import Stage, run_stages
from demo.task_recipes import TaskRecipes
from demo.task_runs import BASELINES
from epic_common.language_models.fit import RELEASED_RATE, FitSettings, fit_language_model
from reproduce.miniature.places import RESTVAL, Bench, waiting_lock
from scenes.coco_layout import TRUTH_FILE, Request, write_coco
from scenes.corpus import corpus
from scenes.levels import LEVELS
from scenes.questions import questions
from scenes.sampling import sample_scene
from scenes.statements import statements
from scenes.statistics import Statistics
from scenes.task_layouts import write_tasks
from vlp.baseline import get_baseline
from vlp.files import regular

ASKED_SHARE = 0.25  # of the language model's lines are questions or statements


def recipes_of(bench: Bench) -> TaskRecipes:
    """The baseline's recipes of ``demo.tasks``, with the layouts that are needed here."""
    regions = ("vg",) if bench.name == "xvlm" else ()
    return replace(BASELINES[bench.name], layouts=(bench.task, *regions))


def truth_file(bench: Bench) -> Path:
    """What is known of the scenes."""
    return bench.tasks(0).data / "coco" / TRUTH_FILE


def fitted_folder(bench: Bench) -> Path:
    """The language model of LM (trained): fitted further, to the captions of the pictures."""
    return bench.tasks(0).data / "fitted-tiny"


def prepare(bench: Bench) -> None:
    """Make what is not there; whoever else makes it is waited for."""
    tasks, about = bench.tasks(0), recipes_of(bench)
    data, model = tasks.data, tasks.language_model
    stages = [
        Stage("draw the scenes", 60, data / "tasks" / "done", lambda: _draw(bench, about)),
        Stage("convert them", 20, data / "converted", lambda: _convert(bench, about)),
        Stage("fit the language model", 40, model / "config.json", lambda: _fit(bench, about)),
        Stage("fit it to the captions", 30, fitted_folder(bench) / "config.json", lambda: _fit_further(bench)),
    ]
    with waiting_lock(tasks.output / "data.lock"):
        if not all(stage.done.exists() for stage in stages):
            run_stages(stages)


def _draw(bench: Bench, about: TaskRecipes) -> None:
    """All scenes for pre-training and ranking, the first of them for fine-tuning."""
    scenes, data = bench.miniature.scenes, bench.tasks(0).data
    size = bench.settings.image_size
    for name, images in (("coco", scenes.images), ("fewer", scenes.task_images)):
        write_coco(data / name, Request(images, RESTVAL, scenes.tested, 1, size, scenes.seed, scenes.level))
    for layout in about.layouts:
        shutil.rmtree(data / "tasks" / layout, ignore_errors=True)
        shutil.rmtree(data / "made", ignore_errors=True)
        write_tasks(data / ("coco" if layout == "vg" else "fewer"), data / "made", [layout])
        (data / "tasks").mkdir(exist_ok=True)
        os.replace(data / "made" / layout, data / "tasks" / layout)
    (data / "tasks" / "done").touch()


def _convert(bench: Bench, about: TaskRecipes) -> None:
    about.convert(bench.tasks(0))
    (bench.tasks(0).data / "converted").touch()


def _fit(bench: Bench, about: TaskRecipes) -> None:
    """In place of the released one: it has read the language, of a world with other habits."""
    chosen, tasks = bench.miniature.language_model, bench.tasks(0)
    path = tasks.data / "released.txt"
    asked = round(ASKED_SHARE * chosen.lines)
    level = LEVELS[bench.miniature.scenes.level]
    statistics = Statistics(chosen.grammar_seed, level)
    captions = corpus(chosen.lines - asked, chosen.grammar_seed, level)
    lines = [*captions, *_asked(statistics, asked, bench.task)]
    random.Random(chosen.grammar_seed).shuffle(lines)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    width = bench.settings.width
    sizes = FitSettings(
        family=get_baseline(bench.name).text_family,
        steps=chosen.steps,
        mlm_prob=RELEASED_RATE,
        max_length=POSITIONS,
        layers=about.text_layers,
        width=width,
        heads=width // 32,
    )
    fit_language_model(path, tasks.language_model, sizes)


def _asked(statistics: Statistics, number: int, task: str) -> Iterator[str]:
    """Sentences of the fine-tuned task about scenes of these statistics, so that their words are known."""
    rng = random.Random(f"asked/{statistics.seed}")
    while number > 0:
        left, right = (sample_scene(rng, statistics) for _ in range(2))
        said = [each.sentence for each in statements(left, right, rng)]
        found = said if task == "nlvr2" else [each.question for each in questions(left, rng)]
        yield from found[:number]
        number -= len(found)


def _fit_further(bench: Bench) -> None:
    records = map(json.loads, regular(truth_file(bench)).read_text(encoding="utf-8").splitlines())
    read = [record for record in records if record["split"] in ("train", "restval")]
    path = bench.tasks(0).data / "captions.txt"
    path.write_text("\n".join(said["raw"] for each in read for said in each["captions"]) + "\n", encoding="utf-8")
    steps, start = bench.miniature.language_model.fitted_steps, str(bench.tasks(0).language_model)
    # The learning rate is that of so small a model.
    sizes = FitSettings(init=start, steps=steps, mlm_prob=RELEASED_RATE, max_length=POSITIONS, learning_rate=1e-3)
    fit_language_model(path, fitted_folder(bench), sizes)
