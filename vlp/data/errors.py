"""The one error of the data code that a user is meant to read."""

from __future__ import annotations


class DataError(RuntimeError):
    """Data on disk is missing or broken; the message names the file, the row or the key, and what to do."""

    @property
    def plain(self) -> str:
        """The message alone: what a loader worker raises reaches the run with the worker's traceback in front."""
        return str(self).rsplit(f"{__name__}.DataError: ", 1)[-1].strip()
