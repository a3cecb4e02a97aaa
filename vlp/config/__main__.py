"""Print docs/keys.md: ``python -m vlp.config > docs/keys.md``."""

from __future__ import annotations

from vlp.config.table import key_table
from vlp.sacred_dialect.baseline import sacred_baselines

HEAD = """# Keys

Every key of a command line, `python run.py with key=value`: its default, what is allowed, what it means. Anything else
is refused before a file is opened, with a line that names the key, its value and what is allowed. Named configs set
several keys at once: [meter.md](meter.md), [vilt.md](vilt.md). EPIC's own keys stand in [choices.md](choices.md).

This page is printed by `python -m vlp.config` from the schemas that check the command lines:
`vlp/sacred_dialect/keys.py`, `meter/config.py` and `vilt/config.py`.
"""


def main() -> None:
    schemas = {each.title: each.schema for each in sacred_baselines().values()}
    print(HEAD, *key_table(schemas), sep="\n")


if __name__ == "__main__":
    main()
