"""``python -m vlp.data.json check``: what lists hold, which rows are malformed, which images are missing."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence, Sized
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid
from transformers import PreTrainedTokenizerBase

from vlp.data.errors import DataError
from vlp.data.json.answers import read_answers
from vlp.data.json.coverage import Coverage, Named, look_for
from vlp.data.json.dataset import Roots
from vlp.data.json.fields import Row, RowKind
from vlp.data.json.images import ImageRoot
from vlp.data.json.kinds import (
    CAPTIONS,
    ENTAILMENTS,
    GROUNDING_TEST,
    GROUNDING_TRAIN,
    QUESTIONS_TEST,
    QUESTIONS_TRAIN,
    RETRIEVAL_EVAL,
    RETRIEVAL_TRAIN,
    STATEMENTS,
)
from vlp.data.json.text import texts_of
from vlp.data.json_stream import iter_json_list
from vlp.data.raw.refcoco import INSTANCES, REFS, read_detections, read_instances, read_refs
from vlp.data.unknown_tokens import LOOKED_AT, complaint
from vlp.files import write_json

_SHOWN = 10  # malformed rows of a list that are named
ROOT_KEYS = ("image_root", "vqa_root", "vg_root")


@dataclass
class ListReport:
    """A list: its kind, its rows, the malformed ones with the first ten named, its images, each counted once."""

    path: str
    kind: str = ""
    rows: int = 0
    malformed: int = 0
    problems: list[str] = field(default_factory=list)
    images: Coverage = field(default_factory=Coverage)

    def complain(self, text: str) -> None:
        """Count a malformed row."""
        self.malformed += 1
        if len(self.problems) < _SHOWN:
            self.problems.append(text)

    @property
    def well(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems and not self.images.missing


def check_list(path: Path, roots: Roots, evaluates: bool = False, finetunes: bool = False) -> ListReport:
    """Read a list to its end and look for each of its images once.

    Args:
        roots: the folders of its images.
        evaluates: a run evaluates on it; else its rows say what they are for.
        finetunes: a run trains retrieval on it, if it holds captions.

    Raises:
        DataError: a folder of images is none.
    """
    report = ListReport(str(path))
    folders = roots.of(path)
    report.images = look_for(_images(path, report, folders, evaluates, finetunes))
    return report


def print_check(
    reports: Sequence[ListReport], console: Console, report_file: Path | None = None, what: str = "lists"
) -> bool:
    """Print what was found, write it as JSON if ``report_file`` is given; return whether all is well.

    ``what`` the reports are of, for the head of the table.
    """
    grid = Grid(title=what, title_justify="left")
    for column in (what.removesuffix("s"), "kind", "rows", "malformed", "images", "missing", "there"):
        grid.add_column(column, justify="left" if column in (what.removesuffix("s"), "kind") else "right")
    for report in reports:
        images = report.images
        counts = (f"{n:,}" for n in (report.rows, report.malformed, images.looked_at, images.missing))
        name = escape(report.path)
        grid.add_row(name if report.well else f"[red]{name}[/]", report.kind, *counts, f"{images.share:.1%}")
    console.print(grid)
    for report in reports:
        lines = [*report.problems, *report.images.examples]
        for line in lines:
            console.print(f"[red]problem[/]: {escape(line)}", highlight=False, soft_wrap=True)
        more = report.malformed + report.images.missing - len(lines)
        if more > 0:
            console.print(escape(f"{report.path}: and {more:,} more"), highlight=False, soft_wrap=True)
    if report_file is not None:
        write_json(report_file, {what: [{**asdict(r), "share": r.images.share} for r in reports]})
    well = all(report.well for report in reports)
    console.print("all rows are well formed and all images are there" if well else "not all is well")
    return well


def check_texts(report: ListReport, tokenizer: PreTrainedTokenizerBase | None) -> None:
    """Note whether the first texts of a list, whose rows are well formed, are none to a tokenizer."""
    if tokenizer is not None and report.rows and not report.malformed:
        read = texts_of(Path(report.path), islice(iter_json_list(Path(report.path)), LOOKED_AT), tokenizer)
        if wrong := complaint(read, tokenizer):
            report.complain(wrong)


def check_config(config: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase | None = None) -> list[ListReport]:
    """Check all lists that a recipe names, VQA's candidates and RefCOCO+'s files among them.

    With ``tokenizer`` also whether their texts are texts to it.

    Raises:
        DataError: a folder of images is none.
    """
    folders = {key: str(config.get(key) or "") for key in ROOT_KEYS}
    roots, finetunes = Roots(folders, bool(config.get("allow_outside_root"))), "test_file" in config
    reports = [
        check_list(Path(path), roots, key != "train_file", finetunes)
        for key in ("train_file", "val_file", "test_file")
        for path in _listed(config.get(key, []))
    ]
    for report in reports:
        check_texts(report, tokenizer)
    if "answer_list" in config:
        reports.append(_read(str(config["answer_list"]), "candidates", read_answers))
    if "det_file" in config:
        folder = Path(str(config.get("refcoco_data") or ""))
        reports.append(_read(str(folder / REFS), "references", read_refs))
        reports.append(_read(str(folder / INSTANCES), "objects", lambda path: read_instances(path).boxes))
        reports.append(_read(str(config["det_file"]), "proposals", read_detections))
    return reports


def _listed(value: Any) -> list[str]:
    return [str(path) for path in value] if isinstance(value, list) else [str(value)]


def _read(path: str, kind: str, read: Callable[[Path], Sized]) -> ListReport:
    """Report on a file that is no list of rows."""
    report = ListReport(path, kind)
    try:
        report.rows = len(read(Path(path)))
    except DataError as error:
        report.complain(str(error))
    return report


def _images(
    path: Path, report: ListReport, folders: Mapping[str, ImageRoot], evaluates: bool, finetunes: bool
) -> Iterator[Named]:
    """Yield each image of a list once, and note in ``report`` what is wrong with its rows."""
    kind: RowKind | None = None
    named: set[int] = set()  # hashes: the names of ten million images would take gigabytes
    seen: dict[Hashable, int] = {}
    try:
        for number, row in enumerate(iter_json_list(path)):
            report.rows += 1
            where = f"{path}: row {number}"
            if kind is None and (kind := kind_of_row(row, evaluates, finetunes)) is not None:
                report.kind = kind.name
            if wrong := _wrong(kind, row, number, seen):
                report.complain(f"{where}: {wrong}")
                continue
            root = folders[root_key(row)]
            for name in image_names(row):
                if wrong := root.complaint(name):
                    report.complain(f"{where}: {wrong}")
                elif (found := hash((root.key, name))) not in named:
                    named.add(found)
                    yield Named(root, name, where)
        if not report.rows:
            report.complain(f"{path} is an empty list")
    except DataError as error:
        report.complain(str(error))


def _wrong(kind: RowKind | None, row: Any, number: int, seen: dict[Hashable, int]) -> str | None:
    if kind is None:
        return "is of no known kind: it has neither caption, question, sentence nor text"
    if wrong := kind.complaint(row):
        return wrong
    if kind.identity and (identity := kind.identity(row)) is not None:
        first = seen.setdefault(identity, number)
        if first != number:
            return f"{identity!r} is there already (row {first}); each may occur once"
    return None


def kind_of_row(row: Any, evaluates: bool, finetunes: bool) -> RowKind | None:
    """Return what a list is for, by the fields of a row; None for a row of no known kind."""
    if not isinstance(row, dict):
        return None
    if "question" in row:
        return QUESTIONS_TEST if evaluates or "answer" not in row else QUESTIONS_TRAIN
    if "sentence" in row:
        return STATEMENTS if "images" in row else ENTAILMENTS
    if "text" in row:
        return GROUNDING_TEST if evaluates or ("ref_id" in row and not finetunes) else GROUNDING_TRAIN
    if "caption" in row:
        evaluates = evaluates or ("image_id" in row and isinstance(row["caption"], list))  # captioning's val and test
        return RETRIEVAL_EVAL if evaluates else RETRIEVAL_TRAIN if finetunes or "image_id" in row else CAPTIONS
    return None


def image_names(row: Row) -> list[str]:
    """Return the image files that a row names; SNLI-VE's names lack their extension."""
    if "images" in row:
        return list(row["images"])
    return [row["image"] + ".jpg" if "sentence" in row else row["image"]]


def root_key(row: Row) -> str:
    """Return the recipes' key of the folder that a row's images lie in."""
    return f"{row['dataset']}_root" if "question" in row else "image_root"
