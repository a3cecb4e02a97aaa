"""README's own commands, and what makes them small: its table of the trial."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TITLES = {"meter": "METER", "vilt": "ViLT", "albef": "ALBEF", "xvlm": "X-VLM"}
# What README's comments say of the trial's language model, for those that read no Arrow tables or are no RoBERTa.
FAMILY = {name: {"--family roberta": "--family bert"} for name in ("vilt", "albef", "xvlm")}
LISTS = {"albef": "albef/data/coco.json", "xvlm": "xvlm/data/finetune/flickr30k_train.json"}


class Trial(NamedTuple):
    """A row of the table: items behind a command, and ``NAME=NUMBER`` of its processes, in it or before it."""

    items: str
    processes: str
    before: bool


def section(heading: str) -> str:
    """The text under a heading, up to the next one of any level."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


def commands(heading: str, baseline: str | None = None) -> list[str]:
    """The commands of a section's blocks; of a ``baseline`` those of the blocks that are led in by its title."""
    found: list[str] = []
    for lead, block in re.findall(r"(.*?)^```bash\n(.*?)^```", section(heading), re.MULTILINE | re.DOTALL):
        if baseline is None or TITLES[baseline] in lead:
            text = block.replace("\\\n", " ")
            found += re.findall(r"^for .*?done(?=[ \n])|^\S[^\n]*", text, re.MULTILINE | re.DOTALL)
    assert found, (heading, baseline)
    return found


def trial(baseline: str) -> Trial:
    """The baseline's row of the table."""
    row = re.search(
        rf"^\| {TITLES[baseline]} \| `(.+?)` \| `(.+?)`(.*?) \|$", section("A trial in two minutes"), re.MULTILINE
    )
    assert row is not None, baseline
    return Trial(row[1], row[2], bool(row[3]))


def as_trial(command: str, made_small: Trial) -> str:
    """An official command as the table makes it a trial."""
    if made_small.before:
        return f"{made_small.processes} {command} {made_small.items}"
    name = made_small.processes.partition("=")[0]
    changed, count = re.subn(rf"(?<=\s){re.escape(name)}=\d+", made_small.processes, command)
    assert count == 1, command
    return f"{changed} {made_small.items}"


def language_model(baseline: str) -> list[str]:
    """The commands that make the trial's language model."""
    changes = {**FAMILY.get(baseline, {})}
    if baseline in LISTS:
        changes["--arrow ARROW_ROOT"] = f"--lists {LISTS[baseline]}"
    return [filled(each, changes) for each in commands("A trial in two minutes")]


def filled(command: str, places: Mapping[str, str]) -> str:
    """A command with the reader's words in place of README's."""
    words = "|".join(map(re.escape, places))
    return re.sub(rf"(?<![\w-])({words})(?!\w)", lambda found: places[found[1]], command) if places else command


def launchers(baseline: str) -> list[str]:
    """The baseline's pre-training, the same with EPIC, and zero-shot retrieval."""
    found = [*commands("Pre-train", baseline), *commands("Evaluate", baseline)]
    assert len(found) == 3, found
    return found


def words(command: str) -> list[str]:
    """A command's words, without its comment."""
    return shlex.split(command, comments=True)
