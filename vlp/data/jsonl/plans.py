"""Which raw data each data set of X-VLM's pre-training is made from; the names are official.

Source: docs/official/xvlm.md §2.2 and §3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from vlp.data.conversion.skips import Skips
from vlp.data.json.fields import Row
from vlp.data.jsonl.made_rows import caption_rows, phrase_rows, phrases_as_boxes
from vlp.data.raw.instances import read_coco_objects, read_objects365
from vlp.data.raw.karpathy import read_coco
from vlp.data.raw.lazy import LazyRecords, Records
from vlp.data.raw.openimages import read_openimages
from vlp.data.raw.records import BoxedImage
from vlp.data.raw.refcoco import read_referred_images
from vlp.data.raw.source import Source
from vlp.data.raw.vg import read_vg
from vlp.data.raw.vg_objects import read_vg_objects
from vlp.data.raw.web import read_cc12m, read_gcc, read_sbu


@dataclass(frozen=True)
class Plan:
    """The records of a data set, one part after the other.

    ``rows`` makes rows of captions from a record; without it the records are :class:`BoxedImage`, of which each
    becomes a row of regions.
    """

    parts: tuple[Records[Any], ...]
    rows: Callable[[Any, Skips], Iterator[Row]] | None = None

    @property
    def total(self) -> int:
        """Number of records, if none is left out."""
        return sum(map(len, self.parts))

    @property
    def archived(self) -> bool:
        """Whether images lie in archives, which are read once, in order."""
        return any(part.archived for part in self.parts)

    def read(self, first: int, last: int, skips: Skips) -> Iterator[Any]:
        """Yield the records [first, last)."""
        for part in self.parts:
            yield from part[max(first, 0) : max(last, 0)].read(skips)
            first, last = first - len(part), last - len(part)


def _coco(source: Source) -> Plan:
    splits = read_coco(source)
    return Plan((splits["train"], splits["restval"]), caption_rows)


def _web(read: Callable[[Source], dict[str, Records[Any]]]) -> Callable[[Source], Plan]:
    return lambda source: Plan(tuple(read(source).values()), caption_rows)


def _vg_regions(source: Source) -> Plan:
    images = read_vg(source)

    def build(number: int, skips: Skips) -> BoxedImage | None:
        image = images.build(number, skips)
        return None if image is None else phrases_as_boxes(image)

    return Plan((LazyRecords(images.numbers, build),))


def _regions(read: Callable[[Source], LazyRecords[BoxedImage]]) -> Callable[[Source], Plan]:
    return lambda source: Plan((read(source),))


PLANS: dict[str, Callable[[Source], Plan]] = {
    "coco": _coco,
    "vg": lambda source: Plan((read_vg(source),), phrase_rows),
    "sbu": _web(read_sbu),
    "cc3m": _web(read_gcc),
    "cc12m": _web(read_cc12m),
    "coco_objs": _regions(read_coco_objects),
    "vg_objs": _regions(read_vg_objects),
    "vg_regions": _vg_regions,
    "refcoco_rm_leak": _regions(read_referred_images),
    "obj365": _regions(read_objects365),
    "openimages": _regions(read_openimages),
}
# Lists of the stage before grounding by boxes: those of pre-training without the images that RefCOCO evaluates on.
WITHOUT_REFCOCO = tuple(f"{name}_rm_leak" for name in ("coco_objs", "vg_objs", "vg_regions"))
PLANS.update({name: PLANS[name.removesuffix("_rm_leak")] for name in WITHOUT_REFCOCO})
GENOME = tuple(name for name in PLANS if name.startswith("vg"))  # images that COCO has under other names
