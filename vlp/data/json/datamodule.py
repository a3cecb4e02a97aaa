"""The loaders of a run on JSON lists.

Source: docs/official/albef.md §3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from vlp.data.blocks import Blocks
from vlp.data.datamodule import RunDataModule
from vlp.data.errors import DataError
from vlp.data.fed import Fed, digests_of_files
from vlp.data.json.collate import Batch, JsonCollator
from vlp.data.json.coverage import store_coverage
from vlp.data.json.dataset import JsonDataset
from vlp.data.json.text import encode_cls, texts_of
from vlp.data.raw.refcoco import INSTANCES, REFS
from vlp.data.samplers import ResumableDistributedSampler
from vlp.data.unknown_tokens import TextsRead, spread
from vlp.data.worker_signals import ignore_in_worker

TRAIN = "train"
ROWS_PER_BLOCK = 1024
# What an evaluation reads beside its list.
_BESIDE = ("answer_list", "det_file", "val_gt_file", "test_gt_file")


class Part(NamedTuple):
    """One split of a run: its data, its batches on each process.

    Attributes:
        sharded: every process has its share of the rows (an evaluation's are padded with rows from the start); else
            every process has all of them.
    """

    dataset: JsonDataset
    batch_size: int
    collate: JsonCollator
    sharded: bool = True


class JsonDataModule(RunDataModule):
    """The loaders of training and of each evaluation split; a subclass reads the lists that its config names.

    Attributes:
        tokenizer: BERT's, ``[CLS] X``.
        sets: split -> data set.
        eval_splits: the names of the evaluation splits, in the order of the loaders.
        has_validation: whether a run scores them after every epoch.
        collate: of the training batches, else of the first evaluation split.
    """

    eval_splits: ClassVar[tuple[str, ...]] = ()
    has_validation = True

    def __init__(
        self, config: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, parts: Mapping[str, Part]
    ) -> None:
        """
        Args:
            config: ``seed``, ``num_workers`` and ``output_dir`` are read.
            parts: split -> data; "train" is missing in a run that evaluates alone.
        """
        super().__init__()
        self.prepare_data_per_node = False
        self.config, self.tokenizer, self.parts = config, tokenizer, dict(parts)
        self.sets = {split: part.dataset for split, part in self.parts.items()}
        self.collate = next(iter(self.parts.values())).collate

    @rank_zero_only
    def write_report(self, folder: Path) -> None:
        """Leave in a run's folder how many images are there."""
        store_coverage(self.sets, folder)

    @cached_property
    def fed(self) -> Fed:
        lists = {
            f"{split}/{name}": {rows.paths[number].name: rows.digest(number)}
            for split, rows in ((split, dataset.rows) for split, dataset in self.sets.items())
            for number, name in enumerate(rows.names)
        }
        beside = [(key, Path(self.config[key])) for key in _BESIDE if self.config.get(key)]
        if folder := self.config.get("refcoco_data"):  # with VLUE's lists the files need not be there
            paths = (Path(folder) / name for name in (REFS, INSTANCES))
            beside += [("refcoco_data", path) for path in paths if path.is_file()]
        for (key, path), digest in zip(beside, digests_of_files([path for _, path in beside]), strict=True):
            lists.setdefault(key, {})[path.name] = digest
        return lists

    def texts_read(self) -> Iterator[TextsRead]:
        part = self.parts[TRAIN]
        rows = part.dataset.rows
        for number, path in enumerate(rows.paths):
            chosen = (rows[i] for i in spread(rows.of_list(number)))
            yield texts_of(path, chosen, self.tokenizer, part.collate.max_length)

    def token_blocks(self) -> Sequence[list[list[int]]]:
        part = self.parts[TRAIN]
        rows = len(part.dataset)

        def read(number: int) -> list[list[int]]:
            numbers = range(number * ROWS_PER_BLOCK, min((number + 1) * ROWS_PER_BLOCK, rows))
            texts = [text for i in numbers for text in part.dataset.captions(part.dataset.rows[i])]
            encoded = encode_cls(self.tokenizer, texts, part.collate.max_length)
            pairs = zip(encoded.ids.tolist(), encoded.masks.tolist(), strict=True)
            return [ids[: sum(mask)] for ids, mask in pairs]

        return Blocks(-(-rows // ROWS_PER_BLOCK), read)

    def train_dataloader(self) -> DataLoader[Any]:
        """The training batches; a smaller last one is left out.

        Raises:
            DataError: a process has fewer rows than a batch.
        """
        part, sampler = self.parts[TRAIN], self.resumed_train_sampler(*self._processes())
        if not len(sampler):
            raise DataError(
                f"{len(part.dataset)} training rows for {sampler.num_replicas} process(es) make no whole batch of "
                f"{part.batch_size} on each: give more rows, or a smaller batch size"
            )
        return self._loader(part, sampler)

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """The loaders of :attr:`eval_splits`; none where they are not scored after every epoch."""
        return self.test_dataloader() if self.has_validation else []

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """The loaders of :attr:`eval_splits`."""
        return [self._loader(part, self._eval_sampler(part)) for part in map(self.parts.__getitem__, self.eval_splits)]

    def new_train_sampler(self, processes: int, rank: int) -> ResumableDistributedSampler:
        part = self.parts[TRAIN]
        return ResumableDistributedSampler(
            part.dataset,
            num_replicas=processes,
            rank=rank,
            seed=self.config["seed"],
            whole=part.batch_size,
        )

    def samples_in(self, batch: Batch) -> int:
        return len(batch["index"])

    def _eval_sampler(self, part: Part) -> ResumableDistributedSampler:
        processes, rank = self._processes() if part.sharded else (1, 0)
        return ResumableDistributedSampler(part.dataset, num_replicas=processes, rank=rank, shuffle=False)

    def _loader(self, part: Part, sampler: ResumableDistributedSampler) -> DataLoader[Any]:
        return DataLoader(
            part.dataset,
            batch_size=part.batch_size,
            sampler=sampler,
            num_workers=self.config["num_workers"],
            collate_fn=part.collate,
            worker_init_fn=ignore_in_worker,
            pin_memory=self._on_gpu(),
            generator=torch.Generator(),  # of its own: starting an epoch must not move the model's random stream
        )
