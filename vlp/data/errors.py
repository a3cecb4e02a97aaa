"""The one error of the data code that a user is meant to read."""

from __future__ import annotations


class DataError(RuntimeError):
    """Data on disk is missing or broken; the message names the file, the row or the key, and what to do."""

    @property
    def plain(self) -> str:
        """The message without the traceback that torch's loader puts in front of what a worker raised."""
        return str(self).rsplit(f"{__name__}.DataError: ", 1)[-1].strip()
