"""RefCOCO+'s files as the evaluation reads them."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from vlp.data.errors import DataError
from vlp.evaluation.grounding import Referent
from vlp.evaluation.referents import read_referents

REFS = [
    {"ref_id": 4, "ann_id": 11, "image_id": 1, "split": "val", "sentences": []},
    {"ref_id": 5, "ann_id": 12, "image_id": 2, "split": "testB", "sentences": []},
    {"ref_id": 6, "ann_id": 13, "image_id": 3, "split": "train", "sentences": []},  # no boxes for it are detected
]
INSTANCES: dict[str, Any] = {
    "images": [{"id": i, "file_name": f"{i}.jpg", "width": 40, "height": 30} for i in (1, 2, 3)],
    "annotations": [{"id": i, "bbox": [i, 1, 5, 6.5]} for i in (11, 12, 13)],
}
DETECTIONS: dict[str, Any] = {"1": [[0, 0, 3, 3], [1.5, 2, 4, 5, 0.9]], "2": []}


def written(
    root: Path, refs: Any = REFS, instances: Any = INSTANCES, detections: Any = DETECTIONS
) -> dict[int, Referent]:
    """The files, read again."""
    (root / "refcoco+").mkdir()
    (root / "refcoco+/refs(unc).p").write_bytes(pickle.dumps(refs))
    (root / "refcoco+/instances.json").write_text(json.dumps(instances))
    (root / "dets.json").write_text(json.dumps(detections))
    return read_referents(root, root / "dets.json")


def test_what_is_evaluated_is_read(tmp_path: Path) -> None:
    assert written(tmp_path) == {
        4: Referent("val", (11.0, 1.0, 5.0, 6.5), [(0.0, 0.0, 3.0, 3.0), (1.5, 2.0, 4.0, 5.0)], 40, 30),
        5: Referent("testB", (12.0, 1.0, 5.0, 6.5), [], 40, 30),
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"detections": {"1": []}}, r"refs\(unc\).p, ref 5: image 2 is not in .*dets.json"),
        (
            {"instances": {**INSTANCES, "images": INSTANCES["images"][1:]}},
            "ref 4: image 1 is not in refcoco.*instances",
        ),
        ({"instances": {**INSTANCES, "annotations": []}}, "ref 4: annotation 11 is not in refcoco.*instances"),
        ({"detections": {"1": [[0, 0, float("nan"), 3]]}}, "dets.json, image '1': .* has no pixels"),
        ({"detections": {"1": ["1234"]}}, "dets.json, image '1': .* is not four numbers"),
        (
            {"instances": {**INSTANCES, "annotations": [{"id": 11, "bbox": [0, 0, 10**400, 3]}]}},
            r"instances.json, annotations\[0\] .* has no pixels",
        ),
        ({"refs": [{"ref_id": 4}]}, "element 0 is not in refer's format: KeyError"),
        ({"refs": [{**REFS[0], "split": ["val"]}, REFS[1]]}, "element 0 is not in refer's format"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        written(tmp_path, **changes)
