"""The official configuration, read from the tables of docs/official/vilt.md §2, and the order in which keys count."""

from __future__ import annotations

import ast
from functools import partial
from typing import Any

import pytest

from tests.launch.launcher import ROOT
from tests.unit.configs import OURS, resolve
from vilt.baseline import BASELINE
from vilt.config import NAMED_CONFIGS, ex
from vlp.sacred_dialect.config import base_config

BASE: dict[str, Any] = base_config(ex)
resolved = partial(resolve, ex)

PAGE = (ROOT / "docs" / "official" / "vilt.md").read_text(encoding="utf-8")


def rows(header: str) -> list[list[str]]:
    """The cells of every row of the page's table that begins with ``header``."""
    table = PAGE[PAGE.index(header) :].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()[2:]]


def defaults() -> dict[str, Any]:
    """Every official key with its value; a row may hold several."""
    found: dict[str, Any] = {}
    for keys, _, values, *_ in rows("| key | type | default | meaning |"):
        names, value = keys.split(", "), ast.literal_eval(values)
        found |= zip(names, value, strict=True) if len(names) > 1 else {names[0]: value}
    return found


def overrides() -> dict[str, dict[str, Any]]:
    """What every official named config sets."""
    found: dict[str, dict[str, Any]] = {}
    for name, text in rows("| name | overrides |"):
        own = dict(item.split(" ", 1) for item in text.split("; "))
        found[name] = dict(found[own.pop("as")]) if "as" in own else {}
        found[name] |= {key: ast.literal_eval(value) for key, value in own.items()}
        if "loss_names" in own:
            found[name]["loss_names"] = tasks(**found[name]["loss_names"])
    return found


def tasks(**active: float) -> dict[str, float]:
    return {**dict.fromkeys(OFFICIAL["loss_names"], 0), **active}


OFFICIAL = defaults()
OVERRIDES = overrides()


def test_the_base_config_holds_every_official_key_with_its_value_and_no_other() -> None:
    assert {key: BASE[key] for key in OFFICIAL} == OFFICIAL
    assert list(BASE["loss_names"]) == list(OFFICIAL["loss_names"])
    assert BASE.keys() == {*OFFICIAL, *OURS}
    assert not BASE["epic"]["enabled"]


@pytest.mark.parametrize("name", OVERRIDES)
def test_official_named_configs_override_what_the_table_says(name: str) -> None:
    assert resolved([name]) == {**BASE, **OVERRIDES[name]}


def test_every_other_named_config_is_ours() -> None:
    others = [name for name in NAMED_CONFIGS if name not in OVERRIDES and not name.startswith("epic")]
    assert others == ["data_16m", "tiny"]


def test_a_later_named_config_overrides_an_earlier_one_and_updates_override_both() -> None:
    """So stepXXk must follow the task, which sets max_epoch too."""
    right, wrong = resolved(["task_mlm_itm", "step200k"]), resolved(["step200k", "task_mlm_itm"])
    assert (right["max_epoch"], right["max_steps"]) == (200, 200000)
    assert (wrong["max_epoch"], wrong["max_steps"]) == (10, 200000)
    assert resolved(["task_mlm_itm", "step200k"], max_epoch=7)["max_epoch"] == 7


@pytest.mark.parametrize("name", [name for name in OVERRIDES if name.startswith("task_")])
def test_official_configs_of_built_tasks_are_accepted(name: str) -> None:
    BASELINE.check(resolved([name], data_root="arrow", per_gpu_batchsize=8))


def test_a_dotted_update_turns_on_one_task_more() -> None:
    assert resolved(["task_mlm_itm"], loss_names={"mpp": 1})["loss_names"] == tasks(itm=1, mlm=1, mpp=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"vit": "vit_base_patch32_834"},
            "vit='vit_base_patch32_834': .*; did you mean 'vit_base_patch32_384'",
        ),
        ({"hidden_size": 384}, r"vit=vit_base_patch32_384 has hidden_size=768 \(here 384\)"),
        ({"num_heads": 2, "num_layers": 5}, r"num_layers=12 \(here 5\)\n.* has num_heads=12 \(here 2\)"),
        ({"patch_size": 16}, r"has patch_size=32 \(here 16\)"),
        ({"image_size": 31}, "image_size=31: expected a whole number, at least 32"),
        ({"max_image_len": 0}, "max_image_len=0 keeps no patch of an image: .* -1 for all"),
        ({"train_transform_keys": ["clip"]}, "train_transform_keys=.* 'pixelbert' or 'pixelbert_randaug'"),
        ({"val_transform_keys": []}, r"val_transform_keys=\[\]: expected a list, not empty"),
    ],
)
def test_sizes_and_views_that_contradict_the_transformer(changes: dict[str, Any], message: str) -> None:
    config = resolved(["task_mlm_itm"], data_root="arrow", per_gpu_batchsize=8)
    for fine in ({}, {"image_size": 32, "max_image_len": 1}, {"image_size": 400, "max_image_len": -1}):
        BASELINE.check({**config, **fine})
    with pytest.raises(ValueError, match=message):
        BASELINE.check({**config, **changes})
