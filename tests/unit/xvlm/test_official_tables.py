"""Full-size models, built without memory on torch's meta device, against the official tables.

Source: docs/official/xvlm.md §4, §6, §11.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import pytest
import torch

from tests.parity.fixture import check_keys
from tests.unit.xvlm.tables import key_table, rows
from vlp.config.schema import Schema, defaults
from xvlm.config import PretrainKeys

# The name of a task's tables -> the module of its model, and its configuration.
TASKS: dict[str, tuple[str, type[Schema]]] = {"pretrain": ("model_pretrain", PretrainKeys)}


@cache
def full_size(task: str) -> Any:
    module, schema = TASKS[task]
    config: dict[str, Any] = {**defaults(schema), "init": "random"}
    with torch.device("meta"):
        return importlib.import_module(f"xvlm.models.{module}").XVLM(config)


@pytest.mark.parametrize("task", TASKS)
def test_state_dict_keys_shapes_and_order(task: str) -> None:
    check_keys(full_size(task).state_dict(), key_table(task))


@pytest.mark.parametrize("task", TASKS)
def test_tied_keys(task: str) -> None:
    """A key that takes another's value is the same tensor."""
    state = full_size(task).state_dict(keep_vars=True)
    found = {
        name: last
        for name, tensor in state.items()
        if (last := [other for other, t in state.items() if t is tensor][-1]) != name
    }
    assert found == {row["key"]: row["takes_value_of"] for row in rows(f"tied_{task}")}


def test_modules_have_the_official_names_too() -> None:
    """So that what chooses parameters by name, as the optimiser's groups do, chooses officially."""
    model = full_size("pretrain")
    buffers = ("relative_position_index", "attn_mask", "position_ids")
    tied = {row["key"] for row in rows("tied_pretrain")} | {row["takes_value_of"] for row in rows("tied_pretrain")}
    official = {name for name in key_table("pretrain") if not name.endswith(buffers)} - tied
    assert {name for name, _ in model.named_parameters()} - tied == official


def test_optimiser_groups_of_pre_training() -> None:
    model = full_size("pretrain")
    groups, rate = model.parameter_groups(), model.config["optimizer"]["lr"]
    place_of = {id(p): i for i, group in enumerate(groups) for p in group["params"]}
    state = model.state_dict(keep_vars=True)
    official = {row["key"]: (float(row["lr_mult"]), float(row["weight_decay"])) for row in rows("optimiser_groups")}
    got = {name: groups[place_of[id(state[name])]] for name in official}
    assert {name: (group["lr"] / rate, group["weight_decay"]) for name, group in got.items()} == official
    assert [len(group["params"]) for group in groups] == [176, 353, 33, 44]
    assert len(model.init_params) == 77
