"""The table of docs/running.md says in words what the rows of this folder hold."""

from __future__ import annotations

import re

from tests.hostile import groups
from tests.launch.launcher import ROOT


def test_every_group_of_rows_stands_on_the_page() -> None:
    page = (ROOT / "docs/running.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"^## What goes wrong.*?\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    said = dict(re.findall(r"^\| (.+?) \| (.+) \|$", table, re.MULTILINE))
    for name, group in vars(groups).items():
        assert not name.isupper() or said.get(group), group
