"""Convert and check.

python -m vlp.data.jsonl convert coco --root RAW/coco --image-root RAW --output data
    # also vg, sbu, cc3m, cc12m; regions: coco_objs, vg_objs, vg_regions, refcoco_rm_leak, obj365, openimages
python -m vlp.data.jsonl convert coco_objs_rm_leak --root RAW/coco --exclude RAW/refcoco+ --image-root RAW --output data
    # without the images that RefCOCO evaluates on; also vg_objs_rm_leak, vg_regions_rm_leak
python -m vlp.data.jsonl check --files data/coco data/vg_regions --image-root RAW
python -m vlp.data.jsonl check --config configs/Pretrain_XVLM_base_4m.yaml
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path

from vlp.config.schema import ConfigError
from vlp.console import stdout_console
from vlp.data.conversion.command import status_of
from vlp.data.errors import DataError
from vlp.data.jsonl.convert import SHARDS, Options, make_files
from vlp.data.jsonl.plans import PLANS
from vlp.safe_output import make_output_safe


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 0, 1 on an error of the data or the disk, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    command = _check if options.command == "check" else _convert
    return status_of(
        lambda: command(options),
        "finished files are kept: run the same command with --resume",
        wrong=(DataError, ConfigError, OSError),
    )


def _convert(options: argparse.Namespace) -> bool:
    given = {field.name: getattr(options, field.name) for field in fields(Options)}
    make_files(options.dataset, options.root, options.output, Options(**given))
    return True


def _check(options: argparse.Namespace) -> bool:
    # Not above: it needs torch, which takes longer to import than most conversions take.
    from vlp.data.json.check import print_check
    from vlp.data.json.images import ImageRoot
    from vlp.data.jsonl.check import check_config, check_files, check_texts, fields_of
    from vlp.data.tokenizers import named_tokenizer
    from vlp.yaml_dialect.yaml_file import read_yaml

    config = {} if options.config is None else read_yaml(options.config)
    tokenizer = named_tokenizer(options.tokenizer, config)
    if options.config is not None:
        reports = check_config(config, tokenizer)
    else:
        given = options.image_root
        root = None if given is None else ImageRoot(given, "--image-root", options.allow_outside_root)
        read = [fields_of(path, root, options.caption_key) for path in options.files]
        reports = [check_files(path, fields) for path, fields in zip(options.files, read, strict=True)]
        for report, fields in zip(reports, read, strict=True):
            check_texts(report, fields, tokenizer)
    return print_check(reports, stdout_console(), options.report, "files")


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
        "--exclude",
        nargs="+",
        default=(),
        metavar="PATH",
        help="keep out the images that these JSON lists name, and of a folder of RefCOCO those of val and test",
    )
    command.add_argument(
        "--image-captions", action="store_true", help="coco_objs: rows have the captions of the image as well"
    )
    command.add_argument("--seed", type=int, default=0, help="seed of the order of the rows (default 0)")
    command.add_argument("--verify-images", action="store_true", help="decode every image, leave out broken ones")
    command.add_argument("--resume", action="store_true", help="keep the files that an interrupted run has finished")
    command = commands.add_parser("check", help="list what files hold, which rows are malformed, which images missing")
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--files", nargs="+", metavar="PATH", help="files of JSON lines, or folders of them")
    what.add_argument("--config", metavar="YAML", help="a recipe: its files of captions and regions")
    command.add_argument("--image-root", help="of --files: folder that image names start from")
    command.add_argument("--caption-key", default="caption", help="of --files: the field of a text (default caption)")
    command.add_argument("--allow-outside-root", action="store_true", help="of --files: images may lie elsewhere")
    command.add_argument("--tokenizer", help="look whether texts fit this one (default: the recipe's text_encoder)")
    command.add_argument("--report", type=Path, metavar="JSON", help="write what was found into this file, too")
    return parser


if __name__ == "__main__":
    make_output_safe()
    sys.exit(main())
