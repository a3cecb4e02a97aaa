"""Full-size models, built without memory on torch's meta device, against the official tables.

Source: docs/official/albef.md §4, §6, §8.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import pytest
import torch

from albef.config import COMMANDS
from tests.parity.fixture import check_keys
from tests.unit.albef.tables import key_table, rows
from vlp.config.schema import defaults
from vlp.yaml_dialect.epoch_module import EpochModule

SCRIPTS = {
    "pretrain": "Pretrain",
    "retrieval": "Retrieval",
    "vqa": "VQA",
    "ve": "VE",
    "nlvr": "NLVR",
    "nlvr_pretrain": "Pretrain_nlvr",
    "grounding": "Grounding",
}
GROUPS_OF = {"grounding": "retrieval"}  # which trains the same model
MODULES = {"nlvr_pretrain": "model_pretrain_nlvr"}


@cache
def full_size(task: str) -> EpochModule:
    config: dict[str, Any] = {**defaults(COMMANDS[SCRIPTS[task]].schema), "init": "random"}
    module = importlib.import_module(f"albef.models.{MODULES.get(task, f'model_{task}')}")
    with torch.device("meta"):
        model: EpochModule = module.ALBEF(config)
    return model


@pytest.mark.parametrize("task", SCRIPTS)
def test_state_dict_keys_shapes_and_order(task: str) -> None:
    check_keys(full_size(task).state_dict(), key_table(task))


@pytest.mark.parametrize("task", SCRIPTS)
def test_tied_keys(task: str) -> None:
    """A key that takes another's value is the same tensor."""
    state = full_size(task).state_dict(keep_vars=True)
    tied = {row["key"]: row["takes_value_of"] for row in rows(f"tied_{task}")}
    found = {
        name: last
        for name, tensor in state.items()
        if (last := [other for other, t in state.items() if t is tensor][-1]) != name
    }
    assert found == tied


@pytest.mark.parametrize("task", SCRIPTS)
def test_optimiser_groups(task: str) -> None:
    model = full_size(task)
    name_of = {parameter: name for name, parameter in model.named_parameters()}
    groups = model.parameter_groups()
    got = {
        name_of[parameter]: (str(i), group["weight_decay"])
        for i, group in enumerate(groups)
        for parameter in group["params"]
    }
    official = {row["key"]: row for row in rows("optimiser_groups") if row["task"] == GROUPS_OF.get(task, task)}
    trained = {key: row for key, row in official.items() if row["group"] != "frozen"}
    assert got == {key: (row["group"], float(row["weight_decay"])) for key, row in trained.items()}
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == official.keys() - trained.keys()
