"""Visual Genome's regions: a long JSON list beside two image folders (docs/official/meter.md §3.9)."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vlp.data.conversion.skips import Skips
from vlp.data.errors import DataError
from vlp.data.json_stream import iter_json_list
from vlp.data.raw.lazy import LazyRecords
from vlp.data.raw.records import Region, RegionImage
from vlp.data.raw.source import Source

_ANNOTATION = "annotations/region_descriptions.json"


@dataclass
class _Regions:
    """The regions of one image; arrays, because five million boxes as Python integers take gigabytes."""

    phrases: list[str] = field(default_factory=list)
    x: array[int] = field(default_factory=lambda: array("q"))
    y: array[int] = field(default_factory=lambda: array("q"))
    width: array[int] = field(default_factory=lambda: array("q"))
    height: array[int] = field(default_factory=lambda: array("q"))

    def __iter__(self) -> Iterator[Region]:
        return map(Region, self.phrases, self.x, self.y, self.width, self.height)


def read_vg(source: Source) -> LazyRecords[RegionImage]:
    """Read ``annotations/region_descriptions.json``: the images of both folders in shuffled order."""
    regions = _read_regions(source)
    paths = annotated_images(source, regions)

    def build(number: int, _: Skips) -> RegionImage:
        path = paths[number]
        return RegionImage(path, path.stem, tuple(regions[path.stem]))

    return LazyRecords(range(len(paths)), build)


def annotated_images(source: Source, annotated: Collection[str]) -> list[Path]:
    """List the images of both folders whose id is ``annotated``, in shuffled order."""
    paths: list[Path] = []
    seen: set[str] = set()
    for path in source.images("images/VG_100K", "images/VG_100K_2"):
        if path.stem not in annotated:
            source.skips.add("image without annotation", str(path))
        elif path.stem in seen:
            source.skips.add("second image of the same name", str(path))
        else:
            paths.append(path)
        seen.add(path.stem)
    for image_id in annotated:
        if image_id not in seen:
            source.skips.add("annotation without image", image_id)
    return paths


def _read_regions(source: Source) -> dict[str, _Regions]:
    """Read the regions of every image, grouped by image id, in file order; empty phrases are left out."""
    path = source.root / _ANNOTATION
    result: dict[str, _Regions] = {}
    number = 0
    try:
        for image in iter_json_list(path):
            number += 1
            for region in image["regions"]:
                image_id = str(region["image_id"])
                phrase = source.text(region["phrase"], f"region of image {image_id}")
                if not phrase.strip():
                    source.skips.add("empty caption", f"region of image {image_id}")
                    continue
                regions = result.setdefault(image_id, _Regions())
                regions.phrases.append(phrase)
                for side in ("width", "height", "x", "y"):
                    getattr(regions, side).append(int(region[side]))
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path} is not in Visual Genome's format (list of regions[]: image_id, phrase, x, y, width, height): "
            f"{error!r} at element {number}"
        ) from error
    source.found["annotations"] = len(result)
    return result
