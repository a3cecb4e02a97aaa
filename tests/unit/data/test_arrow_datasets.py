"""Samples: whose draws they are, what a broken image gets, which images can be read."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from tests.unit.data.raw import image_bytes, write_table
from vlp.data.arrow.caption_dataset import CaptionDataset, FalseDraws, official_id
from vlp.data.arrow.datasets import build_dataset
from vlp.data.arrow.mixed import MixedDataset
from vlp.data.arrow.registry import Split
from vlp.data.arrow.writer import CAPTION
from vlp.data.errors import DataError
from vlp.data.images import ImageError, decode_image
from vlp.data.read_guard import ReadGuard
from vlp.data.transforms import build_transform

BROKEN = image_bytes()[:-250]


def write_vg(folder: Path, images: Sequence[bytes], captions: int = 2) -> None:
    rows = [
        {"image": data, "caption": [f"{i} {j}" for j in range(captions)], "image_id": f"x_{i}.jpg", "split": "train"}
        for i, data in enumerate(images)
    ]
    write_table(folder / "vg.arrow", rows, CAPTION)


def build(
    folder: Path, key: str = "vg", split: Split = "train", transform: str = "clip", **options: Any
) -> CaptionDataset:
    dataset = build_dataset(key, split, folder, [build_transform(transform, 16)], **options)
    assert isinstance(dataset, CaptionDataset)
    return dataset


def collate(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return samples


def flat(sample: dict[str, Any]) -> tuple[Any, ...]:
    """A sample as something that can be compared."""
    return tuple(
        (key, value[0].numpy().tobytes() if "image" in key else value) for key, value in sorted(sample.items())
    )


def test_a_sample_is_the_same_in_every_worker_and_after_every_other(tmp_path: Path) -> None:
    write_vg(tmp_path, [image_bytes(i) for i in range(6)])
    options: dict[str, Any] = {"draw_false_image": 2, "draw_false_text": 3, "transform": "clip_randaug", "seed": 5}
    dataset = build(tmp_path, **options)
    alone = [flat(build(tmp_path, **options)[j]) for j in reversed(range(12))][::-1]
    for workers in (0, 2):
        loader = DataLoader(dataset, batch_size=3, num_workers=workers, collate_fn=collate)
        assert [flat(sample) for batch in loader for sample in batch] == alone
    dataset.set_epoch(1)
    other = [flat(dataset[j]) for j in range(12)]
    assert other != alone
    dataset.set_epoch(0)
    assert [flat(dataset[j]) for j in range(12)] == alone
    assert [flat(build(tmp_path, **{**options, "seed": 6})[j]) for j in range(12)] != alone


def test_a_new_epoch_reaches_workers_that_live_on(tmp_path: Path) -> None:
    write_vg(tmp_path, [image_bytes(i) for i in range(4)])
    dataset = build(tmp_path, draw_false_text=4)
    mixed = MixedDataset([dataset])
    loader = DataLoader(mixed, batch_size=2, num_workers=2, persistent_workers=True, collate_fn=collate)
    epochs = []
    for epoch in (0, 1):
        mixed.set_epoch(epoch)
        epochs.append([flat(sample) for batch in loader for sample in batch])
    assert epochs[1] == [flat(dataset[j]) for j in range(8)] != epochs[0]


def test_false_draws_are_uniform_over_texts(tmp_path: Path) -> None:
    rows = [
        {"image": image_bytes(i), "caption": list("abcd"[: 1 + 2 * i]), "image_id": "", "split": ""} for i in range(2)
    ]
    write_table(tmp_path / "vg.arrow", rows, CAPTION)
    dataset = build(tmp_path, draw_false_image=1, draw_false_text=1)
    images = [dataset.read(j, None)[1][0][0] for j in range(2)]  # type: ignore[arg-type]
    second = texts = 0
    for epoch in range(500):
        dataset.set_epoch(epoch)
        sample = dataset[0]
        second += torch.equal(sample["false_image_0"][0], images[1])
        texts += sample["false_text_0"] == "a"
    assert 330 < second < 420  # 3 of 4 texts belong to the second image
    assert 200 < texts < 300  # 2 of 4 texts are "a"


def test_only_transparent_images_are_resized_with_their_alpha(tmp_path: Path) -> None:
    """The numbers are those of RGBA throughout, whatever the file holds."""
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 4), dtype=np.uint8)
    rgba = Image.fromarray(noise)
    kinds = {
        "JPEG": rgba.convert("RGB"),
        "L": rgba.convert("L"),
        "P": rgba.convert("RGB").quantize(16),
        "CMYK": rgba.convert("CMYK"),
        "RGBA": rgba,
        "LA": rgba.convert("LA"),
        "P, transparent": rgba.convert("RGB").quantize(16),
        "RGB, transparent": rgba.convert("RGB"),
    }
    files = []
    for name, image in kinds.items():
        buffer = io.BytesIO()
        colour: Any = image.getpixel((3, 3))
        transparent = {"transparency": colour} if name.endswith("transparent") else {}
        image.save(buffer, {"JPEG": "JPEG", "CMYK": "TIFF"}.get(name, "PNG"), **transparent)
        files.append(buffer.getvalue())
    write_vg(tmp_path, files, captions=1)
    dataset, transform = build(tmp_path), build_transform("clip", 16)
    modes = []
    for i, data in enumerate(files):
        modes.append(decode_image(data, None).mode)
        assert torch.equal(dataset[i]["image"][0], transform(decode_image(data, "RGBA")))
    assert modes == ["RGB"] * 4 + ["RGBA"] * 4


def test_a_sample_says_which_file_it_is_when_asked(tmp_path: Path) -> None:
    """The file that was read: that of the next row where one is broken."""
    write_vg(tmp_path, [image_bytes(0), BROKEN, image_bytes(2)])
    for image_only in (False, True):
        dataset = build(tmp_path, image_only=image_only)
        assert not {"file_digest", "origin"} & dataset[0].keys()
        MixedDataset([dataset]).identify()
        digests = [hashlib.blake2b(image_bytes(i), digest_size=16).hexdigest() for i in range(3)]
        samples = [dataset[i] for i in range(0, len(dataset), len(dataset) // 3)]
        assert [sample["file_digest"] for sample in samples] == [digests[0], digests[2], digests[2]]
        assert [sample["origin"].partition("vg.arrow, ")[2] for sample in samples] == [
            *("row 0 (x_0.jpg)", "row 2 (x_2.jpg)", "row 2 (x_2.jpg)")
        ]


def test_forced_draws_and_image_only(tmp_path: Path) -> None:
    write_vg(tmp_path, [image_bytes(i) for i in range(3)])
    dataset = build(tmp_path, draw_false_image=1, draw_false_text=1)
    dataset.forced[1] = FalseDraws([4], [5])
    sample = dataset[1]
    assert sample["false_text_0"] == "2 1" and torch.equal(sample["false_image_0"][0], dataset[4]["image"][0])
    only = build(tmp_path, image_only=True)
    assert len(only) == 3 and [only[i]["img_index"] for i in range(3)] == [0, 1, 2]
    assert set(only[1]) == {"image", "img_index", "cap_index", "raw_index", "_key"}
    with pytest.raises(IndexError):
        only[3]


def test_an_image_is_known_by_its_image_id_whatever_it_looks_like(tmp_path: Path) -> None:
    """COCO's names keep their official number; two names that end in the same number are two images."""
    names = ["COCO_val2014_000000000042.jpg", "1000092795_d530dd478c.jpg", "a_42.jpg", "b_42.jpg", "", "٣_٤.jpg"]
    rows = [{"image": image_bytes(i), "caption": ["a"], "image_id": name} for i, name in enumerate(names)]
    write_table(tmp_path / "coco_caption_karpathy_test.arrow", rows, CAPTION)
    for image_only in (False, True):
        dataset = build(tmp_path, "coco", "test", image_only=image_only)
        assert [dataset[i]["iid"] for i in range(len(names))] == [42, *names[1:]]
    assert official_id(7) == 7 and official_id("COCO_train2014_000000000042.jpg") != 42


def test_a_broken_image_gets_the_next_row(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_vg(tmp_path, [image_bytes(0), BROKEN, b"", image_bytes(3)])
    dataset = build(tmp_path, draw_false_image=1)
    dataset.forced[3] = FalseDraws([2], [])
    with caplog.at_level(logging.WARNING):
        sample = dataset[3]
    assert (sample["img_index"], sample["raw_index"], sample["text"]) == (3, 6, "3 0")
    assert torch.equal(sample["image"][0], sample["false_image_0"][0])
    assert (dataset.guard.reads, dataset.guard.failures) == (6, 4)
    assert "vg.arrow, row 1 (x_1.jpg)" in caplog.text and "zero bytes" in caplog.text


def test_the_last_row_is_replaced_by_the_first(tmp_path: Path) -> None:
    write_vg(tmp_path, [image_bytes(0), BROKEN])
    assert build(tmp_path)[3]["img_index"] == 0
    assert build(tmp_path, image_only=True)[1]["img_index"] == 0


def test_evaluation_stops_at_the_first_broken_image(tmp_path: Path) -> None:
    rows = [{"image": BROKEN, "caption": ["a"], "image_id": "COCO_val2014_7.jpg", "split": "test"}]
    write_table(tmp_path / "coco_caption_karpathy_test.arrow", rows, CAPTION)
    with pytest.raises(DataError, match=r"COCO_val2014_7\.jpg.*an evaluation must see every sample"):
        build(tmp_path, "coco", "val")[0]


def test_a_run_of_broken_images_stops_the_run(tmp_path: Path) -> None:
    write_vg(tmp_path, [image_bytes(), *[BROKEN] * 25])
    dataset = build(tmp_path)
    assert dataset[0]["img_index"] == 0
    with pytest.raises(DataError, match="20 images in a row failed"):
        dataset[2]
    write_vg(tmp_path, [BROKEN] * 3)
    with pytest.raises(DataError, match="no image at all"):
        build(tmp_path)[0]


def test_a_good_image_ends_a_run_of_broken_ones() -> None:
    guard = ReadGuard("vg", strict=False, max_consecutive=3)
    for number in range(20):  # 40 failures, never three of them in a row
        guard.failure(f"row {number}", ImageError("truncated"))
        guard.failure(f"row {number}", ImageError("truncated"))
        guard.success()
    for number in (20, 21):
        guard.failure(f"row {number}", ImageError("truncated"))
    with pytest.raises(DataError, match="row 22: truncated; 3 images in a row failed"):
        guard.failure("row 22", ImageError("truncated"))


def test_the_share_of_failures_is_limited_and_the_log_too(caplog: pytest.LogCaptureFixture) -> None:
    guard = ReadGuard("vg", strict=False, max_share=0.01, min_reads=1000)
    with caplog.at_level(logging.WARNING):
        for number in range(1100):
            if number in (500, 501, 600, 610, 620, 630, 640, 650, 660, 670):
                guard.failure(f"row {number}", ImageError("truncated"))  # 10 of less than 1000 reads
            else:
                guard.success()
        guard.failure("row 1100", ImageError("truncated"))  # 11 of 1101 = 0.9991 %
        with pytest.raises(DataError, match=r"12 of 1102 images failed \(limit 1\.0%\).*vlp\.data\.arrow check"):
            guard.failure("row 1101", ImageError("truncated"))
    assert len(caplog.records) == 5


def test_an_image_that_a_transform_refuses_counts_as_broken(tmp_path: Path) -> None:
    write_vg(tmp_path, [image_bytes(size=(2, 900)), image_bytes(1)], captions=1)
    dataset = build(tmp_path, transform="pixelbert")
    dataset.transforms = [build_transform("pixelbert", 32)]
    assert dataset[0]["img_index"] == 1 and dataset.guard.failures == 1


def test_an_empty_split(tmp_path: Path) -> None:
    write_vg(tmp_path, [image_bytes()])
    mixed = MixedDataset([build(tmp_path, split="val"), build(tmp_path)])
    assert [len(part) for part in mixed.datasets] == [0, 2] and mixed[1]["text"] == "0 1"  # type: ignore[arg-type]
