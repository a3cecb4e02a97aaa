"""The loader of a run over streams of JSON lines, and the position that a checkpoint holds of it.

Source: docs/official/xvlm.md §3.11, §5.6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from lightning.pytorch.utilities import rank_zero_only
from transformers import PreTrainedTokenizerBase

from vlp.data.blocks import Blocks
from vlp.data.collate import Batch
from vlp.data.datamodule import RunDataModule
from vlp.data.fed import Fed, digests_of_files
from vlp.data.jsonl.batches import Reader, RowBatches
from vlp.data.jsonl.coverage import coverage_of
from vlp.data.jsonl.lanes import Position
from vlp.data.jsonl.lines import JsonLines, Line
from vlp.data.jsonl.mixed import REGIONS, MixedLoader, Stream, steps_of_epoch
from vlp.data.jsonl.rows import RowError, parsed
from vlp.data.jsonl.texts import texts_of
from vlp.data.published import REPORT
from vlp.data.unknown_tokens import TextsRead
from vlp.distributed import gathered
from vlp.files import write_json


class Source(NamedTuple):
    """What a stream is made from.

    Attributes:
        size: samples of a batch, each from one row.
        workers: of its loader.
    """

    lines: JsonLines
    read: Reader
    collate: Callable[[Sequence[Any]], Batch]
    size: int
    workers: int


class StreamDataModule(RunDataModule):
    """The training loader over streams; nothing is evaluated.

    A checkpoint holds where each lane of each process stands, so that the run goes on exactly behind its last batch,
    with any number of loader workers. Another number of processes is refused: each has lanes of its own.

    Attributes:
        tokenizer: of the texts.
        sources: stream -> what it is made from.
        collate: that of the images, of the regions where they are alone.
    """

    eval_splits: ClassVar[tuple[str, ...]] = ()
    has_validation = False

    def __init__(
        self,
        config: Mapping[str, Any],
        tokenizer: PreTrainedTokenizerBase,
        sources: Mapping[str, Source],
        batch_size: int,
        iter_perc: float = 0.0,
    ) -> None:
        """
        Args:
            config: ``seed``, ``train_dataset_size`` and ``output_dir`` are read.
            sources: "images", "regions" or both.
            batch_size: texts of a process's iteration, which ``train_dataset_size`` is divided by.
            iter_perc: share of iterations with a batch of regions, where there are both.

        Raises:
            DataError: the first rows of a file or folder do not serve.
        """
        super().__init__()
        self.prepare_data_per_node = False
        self.config, self.tokenizer, self.sources = config, tokenizer, dict(sources)
        self.batch_size, self.iter_perc = batch_size, iter_perc
        self.sets: dict[str, Any] = {}
        self.collate = next(iter(self.sources.values())).collate
        self._loader: MixedLoader | None = None
        for source in self.sources.values():
            RowBatches(source.lines, source.read, source.collate, source.size, config["seed"]).check_first_rows()

    @rank_zero_only
    def write_report(self, folder: Path) -> None:
        """Leave in a run's folder which files the streams read.

        Beside them stands how much of the published data sets they hold.
        """
        streams = {
            name: [
                {"file": str(path), "bytes": size}
                for path, (_, size) in zip(source.lines.files, source.lines.identity(), strict=True)
            ]
            for name, source in self.sources.items()
        }
        held = {name: coverage_of(source.lines) for name, source in self.sources.items()}
        write_json(folder / REPORT, {"streams": streams, "coverage": held})

    @cached_property
    def fed(self) -> Fed:
        files = [
            (f"{stream}/{group}", path)
            for stream, source in self.sources.items()
            for group, path in zip(source.lines.groups, source.lines.files, strict=True)
        ]
        fed: Fed = {}
        for (group, path), digest in zip(files, digests_of_files([path for _, path in files]), strict=True):
            fed.setdefault(group, {})[path.name] = digest
        return fed

    def steps(self, processes: int) -> int:
        """Iterations of an epoch."""
        return steps_of_epoch(self.config["train_dataset_size"], self.batch_size, processes)

    def texts_read(self) -> Iterator[TextsRead]:
        for source in self.sources.values():
            reader: Any = source.read
            for name in dict.fromkeys(source.lines.groups):
                yield texts_of(source.lines, source.lines.groups.index(name), reader.texts, reader.captions)

    def token_blocks(self, streams: Sequence[str] | None = None) -> Sequence[list[list[int]]]:
        """As :meth:`RunDataModule.token_blocks`: of ``streams``, by default of all.

        What cannot be read as a row or a text is left out, as in training.
        """
        sources = [source for name, source in self.sources.items() if streams is None or name in streams]
        places = [(source, chunk) for source in sources for chunk in range(source.lines.chunks)]

        def read(number: int) -> list[list[int]]:
            source, chunk = places[number]
            return [ids for line in source.lines.read(chunk) for ids in _token_ids(source.read, line)]

        return Blocks(len(places), read)

    def train_dataloader(self) -> MixedLoader:
        """The one training loader, at the position that the run goes on from."""
        if self._loader is None:
            self._loader = self._new_loader(*self._processes())
        return self._loader

    def consumed(self, batch: Batch) -> None:
        self.train_dataloader().consumed(batch)

    def start_epoch(self, epoch: int) -> None:
        """The loader knows by itself where an epoch ends."""

    def batches_done(self, loader: Any) -> int:
        return self.train_dataloader().done

    def teardown(self, stage: str) -> None:
        """End the loader's workers."""
        for stream in self._loader.streams.values() if self._loader else ():
            stream.stop()

    # The position ----------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Where all processes stand; every one of them must call it."""
        loader = self.train_dataloader()
        lanes = {name: [list(each) for each in stream.positions] for name, stream in loader.streams.items()}
        return {
            **self._fixed(self._processes()[0]),
            "epoch": loader.epoch,
            "done": loader.done,
            "batches": {name: stream.done for name, stream in loader.streams.items()},
            "positions": gathered(lanes),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._resumed, self._loader = state_dict or None, None

    def check_position(self, state_dict: dict[str, Any], processes: int, other_data: bool = False) -> None:
        own = self._fixed(processes)
        different = [name for name, value in own.items() if state_dict.get(name) != value]
        if different:
            shown = [
                "the files are others" if name == "files" else f"{name} was {state_dict.get(name)}, is {own[name]}"
                for name in different
            ]
            raise ValueError(
                f"cannot go on from the saved position in the training data: {'; '.join(shown)}. Resume with the same "
                "files, the same seed and batch sizes, and the same number of processes"
            )

    def _fixed(self, processes: int) -> dict[str, Any]:
        """What must be the same where a run goes on."""
        return {
            "processes": processes,
            "seed": self.config["seed"],
            "steps of an epoch": self.steps(processes),
            "share of regions": self.iter_perc if REGIONS in self.sources and len(self.sources) > 1 else 0.0,
            "samples of a batch": {name: source.size for name, source in self.sources.items()},
            "files": {name: source.lines.identity() for name, source in self.sources.items()},
        }

    def _new_loader(self, processes: int, rank: int) -> MixedLoader:
        state = self._resumed
        if state is not None:
            self.check_position(state, processes)
        streams = {}
        for name, source in self.sources.items():
            if state is None:
                first, positions = 0, [Position()] * max(1, source.workers)
            else:
                first = state["batches"][name]
                positions = [Position(*position) for position in state["positions"][rank][name]]
            batches = RowBatches(
                source.lines,
                source.read,
                source.collate,
                source.size,
                self.config["seed"],
                process=(processes, rank),
                first=first,
                positions=positions,
            )
            streams[name] = Stream(batches, source.workers, self._on_gpu())
        at = {} if state is None else {"epoch": state["epoch"], "done": state["done"]}
        return MixedLoader(streams, self.steps(processes), self.config["seed"], self.iter_perc, **at)


def _token_ids(reader: Any, line: Line) -> list[list[int]]:
    """The sentences of a line's texts."""
    found = []
    with suppress(RowError):
        for caption in reader.captions(parsed(line)):
            with suppress(RowError):
                found.append(reader.texts.encode(caption)[1])
    return found
