"""The runs of the downstream tasks of a baseline with sacred's command line: METER and ViLT.

A task is trained by one call of ``run.py``, and its last checkpoint is scored by another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from demo.sacred_demo import SacredDemo
from demo.sizes import POSITIONS
from demo.task_recipes import Recipe, TaskRecipes, TaskSettings
from demo.task_scores import Score
from demo.task_scores_sacred import scores
from scenes.coco_layout import TRUTH_FILE
from vlp.data.arrow.convert import convert
from vlp.data.arrow.tables import ArrowTables
from vlp.files import read_json
from vlp.sacred_dialect.baseline import SacredBaseline
from vlp.sacred_dialect.settings import run_name

BATCH = 32
# Task -> of its named config
NAMES = {"zero_shot": "irtr_coco", "Retrieval": "irtr_coco", "VQA": "vqa", "VE": "snli", "NLVR": "nlvr2"}
# Only the ranking loss reads false captions, the recalls do not: one instead of fifteen.
RANKED = ("get_recall_metric=True", "draw_false_text=1")
FEWER_TEXTS = ("draw_false_text=7",)  # of training, whose time they take


class Training(NamedTuple):
    """How long and how fast a task is trained, and the items that say how else."""

    epochs: int
    rate: float
    items: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class SacredTasks(TaskRecipes):
    """METER and ViLT.

    Attributes:
        description: the baseline.
        pretraining: its learning rate, and further items.
        training: by task that is trained.
        run_seconds: of a core, by run; of pre-training an epoch's.
    """

    description: SacredBaseline
    pretraining: tuple[float, Sequence[str]]
    training: Mapping[str, Training]
    run_seconds: Mapping[str, float]
    text_layers: ClassVar = SacredDemo.text_layers

    def convert(self, settings: TaskSettings) -> None:
        for name, root in self._raw(settings).items():
            convert(name, root, tables(settings), quiet=True)

    def texts(self, settings: TaskSettings) -> list[str]:
        """Captions, questions, statements and hypotheses of the training tables."""
        found = dict[str, None]()
        for key in self._raw(settings):
            spec = self.description.datamodule.specs[key]
            paths = [(name, tables(settings) / f"{name}.arrow") for name in spec.train]
            read = ArrowTables(paths, spec.text_column, spec.dedupe)
            found.update(dict.fromkeys(read.text(i) for i in range(read.num_texts)))
        return list(found)

    def recipes(self, settings: TaskSettings) -> dict[str, Recipe]:
        named, *switches = self.description.pretraining
        rate, items = self.pretraining
        epochs, pretrained = settings.pretrain_epochs, self.checkpoint(settings, "Pretrain")
        made = {
            "Pretrain": Recipe("run", None, epochs, [*switches, "datasets=['coco']", *items], named, rate),
            "zero_shot": Recipe("run", pretrained, 0, RANKED, self._named("zero_shot")),
        }
        for task, how in self.training.items():
            config = self._named(task)
            ranked = RANKED if task == "Retrieval" else ()
            trained = ["get_recall_metric=False", *how.items] if ranked else how.items
            made[task] = Recipe("run", pretrained, how.epochs, trained, config, how.rate)
            made[f"{task}_test"] = Recipe("run", self.checkpoint(settings, task), 0, ranked, config)
        return made

    def seconds(self, settings: TaskSettings) -> Mapping[str, float]:
        return {**self.run_seconds, "Pretrain": self.run_seconds["Pretrain"] * settings.pretrain_epochs}

    def command(self, recipe: Recipe, items: Sequence[str], output: Path) -> list[str]:
        start = [f"load_path={recipe.checkpoint}"] if recipe.checkpoint else []
        return [f"{recipe.script}.py", "with", recipe.config, *items, *start, f"log_dir={output}"]

    def overrides(self, settings: TaskSettings, recipe: Recipe) -> list[str]:
        size = read_json(settings.language_model / "config.json")["vocab_size"]
        learning = ["test_only=True"]
        if recipe.epochs:
            length = ("max_steps=None", f"max_epoch={recipe.epochs}", "warmup_steps=0.1", "val_check_interval=1.0")
            learning = [*length, f"learning_rate={recipe.rate}", "resume_from=auto"]
        return [
            *self.description.small,
            *(f"data_root={tables(settings)}", f"tokenizer={settings.language_model}", f"vocab_size={size}"),
            *(f"max_text_len={POSITIONS}", f"per_gpu_batchsize={BATCH}", f"batch_size={BATCH}"),
            *("num_gpus=1", "num_nodes=1", "num_workers=0", f"seed={settings.seed}"),
            *learning,
            *recipe.items,
        ]

    def scores(self, settings: TaskSettings, task: str) -> list[Score]:
        return scores(task, settings.output / self.needs.get(task, (task,))[-1], settings.data / "coco" / TRUTH_FILE)

    def checkpoint(self, settings: TaskSettings, run: str) -> Path:
        """The newest ``last.ckpt`` of a run that trains; of one that has not begun where it will be."""
        pretrained = run == "Pretrain"
        exp_name = "mlm_itm" if pretrained else f"finetune_{NAMES[run]}"
        load_path = "" if pretrained else "last.ckpt"
        name = run_name({"exp_name": exp_name, "seed": settings.seed, "load_path": load_path})
        folder, last = settings.output / run / name, Path("checkpoints", "last.ckpt")
        found = [path.parents[1] for path in folder.glob(f"version_*/{last}")]
        return max(found, key=lambda path: int(path.name[8:]), default=folder / "version_0") / last

    def _named(self, task: str) -> str:
        return self.description.finetuning.format(NAMES[task])

    def _raw(self, settings: TaskSettings) -> dict[str, Path]:
        """The raw layouts, by the name of their converter."""
        return {"coco": settings.data / "coco", **{name: settings.data / "tasks" / name for name in self.layouts}}


def tables(settings: TaskSettings) -> Path:
    """The folder of the Arrow tables."""
    return settings.data / "arrow"


def needed_runs(training: Mapping[str, Training]) -> dict[str, tuple[str, str]]:
    """The two runs of each task that is trained."""
    return {task: (task, f"{task}_test") for task in training}
