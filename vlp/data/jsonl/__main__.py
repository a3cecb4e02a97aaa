"""Convert.

python -m vlp.data.jsonl convert coco --root RAW/coco --image-root RAW --output data
    # also vg, sbu, cc3m, cc12m; regions: coco_objs, vg_objs, vg_regions, refcoco_rm_leak, obj365, openimages
"""

from __future__ import annotations

import argparse
import sys

from vlp.data.errors import DataError
from vlp.data.jsonl.convert import SHARDS, Options, make_files
from vlp.data.jsonl.plans import PLANS


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 0, 1 on an error of the data or the disk, 130 when interrupted."""
    given = vars(_parser().parse_args(arguments))
    given.pop("command")
    try:
        make_files(given.pop("dataset"), given.pop("root"), given.pop("output"), Options(**given))
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; finished files are kept: run the same command with --resume", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vlp.data.jsonl", description="X-VLM's JSON lines for pre-training, made and checked."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="convert|check")
    command = commands.add_parser("convert", help="make the files of a data set")
    command.add_argument("dataset", choices=PLANS)
    command.add_argument("--root", required=True, help="folder of the raw download (layout: docs/data.md)")
    command.add_argument("--output", required=True, help="folder in which the folder of the files is made")
    command.add_argument("--image-root", help="folder from which images are named (default: --root)")
    command.add_argument("--binary", action="store_true", help="rows hold the images, base64, instead of their names")
    command.add_argument("--shards", type=int, default=SHARDS, metavar="N", help=f"number of files (default {SHARDS})")
    command.add_argument(
        "--exclude", nargs="+", default=(), metavar="LIST", help="keep out images that these JSON lists name"
    )
    command.add_argument(
        "--image-captions", action="store_true", help="coco_objs: rows have the captions of the image as well"
    )
    command.add_argument("--seed", type=int, default=0, help="seed of the order of the rows (default 0)")
    command.add_argument("--verify-images", action="store_true", help="decode every image, leave out broken ones")
    command.add_argument("--resume", action="store_true", help="keep the files that an interrupted run has finished")
    return parser


if __name__ == "__main__":
    sys.exit(main())
