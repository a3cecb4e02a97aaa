"""Exported folders: every baseline loads them as it loads the checkpoint, and what stands in their cards is true."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from albef.baseline import BASELINE as ALBEF
from tests.unit.albef import small_runs as albef_runs
from tests.unit.checkpoint.files import malicious
from tests.unit.small_parts import masked_pairs, stirred
from tests.unit.training import small_runs as sacred_runs
from tests.unit.xvlm import small_runs as xvlm_runs
from vlp.baseline import REGISTRY, get_baseline
from vlp.checkpoint.__main__ import main
from vlp.checkpoint.export import export
from vlp.checkpoint.inspection import inspect
from vlp.checkpoint.loading import load_into
from vlp.checkpoint.weights import WeightsError, read_checkpoint, read_state_dict, saved_config, sha256_of_file
from vlp.data.tokenizers import load_tokenizer
from vlp.sacred_dialect.run import build
from xvlm.baseline import BASELINE as XVLM

SCRIPTED = {"albef": ALBEF, "xvlm": XVLM}
EPIC = {"epic.head.weight": torch.randn(1, 4), "epic.generator.words": torch.randn(3, 2)}


class Saved(NamedTuple):
    """A small model's checkpoint, and the configuration that it was built from."""

    name: str
    path: Path
    config: dict[str, Any]

    def load(self, model: nn.Module, path: Path) -> nn.Module:
        """``path`` loaded into a model as the launcher does."""
        if self.name in SCRIPTED:
            SCRIPTED[self.name].scripts["Pretrain"].load(model, str(path), False)
        else:
            load_into(model, str(path), get_baseline(self.name).layout)
        return model.eval()

    def logits(self, path: Path) -> Tensor:
        """Of matching, for three images and sentences, of a model that was another one before ``path`` was loaded."""
        torch.manual_seed(7)
        model: Any = self.load(stirred(get_baseline(self.name).model(self.config)), path)
        size = self.config["image_res" if self.name in SCRIPTED else "image_size"]
        batch = masked_pairs(size, (6, 3, 9), masked=1, seed=3)
        ids = batch["text_ids"] = batch["text_ids"] % 40
        batch |= {"text_ids_mlm": ids, "text_labels_mlm": ids.masked_fill(batch["text_labels_mlm"] < 0, -100)}
        torch.manual_seed(5)  # hard negatives are drawn
        with torch.no_grad():
            if self.name in SCRIPTED:
                return model(batch, 0.4)["itm_logits"] if self.name == "albef" else model(batch)["itm_logits"]
            given = {"text_ids": ids, "text_masks": batch["text_masks"], "text_labels": ids, "image": [batch["image"]]}
            return model.itm_score(model.infer(given)["cls_feats"])


def write(name: str, folder: Path, added: dict[str, Tensor] | None = None) -> Saved:
    """A run's checkpoint in the form of the baseline, its tokenizer beside it."""
    folder.mkdir(exist_ok=True)
    config, path = CONFIGS[name](folder), folder / "run" / "version_0" / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    torch.manual_seed(1)
    state = stirred(get_baseline(name).model(config)).state_dict()
    content: dict[str, Any] = {"model": state, "added_model": added or {}, "config": config, "epoch": 3}
    if name not in SCRIPTED:
        content = {"state_dict": {**state, **(added or {})}, "hyper_parameters": {"config": config}, "global_step": 40}
    torch.save(content, path)
    return Saved(name, path, config)


def sacred_config(name: str) -> Callable[[Path], dict[str, Any]]:
    def made(folder: Path) -> dict[str, Any]:
        sacred_runs.write_data(folder, images=2)
        return sacred_runs.config_of(name, folder)

    return made


def scripted_config(runs: Any) -> Callable[[Path], dict[str, Any]]:
    def made(folder: Path) -> dict[str, Any]:
        runs.write_data(folder)
        return runs.config_of(folder)

    return made


CONFIGS = {
    **{name: sacred_config(name) for name in ("meter", "vilt")},
    **{"albef": scripted_config(albef_runs), "xvlm": scripted_config(xvlm_runs)},
}


@pytest.fixture(scope="module", params=REGISTRY)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    return write(request.param, tmp_path_factory.mktemp(request.param), EPIC)


@pytest.fixture(scope="module")
def meter(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    return write("meter", tmp_path_factory.mktemp("alone"))


def test_the_folder_loads_as_the_checkpoint_does(saved: Saved, tmp_path: Path) -> None:
    done = export(saved.path, tmp_path / "hub")
    assert done.added == len(EPIC) and done.baseline == get_baseline(saved.name).title
    expected, got = read_state_dict(saved.path), read_state_dict(tmp_path / "hub")
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[name], tensor) for name, tensor in expected.items())
    assert saved_config(tmp_path / "hub") == saved.config
    logits = saved.logits(tmp_path / "hub")
    assert torch.equal(logits, saved.logits(saved.path)) and logits.std() > 0
    assert torch.equal(logits, saved.logits(tmp_path / "hub" / "model.safetensors"))


def test_the_folder_holds_what_hubs_expect(saved: Saved, tmp_path: Path) -> None:
    assert main(["export", str(saved.path), str(tmp_path / "hub")]) == 0
    there = {path.name for path in (tmp_path / "hub").iterdir()}
    assert {"config.json", "model.safetensors", "epic.safetensors", "tokenizer.json", "README.md"} <= there
    assert not {path.name for path in tmp_path.iterdir()} - {"hub"}
    said = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert said["config"] == json.loads(json.dumps(saved.config)) and said["baseline"] == saved.name
    assert said["source"] == {"file": "last.ckpt", "sha256": sha256_of_file(saved.path)}
    key = "text_encoder" if saved.name in SCRIPTED else "tokenizer"
    words, ours = load_tokenizer(saved.config[key]), load_tokenizer(tmp_path / "hub")
    assert ours.get_vocab() == words.get_vocab()
    assert ours("w1 w7 w3", add_special_tokens=True)["input_ids"] == words("w1 w7 w3")["input_ids"]
    assert inspect(tmp_path / "hub")["baseline"] == get_baseline(saved.name).title


def test_a_run_without_epic_leaves_no_file_of_it(meter: Saved, tmp_path: Path) -> None:
    assert export(meter.path, tmp_path / "hub").added == 0
    assert not (tmp_path / "hub" / "epic.safetensors").exists()
    assert "trained without EPIC" in (tmp_path / "hub" / "README.md").read_text()


def test_it_is_a_teacher_with_the_checksum_of_its_weights(meter: Saved, tmp_path: Path) -> None:
    export(meter.path, tmp_path / "hub")
    folder = meter.path.parents[3]
    teachers = []
    for path in (meter.path, tmp_path / "hub"):
        config = sacred_runs.config_of("meter", folder, "epic", teacher_path=str(path), log_dir=str(tmp_path / "runs"))
        model: Any = build(get_baseline("meter"), config).model
        teachers.append(model.epic.teacher)
    theirs, ours = teachers
    assert ours.sha256 == sha256_of_file(tmp_path / "hub" / "model.safetensors")
    state = ours.model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in theirs.model.state_dict().items())


def test_a_damaged_byte_of_any_file_is_seen(meter: Saved, tmp_path: Path) -> None:
    export(meter.path, tmp_path / "hub")
    for name in ("model.safetensors", "tokenizer.json"):
        path = tmp_path / "hub" / name
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=name):
            read_state_dict(tmp_path / "hub") if name == "model.safetensors" else load_tokenizer(tmp_path / "hub")


# The card --------------------------------------------------------------------------------------------------


def results(folder: Path, **content: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.json"
    path.write_text(json.dumps({"baseline": "meter", "metrics": {"recalls/ir_r1": 0.625}, **content}))
    return path


def test_the_card_has_data_steps_and_the_results_of_this_checkpoint_alone(meter: Saved, tmp_path: Path) -> None:
    runs = meter.path.parents[2].parent
    mine = results(runs / "zero_shot" / "version_0", checkpoint=str(meter.path), zero_shot_protocol="pretrained")
    results(runs / "zero_shot" / "version_1", checkpoint="else.ckpt", metrics={"recalls/ir_r1": 0.125})
    try:
        assert export(meter.path, tmp_path / "hub").results == [mine]
    finally:
        shutil.rmtree(runs / "zero_shot")
    card = (tmp_path / "hub" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: epic-vlp\n")
    for line in ("| datasets | coco |", "| optimiser steps done | 40 |", "| recalls/ir_r1 | 0.625 |"):
        assert line in card
    assert "- zero_shot_protocol: pretrained" in card and "0.125" not in card
    assert sha256_of_file(meter.path) in card


def test_results_from_elsewhere_must_be_of_this_checkpoint(meter: Saved, tmp_path: Path) -> None:
    mine = results(tmp_path / "a", checkpoint="moved.ckpt", checkpoint_sha256=sha256_of_file(meter.path), task="vqa")
    other = results(tmp_path / "b", checkpoint="moved.ckpt", checkpoint_sha256="0" * 64)
    assert export(meter.path, tmp_path / "hub", results=[mine]).results == [mine]
    assert "## Results: vqa" in (tmp_path / "hub" / "README.md").read_text()
    with pytest.raises(WeightsError, match=r"its scores are those of moved\.ckpt, not of .*last\.ckpt"):
        export(meter.path, tmp_path / "second", results=[other])
    with pytest.raises(WeightsError, match=r"no results\.json"):
        export(meter.path, tmp_path / "second", results=[tmp_path / "nowhere.json"])
    assert "No evaluation" in card_of(meter, tmp_path / "third")


def card_of(saved: Saved, folder: Path) -> str:
    export(saved.path, folder)
    return (folder / "README.md").read_text()


# What is refused --------------------------------------------------------------------------------------------


def test_what_is_there_is_kept_unless_it_is_an_export(
    meter: Saved, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, notes = tmp_path / "hub", tmp_path / "notes"
    target.mkdir()
    assert main(["export", str(meter.path), str(target)]) == 0  # an empty folder holds nothing
    (target / "README.md").write_text("mine")
    assert main(["export", str(meter.path), str(target)]) == 1
    assert "is there already and is kept" in capsys.readouterr().err
    assert (target / "README.md").read_text() == "mine"
    assert main(["export", str(meter.path), str(target), "--overwrite"]) == 0
    assert (target / "README.md").read_text() != "mine"
    notes.mkdir()
    (notes / "thesis.tex").write_text("x")
    assert main(["export", str(meter.path), str(notes), "--overwrite"]) == 1
    assert "is no export" in capsys.readouterr().err and (notes / "thesis.tex").read_text() == "x"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"optimizer": {"state": {}}, "epoch": 4}, "holds the state of a training"),
        ({"state_dict": {"bert.encoder.layer.0.weight": torch.ones(2)}}, "its keys are those of BERT; export takes"),
        ({"model": {"some.weight": torch.ones(2)}, "config": {}}, "its keys are those of no known model"),
        ({"epoch": 3}, "holds no tensors"),
    ],
)
def test_what_is_no_checkpoint_of_a_baseline(content: dict[str, Any], words: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "file.th")
    with pytest.raises(WeightsError, match=words):
        export(tmp_path / "file.th", tmp_path / "hub")
    assert [path.name for path in tmp_path.iterdir()] == ["file.th"]


def test_weights_without_a_configuration_or_a_tokenizer(meter: Saved, tmp_path: Path) -> None:
    content = read_checkpoint(meter.path)
    torch.save(content["state_dict"], tmp_path / "bare.pt")
    with pytest.raises(WeightsError, match=r"bare\.pt: holds no configuration"):
        export(tmp_path / "bare.pt", tmp_path / "hub")
    moved = {**meter.config, "tokenizer": str(tmp_path / "gone")}
    torch.save({**content, "hyper_parameters": {"config": moved}}, tmp_path / "moved.ckpt")
    with pytest.raises(OSError, match="gone: no such folder"):
        export(tmp_path / "moved.ckpt", tmp_path / "hub")
    export(tmp_path / "moved.ckpt", tmp_path / "hub", tokenizer=meter.config["tokenizer"])
    del moved["tokenizer"]
    torch.save({**content, "hyper_parameters": {"config": moved}}, tmp_path / "moved.ckpt")
    with pytest.raises(WeightsError, match="names no tokenizer; give one: --tokenizer FOLDER"):
        export(tmp_path / "moved.ckpt", tmp_path / "again")


def test_nothing_in_a_file_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    malicious(tmp_path / "bad.ckpt", tmp_path / "mark")
    assert main(["export", str(tmp_path / "bad.ckpt"), str(tmp_path / "hub")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "mark").exists() and not (tmp_path / "hub").exists()


def test_a_failure_in_the_middle_leaves_what_was_there(
    meter: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card_of(meter, tmp_path / "hub")
    (tmp_path / "hub" / "README.md").write_text("mine")

    def full(*_: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vlp.checkpoint.export.model_card", full)
    for name in ("hub", "new"):
        with pytest.raises(OSError, match="No space"):
            export(meter.path, tmp_path / name, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["hub"]
    assert (tmp_path / "hub" / "README.md").read_text() == "mine"


def test_a_folder_is_no_state_of_a_run(meter: Saved, tmp_path: Path) -> None:
    export(meter.path, tmp_path / "hub")
    with pytest.raises(WeightsError, match="holds weights alone, not the state of a run"):
        read_checkpoint(tmp_path / "hub")
