"""Check files of JSON lines before a run: which rows are malformed, which boxes are none, which images are missing.

Source: docs/official/xvlm.md §3.2.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

from transformers import PreTrainedTokenizerBase

from vlp.data.boxes import Box, BoxError
from vlp.data.conversion.image_files import looked_at
from vlp.data.errors import DataError
from vlp.data.images import ImageError, image_size
from vlp.data.json.check import ListReport
from vlp.data.json.cleaning import pre_caption
from vlp.data.json.fields import Row, file_name, kind_of, text, text_or_texts
from vlp.data.json.images import ImageRoot
from vlp.data.jsonl.lines import JsonLines, Line
from vlp.data.jsonl.rows import RowError, every_text, field, parsed
from vlp.data.jsonl.texts import TextReader, texts_of
from vlp.data.unknown_tokens import complaint

CAPTIONS, REGIONS = "captions", "regions"
_STREAMS = {"train_file": "images", "train_file_regions": "regions"}
_EXAMPLES = 5
_BATCH = 16  # rows that a thread takes at once: each may hold an image


@dataclass(frozen=True)
class RowFields:
    """How rows are read: the fields of image and caption, and the folder of images; None: rows hold them.

    ``tokenized`` captions are pieces, which are not cleaned. ``kind`` is :data:`CAPTIONS`, :data:`REGIONS`, or None for
    what a row says of itself.
    """

    image_key: str
    root: ImageRoot | None
    caption_key: str = "caption"
    tokenized: bool = False
    kind: str | None = None

    def captions(self, row: Row) -> list[str]:
        """The texts of a row and of its regions.

        Raises:
            RowError: there is none.
        """
        holders = [row, *_elements(row)] if "elems" in row else [row]
        return [said for each in holders if self.caption_key in each for said in every_text(each[self.caption_key])]


class _Found(NamedTuple):
    kind: str
    complaint: str | None = None
    image: str | None = None  # its name; None if the row holds it
    missing: str | None = None


def check_files(path: str, fields: RowFields, key: str = "--files") -> ListReport:
    """Read a file, or the files of a folder, to the end; look for each image, and at its size where there are boxes.

    Args:
        key: what names the path, for messages.
    """
    report, named = ListReport(path), set[int]()  # hashes: names of ten million images would take gigabytes
    try:
        lines = JsonLines([path], key)
        for line, found in looked_at(_all(lines), lambda line: _look(line, fields), _BATCH):
            report.rows += 1
            report.kind = report.kind or found.kind
            if found.complaint is not None:
                report.complain(f"{lines.describe(line)}: {found.complaint}")
            elif found.image is None or hash(found.image) not in named:
                named.add(hash(found.image))
                report.images.looked_at += 1
                if found.missing is not None:
                    report.images.missing += 1
                    examples = [*report.images.examples, f"{lines.describe(line)}: {found.missing}"]
                    report.images.examples = examples[:_EXAMPLES]
    except DataError as error:
        report.complain(str(error))
    return report


def check_texts(
    report: ListReport, fields: RowFields, tokenizer: PreTrainedTokenizerBase | None, key: str = "--files"
) -> None:
    """Note whether the first texts of a file, or of the first of a folder, are none to a tokenizer, read as a run does.

    ``key`` as in :func:`check_files`.
    """
    if tokenizer is not None and report.rows:
        lengths = {"max_words": 30, "max_tokens": tokenizer.model_max_length}
        reader = TextReader(tokenizer, None, **lengths, tokenized=fields.tokenized)
        if wrong := complaint(texts_of(JsonLines([report.path], key), 0, reader, fields.captions), tokenizer):
            report.complain(wrong)


def check_config(config: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase | None = None) -> list[ListReport]:
    """Check all files of captions and regions that a recipe names, with ``tokenizer`` also their texts.

    Raises:
        DataError: the folder of images is none.
    """
    reports = []
    for key, stream in _STREAMS.items():
        block, kind = config.get(stream) or {}, CAPTIONS if stream == "images" else REGIONS
        root = None
        if block.get("is_image_rpath"):
            root = ImageRoot(str(config.get("image_root") or "."), "image_root", bool(config.get("allow_outside_root")))
        fields = RowFields(
            str(block.get("image_key", "binary")),
            root,
            str(block.get("caption_key", "caption")),
            bool(block.get("tokenized")),
            kind,
        )
        paths = config.get(key) or []
        for path in [paths] if isinstance(paths, str) else paths:
            reports.append(check_files(str(path), fields, key))
            check_texts(reports[-1], fields, tokenizer, key)
    return reports


def fields_of(path: str, root: ImageRoot | None, caption_key: str) -> RowFields:
    """How the rows of a file are to be read, found out from its first row: it holds its image or names it.

    Raises:
        DataError: there is no such file, or its image is named and there is no ``root``.
    """
    lines = JsonLines([path], "--files")
    first = next(_all(lines), None)
    try:
        binary = first is not None and "binary" in parsed(first)
    except RowError:
        binary = False
    if binary:
        return RowFields("binary", None, caption_key)
    if root is None:
        raise DataError(f"{path} names its images: give the folder that the names start from as --image-root")
    return RowFields("image_rpath", root, caption_key)


def _all(lines: JsonLines) -> Iterator[Line]:
    return (line for chunk in range(lines.chunks) for line in lines.read(chunk))


def _look(line: Line, fields: RowFields) -> _Found:
    kind = fields.kind or ""
    try:
        row = parsed(line)
        kind = fields.kind or (REGIONS if "elems" in row else CAPTIONS)
        image = field(row, fields.image_key, "image_key")
        if wrong := (text if fields.root is None else file_name)(image):
            raise RowError(f"{fields.image_key!r} {wrong}")
        if fields.root is not None and (wrong := fields.root.complaint(image)):
            raise RowError(wrong)
        _require_texts(row, fields, kind)
        elements = _elements(row) if kind == REGIONS else []
        name = None if fields.root is None else image
        try:
            size = _size(image, fields.root, kind == REGIONS)
        except ImageError as error:
            return _Found(kind, None, name, str(error))
        _require_boxes(elements, size, fields)
    except RowError as error:
        return _Found(kind, str(error))
    return _Found(kind, None, name)


def _size(image: str, root: ImageRoot | None, measure: bool) -> tuple[int, int]:
    """Width and height of an image; (0, 0) for one that is only looked for.

    Raises:
        ImageError: it is missing or, as far as its header shows, no image.
        RowError: it lies outside of the root.
    """
    if root is None:
        try:
            file: BinaryIO = io.BytesIO(base64.b64decode(image, validate=True))
        except (binascii.Error, ValueError) as error:
            raise ImageError(f"the image is not base64 ({error})") from error
        return image_size(file)
    try:
        path = root.find(image, "the row")
    except DataError as error:
        raise RowError(str(error)) from error
    if not path.stat().st_size:
        raise ImageError(f"{path}: an empty file")
    return image_size(path) if measure else (0, 0)


def _elements(row: Row) -> Sequence[Any]:
    elements = field(row, "elems", "regions")
    if not isinstance(elements, list) or not elements or not all(isinstance(element, dict) for element in elements):
        raise RowError(f"'elems' must be a list of one element or more with caption and bb, not {kind_of(elements)}")
    return elements


def _require_texts(row: Row, fields: RowFields, kind: str) -> None:
    """Raise a RowError if the caption of the image, which rows of regions need not have, is none."""
    if kind == REGIONS and fields.caption_key not in row:
        return
    if wrong := _text_problem(field(row, fields.caption_key, "caption_key"), fields.tokenized):
        raise RowError(f"{fields.caption_key!r} {wrong}")


def _require_boxes(elements: Sequence[Row], size: tuple[int, int], fields: RowFields) -> None:
    """Raise a RowError that names the first bad element and counts the others."""
    problems = [found for i, element in enumerate(elements) if (found := _problem(i, element, size, fields))]
    if problems:
        more = f" (and {len(problems) - 1} more elements of {len(elements)})" if len(problems) > 1 else ""
        raise RowError(problems[0] + more)


def _problem(number: int, element: Row, size: tuple[int, int], fields: RowFields) -> str | None:
    where = f"'elems' {number}"
    if fields.caption_key not in element:
        return f"{where} lacks {fields.caption_key!r}"
    if wrong := _text_problem(element[fields.caption_key], fields.tokenized):
        return f"{where}: {fields.caption_key!r} {wrong}"
    if (attributes := element.get("attributes")) and (wrong := text_or_texts(attributes)):
        return f"{where}: 'attributes' {wrong}"
    try:
        Box.of(element.get("bb")).check(*size)
    except BoxError as error:
        return f"{where}: {error}"
    return None


def _text_problem(value: Any, tokenized: bool) -> str | None:
    if wrong := text_or_texts(value):
        return wrong
    texts = [value] if isinstance(value, str) else value
    empty = next((said for said in texts if not _has_word(said if tokenized else pre_caption(said))), None)
    return None if empty is None else f"holds {empty[:40]!r}, of which cleaning leaves nothing"


def _has_word(text: str) -> bool:
    """Whether a tokenizer, which drops what cannot be printed, makes pieces of a text."""
    return any(char.isprintable() and char not in " \ufffd" for char in text)
