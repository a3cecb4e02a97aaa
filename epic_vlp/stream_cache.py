"""Build the saliency cache of a run over JSON lines: every pair of its stream of images, on all processes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from epic_common.saliency_cache.writer import CacheWriter, scores_of
from epic_common.teacher import SaliencyTeacher
from epic_vlp.cache_identity import identity, identity_in_config
from epic_vlp.cache_run import build_missing, check_asked, launch_owner, new_fabric, run_or_exit
from epic_vlp.cached_teacher import pairs_of
from epic_vlp.frozen_teacher import load_teacher
from epic_vlp.parts import Config, parts_of, settings_of
from vlp.data.collate import Batch
from vlp.data.draws import SampleKey
from vlp.data.images import ImageError
from vlp.data.jsonl.datamodule import Source
from vlp.data.jsonl.lines import JsonLines, Line
from vlp.data.jsonl.mixed import IMAGES
from vlp.data.jsonl.rows import RowError, parsed
from vlp.progress import CountProgress
from vlp.training.matmul import set_matmul_precision
from vlp.training.settings import PRECISIONS
from vlp.training.trainer import prepare_process
from vlp.yaml_dialect.baseline import YamlBaseline
from vlp.yaml_dialect.launch import find_processes, set_meeting_place

PARTS = 1024  # at most; a kill loses those that the processes are at


class Scored(NamedTuple):
    """Some pairs of a part: their batch, None if it is empty; pairs left out; whether they are the part's last."""

    part: int
    batch: Batch | None
    skipped: int
    last: bool


class PartPairs(IterableDataset[Scored]):
    """Every pair of parts of a stream's files: each caption of each row, with its image; no row twice."""

    def __init__(self, source: Source, parts: Sequence[range], todo: Sequence[int]) -> None:
        """``parts`` are ranges of the files' chunks, ``todo`` the numbers of those that are read."""
        self.source, self.parts, self.todo = source, parts, list(todo)

    def __iter__(self) -> Iterator[Scored]:
        worker = get_worker_info()
        for part in self.todo[worker.id :: worker.num_workers] if worker else self.todo:
            yield from self._part(part)

    def _part(self, part: int) -> Iterator[Scored]:
        samples: list[Any] = []
        skipped = 0
        for chunk in self.parts[part]:
            for line in self.source.lines.read(chunk):
                for row in self._rows(line):
                    try:
                        samples.append(self._sample(row, line))
                    except (RowError, ImageError):
                        skipped += 1
                    if len(samples) == self.source.size:
                        yield Scored(part, self.source.collate(samples), 0, False)
                        samples = []
        yield Scored(part, self.source.collate(samples) if samples else None, skipped, True)

    def _rows(self, line: Line) -> list[Any]:
        """A row for each caption of a line; [None] of a line that holds none."""
        try:
            row = parsed(line)
        except RowError:
            return [None]
        reader: Any = self.source.read
        captions = row.get(reader.caption_key)
        return [{**row, reader.caption_key: each} for each in captions] if isinstance(captions, list) else [row]

    def _sample(self, row: Any, line: Line) -> Any:
        """What training makes of a row, with its one caption.

        Raises:
            RowError, ImageError: training leaves it out.
        """
        if row is None:
            raise RowError("is no row")
        lines = self.source.lines
        return self.source.read(row, SampleKey(0, 0, lines.names[line.file], line.offset), lines.describe(line))


def build_or_exit(baseline: YamlBaseline, config: Config) -> None:
    """Check the config of a run and build its cache; what does not serve ends in one line and status 1."""

    def build() -> None:
        baseline.check(baseline.scripts["Pretrain"], {**config, "saliency_cache": ""})  # which is not there yet
        build_cache(baseline, config)

    run_or_exit(build)


def build_cache(baseline: YamlBaseline, config: Config) -> None:
    """Build, or go on building, the folder ``saliency_cache`` of a run whose config is checked; one process of it.

    Raises:
        ValueError: the run cannot have a cache, or the folder holds that of another run.
        DataError, WeightsError, OSError, FloatingPointError: data or teacher do not serve.
    """
    check_asked(config)
    settings = settings_of(baseline, config)
    identity_in_config(baseline, config, settings)  # refuses, before the files are opened, views that are not fixed
    prepare_process()
    fabric = fabric_of(config)
    launch_owner(fabric, config["saliency_cache"])
    streams: Any = baseline.datamodule
    datamodule = streams(config)
    datamodule.check_texts()
    source: Source = datamodule.sources[IMAGES]
    source.read.identify = True  # type: ignore[attr-defined]
    parts = parts_of_lines(source.lines)
    needed, command = identity(baseline, config, settings, datamodule.tokenizer), parts_of(baseline).cache_command
    made_of = [source.lines.identity(), str(config["precision"])]
    writer = CacheWriter(config["saliency_cache"], command, needed, made_of, len(parts))

    def new_teacher() -> SaliencyTeacher:
        return load_teacher(baseline, config, settings, datamodule.tokenizer)

    def write(teacher: SaliencyTeacher, own: Sequence[int]) -> None:
        loader = DataLoader(PartPairs(source, parts, own), batch_size=None, num_workers=source.workers)
        progress = CountProgress("saliency", "parts", len(own), fabric.is_global_zero)
        write_parts(writer, teacher, (fabric.to_device(each) for each in loader), progress)

    build_missing(fabric, writer, len(parts), config, new_teacher, write)


def fabric_of(config: Config) -> L.Fabric:
    """Processes, device and precision of the run."""
    processes = find_processes(config["world_size"])
    set_meeting_place(config["dist_url"])
    cuda = torch.cuda.is_available() and config["device"] != "cpu"
    if cuda:
        set_matmul_precision(config["matmul_precision"])
    precision = PRECISIONS[config["precision"]]
    return new_fabric(cuda, processes.per_node, processes.per_node, processes.nodes, precision)


def parts_of_lines(lines: JsonLines) -> list[range]:
    """The files' chunks, cut into parts that are about equal."""
    size = max(1, -(-lines.chunks // PARTS))
    return [range(start, min(start + size, lines.chunks)) for start in range(0, lines.chunks, size)]


def write_parts(
    writer: CacheWriter, teacher: SaliencyTeacher, found: Iterator[Scored], progress: CountProgress
) -> None:
    """Write each part as soon as the last of its batches went through the teacher; workers read several at once."""
    keys: defaultdict[int, list[bytes]] = defaultdict(list)
    scores: defaultdict[int, list[Tensor]] = defaultdict(list)
    for part, batch, skipped, last in found:
        if batch is not None:
            pairs = pairs_of(batch)
            keys[part] += pairs.keys
            scores[part] += scores_of(teacher, batch, pairs)
        if last:
            writer.write(part, keys.pop(part, []), scores.pop(part, []), skipped=skipped)
            progress.advance(1)
