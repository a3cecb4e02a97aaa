"""Drive ALBEF's scripts as a user does, on scenes in the layout of every task."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from tests.launch.launcher import ENVIRONMENT, ROOT, Result, address, checked
from tests.launch.warm_launcher import WarmLauncher

MODULES = ("albef.baseline", "vlp.yaml_dialect.run", "torch.utils.tensorboard")
CONFIGS = {"Pretrain_nlvr": "NLVR_pretrain"}  # script -> its YAML file, where that has another name
WIDTH, VOCAB = 32, 300
SMALL = (
    *(f"bert_config.{key}={WIDTH}" for key in ("hidden_size", "encoder_width", "intermediate_size")),
    *("bert_config.num_attention_heads=2", f"bert_config.vocab_size={VOCAB}"),
    # Or a run would draw nothing but its negatives.
    *("bert_config.hidden_dropout_prob=0.1", "bert_config.attention_probs_dropout_prob=0.1"),
    *(f"vision_config.width={WIDTH}", "vision_config.depth=2", "vision_config.heads=2", "image_res=32"),
    *("num_workers=0", "log_every_n_steps=1"),
)
NO_DROPOUT = ("bert_config.hidden_dropout_prob=0", "bert_config.attention_probs_dropout_prob=0")
CONTRAST = (f"vision_width={WIDTH}", "embed_dim=16")
QUEUES = (*CONTRAST, "queue_size=64")
STEPS = 4  # of an epoch of pre-training
EPOCHS = 2


class Run(Result):
    """A run of a script, whose ``--output_dir`` is its folder."""

    @property
    def directory(self) -> Path:
        return self.log_dir

    def official(self, name: str) -> dict[str, Any]:
        """An official checkpoint."""
        return torch.load(self.directory / name, weights_only=True)

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines of log.txt that stand for an epoch."""
        lines = (self.directory / "log.txt").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    @property
    def results(self) -> dict[str, Any]:
        return json.loads((self.directory / "results.json").read_text())


class AlbefLauncher(WarmLauncher):
    """Runs command lines of ALBEF's scripts with a small model; ``cold`` ones in a fresh Python.

    Args:
        data: holds ``raw`` (COCO's layout), ``tasks`` (those of the others), ``lists`` and ``bert-tiny``.
    """

    def __init__(self, data: Path, logs: Path) -> None:
        super().__init__(MODULES, ROOT / "albef", ENVIRONMENT, logs)
        self.data, self.language_model = data, data / "bert-tiny"
        raw, tasks = data / "raw", data / "tasks"
        pairs = (*self._lists(train="coco.json"), f"image_root={raw}", "batch_size=16")
        evaluated = {"val": "coco_val.json", "test": "coco_test.json"}
        once, batches = "schedular.epochs=1", ("batch_size_train=16", "batch_size_test=8")
        entailment = self._lists(train="ve_train.json", val="ve_dev.json", test="ve_test.json")
        statements = self._lists(train="nlvr_train.json", val="nlvr_dev.json", test="nlvr_test.json")
        expressions = self._lists(train="refcoco+_train.json", test="refcoco+_val.json refcoco+_test.json")
        self.items: dict[str, tuple[str, ...]] = {
            "Pretrain": (*pairs, *QUEUES, f"schedular.epochs={EPOCHS}"),
            "Retrieval": (
                *(*self._lists(train="coco_train.json", **evaluated), f"image_root={raw}"),
                *(*QUEUES, *batches, "k_test=4", once),
            ),
            "VQA": (
                *(*self._lists(train="vqa_train.json", test="vqa_test.json"), f"vqa_root={tasks / 'vqa'}"),
                *(f"answer_list={data / 'lists' / 'answer_list.json'}", *batches, "k_test=4", once),
            ),
            "VE": (*entailment, f"image_root={tasks / 'snli' / 'Flickr30K' / 'images'}", *batches, once),
            "Pretrain_nlvr": (*pairs, *CONTRAST, once),
            "NLVR": (*statements, f"image_root={tasks / 'nlvr2'}", "batch_size=16", once),
            "Grounding": (
                *(*expressions, f"image_root={tasks / 'refcoco+'}", f"refcoco_data={data / 'lists'}"),
                *(f"det_file={data / 'lists' / 'refcoco+' / 'dets.json'}", *QUEUES, "batch_size=16", once),
            ),
        }

    def _lists(self, **names: str) -> tuple[str, ...]:
        folder = self.data / "lists"
        files = {key: ", ".join(str(folder / name) for name in each.split()) for key, each in names.items()}
        return tuple(f"{key}_file={f'[{each}]' if ', ' in each else each}" for key, each in files.items())

    # Runs that several tests look at ---------------------------------------------------------------------

    @cached_property
    def vanilla(self) -> Run:
        """Two epochs of four steps."""
        return self.run("Pretrain")

    @cached_property
    def epic(self) -> Run:
        """The same with EPIC, the vanilla run as its teacher."""
        return self.run("Pretrain", *self.teacher)

    @property
    def pretrained(self) -> str:
        """What the downstream scripts start from."""
        return str(self.vanilla.directory / f"checkpoint_{EPOCHS - 1:02d}.pth")

    @property
    def teacher(self) -> tuple[str, ...]:
        """What turns a run into one with EPIC, the vanilla run as its teacher."""
        return "epic.enabled=True", "epic.append_sep=True", f"teacher_path={self.pretrained}"

    # Commands --------------------------------------------------------------------------------------------

    def arguments(self, script: str, output: Path, *items: str) -> list[str]:
        """The command line of a script; flags and keys of ``items`` come last, and a later key wins."""
        config = ("--config", f"./configs/tiny/{CONFIGS.get(script, script)}.yaml")
        own = _last_of((*SMALL, *self.items[script], *items))
        given = () if "--config" in own else config
        return [f"{script}.py", *given, "--output_dir", str(output), "--text_encoder", str(self.language_model), *own]

    def run(
        self,
        script: str,
        *items: str,
        output: Path | None = None,
        check: bool = True,
        during: Callable[[int, Path], None] | None = None,
    ) -> Run:
        """Run a script, from the warm process; ``during`` is called with the process id and the ``--output_dir``."""
        return self.together([{}], script, *items, output=output, check=check, during=during)[0]

    def on_two_processes(self, script: str, *items: str, **options: Any) -> list[Run]:
        """Two processes with the variables that torchrun gives them."""
        meet = {**address(), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        return self.together(
            [{**meet, "RANK": str(r), "LOCAL_RANK": str(r)} for r in range(2)], script, *items, **options
        )

    def together(
        self,
        environments: Sequence[dict[str, str]],
        script: str,
        *items: str,
        output: Path | None = None,
        check: bool = True,
        during: Callable[[int, Path], None] | None = None,
    ) -> list[Run]:
        output = output or self.log_dir()
        logs = [f"{output}.{i}.txt" for i in range(len(environments))]
        argv = self.arguments(script, output, *items)
        statuses = self.ended(argv, environments, logs, during and (lambda process: during(process, output)))
        runs = [Run(status, Path(log).read_text(), output) for status, log in zip(statuses, logs, strict=True)]
        return [_checked(run, check) for run in runs]

    def cold(self, script: str, *items: str, root: Path = ROOT, torchrun: Sequence[str] = ()) -> Run:
        """``python <script>.py``, or torchrun with its own options, in the repository under ``root``."""
        output = self.log_dir()
        launcher = ("-m", "torch.distributed.run", *torchrun) if torchrun else ()
        done = subprocess.run(
            [sys.executable, *launcher, *self.arguments(script, output, *items)],
            cwd=root / "albef",
            env={**ENVIRONMENT, "PYTHONPATH": str(root)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        return _checked(Run(done.returncode, done.stdout, output), True)


def _checked(run: Run, check: bool) -> Run:
    checked(run, check)
    return run


def _last_of(items: Sequence[str]) -> list[str]:
    """Of several values of a key the last one, as a command line may give a key once; flags stay as they are."""
    last = {item.split("=")[0]: item for item in items if "=" in item}
    return [*last.values(), *(item for item in items if "=" not in item)]
