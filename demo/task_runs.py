"""The runs of ``demo.tasks``: their data, their official command lines, and what each starts from."""

from __future__ import annotations

import json
import resource
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from demo.settings import REPOSITORY
from demo.stages import Stage, run_command
from epic_common.language_models.fit import FitSettings, fit_language_model
from scenes.coco_layout import Request, write_coco
from scenes.task_layouts import write_tasks
from vlp.data.json.convert import convert
from vlp.files import write_json

LAYOUTS = ("vqa", "nlvr2", "snli", "refcoco+")
IMAGE_SIZE = 64
BATCH = 32
RATE = 5e-4
# Of so short a run: a momentum model that follows closely, no targets from it, and no features of older weights.
SHORT = ("momentum=0.9", f"queue_size={BATCH}")
POSITIONS = 40


@dataclass(frozen=True)
class TaskSettings:
    """Sizes of the scenes, of the language model and of pre-training."""

    baseline: str
    output: Path
    tasks: tuple[str, ...]
    train_images: int = 1500
    val_images: int = 100
    test_images: int = 200
    lm_steps: int = 300
    pretrain_epochs: int = 20
    seed: int = 0

    @property
    def data(self) -> Path:
        """Raw layouts, and what they are converted to."""
        return self.output / "data"

    @property
    def lists(self) -> Path:
        """The JSON lists."""
        return self.data / "lists"

    @property
    def language_model(self) -> Path:
        """The masked LM that stands in for a released BERT."""
        return self.data / "bert-tiny"

    @property
    def runs(self) -> list[str]:
        """In order: pre-training, and what each task needs."""
        return ["Pretrain", *(name for task in self.tasks for name in NEEDS.get(task, (task,)))]

    def done(self, run: str) -> Path:
        """What is there once a run is complete."""
        return self.output / f"{run}.json"


NEEDS = {"NLVR": ("Pretrain_nlvr", "NLVR")}  # runs of a task that is not one run


class Recipe(NamedTuple):
    """A run of a script: the checkpoint that it starts from, its passes over the training set (0: it is scored)."""

    script: str
    checkpoint: Path | None
    epochs: int
    items: list[str]


def stages(settings: TaskSettings) -> list[Stage]:
    """In order; the seconds are those of one core."""
    data = settings.data
    seconds = {"Pretrain": 25 * settings.pretrain_epochs, "zero_shot": 30}
    return [
        Stage("render the scenes", 15, data / "tasks", lambda: render(settings)),
        Stage("convert them to JSON lists", 5, settings.lists / "refcoco+.manifest.json", lambda: lists(settings)),
        Stage("fit the small language model", 60, settings.language_model / "config.json", lambda: fit(settings)),
        *(_run_stage(settings, name, seconds.get(name, 90)) for name in settings.runs),
    ]


def _run_stage(settings: TaskSettings, name: str, seconds: float) -> Stage:
    return Stage(name, seconds, settings.done(name), lambda: launch(settings, name))


# Data ----------------------------------------------------------------------------------------------------


def render(settings: TaskSettings) -> None:
    """Scenes in the raw layouts of all tasks."""
    counts = settings.train_images, settings.val_images, settings.test_images
    write_coco(settings.data / "coco", Request(*counts, 2, IMAGE_SIZE, settings.seed))
    write_tasks(settings.data / "coco", settings.data / "tasks", LAYOUTS)


def lists(settings: TaskSettings) -> None:
    """The converters that the real data sets go through."""
    tasks = settings.data / "tasks"
    for name, root in (("coco", settings.data / "coco"), *((name, tasks / name) for name in LAYOUTS)):
        convert(name, root, settings.lists, image_root=settings.data, quiet=True)


def fit(settings: TaskSettings) -> None:
    """The masked LM that stands in for a released BERT: tokenizer and start of the text encoder."""
    texts: list[str] = json.loads((settings.lists / "answer_list.json").read_text())
    for name in ("coco", "vqa_train", "ve_train", "nlvr_train", "refcoco+_train"):
        for row in json.loads((settings.lists / f"{name}.json").read_text()):
            said = next(row[key] for key in ("caption", "question", "sentence", "text") if key in row)
            texts += [said] if isinstance(said, str) else said
    path = settings.data / "texts.txt"
    path.write_text("\n".join(dict.fromkeys(texts)))
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
    script, checkpoint, epochs, items = recipes(settings)[name]
    config = {"Pretrain_nlvr": "NLVR_pretrain"}.get(script, script)
    vocabulary = json.loads((settings.language_model / "config.json").read_text())["vocab_size"]
    flags = [
        *("--config", f"./configs/tiny/{config}.yaml", "--output_dir", str(settings.output / name)),
        *("--text_encoder", str(settings.language_model), "--seed", str(settings.seed)),
        *(("--checkpoint", str(checkpoint)) if checkpoint else ()),
    ]
    learning = [f"schedular.epochs={epochs}", "schedular.warmup_epochs=0"]
    learning += [*(f"{block}.lr={RATE}" for block in ("optimizer", "schedular")), "resume_from=auto"]
    text = f"bert_config.vocab_size={vocabulary}", f"bert_config.max_position_embeddings={POSITIONS}"
    return [
        sys.executable,
        f"{script}.py",
        *flags,
        *(learning if epochs else ["--evaluate"]),
        *items,
        *text,
        "num_workers=0",
    ]


def recipes(settings: TaskSettings) -> dict[str, Recipe]:
    """By run."""
    lists, output = settings.lists, settings.output

    def files(**names: str) -> Iterator[str]:
        for key, value in names.items():
            paths = ",".join(str(lists / f"{name}.json") for name in value.split())
            yield f"{key}_file={f'[{paths}]' if ',' in paths else paths}"

    root = f"image_root={settings.data}"
    one, two = f"batch_size={BATCH}", (f"batch_size_train={BATCH}", f"batch_size_test={BATCH}")
    start = ("alpha=0.0", "mlm_probability=0.3", "init.vision=random", "init.text=pretrained")
    pretrained = output / "Pretrain" / f"checkpoint_{settings.pretrain_epochs - 1:02d}.pth"
    pairs = [*files(train="coco"), root, one]
    ranked = [*files(train="coco_train", val="coco_val", test="coco_test"), root, *two, *SHORT, "k_test=20"]
    answers = [f"answer_list={lists / 'answer_list.json'}", f"vqa_root={settings.data}", *two]
    entailments = files(train="ve_train", val="ve_dev", test="ve_test")
    statements = files(train="nlvr_train", val="nlvr_dev", test="nlvr_test")
    expressions = files(train="refcoco+_train", test="refcoco+_val refcoco+_test")
    boxes = [f"refcoco_data={lists}", f"det_file={lists / 'refcoco+' / 'dets.json'}"]
    return {
        "Pretrain": Recipe("Pretrain", None, settings.pretrain_epochs, [*pairs, *SHORT, *start]),
        "zero_shot": Recipe("Retrieval", pretrained, 0, ranked),
        "Retrieval": Recipe("Retrieval", pretrained, 2, ranked),
        # The test questions have no answers, as officially: those of val are asked.
        "VQA": Recipe("VQA", pretrained, 1, [*files(train="vqa_train", test="vqa_val"), *answers]),
        "VE": Recipe("VE", pretrained, 3, [*entailments, root, *two]),
        "Pretrain_nlvr": Recipe("Pretrain_nlvr", pretrained, 1, pairs),
        "NLVR": Recipe("NLVR", output / "Pretrain_nlvr" / "checkpoint_00.pth", 4, [*statements, root, one]),
        "Grounding": Recipe("Grounding", pretrained, 1, [*expressions, *boxes, root, one, *SHORT]),
    }
