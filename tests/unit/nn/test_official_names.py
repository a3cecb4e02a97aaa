"""Towers saved and loaded under official names: nothing is lost, swapped or left over."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from tests.unit.meter.small import vision_tower
from vlp.nn.official_names import use_official_names


class Chain(nn.Module):
    """Parameters a, b and c, officially b, c and d: every official name but the last is also another's own."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Parameter(torch.full((2, 1), float(i))) for i in range(3))
        use_official_names(
            self,
            lambda key: chr(ord(key) + 1),
            official_shapes={"a": lambda t: t.flatten()},
            derived=lambda: {"size": torch.tensor(2)},
            order=("d", "c", "b"),
        )


def same(a: nn.Module, b: nn.Module) -> bool:
    theirs = dict(b.named_parameters())
    return all(torch.equal(p, theirs[name]) for name, p in a.named_parameters())


@pytest.mark.parametrize("prefix", [False, True])
def test_chained_names_do_not_collide(prefix: bool) -> None:
    chain = Chain()
    module: nn.Module = nn.ModuleDict({"tower": chain, "other": nn.Linear(1, 1)}) if prefix else chain
    state = module.state_dict()
    start = "tower." if prefix else ""
    official = {key: value for key, value in state.items() if key.startswith(start) and "other" not in key}
    assert list(official) == [start + name for name in ("size", "d", "c", "b")]
    assert [official[start + name].flatten().tolist() for name in "bcd"] == [[0, 0], [1, 1], [2, 2]]
    assert official[start + "b"].shape == (2,)
    copy_of_state = copy.deepcopy(state)
    for parameter in module.parameters():
        nn.init.constant_(parameter, -1)
    assert module.load_state_dict(copy_of_state) == ([], [])
    assert [float(p[0].detach()) for p in (chain.a, chain.b, chain.c)] == [0, 1, 2]


def test_the_callers_state_dict_is_left_alone() -> None:
    chain = Chain()
    state = chain.state_dict()
    keys = list(state)
    chain.load_state_dict(state)
    assert list(state) == keys


def test_missing_and_foreign_names_are_reported() -> None:
    chain = Chain()
    state = chain.state_dict()
    del state["c"]
    state["z"] = torch.zeros(1)
    missing, unexpected = chain.load_state_dict(state, strict=False)
    assert (missing, unexpected) == (["b"], ["z"])  # the own name of what is officially c
    assert torch.equal(chain.b, torch.ones(2, 1))


def test_a_wrong_size_is_an_error_not_a_reshape() -> None:
    state = {**Chain().state_dict(), "b": torch.zeros(3)}
    with pytest.raises(RuntimeError, match="size mismatch for a"):
        Chain().load_state_dict(state)


# METER's towers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vision", ["clip", "swin"])
def test_round_trip_of_the_towers(vision: str) -> None:
    source, target = vision_tower(vision), vision_tower(vision)
    with torch.no_grad():
        for p in source.parameters():
            p.copy_(torch.randn_like(p))  # no two parameters equal
    assert not same(source, target)
    assert target.load_state_dict(copy.deepcopy(source.state_dict())) == ([], [])
    assert same(source, target)
    images = torch.randn(2, 3, *(2 * [32 if vision == "clip" else 64]))
    assert torch.equal(source.eval()(images), target.eval()(images))


@pytest.mark.parametrize("vision", ["clip", "swin"])
def test_official_key_is_the_name_in_the_state_dict(vision: str) -> None:
    tower = vision_tower(vision)
    state = tower.state_dict()
    for name, parameter in tower.named_parameters():
        value = state[tower.official_key(name)]
        assert value.data_ptr() == parameter.data_ptr() and value.numel() == parameter.numel()


def test_swins_downsampling_belongs_to_the_stage_before() -> None:
    """timm's layers.2.downsample is officially layers.1.downsample, where timm's layers.1.downsample stands."""
    tower = vision_tower("swin")
    own = dict(tower.named_parameters())
    state = tower.state_dict()
    for stage in range(3):
        official: Tensor = state[f"layers.{stage}.downsample.reduction.weight"]
        assert official.data_ptr() == own[f"layers.{stage + 1}.downsample.reduction.weight"].data_ptr()
    assert "layers.3.downsample.reduction.weight" not in state


def test_swins_buffers_are_written_and_rebuilt() -> None:
    small, large = vision_tower("swin", 64), vision_tower("swin", 96)
    state = small.state_dict()
    buffers = [key for key in state if key.endswith(("relative_position_index", "attn_mask"))]
    assert len(buffers) == 6  # one index a block, and the mask of the one block that is shifted
    assert state[buffers[0]].dtype == torch.int64
    before = {key: large.state_dict()[key].clone() for key in buffers}
    large.load_state_dict({key: state[key] for key in buffers}, strict=False)
    assert all(torch.equal(large.state_dict()[key], value) for key, value in before.items())
