"""Several Arrow datasets as the one that a loader reads, batch by batch.

Source: docs/official/meter.md §3.8, docs/official/vilt.md §3.9.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence

from torch.utils.data import ConcatDataset

from vlp.data.arrow.caption_dataset import CaptionDataset
from vlp.data.arrow.dataset import ArrowDataset, Sample
from vlp.data.draws import itm_labels_of_batch
from vlp.data.errors import DataError
from vlp.data.read_guard import ReadGuard


class MixedDataset(ConcatDataset[Sample]):
    """Several datasets one after the other, in the order of the ``datasets`` key of the configuration.

    With ``itm`` (caption datasets that draw false images) a batch comes with its ITM labels, which belong to the batch
    of the epoch: they are those of its first sample's key, whatever the number of workers and after every resume.
    """

    def __init__(self, datasets: Iterable[ArrowDataset], itm: bool = False) -> None:
        super().__init__(datasets)
        self.itm = itm

    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        """The samples of one batch; this is what torch's loaders call."""
        if not self.itm:
            return [self[index] for index in indices]
        placed = [self.place(index) for index in indices]
        dataset, first = placed[0]
        labels = itm_labels_of_batch(dataset.key(first), len(placed))
        return [_for_itm(*place, label) for place, label in zip(placed, labels, strict=True)]

    def place(self, index: int) -> tuple[ArrowDataset, int]:
        """The dataset of sample ``index``, and its index there."""
        number = bisect.bisect_right(self.cumulative_sizes, index)
        dataset = self.datasets[number]
        assert isinstance(dataset, ArrowDataset)
        return dataset, index - (self.cumulative_sizes[number - 1] if number else 0)

    @property
    def guards(self) -> dict[str, ReadGuard]:
        """The count of images read and not readable, by dataset key."""
        return {dataset.spec.key: dataset.guard for dataset in self.datasets}  # type: ignore[attr-defined]

    def refuse_empty(self) -> None:
        """Raise a DataError if a dataset whose tables are there has no sample, or if there is none at all."""
        datasets: list[ArrowDataset] = self.datasets  # type: ignore[assignment]
        for dataset in datasets:
            if dataset.tables.names and not len(dataset):
                names = ", ".join(f"{name}.arrow" for name in dataset.tables.names)
                raise DataError(
                    f"dataset {dataset.spec.key} ({dataset.split}) is empty: not one sample in {names}; convert it "
                    "again (python -m vlp.data.arrow, see docs/data.md) or take it out of datasets"
                )
        if not len(self):
            keys = ", ".join(dataset.spec.key for dataset in datasets)
            raise DataError(f"datasets: {keys} has no {datasets[0].split} split; docs/data.md lists what each has")

    @property
    def empty_tables(self) -> list[str]:
        """The names of the tables that add nothing."""
        datasets: list[ArrowDataset] = self.datasets  # type: ignore[assignment]
        return [name for dataset in datasets for name in dataset.tables.empty]

    def set_epoch(self, epoch: int) -> None:
        """Make the draws of every dataset those of ``epoch``."""
        for dataset in self.datasets:
            assert isinstance(dataset, ArrowDataset)
            dataset.set_epoch(epoch)

    def identify(self) -> None:
        """Make the caption samples of every dataset say which file their image is."""
        for dataset in self.datasets:
            assert isinstance(dataset, ArrowDataset)
            dataset.identify = True


def _for_itm(dataset: ArrowDataset, index: int, label: int) -> Sample:
    assert isinstance(dataset, CaptionDataset)
    return dataset.for_itm(index, label)
