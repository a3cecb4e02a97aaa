"""What of a configuration differs, whatever version of the keys a checkpoint has."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epic_common.config import EpicConfig
from vlp.config.engine_keys import listed
from vlp.sacred_dialect.resume import READINGS
from vlp.training.changed_config import Change, changed, check_changes, described, keys_and_blocks

DEFAULTS: dict[str, Any] = {
    "learning_rate": 1e-5,
    "warmup_steps": 0.1,
    "precision": 32,
    "datasets": ["coco"],
    "data_root": "",
    "max_steps": 10,
    "loss_names": {"itm": 1, "mlm": 1},
    "epic": EpicConfig().to_dict(),
}
ON = EpicConfig(enabled=True).to_dict()


def differing(before: dict[str, Any], now: dict[str, Any], defaults: dict[str, Any] = DEFAULTS) -> dict[str, Change]:
    return changed({**DEFAULTS, **before}, {**DEFAULTS, **now}, defaults, READINGS)


def test_both_values_of_every_key_are_named() -> None:
    found = differing({}, {"learning_rate": 1e-3, "loss_names": {"itm": 0, "mlm": 1}, "datasets": ["coco", "vg"]})
    assert described(found) == (
        "learning_rate was 1e-05, is 0.001; datasets was ['coco'], is ['coco', 'vg']; loss_names.itm was 1, is 0"
    )


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({"data_root": "/a"}, {"data_root": "/b"}),
        ({"precision": 16}, {"precision": "16"}),
        ({"datasets": ("coco",)}, {"datasets": ["coco"]}),
        ({"learning_rate": 1}, {"learning_rate": 1.0}),
        ({"init": "random"}, {"init": {"vision": "pretrained"}}),
        # EPIC off is off, whatever else its block says.
        ({"epic": {**DEFAULTS["epic"], "mask_ratio": 0.5}}, {}),
        ({"epic": {"enabled": False}}, {}),
    ],
)
def test_what_changes_no_number_is_no_change(before: dict[str, Any], now: dict[str, Any]) -> None:
    assert differing(before, now) == differing(now, before) == {}


def test_a_whole_number_of_warm_up_steps_is_no_share() -> None:
    assert differing({"warmup_steps": 1}, {"warmup_steps": 1.0}) == {"warmup_steps": Change(1, 1.0)}


def test_a_key_that_an_older_checkpoint_lacks_has_its_default() -> None:
    before = {key: value for key, value in DEFAULTS.items() if key not in ("epic", "precision")}
    assert changed(before, DEFAULTS, DEFAULTS, READINGS) == {}
    now = {**DEFAULTS, "precision": "bf16", "epic": {**DEFAULTS["epic"], "enabled": True}}
    assert changed(before, now, DEFAULTS, READINGS) == {
        "precision": Change(32, "bf16"),
        "epic.enabled": Change(False, True),
    }
    older = {**ON}
    del older["generator_dropout"]
    assert differing({"epic": older}, {"epic": ON}) == {}
    found = differing({"epic": older}, {"epic": {**ON, "generator_dropout": False}})
    assert found == {"epic.generator_dropout": Change(True, False)}


def test_a_retired_key_counts_where_it_was_on() -> None:
    assert differing({"epic": {**ON, "on_regions": False}, "old": None}, {"epic": ON}) == {}
    found = differing({"epic": {**ON, "on_regions": True}, "old": "x"}, {"epic": ON})
    assert found == {"epic.on_regions": Change(True, None), "old": Change("x", None)}


def test_a_vanilla_checkpoint_goes_on_where_epic_is_not_installed() -> None:
    vanilla = {key: value for key, value in DEFAULTS.items() if key != "epic"}
    assert changed(DEFAULTS, vanilla, vanilla, READINGS) == {}
    assert changed(vanilla, DEFAULTS, DEFAULTS, READINGS) == {}


CHANGES = {
    "learning_rate": Change(1e-5, 1e-3),
    "epic.mask_ratio": Change(0.35, 0.5),
    "epic.itc_weight": Change(8.0, 4.0),
}


@pytest.mark.parametrize(
    ("anyway", "refused"),
    [
        ((), ["learning_rate", "epic.mask_ratio", "epic.itc_weight"]),
        (("epic",), ["learning_rate"]),
        (("learning_rate", "epic.mask_ratio"), ["epic.itc_weight"]),
        (("learning_rate", "epic.mask"), ["epic.mask_ratio", "epic.itc_weight"]),
        (("epic", "learning_rate"), []),
    ],
)
def test_what_is_not_listed_is_refused(anyway: tuple[str, ...], refused: list[str]) -> None:
    if not refused:
        check_changes("last.ckpt", CHANGES, (), anyway)
        return
    with pytest.raises(ValueError, match=r"resume_from=last\.ckpt: its run had another configuration: ") as error:
        check_changes("last.ckpt", CHANGES, (), anyway)
    message = str(error.value)
    assert message.endswith(f"resume_anyway={','.join(refused)}") and "\n" not in message
    assert [key for key in CHANGES if f"{key} was" in message] == refused


def test_what_no_run_can_change_is_refused_although_it_is_listed() -> None:
    changes = {"seed": Change(0, 1), **CHANGES}
    with pytest.raises(ValueError, match=r"seed was 0, is 1; a run keeps its seed\. Give the old value, or start"):
        check_changes("last.ckpt", changes, ("seed", "optim_type"), ("seed", "learning_rate", "epic"))


NAMES = st.lists(st.sampled_from(["seed", "learning_rate", "epic.mask_ratio", "epic"]), unique=True)


@given(NAMES)
def test_names_as_a_shell_leaves_them(names: list[str]) -> None:
    quoted = ", ".join(f"'{name}'" for name in names)
    for written in (names, tuple(names), ",".join(names), f"[{','.join(names)}]", f"[{quoted}]", quoted):
        assert listed(written) == names


def test_a_name_is_that_of_a_key_or_of_a_block() -> None:
    names = keys_and_blocks(DEFAULTS)
    assert {"learning_rate", "epic", "epic.mask_ratio", "loss_names", "loss_names.itm"} <= names
    assert not names & {"itm", "mask_ratio", "", "epic."}
