"""What is wrong with EPIC in a config is refused by its key, by the launcher's own check, which reads no tensors."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, DistilBertConfig

from epic_common.config import EpicConfig
from epic_common.saliency_cache.writer import CacheWriter
from epic_vlp.cache_identity import identity_in_config
from epic_vlp.frozen_teacher import load_teacher
from meter.baseline import BASELINE as METER
from tests.unit.configs import resolve
from tests.unit.meter.small import saved_teacher, small_run
from vilt.baseline import BASELINE as VILT
from vilt.modules.sizes import VIT_SIZES
from vlp.checkpoint.weights import WeightsError
from vlp.data.tokenizers import load_tokenizer
from vlp.sacred_dialect.baseline import SacredBaseline

BASELINES = pytest.mark.parametrize("baseline", [METER, VILT], ids=lambda baseline: baseline.name)
GIVEN: dict[str, Any] = {"data_root": "nowhere", "per_gpu_batchsize": 4}
SMALL = "vit_tiny_patch16_64"
LAYERS = {"meter": "num_top_layer", "vilt": "num_layers"}


@pytest.fixture(autouse=True)
def three_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """ViLT's small model has as many fusion layers as METER's here."""
    monkeypatch.setitem(VIT_SIZES, SMALL, VIT_SIZES[SMALL]._replace(layers=3))


def run_of(baseline: SacredBaseline, **changes: Any) -> dict[str, Any]:
    """The config of a small pre-training run with EPIC and three fusion layers, whose tables are nowhere."""
    named = [baseline.pretraining[0], *baseline.small, "epic"]
    return resolve(baseline.experiment, named, **{**GIVEN, LAYERS[baseline.name]: 3, **changes})


def file_of(baseline: SacredBaseline, path: Path, **changes: Any) -> str:
    """A checkpoint of which only names and config are there to be read."""
    state = {f"{prefix}weight": torch.ones(1) for prefix in baseline.layout.recognised_by}
    torch.save({"state_dict": state, "hyper_parameters": {"config": run_of(baseline, **changes)}}, path)
    return str(path)


def refused(baseline: SacredBaseline, message: str, **changes: Any) -> None:
    with pytest.raises((ValueError, WeightsError), match=message):
        baseline.check(run_of(baseline, **changes))


@BASELINES
def test_a_right_config_passes(baseline: SacredBaseline, tmp_path: Path) -> None:
    path = file_of(baseline, tmp_path / "teacher.ckpt")
    baseline.check(run_of(baseline, teacher_path=path))
    for layer in (-3, 2):
        baseline.check(run_of(baseline, teacher_path=path, epic={"saliency_layer": layer}))
    baseline.check(run_of(baseline, epic={"masking": "uniform"}))
    baseline.check(run_of(baseline, epic={"enabled": False}, teacher_path="nowhere.ckpt", saliency_cache="nowhere"))


@BASELINES
@pytest.mark.parametrize("layer", [99, -99, 3, -4])
def test_a_layer_that_the_teacher_does_not_have(baseline: SacredBaseline, layer: int, tmp_path: Path) -> None:
    """How many there are the teacher's file says, else the run's own config."""
    message = rf"epic\.saliency_layer={layer}: the teacher \S+\.ckpt has 3 fusion layers, -3 to 2"
    path = file_of(baseline, tmp_path / "ours.ckpt")
    refused(baseline, message, teacher_path=path, epic={"saliency_layer": layer})
    state = torch.load(path, weights_only=True)["state_dict"]
    torch.save({"state_dict": state}, tmp_path / "official.ckpt")
    refused(baseline, message, teacher_path=str(tmp_path / "official.ckpt"), epic={"saliency_layer": layer})


@BASELINES
def test_a_teacher_of_more_layers_has_more_to_choose_from(baseline: SacredBaseline, tmp_path: Path) -> None:
    path = file_of(baseline, tmp_path / "deep.ckpt", **{LAYERS[baseline.name]: 5})
    baseline.check(run_of(baseline, teacher_path=path, epic={"saliency_layer": -5}))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "value": ({"epic": {"mask_ratio": 2}}, r"epic\.mask_ratio is 2; it must be"),
    "value, switched off": ({"epic": {"enabled": False, "mask_ratio": 2}}, r"epic\.mask_ratio is 2; it must be"),
    "combination": ({"epic": {"sas_refresh_steps": 5}}, r"epic\.sas_refresh_steps=5 needs epic\.replacement='vlm'"),
    "separator": ({"epic": {"append_sep": True}}, r"epic\.append_sep=True is not possible with (METER|ViLT): its sent"),
    "no teacher": ({}, r"teacher_path must be given: the checkpoint of a (METER|ViLT) pre-trained without EPIC"),
    "no teacher for the first snapshot": (
        {"epic": {"masking": "uniform", "replacement": "vlm"}},
        r"teacher_path must be given",
    ),
    "lost teacher": ({"teacher_path": "nowhere.ckpt"}, r"nowhere\.ckpt: no such file"),
    "lost cache": ({"saliency_cache": "nowhere"}, r"saliency_cache nowhere does not exist; build it: python epic_sal"),
    "unread cache": (
        {"saliency_cache": "nowhere", "epic": {"masking": "uniform"}},
        r"only EPIC with epic\.masking=saliency reads saliency",
    ),
    "unfitted generator": (
        {"epic": {"masking": "uniform", "generator_training": "trained"}},
        r"epic\.generator_training='trained' needs .*epic_common\.fit_lm",
    ),
    "lost generator": (
        {"epic": {"masking": "uniform", "generator": "./nowhere"}},
        r"epic\.generator='\./nowhere': no masked language model in a folder",
    ),
    "a snapshot without words": (
        {"loss_names": {"mlm": 0}, "epic": {"replacement": "vlm"}},
        r"epic\.replacement='vlm' needs loss_names\.mlm=1",
    ),
}


@BASELINES
@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_named(baseline: SacredBaseline, what: str) -> None:
    changes, message = WRONG[what]
    refused(baseline, message, **changes)


@pytest.mark.parametrize(
    ("baseline", "task"),
    [(METER, task) for task in ("irtr_coco", "vqa", "nlvr2", "snli")] + [(VILT, task) for task in ("irtr_f30k", "vqa")],
    ids=lambda value: getattr(value, "name", value),
)
def test_fine_tuning_is_refused(baseline: SacredBaseline, task: str) -> None:
    config = resolve(baseline.experiment, [baseline.finetuning.format(task), "epic"], **GIVEN)
    with pytest.raises(ValueError, match=r"epic\.enabled: EPIC is a pre-training objective; fine-tune its checkpoint"):
        baseline.check(config)


@BASELINES
def test_a_cache_for_views_that_are_drawn(baseline: SacredBaseline) -> None:
    (view,) = run_of(baseline)["val_transform_keys"]
    changes = {"saliency_cache": "nowhere", "train_transform_keys": [f"{view}_randaug"]}
    refused(baseline, rf"train_transform_keys has '{view}_randaug', another view of an image each time", **changes)


def test_a_language_model_cannot_be_given_the_image_that_vilt_does_not_encode(tmp_path: Path) -> None:
    conditioned = {"epic": {"image_conditioned": True}}
    refused(VILT, r"epic\.image_conditioned=True is not possible with ViLT: it has no image encoder", **conditioned)
    METER.check(run_of(METER, teacher_path=file_of(METER, tmp_path / "teacher.ckpt"), **conditioned))


def test_a_teacher_of_another_baseline(tmp_path: Path) -> None:
    theirs = file_of(VILT, tmp_path / "vilt.ckpt")
    refused(METER, r"vilt\.ckpt: its keys are those of ViLT, not of METER", teacher_path=theirs)
    ours = file_of(METER, tmp_path / "meter.ckpt")
    refused(VILT, r"meter\.ckpt: its keys are those of METER, not of ViLT", teacher_path=ours)


def test_a_teacher_that_reads_shorter_texts(tmp_path: Path) -> None:
    path = file_of(VILT, tmp_path / "teacher.ckpt", max_text_len=20)
    refused(VILT, r"reads texts of max_text_len=20 at most, this run has 40", teacher_path=path, max_text_len=40)


@BASELINES
def test_a_first_snapshot_of_another_architecture(baseline: SacredBaseline, tmp_path: Path) -> None:
    """Its tensors could not be filled with the student's: a run would end at the first refresh."""
    key = LAYERS[baseline.name]
    path = file_of(baseline, tmp_path / "deep.ckpt", **{key: 5})
    baseline.check(run_of(baseline, teacher_path=path))
    message = rf"epic\.replacement='vlm' fills .* has {key}=5 \(here 3\)"
    refused(baseline, message, teacher_path=path, epic={"replacement": "vlm"})


def test_a_first_snapshot_without_an_mlm_head(tmp_path: Path) -> None:
    path = saved_teacher(tmp_path, loss_names={"mlm": 0})
    config, tokenizer = small_run(tmp_path, teacher_path=str(path)), load_tokenizer(tmp_path)
    assert load_teacher(METER, config, EpicConfig(enabled=True), tokenizer).sha256
    with pytest.raises(WeightsError, match=r"teacher\.ckpt: lacks mlm_score.*, the MLM head that epic\.replacement="):
        load_teacher(METER, config, EpicConfig(enabled=True, replacement="vlm"), tokenizer)


def written_cache(folder: Path, baseline: SacredBaseline, config: dict[str, Any]) -> str:
    known = identity_in_config(baseline, config, EpicConfig.from_dict(config["epic"]))
    CacheWriter(folder, "", {**known, "teacher_sha256": "ab", "tokenizer": "cd"}, [], 0).finish({"precision": "32"})
    return str(folder)


@BASELINES
def test_a_cache_of_other_scores(baseline: SacredBaseline, tmp_path: Path) -> None:
    cache = written_cache(tmp_path / "cache", baseline, run_of(baseline))
    run = partial(run_of, baseline, saliency_cache=cache)
    baseline.check(run())
    for changes, message in (
        ({"epic": {"saliency_layer": 99}}, r"epic\.saliency_layer is -2 in the cache and 99 in this run"),
        ({"image_size": 96}, r"image_size is 64 in the cache and 96 in this run"),
        ({"teacher_path": "nowhere.ckpt"}, r"nowhere\.ckpt: no such file"),
        ({"epic": {"replacement": "vlm"}}, "teacher_path must be given"),
    ):
        with pytest.raises((ValueError, WeightsError), match=message):
            baseline.check(run(**changes))
    (tmp_path / "cache" / "manifest.json").unlink()
    with pytest.raises(ValueError, match="is not complete; build it"):
        baseline.check(run())


def test_a_generator_is_judged_by_its_config(tmp_path: Path) -> None:
    BertConfig(num_hidden_layers=1).save_pretrained(tmp_path / "bert")
    DistilBertConfig().save_pretrained(tmp_path / "other family")
    (tmp_path / "unknown").mkdir()
    (tmp_path / "unknown" / "config.json").write_text(json.dumps({"model_type": "no such"}))
    settings = {"masking": "uniform"}
    METER.check(run_of(METER, epic={**settings, "generator": str(tmp_path / "bert")}))
    for folder, message in (
        ("other family", r"epic\.generator=.*none of the masked-LM heads"),
        ("unknown", r"epic\.generator=.*unknown': no masked language model in a folder"),
    ):
        refused(METER, message, epic={**settings, "generator": str(tmp_path / folder)})
