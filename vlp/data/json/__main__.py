"""Convert and check.

python -m vlp.data.json convert coco --root RAW --output data
    # also f30k, vg, sbu, gcc, cc12m, vqa, vg_qa, nlvr2, snli, refcoco+
python -m vlp.data.json check --lists data/coco.json data/vg.json --image-root IMAGES
"""

from __future__ import annotations

import argparse
import sys

from vlp.data.errors import DataError
from vlp.data.json.convert import make_lists
from vlp.data.json.plans import PLANS


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 0, 1 on an error of the data or the disk, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    try:
        make_lists(
            options.dataset,
            options.root,
            options.output,
            image_root=options.image_root,
            answer_list=options.answer_list,
            seed=options.seed,
            verify_images=options.verify_images,
        )
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing was changed", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vlp.data.json", description="ALBEF's JSON lists, made and checked."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="convert|check")
    command = commands.add_parser("convert", help="make the lists of a data set")
    command.add_argument("dataset", choices=PLANS)
    command.add_argument("--root", required=True, help="folder of the raw download (layout: docs/data.md)")
    command.add_argument("--output", required=True, help="folder of the lists, the recipes' data/")
    command.add_argument("--image-root", help="folder from which images are named (default: --root)")
    command.add_argument("--answer-list", help="vqa: the candidates from this file, such as the official one")
    command.add_argument("--seed", type=int, default=0, help="seed of the order of the images (default 0)")
    command.add_argument("--verify-images", action="store_true", help="decode every image, leave out broken ones")
    return parser


if __name__ == "__main__":
    sys.exit(main())
