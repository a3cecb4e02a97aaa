"""The sentences and masks of Fig. 2: a baseline's own training batches, and pairs that are held out of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Subset

from vlp.baseline import Config
from vlp.data.collate import Batch
from vlp.data.json.datamodule import TRAIN
from vlp.data.json.transforms import EvalTransform
from vlp.data.trim import trimmed
from vlp.sacred_dialect.baseline import SacredBaseline

HeldOut = Callable[[], Iterable[Batch]]  # the same batches at every call


def mlm_config(baseline: Any, config: Config, seed: int, steps: int) -> Config:
    """The configuration of a run from its start on masked language modelling of images' captions alone."""
    common = {**config, "seed": seed, "max_steps": steps, "resume_from": None}
    if isinstance(baseline, SacredBaseline):
        tasks = {task: int(task == "mlm") for task in config["loss_names"]}
        nothing_false = {"draw_false_image": 0, "draw_false_text": 0}
        return {**common, **nothing_false, "loss_names": tasks, "load_path": "", "test_only": False}
    common["checkpoint"] = ""
    if "train_file_regions" in config:
        common["train_file_regions"] = ""
    return common


def training_batches(datamodule: Any) -> Iterator[Batch]:
    """The batches of a run, epoch after epoch, cut to their longest sentence."""
    loader = datamodule.train_dataloader()
    for epoch in itertools.count():
        for batch in loader:
            datamodule.consumed(batch)
            yield trimmed(batch)
        datamodule.start_epoch(epoch + 1)


def check_held_out(baseline: Any, file: str) -> None:
    """Refuse held-out pairs that are not named as the baseline has them, before anything is trained.

    Args:
        file: of ALBEF and X-VLM, in the form of ``train_file``; "" = METER's and ViLT's val split.

    Raises:
        ValueError: naming what to give.
    """
    if isinstance(baseline, SacredBaseline):
        if file:
            raise ValueError(f"--held-out {file}: {baseline.title} has a val split in its tables; leave it out")
        return
    if not file:
        raise ValueError(f"{baseline.title}'s pre-training has no val split: give --held-out FILE, like train_file")
    if not Path(file).exists():
        raise ValueError(f"--held-out {file}: no such file or folder")


def held_out_pairs(baseline: Any, config: Config, file: str, count: int) -> HeldOut:
    """``count`` pairs that are not trained on, or as many as there are, evenly spread, in views that draw nothing.

    Args:
        config: of :func:`mlm_config`; its seed decides the masks.
        file: see :func:`check_held_out`.

    Raises:
        ValueError: there are none.
        DataError: the file does not serve.
    """
    if isinstance(baseline, SacredBaseline):
        return _spread(lambda datamodule: datamodule.sets["val"], baseline, config, config["per_gpu_batchsize"], count)
    other = {**config, "train_file": file}
    if "train_file_regions" in config:
        return _streamed(baseline, other, count)
    return _spread(_plain_views, baseline, other, config["batch_size"], count)


def _plain_views(datamodule: Any) -> Any:
    dataset = datamodule.sets[TRAIN]
    dataset.transform = EvalTransform(datamodule.config["image_res"])
    return dataset


def _spread(dataset_of: Callable[[Any], Any], baseline: Any, config: Config, size: int, count: int) -> HeldOut:
    datamodule = baseline.datamodule(config)
    dataset = dataset_of(datamodule)
    if not len(dataset):
        raise ValueError("no pair is held out: the datasets have no val split (docs/data.md)")
    rows = range(0, len(dataset), max(1, len(dataset) // count))[:count]
    loader = DataLoader(
        Subset(dataset, rows), size, collate_fn=datamodule.collate, num_workers=config["num_workers"] or 0
    )
    return lambda: map(trimmed, loader)


def _streamed(baseline: Any, config: Config, count: int) -> HeldOut:
    """X-VLM's, whose files are read from their start."""
    images = {**config["images"], "num_workers": 0}
    config = {**config, "images": images, "fixed_views": True, "train_dataset_size": count}
    return lambda: map(trimmed, baseline.datamodule(config).train_dataloader())
