"""Start a script: its command line becomes a configuration that can run, or ends in a line for each wrong key."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from vlp.config.schema import ConfigError
from vlp.progress import import_slowly
from vlp.safe_output import make_output_safe
from vlp.yaml_dialect.command import Command
from vlp.yaml_dialect.command_line import resolved


def start(command: Command, run: Callable[[dict[str, Any]], None]) -> None:
    """Resolve this process's command line and ``run`` the configuration; what is wrong ends with status 1.

    ``run`` is to import the model: a wrong command line then gets its answer at once.
    """
    make_output_safe()
    try:
        config = resolved(command, sys.argv[1:])
    except ConfigError as error:
        sys.exit("\n".join(f"error: {line}" for line in str(error).splitlines()))
    import_slowly("vlp.yaml_dialect.run")
    run(config)
