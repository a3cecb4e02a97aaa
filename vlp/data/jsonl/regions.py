"""Rows of images with regions as samples: a crop around one element, and the elements that it shows.

Source: docs/official/xvlm.md §3.5, §3.6.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

from vlp.data.boxes import Box, BoxError, View, crop_around, names_a_side
from vlp.data.draws import SampleKey
from vlp.data.json.fields import Row, kind_of
from vlp.data.json.transforms import BoxTransform
from vlp.data.jsonl.rows import RowError, RowImages, every_text, field, one_text
from vlp.data.jsonl.texts import RowText, TextReader

Sample = dict[str, Any]
WHOLE_IMAGE = [0.5, 0.5, 1.0, 1.0]


class Region(NamedTuple):
    """A text and what it speaks of.

    Attributes:
        atts: length P + 1, 1 where the text may look.
        target: (cx, cy, w, h) as shares of the image.
        is_image: 1 if that is the whole image.
    """

    text: RowText
    atts: list[int]
    target: list[float]
    is_image: int


class RegionReader:
    """A row -> one view of its image, and at most ``max_regions`` texts of that view.

    The view is a random crop that holds a randomly drawn element, flipped in half of the cases; with ``careful_hflip``
    not where a text names a side. The caption of the whole image comes first, where there is one, then elements in
    random order of which the view shows more than ``min_perc_in_image`` of the area. An element whose text or box is
    none is left out and named in ``left_out``; officially it takes the whole row with it.
    """

    def __init__(
        self,
        images: RowImages,
        texts: TextReader,
        res: int,
        patch: int,
        *,
        max_regions: int,
        min_perc_in_image: float,
        careful_hflip: bool = False,
        caption_key: str = "caption",
    ) -> None:
        """``patch`` is the side of a patch of the last stage, in pixels."""
        self.images, self.texts, self.res, self.patch = images, texts, res, patch
        self.max_regions, self.min_perc_in_image, self.careful_hflip = max_regions, min_perc_in_image, careful_hflip
        self.caption_key, self.transform = caption_key, BoxTransform()

    def __call__(self, row: Row, key: SampleKey, where: str) -> Sample:
        """Make a sample, all draws from ``key``.

        Raises:
            BoxError: that of the drawn element is none.
            RowError, ImageError: the row does not serve.
        """
        rng = key.rng("draws")
        elements = _elements(row)
        image = self.images(row, where)
        view = self.view(row, elements, image.size, rng)
        pixels = self.transform(view.image(image), rng)
        found = list(self.regions(row, elements, view, rng, key))
        regions = [each for each in found if isinstance(each, Region)]
        left_out = [each for each in found if isinstance(each, RowError)]
        if not regions:
            raise RowError("has no element with a text")
        return {"image": pixels, "regions": regions, "left_out": left_out, "_key": key}

    def captions(self, row: Row) -> list[str]:
        """Every text of a row: of the whole image and of its elements; an element's attributes are texts of their own.

        Raises:
            RowError: it has no elements, or a text is none.
        """
        texts = [*every_text(row[self.caption_key], self.caption_key)] if self.caption_key in row else []
        for element in _elements(row):
            for name in (self.caption_key, "attributes"):
                texts += every_text(element[name], name) if element.get(name) else []
        return texts

    def view(self, row: Row, elements: list[Row], size: tuple[int, int], rng: random.Random) -> View:
        """Draw the part of an image of ``size`` (width, height).

        Raises:
            BoxError: that of the drawn element is none.
        """
        box = Box.of(elements[rng.randrange(len(elements))].get("bb"))
        box.check(*size)
        crop = crop_around(box, *size, rng)
        flip = rng.random() < 0.5
        if flip and self.careful_hflip:
            texts = [entry[self.caption_key] for entry in (row, *elements) if self.caption_key in entry]
            flip = not names_a_side(text for text in texts if isinstance(text, str | list))
        return View(crop, flip, self.res)

    def regions(
        self, row: Row, elements: list[Row], view: View, rng: random.Random, key: SampleKey
    ) -> Iterator[Region | RowError]:
        """The texts of a view, or what is wrong with an element; their masks are drawn from ``key``.

        Raises:
            RowError: the caption of the whole image is none.
        """
        left = self.max_regions
        if self.caption_key in row:
            caption = one_text(row[self.caption_key], rng, self.caption_key)
            everything = [1] * (1 + (self.res // self.patch) ** 2)
            yield Region(self.texts(caption, key, "mlm image"), everything, WHOLE_IMAGE, 1)
            left -= 1
        for number in rng.sample(range(len(elements)), len(elements)):
            if left <= 0:
                return
            try:
                region = self._region(elements[number], view, rng, key, number)
            except (BoxError, RowError) as error:
                yield RowError(f"'elems' {number}: {error}")
                continue
            if region is not None:
                yield region
                left -= 1

    def _region(self, element: Row, view: View, rng: random.Random, key: SampleKey, number: int) -> Region | None:
        box = Box.of(element.get("bb"))
        box.check_area()
        shown = box.inside(view.crop)
        if shown is None or shown.w * shown.h <= self.min_perc_in_image * box.w * box.h:
            return None
        text = self.texts(self._text(element, rng), key, f"mlm {number}")
        box = view.box(shown)
        return Region(text, box.patches(self.res, self.patch), box.target(self.res), 0)

    def _text(self, element: Row, rng: random.Random) -> str:
        attribute = element.get("attributes") or ""
        chosen = one_text(attribute, rng, "attributes") + " " if attribute else ""
        return chosen + one_text(field(element, self.caption_key, "regions.caption_key"), rng, self.caption_key)


def _elements(row: Row) -> list[Row]:
    """The elements of a row.

    Raises:
        RowError: there is none, or they are no objects.
    """
    elements = row.get("elems")
    if not isinstance(elements, list):
        what = kind_of(elements) if "elems" in row else "nothing"
        raise RowError(f"'elems' must be a list of elements with caption and bb, not {what}")
    if not elements or not all(isinstance(element, dict) for element in elements):
        raise RowError("'elems' must hold elements with caption and bb, one at least")
    return elements
