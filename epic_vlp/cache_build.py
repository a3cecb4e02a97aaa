"""Build the saliency cache of a run: every training and validation pair through the teacher once, on all processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from epic_common.saliency_cache.writer import CacheWriter, scores_of
from epic_common.teacher import SaliencyTeacher
from epic_vlp.cache_identity import identity, identity_in_config
from epic_vlp.cache_run import build_missing, check_asked, launch_owner, new_fabric, run_or_exit
from epic_vlp.cached_teacher import pairs_of
from epic_vlp.frozen_teacher import load_teacher
from epic_vlp.parts import Config, parts_of, settings_of
from vlp.data.arrow.dataset import ArrowDataset, Sample
from vlp.data.arrow.manifest import footer_sha256
from vlp.data.arrow.registry import DatasetSpec, Split, get_spec, table_files
from vlp.data.collate import Batch
from vlp.data.trim import trimmed
from vlp.data.unknown_tokens import refuse_unfit
from vlp.progress import CountProgress
from vlp.sacred_dialect.baseline import SacredBaseline
from vlp.sacred_dialect.settings import PRECISIONS, processes_per_node
from vlp.training.matmul import set_matmul_precision
from vlp.training.processes import check_processes
from vlp.training.trainer import prepare_process

SPLITS: tuple[Split, ...] = ("train", "val")
MAX_CHUNK = 4096  # pairs of which a kill loses at most so many per process


class EveryPair(Dataset[Sample | None]):
    """Every pair of ``sets`` (``image_only``, with ``identify``), table by table; None where the image is broken.

    An image's captions stand one after the other, so it is read and decoded once for all of them.
    """

    def __init__(self, sets: Sequence[ArrowDataset]) -> None:
        self.sets = list(sets)
        self._starts = np.cumsum([0] + [dataset.tables.num_texts for dataset in sets])
        self._place: tuple[int, int] | None = None
        self._image: Sample | None = None

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Sample | None:
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        dataset, text = self.sets[number], index - int(self._starts[number])
        row = int(dataset.tables.rows[text])
        if self._place != (number, row):
            sample = dataset[row]
            # Training takes the next row instead of a broken image; here that row comes anyway.
            self._place, self._image = (number, row), sample if sample["img_index"] == row else None
        return self._image and {**self._image, "text": dataset.tables.text(text)}


class CollateReadable:
    """Samples -> the batch of those that are not None (None if there are none), and how many there were in all."""

    def __init__(self, collate: Callable[[Sequence[Sample]], Batch]) -> None:
        self.collate = collate

    def __call__(self, samples: Sequence[Sample | None]) -> tuple[Batch | None, int]:
        readable = [sample for sample in samples if sample is not None]
        return self.collate(readable) if readable else None, len(samples)


def build_or_exit(baseline: SacredBaseline, config: Config) -> None:
    """Check the config of a run and build its cache; what does not serve ends in one line and status 1."""

    def build() -> None:
        baseline.check({**config, "saliency_cache": ""})  # which is not there yet
        build_cache(baseline, config)

    run_or_exit(build)


def build_cache(baseline: SacredBaseline, config: Config) -> None:
    """Build, or go on building, the folder ``saliency_cache`` of a run whose config is checked; one process of it.

    Raises:
        ValueError: the run cannot have a cache, or the folder holds that of another run.
        DataError, WeightsError, OSError, FloatingPointError: data or teacher do not serve.
    """
    check_asked(config)
    settings = settings_of(baseline, config)
    identity_in_config(baseline, config, settings)  # refuses, before the tables are opened, views that are not fixed
    prepare_process()
    fabric = fabric_of(config)
    launch_owner(fabric, config["saliency_cache"])
    datamodule = baseline.datamodule({**config, "test_only": True})  # whose training sets would draw false images
    sets = [datamodule.dataset(k, s, image_only=True, false_draws=False) for k in config["datasets"] for s in SPLITS]
    for dataset in sets:
        dataset.identify = True
        refuse_unfit(datamodule.texts_of(dataset), datamodule.tokenizer)
    pairs = EveryPair(sets)
    chunks = chunks_of(len(pairs))
    needed, command = identity(baseline, config, settings, datamodule.tokenizer), parts_of(baseline).cache_command
    writer = CacheWriter(config["saliency_cache"], command, needed, source_of(config, datamodule.specs), len(chunks))

    def new_teacher() -> SaliencyTeacher:
        return load_teacher(baseline, config, settings, datamodule.tokenizer)

    def write(teacher: SaliencyTeacher, numbers: Sequence[int]) -> None:
        own = {number: chunks[number] for number in numbers}
        loader = loader_of(pairs, datamodule.collate, own.values(), config)
        batches = ((fabric.to_device(batch), seen) for batch, seen in loader)
        write_chunks(writer, teacher, own, batches, show=fabric.is_global_zero)

    build_missing(fabric, writer, len(chunks), config, new_teacher, write)


def fabric_of(config: Config) -> L.Fabric:
    """Processes, device and precision of the run; they exchange nothing but when they are done.

    Raises:
        ValueError: what started the processes contradicts ``num_gpus`` or ``num_nodes``.
    """
    cuda = torch.cuda.is_available()
    if cuda:
        set_matmul_precision(config["matmul_precision"])
    per_node, nodes = processes_per_node(config), config["num_nodes"]
    devices = config["num_gpus"] if cuda else per_node
    fabric = new_fabric(cuda, devices, per_node, nodes, PRECISIONS[config["precision"]])
    if per_node * nodes > 1 and (found := getattr(fabric.strategy, "cluster_environment", None)) is not None:
        check_processes(found, per_node, nodes)
    return fabric


def source_of(config: Config, specs: Mapping[str, DatasetSpec]) -> list[Any]:
    """Where the pairs come from: the tables with the hash of their footers; and the precision, which is one for all."""
    tables = [
        [split, name, footer_sha256(path)]
        for key in config["datasets"]
        for split in SPLITS
        for name, path in table_files(get_spec(key, specs), split, config["data_root"], config["eval_split"])
    ]
    return [tables, str(config["precision"])]


def chunks_of(pairs: int) -> list[range]:
    """The pairs cut into equal parts: small enough to lose little, and some for each of 16 processes."""
    if not pairs:
        raise ValueError("datasets have no pairs to compute saliency of")
    size = min(MAX_CHUNK, -(-pairs // 16))
    return [range(start, min(start + size, pairs)) for start in range(0, pairs, size)]


def loader_of(
    pairs: EveryPair, collate: Callable[[Sequence[Sample]], Batch], chunks: Iterable[range], config: Config
) -> DataLoader[Any]:
    """The batches of the chunks, one after the other; a batch belongs to one chunk."""
    size = config["per_gpu_batchsize"]
    batches = [chunk[start : start + size] for chunk in chunks for start in range(0, len(chunk), size)]
    return DataLoader(
        pairs,
        batch_sampler=batches,  # type: ignore[arg-type]  # ranges, not lists: no Python object for each pair
        num_workers=config["num_workers"],
        collate_fn=CollateReadable(collate),
    )


def write_chunks(
    writer: CacheWriter,
    teacher: SaliencyTeacher,
    chunks: Mapping[int, range],
    batches: Iterator[tuple[Batch | None, int]],
    show: bool,
) -> None:
    """Write each of ``chunks``, by number, as soon as the last of its ``batches`` went through the teacher."""
    progress = CountProgress("saliency", "pairs", sum(map(len, chunks.values())), show)
    for number, chunk in chunks.items():
        keys: list[bytes] = []
        scores: list[Tensor] = []
        seen = 0
        while seen < len(chunk):
            batch, size = next(batches)
            if batch is not None:
                batch = trimmed(batch)
                pairs = pairs_of(batch)
                keys += pairs.keys
                scores += scores_of(teacher, batch, pairs)
            seen += size
            progress.advance(size)
        writer.write(number, keys, scores, skipped=len(chunk) - len(keys))
