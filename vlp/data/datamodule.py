"""What the data modules of every format share: the position in the training set, saved and gone on from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning as L
from transformers import PreTrainedTokenizerBase

from vlp.data.fed import Fed
from vlp.data.samplers import ResumableDistributedSampler
from vlp.data.unknown_tokens import TextsRead, refuse_unfit


class RunDataModule(L.LightningDataModule):
    """The data of a run, as the engine sees it.

    A subclass builds its loaders, the training loader with the sampler that :meth:`resumed_train_sampler` gives; one
    without a sampler says by the other methods where it stands. Checkpoints hold the position under the subclass's
    name.
    """

    has_validation: bool
    tokenizer: PreTrainedTokenizerBase

    def __init__(self) -> None:
        super().__init__()
        self.train_sampler: ResumableDistributedSampler | None = None
        self._resumed: dict[str, Any] | None = None

    def write_report(self, folder: Path) -> None:
        """Leave ``data.json`` in the run's folder: what is read, and how much of the published data sets that is.

        Every process calls it before the run.
        """

    def texts_read(self) -> Iterable[TextsRead]:
        """Some texts of each list of the training set, and the token ids that a batch has of them."""
        return ()

    def check_texts(self) -> None:
        """Look at some texts of the training set before a run.

        Raises:
            DataError: they are none to the tokenizer.
        """
        for read in self.texts_read():
            refuse_unfit(read, self.tokenizer)

    @cached_property
    def fed(self) -> Fed:
        """The digests of all files that the run reads, those of its evaluations as well.

        Raises:
            OSError: a file cannot be read any more.
        """
        return {}

    def token_blocks(self) -> Sequence[list[list[int]]]:
        """Every caption of the training set once, as the token ids of its sentence, without padding.

        In blocks, each read when it is asked for; their number and order are the same on every process.
        """
        raise NotImplementedError

    def new_train_sampler(self, processes: int, rank: int) -> ResumableDistributedSampler:
        """The sampler of the training set for process ``rank`` of ``processes``, at its start."""
        raise NotImplementedError

    def samples_in(self, batch: Any) -> int:
        """How many samples of the training set a batch holds."""
        raise NotImplementedError

    def resumed_train_sampler(self, processes: int, rank: int) -> ResumableDistributedSampler:
        """The sampler of a new training loader, at the position that the run goes on from."""
        self.train_sampler = self.new_train_sampler(processes, rank)
        if self._resumed is not None:
            self.train_sampler.load_state_dict(self._resumed)
        return self.train_sampler

    def consumed(self, batch: Any) -> None:
        """Record that training has used a batch of the training loader."""
        assert self.train_sampler is not None
        self.train_sampler.consumed(self.samples_in(batch))

    def start_epoch(self, epoch: int) -> None:
        """Go to the start of ``epoch``, once the one before is complete."""
        assert self.train_sampler is not None
        self.train_sampler.set_epoch(epoch)

    def batches_done(self, loader: Any) -> int:
        """How many batches of the training loader make what has been used of this epoch; 0 between two epochs."""
        assert self.train_sampler is not None
        return -(-self.train_sampler.position // loader.batch_size)

    def state_dict(self) -> dict[str, Any]:
        """The position in the training set, saved in every checkpoint."""
        return self.train_sampler.state_dict() if self.train_sampler else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved position once the training loader is built."""
        self._resumed = state_dict or None

    def check_position(self, state_dict: dict[str, Any], processes: int, other_data: bool = False) -> None:
        """Whether a run of ``processes`` processes can go on from a saved position.

        Args:
            other_data: it is meant that the training set is another one.

        Raises:
            ValueError: naming what differs.
        """
        self.new_train_sampler(processes, rank=0).check(state_dict, other_data)

    def _processes(self) -> tuple[int, int]:
        """How many processes there are, and which one this is."""
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

    def _on_gpu(self) -> bool:
        """Whether batches go on to a GPU: only pinned memory is copied there while the host goes on."""
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
