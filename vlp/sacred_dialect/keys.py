"""The configuration keys of METER and ViLT: the official ones that both have, and those that both launchers add.

A baseline's ``config.py`` adds its own and its own defaults. ``python -m vlp.config`` prints them as a table.

Source: docs/official/meter.md §2, docs/official/vilt.md §2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen

from vlp.config.engine_keys import EngineKeys, Precision
from vlp.config.kinds import Allowed, Amount, Choices, Count, Name, Positive, PositiveAmount, Share, Switch, Text
from vlp.config.paths import File, MustExist
from vlp.config.schema import key
from vlp.data.arrow.registry import SPECS, DatasetSpec
from vlp.data.transform_keys import SQUARE

Datasets = Annotated[list[Annotated[str, Choices(SPECS)]], MinLen(1)]
Transforms = Annotated[list[Annotated[str, Choices(SQUARE)]], MinLen(1)]
Devices = Annotated[int, Ge(1), Le(1024)] | Annotated[list[Count], MinLen(1), Allowed("a list of GPU ids")]
Warmup = Count | Annotated[Share, Allowed("a float from 0 to 1, a fraction of the run")]
Folder = Annotated[Text, MustExist(folder=True, advice="; docs/data.md says how to make the tables")]
Resumed = Annotated[Name | None, MustExist(but=("auto",), advice="; a checkpoint, or auto")]
Most = Annotated[int, Ge(1), Le(10**9)]  # beyond, numbers overflow where they are used


def loss_names(tasks: tuple[str, ...], **active: float) -> dict[str, float]:
    """A switch for each of ``tasks``, 0 but where ``active`` says more."""
    return {task: active.get(task, 0) for task in tasks}


class SacredKeys(EngineKeys):
    """What every launcher with sacred's command line reads."""

    # Every task that is built, and the kind of data that it learns from; and the data that there are.
    task_data: ClassVar[Mapping[str, str]]
    specs: ClassVar[Mapping[str, DatasetSpec]] = SPECS

    exp_name: Name = key("", "first part of the run's folder name")
    seed: Annotated[int, Ge(0), Lt(2**32)] = key(0, "of weights, order, masks and draws")
    datasets: Datasets = key(["coco", "vg", "sbu", "gcc"], "the tables to read")
    loss_names: dict[str, Amount] = key({}, "the tasks: a switch each, on above 0, never a weight")
    batch_size: Most = key(4096, "pairs per optimiser step; accumulation makes up for per_gpu_batchsize")
    # Image
    train_transform_keys: Transforms = key([], "views of a training image, one each")
    val_transform_keys: Transforms = key([], "views of an evaluated image, one each")
    image_size: Annotated[int, Ge(1), Le(4096)] = key(224, "pixels of the side that images are resized to")
    patch_size: Annotated[int, Ge(1), Le(1024)] = key(32, "pixels of a patch's side")
    draw_false_image: Annotated[int, Ge(0), Le(1024)] = key(1, "other images drawn for each pair")
    image_only: Switch = key(False, "one sample per image instead of one per caption")
    # Text
    vqav2_label_size: Most = key(3129, "answers of VQAv2's head")
    max_text_len: Annotated[int, Ge(3), Le(65536)] = key(40, "tokens of a caption, the two special ones included")
    tokenizer: Name = key("bert-base-uncased", "a hub name or a local folder")
    vocab_size: Most = key(30522, "tokens of the embedding, those of the tokenizer or more")
    whole_word_masking: Switch = key(False, "mask all pieces of a word together")
    mlm_prob: Annotated[float, Gt(0), Le(1)] = key(0.15, "share of the words that masked language modelling masks")
    draw_false_text: Annotated[int, Ge(0), Le(1024)] = key(0, "other captions drawn for each pair")
    # Model
    hidden_size: Annotated[int, Ge(1), Le(65536)] = key(768, "width of the fusion layers")
    num_heads: Positive = key(12, "attention heads of a fusion layer")
    drop_rate: Annotated[float, Ge(0), Lt(1)] = key(0.1, "dropout")
    # Optimiser
    optim_type: Literal["adamw", "adam", "sgd"] = key("adamw", "the optimiser")
    learning_rate: PositiveAmount = key(1e-4, "peak of the schedule")
    weight_decay: Amount = key(0.01, "of all parameters but biases and normalisation")
    decay_power: Amount | Literal["cosine"] = key(1, "power of the polynomial decay, or cosine")
    max_epoch: Positive = key(100, "passes over the training set; does not count where max_steps is set")
    max_steps: Positive | None = key(100000, "optimiser steps; None: max_epoch alone ends the run")
    warmup_steps: Warmup = key(10000, "optimiser steps of warm-up")
    end_lr: Amount = key(0, "learning rate at the end of the decay")
    # Run
    get_recall_metric: Switch = key(False, "retrieval: score every image with every caption")
    resume_from: Resumed = key(None, 'a checkpoint, or "auto": the newest last.ckpt of this run\'s name, if any')
    fast_dev_run: Switch | Count = key(False, "one batch of everything, or that many, and no files")
    val_check_interval: (
        Annotated[float, Gt(0), Le(1), Allowed("a share of an epoch, above 0, at most 1")]
        | Annotated[int, Ge(1), Allowed("a whole number of batches, at least 1")]
    ) = key(1.0, "how often a validation runs")
    test_only: Switch = key(False, "evaluate load_path on the test split")
    # Machine
    data_root: Folder = key("", "folder of the tables; must be given")
    log_dir: Name = key("result", "folder of the runs' folders")
    per_gpu_batchsize: Count = key(0, "pairs that fit one GPU; must be given")
    num_gpus: Devices = key(1, "processes per node, or the ids of its GPUs")
    num_nodes: Annotated[int, Ge(1), Le(65536)] = key(1, "machines")
    load_path: File = key("", "weights that the run starts from or evaluates")
    num_workers: Annotated[int, Ge(0), Le(1024)] = key(8, "loader processes of each process; 0: none")
    precision: Precision = key(32, "32, bf16, or 16 with loss scaling")
    # Not official
    eval_split: Literal["test", "val"] = key("test", "the Karpathy split that validation and test read")
    zero_shot_protocol: Literal["pretrained", "coco_finetuned"] = key(
        "pretrained", "which model a zero-shot run scores, for results.json"
    )
    log_every_n_steps: Positive = key(10, "optimiser steps between two lines of metrics")
    save_every_n_steps: Count = key(
        1000, "optimiser steps between two last.ckpt; 0: at validations and epoch ends only"
    )

    def relations(self) -> Iterator[str]:
        yield from super().relations()
        if not self.data_root:
            yield "data_root must be given: the folder of .arrow tables (docs/data.md says how to make them)"
        if not self.per_gpu_batchsize:
            yield "per_gpu_batchsize must be given: the batch that fits one GPU, e.g. per_gpu_batchsize=32"
        if self.hidden_size % self.num_heads:
            yield f"hidden_size={self.hidden_size} is not a multiple of num_heads={self.num_heads}"
        if self.end_lr >= self.learning_rate:
            yield f"end_lr={self.end_lr} must be below learning_rate={self.learning_rate}"
        if isinstance(self.num_gpus, list) and (twice := [i for i, n in Counter(self.num_gpus).items() if n > 1]):
            yield f"num_gpus={self.num_gpus} names GPU {twice[0]} more than once"
        if self.test_only and not self.load_path:
            yield "test_only=True needs load_path, the checkpoint to evaluate: a random model gives no result"
        if self.image_only:
            yield "image_only=True leaves out all captions, and every task reads them"
        if self.exp_name in (".", "..") or "/" in self.exp_name:
            yield f"exp_name={self.exp_name!r} must be the name of a folder, without a slash: log_dir says where"
        if len(self.exp_name.encode()) > 200:  # of 255, with the seed and a checkpoint's name
            yield f"exp_name={self.exp_name[:20]}… is too long for the name of a folder: at most 200 bytes"
        yield from self._task_relations()

    def _task_relations(self) -> Iterator[str]:
        switches, tasks = self.loss_names, type(self).model_fields["loss_names"].default
        if lacking := [task for task in tasks if task not in switches]:
            yield f"loss_names lacks {', '.join(lacking)}: one task is switched by loss_names.{lacking[0]}=1"
        on = [task for task, value in switches.items() if value > 0]
        if not on:
            yield "loss_names: every task is off; set at least one, e.g. loss_names.mlm=1"
        for task in on:
            yield from self._data_of(task)
        if "irtr" in on and self.draw_false_text < 1:
            yield "loss_names.irtr ranks against false captions: draw_false_text must be at least 1 (official: 15)"
        if "itm" in on and self.draw_false_image < 1:
            yield "loss_names.itm needs false images: draw_false_image must be at least 1"
        if self.get_recall_metric and "irtr" not in on:
            yield "get_recall_metric needs the retrieval task loss_names.irtr: a named config task_finetune_irtr_…"

    def _data_of(self, task: str) -> Iterator[str]:
        if task not in self.task_data:
            yield f"loss_names.{task}: only {', '.join(self.task_data)} can be trained or evaluated here"
        elif unfit := [name for name in self.datasets if self.specs[name].kind != self.task_data[task]]:
            yield f"loss_names.{task} needs {self.task_data[task]} data, which datasets={unfit} is not"
