"""The paper, row by row.

python -m reproduce list                                  # every row, what it takes
python -m reproduce show table1/meter-4m-epic             # its stages, their commands, the printed numbers
python -m reproduce run table1/meter-4m-epic --dry-run    # what would run
python -m reproduce status                                # what is done
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from vlp.config.schema import ConfigError
from vlp.data.errors import DataError
from vlp.safe_output import make_output_safe

# Command -> the module of its add_arguments(parser) and main(arguments) -> status, and what it does. A module is
# imported when its command is chosen.
COMMANDS = {
    "list": ("reproduce.listing", "every row, its stages and what it takes"),
    "show": ("reproduce.showing", "a row's stages, their commands and the printed numbers"),
    "run": ("reproduce.running", "run what rows need and is not there yet"),
    "status": ("reproduce.status", "what is done, running, failed, not run"),
    "answers": ("reproduce.answers", "score VQA's answers on scenes, as the evaluation server does those of VQAv2"),
    "captions": ("reproduce.captions", "write the captions of Arrow tables, one a line"),
    "record": ("reproduce.recording", "note how a job began or ended: the scripts of --launcher slurm call it"),
    "report": ("reproduce.report.command", "write Tables 1-5, printed and measured, as Markdown, HTML and LaTeX"),
    "figure": ("reproduce.figures.command", "draw Figure 2, 4 or 5 for any checkpoint"),
    "foils": ("reproduce.foils.command", "find wrong words in captions by any checkpoint's ITC and ITM heads"),
    "miniature": ("reproduce.miniature.command", "measure the paper's claims with small models on scenes"),
    "scripts": ("reproduce.scripts", "write the shell scripts of the baselines: <baseline>/scripts/*.sh"),
}


def main(argv: Sequence[str]) -> int:
    """Run a command and return its status: 0; 1 with a line for each thing that is wrong; 2 for a wrong usage."""
    parser = argparse.ArgumentParser("python -m reproduce", description="Reproduce the paper's tables and figures.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, says) in COMMANDS.items():
        commands.add_parser(name, help=says, description=says, add_help=False)
    name = parser.parse_args(argv[:1]).command
    module = importlib.import_module(COMMANDS[name][0])
    chosen = argparse.ArgumentParser(f"python -m reproduce {name}", description=module.__doc__)
    module.add_arguments(chosen)
    try:
        return module.main(chosen.parse_args(argv[1:]))
    except (ConfigError, DataError, OSError) as error:
        print("\n".join(f"error: {line}" for line in str(error).splitlines()), file=sys.stderr)
        return 1


if __name__ == "__main__":
    make_output_safe()
    sys.exit(main(sys.argv[1:]))
