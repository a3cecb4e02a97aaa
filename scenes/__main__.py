"""Make the demo data.

python -m scenes --output RAW_ROOT --train 3000 --val 100 --test 100 --captions 2 --image-size 112 --seed 0
python -m scenes tasks --scenes RAW_ROOT --output TASKS_ROOT --layouts vqa nlvr2 snli refcoco+
python -m scenes corpus --output captions.txt --lines 20000 --seed 7
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from scenes.coco_layout import Request, write_coco
from scenes.corpus import write_corpus
from scenes.levels import LEVELS
from scenes.task_layouts import LAYOUTS, TASKS, write_tasks
from vlp.safe_output import make_output_safe


def _images_parser() -> argparse.ArgumentParser:
    default = Request()
    parser = argparse.ArgumentParser("python -m scenes", description="Scenes in COCO's official raw layout.")
    parser.add_argument("--output", type=Path, required=True, help="folder to make; it must not hold other data")
    for name in ("train", "val", "test"):
        parser.add_argument(f"--{name}", type=int, default=getattr(default, name), help=f"images of the {name} split")
    parser.add_argument("--captions", type=int, default=default.captions, help="captions per image")
    parser.add_argument("--image-size", type=int, default=default.image_size, help="side in pixels")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--level", choices=LEVELS, default="full", help="how difficult scenes are, default full")
    parser.add_argument("--workers", type=int, default=1, help="processes; they do not change the result")
    return parser


def _corpus_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m scenes corpus", description="Captions without images.")
    parser.add_argument("--output", type=Path, required=True, help="text file, one caption a line")
    parser.add_argument("--lines", type=int, default=20000)
    parser.add_argument(
        "--seed", type=int, default=7, help="grammar seed; 0 gives the statistics of the images' captions"
    )
    parser.add_argument("--level", choices=LEVELS, default="full", help="how difficult scenes are, default full")
    return parser


def _tasks_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m scenes tasks", description="What is asked and said of the scenes, in the layouts of other data sets."
    )
    parser.add_argument("--scenes", type=Path, required=True, help="folder of scenes that this command has made")
    parser.add_argument("--output", type=Path, required=True, help="folder to make, with a folder for each layout")
    parser.add_argument(
        "--layouts", nargs="+", choices=LAYOUTS, default=TASKS, help=f"what to write (default: {' '.join(TASKS)})"
    )
    return parser


def main(argv: Sequence[str]) -> None:
    """Run the command line `argv` (without the program's name)."""
    if argv[:1] == ["corpus"]:
        options = _corpus_parser().parse_args(argv[1:])
        write_corpus(options.output, options.lines, options.seed, LEVELS[options.level])
        return
    if argv[:1] == ["tasks"]:
        options = _tasks_parser().parse_args(argv[1:])
        write_tasks(options.scenes, options.output, options.layouts)
        return
    options = _images_parser().parse_args(argv)
    sizes = (options.train, options.val, options.test, options.captions, options.image_size)
    request = Request(*sizes, options.seed, options.level)
    written = write_coco(options.output, request, options.workers)
    print(f"{options.output}: {'written' if written else 'already there'}")


if __name__ == "__main__":
    make_output_safe()
    try:
        main(sys.argv[1:])
    except (ValueError, FileExistsError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
