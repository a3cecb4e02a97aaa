"""Batches of endless JSON lines: which row is next, which cannot be used, and where a stream stands.

Source: docs/official/xvlm.md §3.2, §3.11.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from typing import Any

from torch.utils.data import IterableDataset, get_worker_info

from vlp.data.boxes import BoxError
from vlp.data.collate import Batch
from vlp.data.draws import SampleKey
from vlp.data.errors import DataError
from vlp.data.images import ImageError
from vlp.data.json.fields import Row
from vlp.data.jsonl.lanes import Lane, Position
from vlp.data.jsonl.lines import JsonLines, Line
from vlp.data.jsonl.rows import RowError, parsed
from vlp.data.read_guard import ReadGuard

Sample = dict[str, Any]
Reader = Callable[[Row, SampleKey, str], Sample]
_ADVICE = "`python -m vlp.data.jsonl check` names the rows: mend them, or take them out"
_TRIED = 20  # rows of each file or folder that are read before a run starts, until one serves


class RowBatches(IterableDataset[Batch]):
    """The batches of one process, endless.

    Batch b, counted from 0 over the whole run, comes from lane b modulo ``lanes``, so that it is the same one whatever
    the number of loader workers, of which ``lanes`` must be a multiple. It carries ``position``, ``(lane, Position)``:
    where its lane stands behind it.
    Rows that cannot be used are left out: counted, named, and limited by a :class:`ReadGuard` of each file or folder.
    """

    def __init__(
        self,
        lines: JsonLines,
        read: Reader,
        collate: Callable[[Sequence[Sample]], Batch],
        size: int,
        seed: int,
        *,
        process: tuple[int, int] = (1, 0),
        first: int = 0,
        positions: Sequence[Position] = (Position(),),
    ) -> None:
        """
        Args:
            size: samples of a batch.
            process: how many processes there are, and which one this is.
            first: batches that have been done.
            positions: of each of this process's lanes.
        """
        self.lines, self.read, self.collate, self.size, self.seed = lines, read, collate, size, seed
        self.process, self.first, self.positions = process, first, list(positions)
        groups = list(dict.fromkeys(lines.groups))
        self.guards = {name: ReadGuard(name, strict=False, advice=_ADVICE, what="row") for name in groups}
        # Official annotations have boxes that leave their image: far more of them than broken rows are let pass.
        self.guards |= {
            _boxes(name): ReadGuard(name, False, max_share=0.5, max_consecutive=100, advice=_ADVICE, what="region")
            for name in groups
        }

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        workers, number = (worker.num_workers, worker.id) if worker else (1, 0)
        processes, rank = self.process
        lanes: dict[int, tuple[Lane, Iterator[tuple[int, Line]]]] = {}
        for batch_number in count(self.first + number, workers):
            which = batch_number % len(self.positions)
            if which not in lanes:
                shares = len(self.positions) * processes
                lane = Lane(self.lines, self.seed, rank * len(self.positions) + which, shares, self.positions[which])
                lanes[which] = lane, iter(lane)
            lane, lines = lanes[which]
            samples: list[Sample] = []
            while len(samples) < self.size:
                sample = self._sample(*next(lines))
                samples += [sample] if sample is not None else []
            yield {**self.collate(samples), "position": (which, lane.position)}

    def check_first_rows(self) -> None:
        """Read the first rows of each file or folder until one serves.

        Raises:
            DataError: none does; says what is wrong with the first one.
        """
        for group in dict.fromkeys(self.lines.groups):
            files = [number for number, name in enumerate(self.lines.groups) if name == group]
            reasons = []
            for line in islice((line for file in files for line in self.lines.first(file, _TRIED)), _TRIED):
                try:
                    self.read(parsed(line), self._key(0, line), self.lines.describe(line))
                    break
                except (RowError, ImageError, BoxError) as error:
                    reasons.append(f"{self.lines.describe(line)}: {error}")
            else:
                where = self.lines.files[files[0]]
                if not reasons:
                    raise DataError(f"{self.lines.key}: {where} holds no row")
                raise DataError(f"{reasons[0]}; not one of the first {len(reasons)} rows of {where} serves")

    def _sample(self, turn: int, line: Line) -> Sample | None:
        group, where = self.lines.groups[line.file], self.lines.describe(line)
        sample = None
        try:
            sample = self.read(parsed(line), self._key(turn, line), where)
        except BoxError as error:
            self.guards[_boxes(group)].failure(where, error)
        except (RowError, ImageError) as error:
            self.guards[group].failure(where, error)
            return None
        else:
            for wrong in sample.get("left_out", ()):
                self.guards[_boxes(group)].failure(where, wrong)
            for _ in sample.get("regions", ()):
                self.guards[_boxes(group)].success()
        self.guards[group].success()
        return sample

    def _key(self, turn: int, line: Line) -> SampleKey:
        return SampleKey(self.seed, turn, self.lines.names[line.file], line.offset)


def _boxes(group: str) -> str:
    """The name of the count of a group's bad boxes."""
    return f"{group} (boxes)"
