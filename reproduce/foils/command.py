"""Wrong-word detection without training for it: a checkpoint's ITC head on captions with a wrong word, beside ITM.

python -m reproduce foils --baseline meter --checkpoint FILE --pairs replace_att.json replace_obj.json --images val2017
python -m reproduce foils --baseline albef --checkpoint FILE --scenes RAW_ROOT

docs/foils.md says what the numbers mean.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from reproduce.figures.command import quieten
from reproduce.figures.configuration import add_model, asked_model
from reproduce.figures.record import file_record, run_record
from reproduce.foils.entries import Foil, of_files, of_scenes
from reproduce.foils.judges import Judge, load_judge
from reproduce.foils.measures import Judged, Numbers, judge_foils, measure
from vlp.arguments import whole
from vlp.checkpoint.errors import WeightsError
from vlp.config.schema import ConfigError
from vlp.console import stdout_console
from vlp.files import write_json

OUTPUT = Path("runs/reproduce/foils")
SCORE = "mean of log D over the real tokens"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, and the foils."""
    add_model(parser)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--pairs",
        type=Path,
        nargs="+",
        metavar="FILE",
        help='JSON lists or objects of {"image" or "filename": …, "caption": …, "negative_caption": …}',
    )
    source.add_argument("--scenes", type=Path, metavar="RAW_ROOT", help="folder of python -m scenes, with its truth")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="where --pairs' images are; default: beside it")
    parser.add_argument(
        "--split", choices=("train", "restval", "val", "test"), default="test", help="of --scenes, default test"
    )
    parser.add_argument("--limit", type=whole(1), metavar="N", help="at most N foils, evenly spread; default all")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help=f"of foils.json, default {OUTPUT}/<baseline>")


def main(arguments: argparse.Namespace) -> int:
    """Judge, print a table, write foils.json.

    Raises:
        ConfigError, DataError, OSError: the checkpoint or the foils do not serve.
    """
    quieten()
    try:
        foils = _asked_foils(arguments)
        baseline, config = asked_model(arguments)
        judge = load_judge(baseline, config, arguments.checkpoint)
    except (ValueError, WeightsError) as error:
        raise ConfigError(str(error)) from error
    judged = judge_foils(judge, foils)
    whole_set, fields = measure(judged), by_field(foils, judged)
    _show(judge, whole_set, fields)
    path = (arguments.output or OUTPUT / baseline.name) / "foils.json"
    record = {
        **run_record(baseline.name),
        "checkpoint": file_record(arguments.checkpoint),
        "foils_of": [file_record(each) for each in arguments.pairs or []]
        or {"scenes": str(arguments.scenes), "split": arguments.split},
        "score_of_itc": SCORE,
        "all": whole_set,
        "fields": fields,
        "foils": [_row(foil, each) for foil, each in zip(foils, judged, strict=True)],
    }
    write_json(path, record)
    print(f"written: {path}")
    return 0


def _asked_foils(arguments: argparse.Namespace) -> list[Foil]:
    if arguments.scenes is not None:
        if arguments.images is not None:
            raise ValueError("--images goes with --pairs: the images of --scenes are in its folder")
        foils = of_scenes(arguments.scenes, arguments.split)
    else:
        foils = of_files(arguments.pairs, arguments.images)
    count = min(arguments.limit or len(foils), len(foils))
    return [foils[number * len(foils) // count] for number in range(count)]


def by_field(foils: Sequence[Foil], judged: Sequence[Judged]) -> dict[str, Numbers]:
    """The numbers of the foils of each field, in the order in which fields come."""
    of_field: dict[str, list[Judged]] = {}
    for foil, each in zip(foils, judged, strict=True):
        of_field.setdefault(foil.field, []).append(each)
    return {field: measure(some) for field, some in of_field.items()}


def _row(foil: Foil, judged: Judged) -> dict[str, Any]:
    """What is written of a foil."""
    caption, false = judged.caption, judged.foil
    return {
        "image": str(foil.image),
        "field": foil.field,
        "caption": foil.caption,
        "foil": foil.foil,
        "itc": None if false.log_d is None else {"caption": caption.score, "foil": false.score},
        "itm": None if false.match is None else {"caption": caption.match, "foil": false.match},
        "log_d": false.log_d,
        "replaced": sorted(judged.wrong),
    }


def _show(judge: Judge, whole_set: Numbers, fields: Mapping[str, Numbers]) -> None:
    columns = ("field", "foils", "token AUROC", "found", "by chance", "ITC", "ITM")
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for name, numbers in [*fields.items(), ("all", whole_set)]:
        itc, itm = numbers["itc"] or {}, numbers["itm"] or {}
        area = "–" if itc.get("auroc") is None else f"{itc['auroc']:.3f}"
        shares = (itc.get("located"), itc.get("located_by_chance"), itc.get("accuracy"), itm.get("accuracy"))
        table.add_row(name, str(numbers["foils"] - numbers["unread"]), area, *map(_percent, shares))
    stdout_console().print(table)
    print("found: the least consistent token is a replaced one. ITC, ITM: the caption scores higher than its foil.")
    if judge.head is None:
        print("This checkpoint was pre-trained without EPIC: its ITM head alone judges captions.")
    if judge.itm is None:
        print("This checkpoint has no ITM head: EPIC's ITC head alone judges captions.")
    if unread := whole_set["unread"]:
        print(f"{unread} foils are left out: the model cuts their texts before the first difference.")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} %"
