"""Grounding by boxes: whose image a phrase sees, the losses, the accuracy (docs/official/xvlm.md §5.4, §7.4)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from tests.unit.xvlm.small_tasks import task_batch, task_model
from vlp.data.errors import DataError
from vlp.evaluation.grounding import GroundingAccuracy, Referent, iou, pixel_box
from vlp.evaluation.referents import read_listed_referents
from vlp.nn.padding import PaddedLayout


def test_every_phrase_sees_its_whole_image() -> None:
    model, batch = task_model("bbox_pretrain").eval(), task_batch("bbox_pretrain")
    got = model.predicted(batch)
    for row, number in enumerate(batch["idx_to_group_img"].tolist()):
        length = int(batch["text_masks"][row].sum())
        layout = PaddedLayout(torch.ones(1, length, dtype=torch.bool))
        text = model.bert.text(batch["text_ids"][row : row + 1, :length], layout)
        one = model.boxes(model.vision_encoder(batch["image"][number : number + 1]), text, layout)
        torch.testing.assert_close(one[0], got[row], rtol=1e-4, atol=1e-6)
    assert ((got > 0) & (got < 1)).all()


def giou_by_corners(box: list[float], other: list[float]) -> float:
    """Of two (cx, cy, w, h)."""
    (a, b), (c, d) = (((x - w / 2, y - h / 2), (x + w / 2, y + h / 2)) for x, y, w, h in (box, other))
    sides = [max(0.0, min(b[i], d[i]) - max(a[i], c[i])) for i in range(2)]
    hull = (max(b[0], d[0]) - min(a[0], c[0])) * (max(b[1], d[1]) - min(a[1], c[1]))
    common = sides[0] * sides[1]
    union = box[2] * box[3] + other[2] * other[3] - common
    return common / union - (hull - union) / hull


@pytest.mark.parametrize(("task", "of_images"), [("bbox", False), ("bbox_pretrain", False), ("bbox_pretrain", True)])
def test_losses_are_means_over_the_boxes_that_count(task: str, of_images: bool) -> None:
    model, batch = task_model(task, calc_image_bbox_loss=of_images).eval(), task_batch(task)
    outputs = model(batch)
    skipped = batch["is_image"].tolist() if task == "bbox_pretrain" and not of_images else [0] * 5
    rows = [
        (box, target)
        for box, target, skip in zip(
            outputs["box_coord"].tolist(), batch["target_bbox"].tolist(), skipped, strict=False
        )
        if not skip
    ]
    assert len(rows) == {("bbox", False): 3, ("bbox_pretrain", False): 4, ("bbox_pretrain", True): 5}[task, of_images]
    distance = sum(abs(a - b) for box, target in rows for a, b in zip(box, target, strict=True)) / len(rows)
    giou = sum(1 - giou_by_corners(box, target) for box, target in rows) / len(rows)
    assert outputs["bbox_loss"].item() == pytest.approx(distance, rel=1e-5)
    assert outputs["giou_loss"].item() == pytest.approx(giou, rel=1e-5)


# Evaluation ------------------------------------------------------------------------------------------------


def test_a_predicted_box_in_pixels() -> None:
    assert pixel_box((0.5, 0.25, 0.5, 0.5), width=40, height=20) == (10, 0, 20, 10)
    assert pixel_box((0.1, 0.5, 0.4, 1.0), width=100, height=10) == pytest.approx((-10, 0, 40, 10))


def scored(model: Any, rows: list[int]) -> dict[str, float]:
    """Of phrases whose predictions are the object's box, but that of phrase 0."""
    batch = task_batch("bbox")
    with torch.no_grad():
        true = [pixel_box(box, 640, 480) for box in model.predicted(batch).tolist()]
    true[0] = (true[0][0] + true[0][2], *true[0][1:])  # beside it
    model._accuracy = GroundingAccuracy(
        {i: Referent(("testA", "val", "val")[i], true[i], (), 640, 480) for i in range(3)}
    )
    some = {key: value[rows] for key, value in batch.items() if isinstance(value, Tensor)}
    model.start_evaluation("test")
    with torch.no_grad():
        model.evaluation_step({**some, "dataset": ["x"] * len(rows), "index": rows, "ref_id": rows}, "test")
    found: dict[str, float] = model.evaluation_results("test")
    return found


def in_two(rank: int, folder: str) -> None:
    """Rank ``rank`` of two, of which the second sees a phrase of the first again."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    results = scored(task_model("bbox").eval(), ([0, 1], [2, 0])[rank])
    Path(folder, f"{rank}.json").write_text(json.dumps(results))
    dist.destroy_process_group()


def test_accuracy_of_boxes_in_one_process_and_in_two(tmp_path: Path) -> None:
    assert scored(task_model("bbox").eval(), [0, 1, 2]) == {"val_d": 1.0, "testA_d": 0.0}
    mp.start_processes(in_two, (str(tmp_path),), nprocs=2, start_method="fork")
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == {"val_d": 1.0, "testA_d": 0.0}


def test_half_of_the_union_is_enough_as_officially_counted() -> None:
    assert iou((0, 0, 10, 10), (0, 0, 10, 5)) == 0.5
    assert iou((0, 0, 10, 10), (9, 0, 10, 10)) == 0.0  # one common column


def test_vlue_brings_its_boxes_along(tmp_path: Path) -> None:
    path = tmp_path / "vlue.json"
    row = {"image": "a.jpg", "text": "x", "bbox": [1, 2, 30, 40], "width": 64, "height": 48}
    path.write_text(json.dumps([{**row, "ref_id": 7}]))
    model = task_model("bbox", vlue_test=True, test_file=[str(path)])
    model.check_data(None)
    assert model.accuracy.referents == {7: Referent("vlue", (1, 2, 30, 40), [], 64, 48)}
    model.accuracy.add_boxes([("vlue", 0)], [7], torch.tensor([[16 / 64, 22 / 48, 30 / 64, 40 / 48]]))
    assert model.evaluation_results("test") == {"score": 1.0}
    path.write_text(json.dumps([{**row, "ref_id": 7}, row]))
    with pytest.raises(
        DataError, match=r"vlue\.json, row 1: expected ref_id, bbox \[x, y, width, height\], width and height"
    ):
        model.check_data(None)
    path.write_text(json.dumps([{**row, "ref_id": 7, "dets": [[0, 0, 5, 5]]}]))
    assert read_listed_referents([path], to_choose=True)[7].proposals == [(0, 0, 5, 5)]
    path.write_text(json.dumps([{**row, "ref_id": 7}]))
    with pytest.raises(DataError, match=r"row 0: expected .*, dets \(a list of such boxes\), width and height"):
        read_listed_referents([path], to_choose=True)
