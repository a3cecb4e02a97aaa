"""Convert and check.

python -m vlp.data.json convert coco --root RAW --output data
    # also coco_karpathy, f30k, vg, sbu, gcc, cc12m, vqa, vg_qa, nlvr2, snli, refcoco+
python -m vlp.data.json check --lists data/coco.json data/vg.json --image-root IMAGES
python -m vlp.data.json check --config configs/VQA.yaml
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vlp.config.schema import ConfigError
from vlp.console import stdout_console
from vlp.data.conversion.command import status_of
from vlp.data.errors import DataError
from vlp.data.json.convert import make_lists
from vlp.data.json.plans import PLANS
from vlp.safe_output import make_output_safe

# Folders of images, by the recipes' keys.
_ROOTS = {
    "image_root": "folder that image names start from (default: that of each list)",
    "vqa_root": "the same for questions of vqa (default: --image-root)",
    "vg_root": "the same for questions of vg (default: --image-root)",
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 0, 1 on an error of the data or the disk, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    command = _check if options.command == "check" else _convert
    return status_of(lambda: command(options), "nothing was changed", wrong=(DataError, ConfigError, OSError))


def _convert(options: argparse.Namespace) -> bool:
    make_lists(
        options.dataset,
        options.root,
        options.output,
        image_root=options.image_root,
        answer_list=options.answer_list,
        seed=options.seed,
        verify_images=options.verify_images,
    )
    return True


def _check(options: argparse.Namespace) -> bool:
    # Not above: it needs torch, which takes longer to import than most conversions take.
    from vlp.data.json.check import check_config, check_list, check_texts, print_check
    from vlp.data.json.dataset import Roots
    from vlp.data.tokenizers import named_tokenizer
    from vlp.yaml_dialect.yaml_file import read_yaml

    config = {} if options.config is None else read_yaml(options.config)
    tokenizer = named_tokenizer(options.tokenizer, config)
    if options.config is not None:
        reports = check_config(config, tokenizer)
    else:
        folders = {key: getattr(options, key) or options.image_root or "" for key in _ROOTS}
        roots = Roots(folders, options.allow_outside_root)
        reports = [check_list(path, roots) for path in options.lists]
        for report in reports:
            check_texts(report, tokenizer)
    return print_check(reports, stdout_console(), options.report)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vlp.data.json", description="JSON lists of ALBEF and X-VLM, made and checked."
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
    command = commands.add_parser("check", help="list what lists hold, which rows are malformed, which images missing")
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--lists", nargs="+", type=Path, metavar="LIST", help="JSON lists")
    what.add_argument("--config", metavar="YAML", help="a recipe: its lists, image folders and other files")
    for key, says in _ROOTS.items():
        command.add_argument(f"--{key.replace('_', '-')}", help=f"of --lists: {says}")
    command.add_argument("--allow-outside-root", action="store_true", help="of --lists: images may lie elsewhere")
    command.add_argument("--tokenizer", help="look whether texts fit this one (default: the recipe's text_encoder)")
    command.add_argument("--report", type=Path, metavar="JSON", help="write what was found into this file, too")
    return parser


if __name__ == "__main__":
    make_output_safe()
    sys.exit(main())
