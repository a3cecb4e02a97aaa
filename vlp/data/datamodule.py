"""What the data modules of every format share: the position in the training set, saved and gone on from."""

from __future__ import annotations

from typing import Any

import lightning as L

from vlp.data.samplers import ResumableDistributedSampler


class RunDataModule(L.LightningDataModule):
    """The data of a run, as the engine sees it.

    A subclass builds its loaders, the training loader with the sampler that :meth:`resumed_train_sampler` gives.
    Checkpoints hold the position under the subclass's name.
    """

    has_validation: bool

    def __init__(self) -> None:
        super().__init__()
        self.train_sampler: ResumableDistributedSampler | None = None
        self._resumed: dict[str, Any] | None = None

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

    def state_dict(self) -> dict[str, Any]:
        """The position in the training set, saved in every checkpoint."""
        return self.train_sampler.state_dict() if self.train_sampler else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved position once the training loader is built."""
        self._resumed = state_dict or None

    def check_position(self, state_dict: dict[str, Any], processes: int) -> None:
        """Whether a run of ``processes`` processes can go on from a saved position.

        Raises:
            ValueError: naming what differs.
        """
        self.new_train_sampler(processes, rank=0).load_state_dict(state_dict)
