"""How large the demo is, where it writes, and the official command lines that it runs."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from demo.baselines import BASELINES, DemoBaseline
from vlp.arguments import whole
from vlp.sacred_dialect.baseline import SacredBaseline

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Settings:
    """Sizes of the demo; the defaults fit ten minutes on two CPU cores."""

    baseline: str
    output: Path
    steps: int
    seed: int = 0
    train_images: int = 3000
    val_images: int = 200  # masked-token accuracy and ITC are measured on these
    test_images: int = 200  # retrieval ranks these
    corpus_lines: int = 12000
    lm_steps: int = 300
    batch: int = 24  # per process
    processes: int = min(2, torch.cuda.device_count() or 2)  # two on the CPU, no more than GPUs on a GPU machine

    @property
    def about(self) -> DemoBaseline:
        """What is particular to the baseline's demo."""
        return BASELINES[self.baseline]

    @property
    def description(self) -> SacredBaseline:
        """The baseline in its own words."""
        return self.about.description

    def path(self, *parts: str) -> Path:
        """A path below the output folder."""
        return self.output.joinpath(*parts)

    @property
    def language_model(self) -> Path:
        """The small masked LM in place of a released one: tokenizer and EPIC's generator, METER's text encoder too."""
        return self.path(f"{self.description.text_family}-tiny")

    def run_directory(self, name: str, stage: str = "mlm_itm_seed{seed}_from_") -> Path:
        """Where the launcher writes the run ``name``."""
        return self.path(name, stage.format(seed=self.seed), "version_0")

    def checkpoint(self, name: str) -> Path:
        """The last checkpoint of the pre-training run ``name``."""
        return self.run_directory(name) / "checkpoints" / "last.ckpt"


# The least that a number may be, where it is not 1.
LEAST = {"seed": 0, "batch": 2}  # matching needs a pair with its image and one with another


def parse(argv: Sequence[str]) -> Settings:
    """Settings from flags: every field is ``--field-name``."""
    parser = argparse.ArgumentParser("python -m demo", description="Pre-train a baseline without and with EPIC.")
    parser.add_argument("--baseline", choices=list(BASELINES), default="meter", help="default meter")
    folders, steps = (" or ".join(f"{getattr(b, key)}" for b in BASELINES.values()) for key in ("output", "steps"))
    parser.add_argument("--output", type=Path, help=f"default runs/{folders}, by baseline")
    parser.add_argument("--steps", type=whole(1), help=f"default {steps}, by baseline")
    for field in dataclasses.fields(Settings)[3:]:
        parser.add_argument(
            "--" + field.name.replace("_", "-"),
            type=whole(LEAST.get(field.name, 1)),
            default=field.default,
            help=f"default {field.default}",
        )
    chosen = vars(parser.parse_args(argv))
    about = BASELINES[chosen["baseline"]]
    output = chosen["output"] or REPOSITORY / "runs" / about.output
    if output.exists() and not output.is_dir():
        parser.error(f"--output {output} is no folder")
    return Settings(**{**chosen, "output": output.resolve(), "steps": chosen["steps"] or about.steps})


def common_items(settings: Settings, vocab_size: int) -> list[str]:
    """What every launcher call of the demo shares, after the task's named config."""
    return [
        *settings.description.small,
        f"data_root={settings.path('data', 'arrow')}",
        "datasets=['coco']",
        f"tokenizer={settings.language_model}",
        f"vocab_size={vocab_size}",
        f"num_gpus={settings.processes}",
        "num_nodes=1",
        "num_workers=0",
        f"per_gpu_batchsize={settings.batch}",
        f"batch_size={settings.batch * settings.processes}",
        f"seed={settings.seed}",
    ]


def pretrain_command(settings: Settings, vocab_size: int, name: str) -> list[str]:
    """The official pre-training command at demo size; ``name`` is "vanilla" or "epic"."""
    items = [
        *settings.description.pretraining,
        *common_items(settings, vocab_size),
        f"max_steps={settings.steps}",
        *settings.about.learning,
        "mlm_prob=0.4",
        f"log_dir={settings.path(name)}",
        *epic_items(settings, name),
    ]
    return launcher(items)


def masked_token_command(settings: Settings, vocab_size: int, name: str) -> list[str]:
    """Evaluates the pre-training objectives of a checkpoint on the val split."""
    items = evaluation_items(settings, vocab_size, name)
    return launcher([*settings.description.pretraining, *items, "eval_split=val", *epic_items(settings, name)])


def retrieval_command(settings: Settings, vocab_size: int, name: str) -> list[str]:
    """The official zero-shot retrieval evaluation of a pre-trained checkpoint, on the test split."""
    items = evaluation_items(settings, vocab_size, name)
    # Only the ranking loss reads false captions, the recalls do not: one instead of fifteen.
    task = settings.description.finetuning.format("irtr_coco")
    return launcher([task, "get_recall_metric=True", "draw_false_text=1", *items])


def evaluation_items(settings: Settings, vocab_size: int, name: str) -> list[str]:
    """What both evaluations of run ``name`` share."""
    return [
        *common_items(settings, vocab_size),
        "test_only=True",
        f"load_path={settings.checkpoint(name)}",
        f"log_dir={settings.path(name)}",
    ]


def epic_items(settings: Settings, name: str) -> list[str]:
    """What turns a vanilla run into the EPIC run: the named config, and the vanilla model as the teacher."""
    return ["epic", f"teacher_path={settings.checkpoint('vanilla')}"] if name == "epic" else []


def launcher(items: Sequence[str]) -> list[str]:
    """The launcher with ``items``, run from the baseline's folder."""
    return [sys.executable, "run.py", "with", *items]


def shown(settings: Settings, command: Sequence[str]) -> str:
    """A command as a user would type it in the repository."""
    return f"cd {settings.baseline} && " + shlex.join(["python", *command[1:]])
