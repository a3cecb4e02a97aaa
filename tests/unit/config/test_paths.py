"""A configuration's files and folders are looked for before anything reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest

from vlp.config.kinds import Name, Text
from vlp.config.paths import File, MustExist, check_paths
from vlp.config.schema import ConfigError, Schema, defaults, key


class Keys(Schema):
    weights: File = key("", "a file")
    data: Annotated[Text, MustExist(folder=True, advice="; make it")] = key("", "a folder")
    resume: Annotated[Name | None, MustExist(but=("auto",))] = key(None, "a file, or auto")
    other: Text = key("nowhere", "no file")


def test_what_is_there_or_not_given_passes(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").touch()
    check_paths(Keys, defaults(Keys))
    given = {"weights": str(tmp_path / "a.ckpt"), "data": str(tmp_path), "resume": "auto"}
    check_paths(Keys, {**defaults(Keys), **given})


def test_every_path_that_leads_nowhere_has_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").touch()
    given = {"weights": "nowhere.ckpt", "data": str(tmp_path / "a.ckpt"), "resume": "last.ckpt"}
    with pytest.raises(ConfigError) as caught:
        check_paths(Keys, {**defaults(Keys), **given})
    assert str(caught.value).splitlines() == [
        "weights=nowhere.ckpt: no such file",
        f"data={tmp_path / 'a.ckpt'}: not a folder; make it",
        "resume=last.ckpt: no such file",
    ]
