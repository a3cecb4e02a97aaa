"""The folder that a conversion writes to: made and held, or refused before hours of work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vlp.data.errors import DataError
from vlp.owner import Claim, HeldError, held


@contextmanager
def held_output(folder: Path, dataset: str) -> Iterator[None]:
    """Make ``folder`` and keep other conversions of ``dataset`` out of it until the block ends.

    A folder that is still empty at the end and was made here is removed.

    Raises:
        DataError: ``folder`` is a file, cannot be made or written to, or another process holds it.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(held(Claim(folder, dataset, "name another --output", f"converting {dataset} into")))
        except HeldError as error:
            raise DataError(str(error)) from None
        except (FileExistsError, NotADirectoryError):
            raise DataError(f"--output {folder} is or lies in a file, not a folder; name another") from None
        except (OSError, ValueError) as error:  # a ValueError: a name that no file can have
            reason = getattr(error, "strerror", None) or error
            raise DataError(
                f"cannot write into --output {folder} ({reason}); name a folder that can be written"
            ) from error
        yield
