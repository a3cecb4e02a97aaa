"""The saliency cache, on METER: its scores are the teacher's, a killed build goes on, what does not fit is refused."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from epic_common.config import EpicConfig
from epic_common.saliency_cache.identity import SaliencyCacheError
from epic_common.saliency_cache.reader import CachedTeacher
from epic_common.teacher import Teacher
from epic_vlp import attach, cache_build
from epic_vlp.attach import attach_epic
from epic_vlp.cache_build import chunks_of
from epic_vlp.cache_identity import identity
from epic_vlp.extension import EpicExtension
from epic_vlp.frozen_teacher import load_teacher
from meter.baseline import BASELINE as METER
from meter.datamodules.multitask_datamodule import MTDataModule
from meter.modules.meter_module import METERTransformerSS
from tests.unit.data.raw import image_bytes, write_table
from tests.unit.meter.small import saved_teacher, small_run
from vlp.data.arrow.writer import CAPTION
from vlp.data.errors import DataError
from vlp.data.trim import trimmed
from vlp.owner import release_all

IMAGES, BROKEN = 8, 3
WORDS = [f"w{i}" for i in range(10)]


def build_cache(baseline: Any, config: dict[str, Any]) -> None:
    """As the program builds it, which gives the folder back at its end."""
    try:
        cache_build.build_cache(baseline, config)
    finally:
        release_all()


def write_vg(folder: Path, broken: Sequence[int] = (BROKEN,), captions: int = 3) -> None:
    """Images with captions of 1 to 10 words, one image broken, one caption of two images."""
    rows = [
        {
            "image": image_bytes(i)[:-250] if i in broken else image_bytes(i),
            "caption": [" ".join(WORDS[: 1 + (3 * i + j) % 10]) for j in range(captions)],
            "image_id": f"x_{i}.jpg",
            "split": "train",
        }
        for i in range(IMAGES)
    ]
    write_table(folder / "vg.arrow", rows, CAPTION)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, tokenizer, teacher and a complete cache."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    write_vg(folder)
    saved_teacher(folder)
    build_cache(METER, config_of(folder))
    return folder


def config_of(folder: Path, **changes: Any) -> dict[str, Any]:
    keys: dict[str, Any] = {
        **{"data_root": str(folder), "datasets": ["vg"], "num_gpus": 1, "num_workers": 0, "per_gpu_batchsize": 3},
        **{"teacher_path": str(folder / "teacher.ckpt"), "saliency_cache": str(folder / "cache")},
    }
    return small_run(folder, **{**keys, **changes})


def attached(config: dict[str, Any]) -> tuple[Any, MTDataModule]:
    """EPIC's part of a student, and its loaders, as a run makes them."""
    datamodule, model = MTDataModule(config), METERTransformerSS(config)
    attach_epic(METER, model, datamodule, rank=0)
    return model.epic, datamodule


# Its scores ---------------------------------------------------------------------------------------------------


def test_scores_are_the_teachers(folder: Path) -> None:
    """In shuffled batches of another size and padding; the sample that replaces a broken image is found, too."""
    config = config_of(folder, per_gpu_batchsize=5)
    epic, datamodule = attached({**config, "teacher_path": ""})
    teacher = load_teacher(METER, config, EpicConfig(enabled=True), datamodule.tokenizer)
    assert isinstance(epic.teacher, CachedTeacher) and epic.teacher.sha256 == teacher.sha256
    seen = set()
    for batch in map(trimmed, datamodule.train_dataloader()):
        ours, theirs, valid = epic.teacher.saliency(batch), teacher.saliency(batch), batch["text_masks"].bool()
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours[valid], theirs[valid], rtol=1e-5, atol=1e-6)
        seen |= set(zip(batch["img_index"], batch["text"], strict=True))
    assert len(seen) == (IMAGES - 1) * 3


def test_scores_of_two_data_sets_are_kept_apart(folder: Path, tmp_path: Path) -> None:
    """Equal captions and row numbers in both; the last row that is read of the first is the first of the second."""
    for table, numbers in (("sbu_0", [20]), ("vg", [0, 1, 2])):
        rows = [{"image": image_bytes(i), "caption": WORDS[:3], "image_id": "x.jpg", "split": "train"} for i in numbers]
        write_table(tmp_path / f"{table}.arrow", rows, CAPTION)
    changes = {"data_root": str(tmp_path), "datasets": ["sbu", "vg"], "saliency_cache": str(tmp_path / "cache")}
    build_cache(METER, config := config_of(folder, **changes))
    epic, datamodule = attached(config)
    assert len(epic.teacher.cache) == 4 * 3
    teacher = load_teacher(METER, config, EpicConfig(enabled=True), datamodule.tokenizer)
    samples = datamodule.sets["train"]
    batch = trimmed(datamodule.collate([samples[i] for i in range(len(samples))]))
    assert len(set(zip(batch["origin"], batch["text"], strict=True))) == 12
    ours, theirs = epic.teacher.saliency(batch), teacher.saliency(batch)
    words = batch["text_masks"].bool()
    torch.testing.assert_close(ours[words], theirs[words], rtol=1e-5, atol=1e-6)
    assert len(theirs[:, 1].unique()) == 12  # every pair has scores of its own


def test_what_the_manifest_says(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build_cache(METER, config_of(folder))  # complete: nothing is computed
    printed = capsys.readouterr().out
    assert "12 of 12 chunks are there already" in printed
    assert "21 distinct pairs" in printed and "3 pairs left out, their images cannot be read" in printed
    assert "pairs/s" not in printed


def test_no_weights_of_the_teacher_are_loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach, "load_teacher", lambda *_: pytest.fail("not needed"))
    for path in ("", str(folder / "teacher.ckpt")):
        epic, _ = attached(config_of(folder, teacher_path=path))
        assert epic.snapshot is None and isinstance(epic.teacher, CachedTeacher)


def test_vlm_sas_loads_the_teacher_for_its_first_snapshot(folder: Path) -> None:
    config = config_of(folder, epic={"enabled": True, "replacement": "vlm"})
    epic, _ = attached(config)
    assert isinstance(epic.teacher, CachedTeacher) and isinstance(epic.snapshot.frozen, Teacher)
    with pytest.raises(ValueError, match="teacher_path must be given"):
        attached({**config, "teacher_path": ""})


# Building it --------------------------------------------------------------------------------------------------


class Killer:
    """A teacher that ends its process, as nothing can catch, when it is asked for the n-th batch."""

    def __init__(self, teacher: Teacher, batches: int) -> None:
        self.teacher, self.left = teacher, batches

    def place(self, device: torch.device) -> None:
        self.teacher.place(device)

    def saliency(self, batch: Any) -> Tensor:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.teacher.saliency(batch)


def killed_build(config: dict[str, Any], batches: int) -> None:
    child = os.fork()
    if child == 0:
        cache_build.load_teacher = lambda *a: Killer(load_teacher(*a), batches)  # type: ignore[assignment]
        build_cache(METER, config)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


def test_a_killed_build_goes_on(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Killed twice: the chunks that were complete stay, and the cache is that of an unbroken build to the byte."""
    config = config_of(folder, saliency_cache=str(tmp_path))
    killed_build(config, 4)
    assert len(list(tmp_path.glob("chunks-*/*.safetensors"))) == 3
    with pytest.raises(SaliencyCacheError, match=r"is not complete; build it: python epic_saliency_cache\.py with"):
        attached(config)
    killed_build(config, 6)
    assert len(list(tmp_path.glob("chunks-*/*.safetensors"))) == 9  # one without a readable image among them
    capfd.readouterr()
    build_cache(METER, config)
    assert "9 of 12 chunks are there already" in capfd.readouterr().out
    same_files(tmp_path, folder / "cache")


def test_a_build_of_changed_data_or_another_precision_begins_anew(folder: Path, tmp_path: Path) -> None:
    """As many pairs under the same names: neither a complete cache nor complete chunks of a killed build serve."""
    config = config_of(folder, data_root=str(tmp_path), saliency_cache=str(tmp_path / "cache"))
    write_vg(tmp_path)
    build_cache(METER, config)
    killed_build({**config, "precision": "bf16"}, 4)
    rows = [
        {"image": image_bytes(40 + i), "caption": WORDS[:3], "image_id": "", "split": "train"} for i in range(IMAGES)
    ]
    write_table(tmp_path / "vg.arrow", rows, CAPTION)
    for precision in ("bf16", 32):
        build_cache(METER, {**config, "precision": precision})
        assert json.loads((tmp_path / "cache" / "manifest.json").read_text())["precision"] == precision
        epic, datamodule = attached(config)
        samples = datamodule.sets["train"]
        batch = trimmed(datamodule.collate([samples[i] for i in range(len(samples))]))
        assert len(epic.teacher.cache) == 3 * IMAGES and bool(epic.teacher.saliency(batch).isfinite().all())


def same_files(ours: Path, theirs: Path) -> None:
    assert sorted(path.name for path in ours.iterdir()) == sorted(path.name for path in theirs.iterdir())
    for path in ours.iterdir():
        assert path.read_bytes() == (theirs / path.name).read_bytes(), path.name


def test_loader_workers_make_no_difference(folder: Path, tmp_path: Path) -> None:
    build_cache(METER, config_of(folder, saliency_cache=str(tmp_path), num_workers=2))
    same_files(tmp_path, folder / "cache")


def test_chunks_are_parts_of_all_pairs() -> None:
    for pairs in (1, 15, 16, 17, 80, 70_000, 10_000_001):
        chunks = chunks_of(pairs)
        assert [i for chunk in chunks for i in (chunk.start, chunk.stop)][1:-1:2] == [c.start for c in chunks[1:]]
        assert chunks[0].start == 0 and chunks[-1].stop == pairs and all(0 < len(chunk) <= 4096 for chunk in chunks)
    with pytest.raises(ValueError, match="no pairs"):
        chunks_of(0)


def test_broken_images_are_counted_as_in_training(folder: Path, tmp_path: Path) -> None:
    """An image fails once, however many captions it has; 20 images in a row stop the build as they stop a run."""
    captions = [f"{WORDS[j % 10]} {WORDS[j // 10]}" for j in range(30)]
    row = {"caption": captions, "image_id": "", "split": "train"}
    config = config_of(folder, data_root=str(tmp_path), saliency_cache=str(tmp_path / "cache"))
    for broken in (1, 20):
        images = [image_bytes()[:-250]] * broken + [image_bytes()]
        write_table(tmp_path / "vg.arrow", [{**row, "image": data} for data in images], CAPTION)
        if broken == 1:
            build_cache(METER, config)
            assert json.loads((tmp_path / "cache" / "manifest.json").read_text())["skipped_pairs"] == 30
    with pytest.raises(DataError, match="20 images in a row failed"):
        build_cache(METER, config)


def test_scores_that_are_not_finite_are_not_written(folder: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(folder / "teacher.ckpt", weights_only=True)
    for part in ("query", "key"):  # each is finite, their product is not
        checkpoint["state_dict"][f"cross_modal_image_layers.1.crossattention.self.{part}.bias"][0] = 1e20
    torch.save(checkpoint, tmp_path / "broken.ckpt")
    config = config_of(folder, teacher_path=str(tmp_path / "broken.ckpt"), saliency_cache=str(tmp_path / "cache"))
    with pytest.raises(FloatingPointError, match=r"saliency of .*vg\.arrow, row 0 .*, caption .* is not finite"):
        build_cache(METER, config)
    assert not list(tmp_path.glob("cache/**/*"))


# Refusals -----------------------------------------------------------------------------------------------------

OTHER: dict[str, tuple[dict[str, Any], str]] = {
    "layer": ({"epic": {"enabled": True, "saliency_layer": -1}}, r"epic\.saliency_layer is -2 in the cache and -1"),
    "text length": ({"max_text_len": 20}, r"max_text_len is 30 in the cache and 20 in this run"),
    "image size": ({"image_size": 96}, r"image_size is 64 in the cache and 96 in this run"),
    "view": (
        {"train_transform_keys": ["imagenet"], "val_transform_keys": ["imagenet"]},
        r"transform_keys is \['clip'\] in the cache and \['imagenet'\] in this run",
    ),
    "random view": (
        {"train_transform_keys": ["clip_randaug"]},
        r"train_transform_keys has 'clip_randaug', another view",
    ),
    "padded view": ({"train_transform_keys": ["pixelbert"]}, r"train_transform_keys has 'pixelbert'"),
    "views": (
        {"val_transform_keys": ["vit"]},
        r"train_transform_keys=\['clip'\] and val_transform_keys=\['vit'\] must be",
    ),
    "no saliency": ({"epic": {"enabled": True, "masking": "uniform"}}, r"only EPIC with epic\.masking=saliency reads"),
    "nowhere": (
        {"saliency_cache": "nowhere"},
        r"saliency_cache nowhere does not exist; build it: python epic_saliency_",
    ),
}


@pytest.mark.parametrize("what", OTHER)
def test_a_cache_that_does_not_fit_is_refused(what: str, folder: Path) -> None:
    changes, message = OTHER[what]
    with pytest.raises(ValueError, match=message):
        attached(config_of(folder, **{"teacher_path": "", **changes}))


def test_a_cache_belongs_to_a_baseline_and_its_views(folder: Path) -> None:
    """Another baseline's cache is refused by name."""
    other = replace(METER, name="vilt", extension=replace(cast(EpicExtension, METER.extension), fixed_views=("clip",)))
    epic, datamodule = attached(config := config_of(folder))
    settings = EpicConfig(enabled=True)
    ours, theirs = (identity(it, config, settings, datamodule.tokenizer) for it in (METER, other))
    assert epic.teacher.cache.identity == ours
    assert theirs == {**ours, "baseline": "vilt"}
    with pytest.raises(SaliencyCacheError, match="baseline is 'meter' in the cache and 'vilt' in this run"):
        build_cache(other, config)
    views = {"train_transform_keys": ["imagenet"], "val_transform_keys": ["imagenet"]}
    with pytest.raises(ValueError, match=r"has 'imagenet', another view .* a fixed one: clip$"):
        build_cache(other, {**config, **views})


def test_another_teacher_is_refused(folder: Path, tmp_path: Path) -> None:
    other = saved_teacher(tmp_path, hidden_size=64)
    with pytest.raises(SaliencyCacheError, match=r"teacher_sha256 is '\w{64}' in the cache and '\w{64}' in this run"):
        attached(config_of(folder, teacher_path=str(other)))
    with pytest.raises(SaliencyCacheError, match=r"teacher_sha256 is"):
        build_cache(METER, config_of(folder, teacher_path=str(other)))  # never overwritten


def test_another_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    saved_teacher(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    words = content["model"]["vocab"]
    words["w0"], words["w1"] = words["w1"], words["w0"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(SaliencyCacheError, match=r"tokenizer is '\w{64}' in the cache"):
        attached({**config_of(folder), "tokenizer": str(tmp_path)})


@pytest.mark.parametrize("key", ["saliency_cache", "teacher_path"])
def test_what_the_builder_needs(key: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=f"{key} must be given"):
        build_cache(METER, config_of(folder, **{key: ""}))


def test_changed_data_are_not_found(folder: Path, tmp_path: Path) -> None:
    """The error names table, row, image and caption, and how to build the cache again."""
    write_vg(tmp_path, broken=(), captions=4)
    epic, datamodule = attached(config_of(folder, data_root=str(tmp_path), teacher_path=""))
    samples = datamodule.sets["train"]
    assert len(samples) == 4 * IMAGES
    for index, message in (
        (
            4 * 2 + 3,
            r"vg\.arrow, row 2 \(x_2\.jpg\), caption '.+'.* stale .*build it again: python epic_saliency_cache",
        ),
        (4 * BROKEN, rf"vg\.arrow, row {BROKEN} \(x_{BROKEN}\.jpg\), caption"),
    ):
        known = datamodule.collate([samples[0], samples[4 * 2]])
        epic.teacher.saliency(known)
        with pytest.raises(DataError, match=message):
            epic.teacher.saliency(datamodule.collate([samples[0], samples[index]]))
