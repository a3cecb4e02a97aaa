"""Convert and check.

python -m vlp.data.arrow coco --root RAW --output ARROW_ROOT     # also f30k, vg, sbu, gcc, cc12m, nlvr2, snli, vqa
python -m vlp.data.arrow check ARROW_ROOT
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vlp.console import stdout_console
from vlp.data.arrow.check import print_check
from vlp.data.arrow.convert import make_arrow
from vlp.data.arrow.plans import PLANS
from vlp.data.arrow.registry import SPECS
from vlp.data.conversion.command import status_of
from vlp.safe_output import make_output_safe


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 0, 1 on an error of the data or the disk, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    command = _check if options.command == "check" else _convert
    return status_of(lambda: command(options), "finished tables are kept: run the same command with --resume")


def _check(options: argparse.Namespace) -> bool:
    tokenizer = None
    if options.tokenizer is not None:
        # Not above: it needs transformers, which take longer to import than most conversions take.
        from vlp.data.tokenizers import named_tokenizer

        tokenizer = named_tokenizer(options.tokenizer)
    return print_check(Path(options.root), options.datasets, options.verify_images, stdout_console(), tokenizer)


def _convert(options: argparse.Namespace) -> bool:
    make_arrow(
        options.command,
        options.root,
        options.output,
        seed=options.seed,
        verify_images=options.verify_images,
        resume=options.resume,
    )
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m vlp.data.arrow", description="Convert raw downloads to Arrow.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="DATASET|check")
    for name in PLANS:
        command = commands.add_parser(name, help=f"convert {name}")
        command.add_argument("--root", required=True, help="folder of the raw download (layout: docs/data.md)")
        command.add_argument("--output", required=True, help="Arrow folder, the data_root of METER and ViLT")
        command.add_argument("--seed", type=int, default=0, help="seed of the order of the rows (default 0)")
        command.add_argument("--verify-images", action="store_true", help="decode every image, leave out broken ones")
        command.add_argument("--resume", action="store_true", help="keep what an interrupted run has finished")
    command = commands.add_parser("check", help="list what an Arrow folder holds and what is wrong with it")
    command.add_argument("root", metavar="ARROW_ROOT")
    command.add_argument("--datasets", nargs="+", choices=SPECS, default=[], help="datasets that must be there")
    command.add_argument("--verify-images", action="store_true", help="decode every image (hours on the web sets)")
    command.add_argument("--tokenizer", help="look whether texts fit this one, such as bert-base-uncased")
    return parser


if __name__ == "__main__":
    make_output_safe()
    sys.exit(main())
