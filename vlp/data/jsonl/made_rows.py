"""Neutral records -> rows of X-VLM's pre-training, without their image.

Source: docs/official/xvlm.md §3.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import floor, isfinite
from typing import Any

from vlp.data.conversion.skips import Skips
from vlp.data.json.cleaning import pre_caption
from vlp.data.json.fields import Row
from vlp.data.raw.records import BoxedImage, CaptionedImage, LabelledBox, RegionImage

Size = tuple[int, int]  # width, height
PixelBox = tuple[int, int, int, int]  # left and upper edge, width, height


def caption_rows(image: CaptionedImage, skips: Skips) -> Iterator[Row]:
    """COCO, SBU, CC3M, CC12M: one row per caption."""
    yield from ({"caption": text} for text in _said(image.captions, image.path.name, skips))


def phrase_rows(image: RegionImage, skips: Skips) -> Iterator[Row]:
    """Visual Genome as captions: one row per image, its distinct phrases as a list of which one is drawn each time."""
    phrases = dict.fromkeys(region.phrase for region in image.regions)
    if texts := _said(phrases, image.path.name, skips):
        yield {"caption": _one_or_all(texts)}


def phrases_as_boxes(image: RegionImage) -> BoxedImage:
    """Visual Genome's regions: each phrase with its box."""
    return BoxedImage(image.path, [LabelledBox((region.phrase,), region[1:]) for region in image.regions])


def region_row(image: BoxedImage, size: Size, with_captions: bool, skips: Skips) -> Row | None:
    """All boxes of an image, in pixels of the file, whose ``size`` is that of its header; None if none is left.

    A box is cut to the image. Left out and counted in ``skips``: boxes without area in it, texts that cleaning leaves
    nothing of, and the image if its shape is not that of the annotation.
    """
    if image.frame is not None and not _same_shape(image.frame, size):
        skips.add("image of another shape than annotated", f"{image.path}: {_by(size)}, annotated {_by(image.frame)}")
        return None
    elements = list(filter(None, (_element(image, entry, size, skips) for entry in image.elements)))
    if not elements:
        skips.add("image without a usable box", image.path.name)
        return None
    row: Row = {"elems": elements}
    if with_captions and (texts := _said(image.captions, image.path.name, skips)):
        row["caption"] = _one_or_all(texts)
    return row


def pixel_box(box: Sequence[float], frame: Size, size: Size) -> PixelBox | None:
    """Scale a box from ``frame`` to ``size``, round its edges to pixels and cut it to the image; None without area."""
    if not all(map(isfinite, box)) or box[2] <= 0 or box[3] <= 0:
        return None
    left, right = _edges(box[0], box[2], frame[0], size[0])
    top, bottom = _edges(box[1], box[3], frame[1], size[1])
    return (left, top, right - left, bottom - top) if left < right and top < bottom else None


def _element(image: BoxedImage, entry: LabelledBox, size: Size, skips: Skips) -> dict[str, Any] | None:
    texts = _said(entry.captions, image.path.name, skips)
    box = pixel_box(entry.box, image.frame or size, size)
    if box is None:
        sides = ", ".join(f"{side:g}" for side in entry.box)
        skips.add(
            "box without area in its image", f"{image.path.name} ({_by(size)}): [{sides}] of {entry.captions[0]!r}"
        )
    if box is None or not texts:
        return None
    element: dict[str, Any] = {"caption": _one_or_all(texts), "bb": list(box)}
    return {**element, "attributes": _one_or_all(entry.attributes)} if entry.attributes else element


def _said(texts: Iterable[str], where: str, skips: Skips) -> list[str]:
    """Return the texts of which cleaning leaves something: at one that it empties a run drops the whole image."""
    said = []
    for text in texts:
        if pre_caption(text):
            said.append(text)
        else:
            skips.add("text of marks alone", f"{where}: {text[:40]!r}")
    return said


def _edges(start: float, length: float, frame: int, size: int) -> tuple[int, int]:
    first, last = (floor(value * size / frame + 0.5) for value in (start, start + length))
    return min(max(first, 0), size), min(max(last, 0), size)


def _same_shape(frame: Size, size: Size) -> bool:
    """Whether an image is the annotated one, resized at most; (1, 1) fits all, for its boxes are shares."""
    return frame == (1, 1) or (min(frame) > 0 and abs(size[0] * frame[1] - size[1] * frame[0]) <= max(frame))


def _one_or_all(texts: Sequence[str]) -> str | list[str]:
    return texts[0] if len(texts) == 1 else list(texts)


def _by(size: Size) -> str:
    return f"{size[0]} x {size[1]}"
