"""Patched stand-ins of ALBEF and X-VLM with the weights of ours, their steps, and our own EPIC on the same weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import epic_albef
import epic_xvlm
import pytest
import torch
from torch import Tensor

from epic_common.config import PRESETS, EpicConfig, RegionEpicConfig
from tests.unit.albef import epic as albef_epic
from tests.unit.albef import small as albef_small
from tests.unit.patches_official.fusion_fakes import OfficialAlbef, OfficialXvlm, bert_folder
from tests.unit.small_parts import Batch
from tests.unit.xvlm import epic as xvlm_epic
from tests.unit.xvlm import small as xvlm_small

Losses = dict[str, Tensor]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fusion")
    write_files(folder)
    return folder


def write_files(folder: Path) -> None:
    """The teachers, and the released language model."""
    bert_folder(folder / "text")
    torch.save({"model": albef_small.pretraining(seed=5, **albef_epic.SIZES).state_dict()}, folder / "albef.pth")
    torch.save({"model": xvlm_small.pretraining(seed=5, **xvlm_epic.SIZES).state_dict()}, folder / "xvlm.th")


def keys_of(folder: Path, settings: Any, preset: str, file: str, epic: dict[str, Any]) -> dict[str, Any]:
    own = {**PRESETS[preset], **({"generator": str(folder / "text")} if preset == "lm_trained" else {})}
    keys = {**settings().to_dict(), **own, **epic}
    return {"epic": keys, "teacher_path": str(folder / file)}


@pytest.fixture
def albef(folder: Path) -> Callable[..., Any]:
    """(preset, epic.* keys) -> a patched ALBEF with the weights of ours."""
    return partial(patched_albef, folder)


def patched_albef(folder: Path, preset: str = "epic", file: str = "albef.pth", **epic: Any) -> Any:
    """With the files of :func:`write_files`."""
    keys = keys_of(folder, EpicConfig, preset, file, epic)
    config = {**albef_small.config_of(**albef_epic.SIZES), **keys, "optimizer": {"lr": 1e-4}, "text_encoder": ""}
    model = OfficialAlbef(config, str(folder / "text"))
    epic_albef.attach(model, config)
    model.load_state_dict(albef_small.pretraining(**albef_epic.SIZES).state_dict())
    return model.eval()


@pytest.fixture
def xvlm(folder: Path) -> Callable[..., Any]:
    """(preset, epic.* keys) -> a patched X-VLM with the weights of ours."""
    return partial(patched_xvlm, folder)


def patched_xvlm(folder: Path, preset: str = "epic", file: str = "xvlm.th", **epic: Any) -> Any:
    """With the files of :func:`write_files`."""
    keys = keys_of(folder, RegionEpicConfig, preset, file, epic)
    sizes = {"train_dataset_size": 6, "images": {"batch_size": 3}, "text_encoder": str(folder / "text")}
    config = {**xvlm_small.config_of(**xvlm_epic.SIZES), **keys, **sizes}
    model = OfficialXvlm(config)
    epic_xvlm.attach(model, config)
    model.load_state_dict(xvlm_small.pretraining(**xvlm_epic.SIZES).state_dict())
    return model.eval()


def watched(model: Any) -> list[Losses]:
    """What EPIC's losses of the model are from now on."""
    made, losses = list[Losses](), model.epic.losses

    def keep(*args: Any) -> Losses:
        made.append(losses(*args))
        return made[-1]

    model.epic.losses = keep
    return made


def albef_step(model: Any, batch: Batch, loss: Tensor | None = None) -> Tensor:
    """What the inserted line gives, on the states that the official forward has there."""
    text = SimpleNamespace(input_ids=batch["text_ids"], attention_mask=batch["text_masks"])
    with torch.no_grad():
        image_m = model.visual_encoder_m(batch["image"])
    loss = torch.zeros(()) if loss is None else loss
    return epic_albef.add_losses(loss, model, batch["image"], text, model.visual_encoder(batch["image"]), image_m)


def xvlm_step(model: Any, batch: Batch, loss: Tensor | None = None) -> Tensor:
    """What forward's first loss is after the inserted line and the hook."""
    epic_xvlm.keep_losses(model, model.encoded(batch))
    first, second = epic_xvlm._add_losses(model, None, (torch.zeros(()) if loss is None else loss, 2))
    assert second == 2
    return first


def own(made: Any, patched: Any) -> Any:
    """Our model ``made`` with all weights those of ``patched``."""
    made.epic.generator = copy.deepcopy(patched.epic.generator)
    made.load_state_dict({name: t for name, t in patched.state_dict().items() if "_extra_state" not in name})
    mine, frozen = made.epic.teacher or made.epic.snapshot, patched.epic.teacher or patched.epic.snapshot
    if mine is not None:
        mine, frozen = getattr(mine, "frozen", mine), getattr(frozen, "frozen", frozen)
        mine.module.load_state_dict(frozen.module.state_dict())
    return made
