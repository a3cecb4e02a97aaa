"""Image-caption pairs with false images and false texts (coco, f30k, vg, gcc, sbu, cc12m).

Source: docs/official/meter.md §3.3.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from vlp.data.arrow.dataset import ArrowDataset, Sample, Transform
from vlp.data.arrow.registry import DatasetSpec, Split
from vlp.data.arrow.tables import ArrowTables

_COCO_TEST_NAME = re.compile(r"COCO_val2014_(\d{12})\.jpg", re.ASCII)


class FalseDraws(NamedTuple):
    """Flat indices, in the same dataset, of the false images and the false texts of a sample."""

    images: Sequence[int]
    texts: Sequence[int]


class CaptionDataset(ArrowDataset):
    """Samples with image, text, img_index, cap_index, raw_index, replica, false_image_i, false_text_i.

    ``false_image_i`` (i < ``draw_false_image``) and ``false_text_i`` are uniform over the texts of this dataset, so an
    image with more captions is likelier and a draw may be a true match, as in the official code. COCO's test split
    adds ``iid`` (:func:`official_id`). ``image_only`` leaves out all texts. ``identify`` adds ``file_digest``,
    the BLAKE2b-128 of the stored image file in hexadecimal, and ``origin``, its table, row and name.
    ``forced`` fixes the draws of single samples, by flat index.

    :meth:`for_itm` decodes only the false image that ITM uses.
    """

    def __init__(
        self,
        spec: DatasetSpec,
        split: Split,
        tables: ArrowTables,
        transforms: Sequence[Transform],
        seed: int = 0,
        image_only: bool = False,
        draw_false_image: int = 0,
        draw_false_text: int = 0,
    ) -> None:
        super().__init__(spec, split, tables, transforms, seed, image_only)
        self.draw_false_image, self.draw_false_text = draw_false_image, draw_false_text
        self.forced: dict[int, FalseDraws] = {}
        self._has_iid = spec.key == "coco" and split == "test"
        if self._has_iid:
            tables.require_column("image_id")

    def for_itm(self, index: int, label: int) -> Sample:
        """Sample ``index`` with ``itm_labels``, and without ``false_image_0`` where it keeps its image (label 1)."""
        key = self.key(index)
        return {**self.build(index, key.rng("draws"), keeps_image=label == 1), "itm_labels": label, "_key": key}

    def build(self, index: int, rng: random.Random, keeps_image: bool = False) -> Sample:
        """Return the sample; the false indices are drawn before the transforms use the generator."""
        draws = self.forced.get(index) or self._draw(rng)
        index, (views,) = self.read(index, rng)
        row = self.row(index)
        number = None if self.image_only else int(self.tables.numbers[index])
        sample: Sample = {"image": views, "img_index": row, "cap_index": number, "raw_index": index}
        if number is not None:
            sample |= {"text": self.tables.text(index), "replica": number > 0}
        sample |= self._false_images(draws.images, rng, keeps_image)
        for i, false in enumerate(draws.texts):
            sample[f"false_text_{i}"] = self.tables.text(false)
        if self._has_iid:
            sample["iid"] = official_id(self.tables.cell(row, "image_id"))
        if self.identify:
            digest = hashlib.blake2b(self.tables.cell(row, "image"), digest_size=16)
            sample |= {"file_digest": digest.hexdigest(), "origin": self.tables.describe(row)}
        return sample

    def _false_images(self, images: Sequence[int], rng: random.Random, keeps_image: bool) -> Sample:
        if keeps_image and len(images) == 1:
            return {}
        read = {f"false_image_{i}": self.read(false, rng)[1][0] for i, false in enumerate(images)}
        if keeps_image:  # read all the same, as the transforms of further ones draw after its own
            del read["false_image_0"]
        return read

    def _draw(self, rng: random.Random) -> FalseDraws:
        images = [rng.randrange(len(self)) for _ in range(self.draw_false_image)]
        texts = [rng.randrange(self.tables.num_texts) for _ in range(self.draw_false_text)]
        return FalseDraws(images, texts)


def official_id(image_id: Any) -> Any:
    """The number in a name such as ``COCO_val2014_000000000042.jpg``; of any other image the ``image_id`` itself.

    The official code takes whatever follows the last underscore for a number. Two images that share such a number are
    two images: here no two values of ``image_id`` have the same id.
    """
    match = _COCO_TEST_NAME.fullmatch(image_id) if isinstance(image_id, str) else None
    return int(match[1]) if match else image_id
