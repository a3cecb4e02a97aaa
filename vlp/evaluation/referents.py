"""RefCOCO+'s references for the evaluation: which box an expression means, and which boxes a detector proposes.

Source: docs/official/albef.md §3, §7.
"""

from __future__ import annotations

from pathlib import Path

from vlp.data.errors import DataError
from vlp.data.raw.refcoco import INSTANCES, REFS, SPLITS, read_detections, read_instances, read_refs
from vlp.evaluation.grounding import Referent

EVALUATED = frozenset(SPLITS[1:])


def read_referents(folder: Path, det_file: Path) -> dict[int, Referent]:
    """Reference id -> :class:`Referent`, of the splits that are evaluated.

    Args:
        folder: holds ``refcoco+/refs(unc).p`` and ``refcoco+/instances.json``; the config's ``refcoco_data``.
        det_file: the detector's boxes.

    Raises:
        DataError: a file is missing or of another format, or what a reference needs is in none.
    """
    instances, detections = read_instances(folder / INSTANCES), read_detections(det_file)
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
            (image_id in detections, det_file, f"image {image_id}"),
        ):
            if not known:
                raise DataError(f"{path}, ref {ref_id}: {wanted} is not in {name}; are the files of one data set?")
        width, height = instances.sizes[image_id]
        referents[ref_id] = Referent(ref["split"], instances.boxes[annotation], detections[image_id], width, height)
    return referents
