"""The saliency cache of X-VLM: built over the stream of pairs, and read by a run with fixed views."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from epic_common.saliency_cache.reader import CachedTeacher
from epic_common.teacher import Teacher
from epic_vlp.check import check_epic
from epic_vlp.frozen_teacher import load_teacher
from epic_vlp.lightning_epic import SCORES
from epic_vlp.parts import settings_of
from epic_vlp.stream_cache import PARTS, build_cache, build_or_exit, parts_of_lines
from tests.unit.xvlm.small_runs import config_of, saved_teacher, words, write_data, write_lines
from vlp.data.errors import DataError
from vlp.data.jsonl.lines import JsonLines
from vlp.training.run import train
from vlp.yaml_dialect.run import build
from xvlm.baseline import BASELINE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of twenty rows, one with two captions, and one without a readable image."""
    folder = tmp_path_factory.mktemp("cache")
    write_data(folder)
    rows = [json.loads(line) for line in (folder / "second.json").read_text().splitlines()]
    rows[0]["caption"] = [words(1), words(2)]
    write_lines(folder / "second.json", [*rows, {"image_rpath": "nowhere.png", "caption": "w1"}])
    config = config_of(folder, {}, teacher_path=saved_teacher(folder), fixed_views=True, num_workers=1)
    build_cache(BASELINE, {**config, "saliency_cache": str(folder / "cache")})
    return folder


def reading(folder: Path, **changes: Any) -> dict[str, Any]:
    """The config of a run that reads the cache."""
    cache = {"saliency_cache": str(folder / "cache"), "fixed_views": True}
    return config_of(folder, {}, **{**cache, **changes})


def test_every_pair_is_in_it(folder: Path) -> None:
    manifest = json.loads((folder / "cache/manifest.json").read_text())
    assert (manifest["pairs"], manifest["skipped_pairs"]) == (21, 1)


def test_a_run_reads_the_scores_that_the_teacher_gives(folder: Path, tmp_path: Path) -> None:
    config = reading(folder, output_dir=str(tmp_path), max_steps=9)
    made = build(BASELINE, "Pretrain", config)
    model: Any = made.run.model
    assert isinstance(model.epic.teacher, CachedTeacher)
    settings = settings_of(BASELINE, config)
    own = {**config, "teacher_path": saved_teacher(folder)}
    datamodule: Any = made.run.datamodule
    teacher: Teacher = load_teacher(BASELINE, own, settings, datamodule.tokenizer)
    checked, take = list[int](), model.epic.corrupt
    seen, forward = list[Any](), model.forward

    def corrupt(ids: Any, mask: Any, scores: Any, *rest: Any) -> Any:
        expected = teacher.saliency(seen[-1])
        torch.testing.assert_close(scores[mask.bool()], expected[mask.bool()], rtol=1e-4, atol=1e-5)
        checked.append(len(ids))
        return take(ids, mask, scores, *rest)

    def watched(batch: Any, *rest: Any) -> Any:
        seen.append(batch)
        assert (SCORES in batch) == ("idx_to_group_img" not in batch)
        return forward(batch, *rest)

    model.epic.corrupt, model.forward = corrupt, watched
    train(made.run, config, config["seed"])
    assert len(seen) == 9 and checked == [3] * 6  # batches of images alone


def test_what_a_cache_cannot_serve_is_refused(folder: Path) -> None:
    def refused(message: str, config: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=message):
            check_epic(BASELINE, config)

    check_epic(BASELINE, reading(folder))
    refused(r"saliency_cache: fixed_views=False shows another view", reading(folder, fixed_views=False))
    config = reading(folder)
    config["epic"] = {**config["epic"], "on_regions": True}
    refused(r"saliency_cache: epic\.on_regions=True takes regions", config)
    refused(r"is of another run: max_words is 40 in the cache and 12 in this run", reading(folder, max_words=12))
    refused(r"does not exist; build it: torchrun epic_saliency_cache\.py", reading(folder, saliency_cache="nowhere"))


def test_a_pair_that_is_not_in_it_is_named(folder: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "other.json", [{"image_rpath": "1.png", "caption": "w1 w9"}] * 20)
    config = reading(folder, train_file=[str(tmp_path / "other.json")], output_dir=str(tmp_path / "run"))
    made = build(BASELINE, "Pretrain", config)
    datamodule: Any = made.run.datamodule
    batches = datamodule.train_dataloader()
    with pytest.raises(DataError, match=r"no scores for \S+other\.json: line at byte \d+, caption 'w1 w9'"):
        next(iter(batches.streams["images"].batches))


@pytest.mark.parametrize("lacking", ["teacher_path", "saliency_cache"])
def test_what_a_build_needs_is_said(lacking: str, folder: Path) -> None:
    paths = {"teacher_path": saved_teacher(folder), "saliency_cache": str(folder / "new")}
    config = reading(folder, **{**paths, lacking: ""})
    with pytest.raises(SystemExit, match=rf"error: {lacking} must be given"):
        build_or_exit(BASELINE, config)


def test_parts_hold_every_chunk_once(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.json", [{"caption": "w"}] * 4000)
    lines = JsonLines([tmp_path / "a.json"], chunk=16)
    parts = parts_of_lines(lines)
    assert lines.chunks > 2 * PARTS and len(parts) <= PARTS
    assert [chunk for part in parts for chunk in part] == list(range(lines.chunks))
