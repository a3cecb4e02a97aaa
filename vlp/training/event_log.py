"""TensorBoard's events, on a disk that may fill up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

log = logging.getLogger(__name__)


class EventLog(TensorBoardLogger):
    """Lightning's, but a disk that takes no more events ends the events, not the run.

    Only rank 0 logs: an error there alone would leave the other ranks waiting. TensorBoard's writer does not recover;
    ``metrics.jsonl`` holds the same numbers and does.
    """

    _ended = False

    @property
    def is_numbered(self) -> bool:
        """Whether each run has a folder ``version_{k}`` of its own."""
        return self.version != ""

    def count_again(self) -> None:
        """Take the next free k: another run was faster."""
        self._version = None

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._attempt(super().log_metrics, metrics, step)

    @rank_zero_only
    def save(self) -> None:
        self._attempt(super().save)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self._attempt(super().finalize, status)

    def _attempt(self, write: Callable[..., None], *arguments: Any) -> None:
        if self._ended:
            return
        try:
            write(*arguments)
        except (OSError, ValueError) as error:
            cause = error.__cause__ or error  # Lightning wraps what TensorBoard raises
            if not isinstance(cause, OSError):
                raise
            self._ended = True
            log.error("%s takes no more TensorBoard events: %s. The run goes on", self.log_dir, cause.strerror or cause)
