"""Rows of image-caption pairs as samples and batches.

Source: docs/official/xvlm.md §3.2, §3.8.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from vlp.data.collate import Batch, Plan
from vlp.data.draws import SampleKey
from vlp.data.images import decode_image
from vlp.data.json.collate import stack
from vlp.data.json.fields import Row
from vlp.data.json.transforms import ImageTransform
from vlp.data.jsonl.rows import RowImages, every_text, field, one_text
from vlp.data.jsonl.texts import TextReader, text_batch

Sample = dict[str, Any]


class PairReader:
    """A row -> its image, transformed, and its caption, drawn where it has several.

    With ``identify = True`` a sample also says which image it is: ``file_digest`` of the image file's bytes, and
    ``origin``, the row, for messages.
    """

    def __init__(
        self, images: RowImages, caption_key: str, texts: TextReader, transform: ImageTransform, block: str = "images"
    ) -> None:
        """``block`` is that of the configuration which names the fields, for messages."""
        self.images, self.caption_key, self.texts, self.transform = images, caption_key, texts, transform
        self.block, self.identify = block, False

    def __call__(self, row: Row, key: SampleKey, where: str) -> Sample:
        """Make a sample, all draws from ``key``.

        Raises:
            RowError, ImageError: the row does not serve.
        """
        rng = key.rng("draws")
        caption = one_text(field(row, self.caption_key, f"{self.block}.caption_key"), rng, self.caption_key)
        text, content = self.texts(caption, key), self.images.content(row, where)
        sample = {"image": self.transform(decode_image(content, "RGB"), rng), "text": text, "_key": key}
        if self.identify:
            sample |= {"file_digest": hashlib.blake2b(content, digest_size=16).hexdigest(), "origin": where}
        return sample

    def captions(self, row: Row) -> list[str]:
        """Every text of a row.

        Raises:
            RowError: it has none.
        """
        return every_text(field(row, self.caption_key, f"{self.block}.caption_key"), self.caption_key)


class PairCollator:
    """Samples of :class:`PairReader` -> batch of B.

    * ``image``: float32 (B, 3, res, res)
    * ``text`` …: see :func:`~vlp.data.jsonl.texts.text_batch`
    * ``dataset``, ``index``: lists, the name of a row's file and its first byte there
    * ``file_digest``, ``origin``: lists, of a reader that identifies images

    Last, each of ``plans`` adds its keys: see :class:`vlp.data.collate.Collator`.
    """

    def __init__(self, pad: int, plans: Iterable[Plan] = ()) -> None:
        self.pad, self.plans = pad, list(plans)

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        batch: Batch = {
            "image": stack([[sample["image"]] for sample in samples]),
            **text_batch([sample["text"] for sample in samples], self.pad),
            "dataset": [sample["_key"].dataset for sample in samples],
            "index": [sample["_key"].index for sample in samples],
        }
        batch |= {
            name: [sample[name] for sample in samples] for name in ("file_digest", "origin") if name in samples[0]
        }
        for plan in self.plans:
            batch |= plan(batch)
        return batch
