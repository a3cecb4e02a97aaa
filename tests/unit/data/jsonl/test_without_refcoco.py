"""Lists without RefCOCO's val and test images have none of those, and all other rows of the lists of pre-training."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data.jsonl.test_convert_odd import BOX, NAMES, coco, converted, instances, refer
from tests.unit.data.raw import image_bytes, write
from vlp.data.errors import DataError
from vlp.data.json.convert import convert as convert_lists
from vlp.data.jsonl.__main__ import main
from vlp.data.jsonl.plans import WITHOUT_REFCOCO
from vlp.data.raw.refcoco import FAMILY

SPLITS = ("train", "val", "test", "testA", "testB")
IMAGES = range(len(NAMES))
GENOME = 70  # the first id of Visual Genome's images, as many as COCO's
Splits = dict[int, str]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """COCO and Visual Genome side by side: two boxes in each of six images."""
    root = tmp_path_factory.mktemp("raw")
    coco(root, instances({image: [BOX, [1, 2, 3, 4]] for image in IMAGES}))
    described, found = [], []
    for number in IMAGES:
        image = GENOME + number
        write(root / f"images/VG_100K/{image}.jpg", image_bytes(number))
        sides = [(1, 2, 9, 8), (3, 4, 5, 6)]
        regions = [
            {
                "image_id": image,
                "phrase": f"cat {i} of {image}",
                **dict(zip(("x", "y", "width", "height"), each, strict=True)),
            }
            for i, each in enumerate(sides)
        ]
        objects = [
            {"object_id": 10 * image + i, "names": ["cat"], **dict(zip("xywh", each, strict=True))}
            for i, each in enumerate(sides)
        ]
        described.append({"id": image, "regions": regions})
        found.append({"image_id": image, "objects": objects})
    write(root / "annotations/region_descriptions.json", json.dumps(described))
    write(root / "annotations/objects.json", json.dumps(found))
    return root


@pytest.fixture(scope="module")
def whole(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The rows of pre-training's lists, by their image, under the name of the list without RefCOCO's images."""
    output = tmp_path_factory.mktemp("whole")
    found = {name: converted(raw, output, name.removesuffix("_rm_leak"))[1] for name in WITHOUT_REFCOCO}
    assert all(len(rows) == len(IMAGES) for rows in found.values())
    assert all(len(row["elems"]) == 2 for rows in found.values() for row in rows.values())
    return found


@settings(max_examples=8, deadline=None)
@given(
    family=st.dictionaries(
        st.sampled_from(list(FAMILY)),
        st.dictionaries(st.sampled_from(IMAGES), st.sampled_from(SPLITS)),
        min_size=1,
    ),
    of_coco=st.lists(st.none() | st.sampled_from(IMAGES), min_size=len(IMAGES), max_size=len(IMAGES)),
)
def test_brute_force(
    family: dict[str, Splits],
    of_coco: list[int | None],
    raw: Path,
    whole: dict[str, dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Any members of RefCOCO's family, any splits, any of Visual Genome's images from COCO."""
    place = tmp_path_factory.mktemp("out")
    for folder, splits in family.items():
        refer(place / "refer", folder, FAMILY[folder], splits)
    data = [{"image_id": GENOME + number, "coco_id": image} for number, image in enumerate(of_coco)]
    write(raw / "annotations/image_data.json", json.dumps(data))
    evaluated = {image for splits in family.values() for image, split in splits.items() if split != "train"}
    kept = {
        "coco": {NAMES[image] for image in IMAGES if image not in evaluated},
        "vg": {f"{GENOME + number}.jpg" for number, image in enumerate(of_coco) if image not in evaluated},
    }
    for name in WITHOUT_REFCOCO:
        expected = {image: row for image, row in whole[name].items() if image in kept[name.partition("_")[0]]}
        if expected:
            assert converted(raw, place, name, exclude=[str(place / "refer")], shards=2)[1] == expected
        else:
            with pytest.raises(DataError, match="not one row could be written"):
                converted(raw, place, name, exclude=[str(place / "refer")])


def test_what_the_converter_of_lists_copies_will_do(raw: Path, tmp_path: Path) -> None:
    """Fine-tuning's folder, which holds the references of RefCOCO+, too."""
    refer(tmp_path / "raw", "refcoco+", "refs(unc).p", {0: "train", 1: "val", 2: "testA", 3: "testB"})
    write(tmp_path / "raw/refcoco+/dets.json", json.dumps({str(image): [BOX] for image in IMAGES}))
    for number, name in enumerate(NAMES):
        write(tmp_path / "raw/train2014" / name, image_bytes(number))
    convert_lists("refcoco+", tmp_path / "raw", tmp_path / "finetune", quiet=True)
    _, rows = converted(raw, tmp_path / "out", "coco_objs_rm_leak", exclude=[str(tmp_path / "finetune")])
    assert set(rows) == {NAMES[0], NAMES[4], NAMES[5]}


def test_the_command(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["convert", "coco_objs_rm_leak", "--root", str(raw), "--output", str(tmp_path / "out")]
    listed = tmp_path / "coco_test.json"
    write(listed, json.dumps([{"image": NAMES[0]}]))
    for exclude in ((), ("--exclude", str(listed))):
        assert main([*base, *exclude]) == 1
        said = capsys.readouterr().err
        assert "coco_objs_rm_leak has no image that RefCOCO evaluates on: add --exclude" in said
    assert main([*base, "--exclude", str(tmp_path)]) == 1
    assert f"{tmp_path} holds none of refcoco/refs(unc).p" in capsys.readouterr().err
    write(tmp_path / "refcoco+/refs(unc).p", pickle.dumps([{"split": "val"}], 2))
    assert main([*base, "--exclude", str(tmp_path)]) == 1
    assert "refcoco+/refs(unc).p, element 0 is not in refer's format: KeyError('image_id')" in capsys.readouterr().err
    refer(tmp_path, "refcoco+", "refs(unc).p", {1: "val"})
    assert main([*base, "--exclude", str(tmp_path), str(listed)]) == 0  # both
    said = capsys.readouterr().out
    assert "image to be kept out (--exclude): 2" in said
    assert "train_dataset_size: 4 rows, and those of the other files of regions" in said
