"""A schema: its defaults, its messages, and what it lets through."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Le, MinLen

from vlp.config.kinds import Allowed, Amount, Choices, Count, Name, Positive, Share, Switch, Text
from vlp.config.schema import ConfigError, Schema, check, defaults, key


class Inner(Schema):
    vision: Name = key("pretrained", "the tower")
    layers: Positive = key(3, "of it")


class Keys(Schema):
    size: Annotated[int, Ge(1), Le(9)] = key(4, "a size")
    rate: Amount = key(0.1, "a rate")
    warmup: Count | Annotated[Share, Allowed("a fraction")] = key(0.5, "a warm-up")
    kind: Literal["adam", "sgd"] = key("adam", "a kind")
    views: Annotated[list[Annotated[str, Choices(["clip", "vit"])]], MinLen(1)] = key(["clip"], "views")
    switch: Switch = key(False, "a switch")
    path: Text = key("", "a path")
    steps: Positive | None = key(None, "steps")
    tasks: dict[str, Amount] = key({"mlm": 1, "itm": 0}, "tasks")
    init: Inner | Literal["random"] = key(Inner(), "a block")

    def relations(self) -> Iterator[str]:
        if self.size == 9 and self.kind == "sgd":
            yield "size=9 needs kind=adam"
        if self.size == 9 and self.rate == 0:
            yield "size=9 needs a rate"


def found(**changes: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check(Keys, {**defaults(Keys), **changes})
    return str(caught.value).splitlines()


def test_the_defaults_are_plain_values_that_are_allowed() -> None:
    plain = defaults(Keys)
    assert plain["init"] == {"vision": "pretrained", "layers": 3} and plain["warmup"] == 0.5
    check(Keys, plain)


@pytest.mark.parametrize(
    "changes",
    [
        {"size": 9},
        {"rate": 3},
        {"warmup": 10},
        {"warmup": 1.0},
        {"views": ("vit", "clip")},
        {"switch": 1},
        {"path": "Bilder/für mich"},
        {"steps": 1},
        {"init": "random"},
        {"init": {"vision": "x", "layers": 1}},
    ],
)
def test_what_is_allowed_passes(changes: dict[str, Any]) -> None:
    check(Keys, {**defaults(Keys), **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 0}, "size=0: expected a whole number, at least 1, at most 9"),
        ({"size": 4.0}, "size=4.0: expected a whole number, at least 1, at most 9"),
        ({"size": True}, "size=True: expected a whole number, at least 1, at most 9"),
        ({"size": None}, "size=None: expected a whole number, at least 1, at most 9"),
        ({"rate": float("nan")}, "rate=nan: expected a number, at least 0"),
        ({"rate": "1e-5x"}, "rate='1e-5x': expected a number, at least 0"),
        ({"warmup": -1}, "warmup=-1: expected a whole number, at least 0, or a fraction"),
        ({"warmup": 1.5}, "warmup=1.5: expected a whole number, at least 0, or a fraction"),
        ({"kind": "Adam"}, "kind='Adam': expected 'adam' or 'sgd'; did you mean 'adam'?"),
        ({"kind": "zzz"}, "kind='zzz': expected 'adam' or 'sgd'"),
        ({"views": []}, "views=[]: expected a list, not empty, of 'clip' or 'vit'"),
        ({"views": ["clpi"]}, "views=['clpi']: expected a list, not empty, of 'clip' or 'vit'; did you mean 'clip'?"),
        ({"views": "clip"}, "views='clip': expected a list, not empty, of 'clip' or 'vit'; did you mean 'clip'?"),
        ({"switch": 2}, "switch=2: expected True or False"),
        ({"path": "a\0b"}, "path='a\\x00b': expected text"),
        ({"path": "\ud800"}, "path='\\ud800': expected text"),
        ({"steps": 2.5}, "steps=2.5: expected a whole number, at least 1, or None"),
        ({"tasks": {"mlm": -1}}, "tasks.mlm=-1: expected a number, at least 0"),
        ({"tasks": 1}, "tasks=1: expected a number, at least 0, for each key"),
        ({"init": "rnd"}, "init='rnd': expected the keys vision, layers, or 'random'; did you mean 'random'?"),
        ({"init": {"vision": ""}}, "init.vision='': expected text, not empty"),
        ({"init": {"visoin": "x"}}, "unknown config key 'init.visoin'; did you mean 'init.vision'?"),
        ({"siez": 3}, "unknown config key 'siez'; did you mean 'size'?"),
    ],
)
def test_a_wrong_value_is_told_with_its_key_and_what_is_allowed(changes: dict[str, Any], message: str) -> None:
    assert found(**changes) == [message]


def test_every_wrong_key_has_its_line() -> None:
    assert [line.split("=")[0] for line in found(size=0, kind="x", steps=-1)] == ["size", "kind", "steps"]


def test_relations_are_told_together_where_the_keys_are_fine() -> None:
    assert found(size=9, rate=0, kind="sgd") == ["size=9 needs kind=adam", "size=9 needs a rate"]
