"""References for the evaluation of grounding: which box an expression means, and which boxes a detector proposes.

Source: docs/official/albef.md §3, §7, docs/official/xvlm.md §7.4.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vlp.data.boxes import box_numbers
from vlp.data.errors import DataError
from vlp.data.raw.refcoco import INSTANCES, REFS, SPLITS, read_detections, read_instances, read_refs
from vlp.data.raw.source import read_json
from vlp.evaluation.grounding import VLUE, Referent

EVALUATED = frozenset(SPLITS[1:])


def read_referents(folder: Path, det_file: Path | None) -> dict[int, Referent]:
    """RefCOCO+'s references: id -> :class:`Referent`, of the splits that are evaluated.

    Args:
        folder: holds ``refcoco+/refs(unc).p`` and ``refcoco+/instances.json``; the config's ``refcoco_data``.
        det_file: the detector's boxes; None where there is nothing to choose from.

    Raises:
        DataError: a file is missing or of another format, or what a reference needs is in none.
    """
    instances = read_instances(folder / INSTANCES)
    detections = None if det_file is None else read_detections(det_file)
    path, referents = folder / REFS, {}
    for number, ref in enumerate(read_refs(path)):
        try:
            ref_id, image_id, annotation = (int(ref[key]) for key in ("ref_id", "image_id", "ann_id"))
            evaluated = ref["split"] in EVALUATED
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}, element {number} is not in refer's format: {error!r}") from error
        if not evaluated:
            continue
        for known, name, wanted in (
            (image_id in instances.sizes, INSTANCES, f"image {image_id}"),
            (annotation in instances.boxes, INSTANCES, f"annotation {annotation}"),
            (detections is None or image_id in detections, det_file, f"image {image_id}"),
        ):
            if not known:
                raise DataError(f"{path}, ref {ref_id}: {wanted} is not in {name}; are the files of one data set?")
        width, height = instances.sizes[image_id]
        proposals = () if detections is None else detections[image_id]
        referents[ref_id] = Referent(ref["split"], instances.boxes[annotation], proposals, width, height)
    return referents


def read_listed_referents(paths: Iterable[str | Path], to_choose: bool) -> dict[int, Referent]:
    """The references of VLUE's test lists, whose rows bring ``bbox``, ``width`` and ``height`` along.

    ``to_choose``: a box is chosen among those of a detector, which the rows bring as ``dets``.

    Raises:
        DataError: a file is missing or a row of another format; with the row.
    """
    referents: dict[int, Referent] = {}
    for path in map(Path, paths):
        rows, place = read_json(path), 0
        try:
            for place, row in enumerate(rows):  # noqa: B007 - the message names it
                proposals = [box_numbers(box) for box in row["dets"]] if to_choose else []
                sizes = int(row["width"]), int(row["height"])
                referents[int(row["ref_id"])] = Referent(VLUE, box_numbers(row["bbox"]), proposals, *sizes)
        except (KeyError, TypeError, ValueError, IndexError, OverflowError, AttributeError) as error:
            more = ", dets (a list of such boxes)" if to_choose else ""
            raise DataError(
                f"{path}, row {place}: expected ref_id, bbox [x, y, width, height]{more}, width and height: {error!r}"
            ) from error
    return referents
