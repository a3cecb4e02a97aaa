"""The benchmark of the input pipeline: both ways do the same work, and its file says what a reader needs."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.input_pipeline import BASELINES, main, open_data, parse, pipeline, plain_loop, take, write_files
from benchmarks.photos import photo, write_photos


@pytest.mark.parametrize(("baseline", "shape"), [("meter", (3, 96, 96)), ("vilt", (3, 96, 128))])
def test_both_ways_make_the_same_tensors(tmp_path: Path, baseline: str, shape: tuple[int, ...]) -> None:
    """Of images of 160 x 120 pixels METER sees the middle, ViLT all."""
    arguments = parse(["--baseline", baseline, "--images", "6", "--size", "120", "--image-size", "96"])
    datamodule = open_data(tmp_path, write_photos(tmp_path, 9, arguments.size), arguments)
    files = write_files(take(datamodule, 6), tmp_path / "files")
    dataset = datamodule.sets["train"]
    assert len(files) == len(dataset) == 6
    views = list(plain_loop(files, BASELINES[baseline], arguments.image_size))
    assert all(torch.equal(dataset[i]["image"][0], view) for i, view in enumerate(views))
    assert {view.shape for view in views} == {shape}
    assert pipeline(datamodule, workers=0) == 9  # a true image of each pair, and a false one of half of them
    assert len({view.numpy().tobytes() for view in views}) == 6


def test_images_are_like_photographs() -> None:
    data = photo(480, np.random.default_rng(0))
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (640, 480))
    assert 60_000 < len(data) < 160_000


def test_the_file_and_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "result.json"
    sizes = ["--images", "6", "--size", "60", "--image-size", "32", "--rounds", "1"]
    main([*sizes, "--workers", "0", "2", "--json", str(out)])
    result = json.loads(out.read_text())
    ways = ["plain", "workers_0", "workers_2"]
    for quantity in ("images_per_cpu_second", "ratio_to_plain", "images_per_second"):
        assert list(result[quantity]) == ways and all(value > 0 for value in result[quantity].values())
    assert result["ratio_to_plain"]["plain"] == 1
    assert result["settings"]["images"] == 6 and result["machine"]["cores"] >= 1
    printed = capsys.readouterr().out
    assert "plain PIL loop" in printed and "pipeline, num_workers=2" in printed


def test_tables_of_ones_own(tmp_path: Path) -> None:
    write_photos(tmp_path, 4, 60)
    sizes = ["--image-size", "32", "--rounds", "1", "--workers", "0", "--json", str(tmp_path / "out.json")]
    main(["--baseline", "vilt", "--data-root", str(tmp_path), "--datasets", "vg", *sizes])
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["settings"]["baseline"] == "vilt" and result["settings"]["images"] == 4
    assert result["settings"]["data"] == str(tmp_path)
