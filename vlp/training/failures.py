"""What a user reads when a run that was going on fails through its data, or through another of its processes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from vlp.data.errors import DataError
from vlp.distributed import lost_peer
from vlp.training.rendezvous import MissingRanks

log = logging.getLogger(__name__)


@contextmanager
def plain_failures(rank: int) -> Iterator[None]:
    """End the process with status 1 and one line instead of a traceback, for errors that are none of the program's."""
    try:
        yield
    except DataError as error:
        log.debug("while the run was going on", exc_info=True)
        sys.exit(f"error: {error.plain}")
    except MissingRanks as error:
        log.debug("before the run", exc_info=True)
        sys.exit(f"error: {error}")
    except RuntimeError as error:
        if " does not have a deterministic implementation" in str(error):  # torch's words
            log.debug("while the run was going on", exc_info=True)
            operation = str(error).split(" does not")[0]
            sys.exit(f"error: deterministic=True, but torch has no deterministic {operation} for this device")
        if not lost_peer(error):
            raise
        log.debug("while the run was going on", exc_info=True)
        sys.exit(f"error: process {rank} lost another process of this run, which says why it ended")
