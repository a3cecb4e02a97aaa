"""Print docs/keys.md: ``python -m vlp.config > docs/keys.md``."""

from __future__ import annotations

from vlp.baseline import REGISTRY, get_baseline
from vlp.config.table import key_table, script_table
from vlp.sacred_dialect.baseline import sacred_baselines
from vlp.safe_output import make_output_safe
from vlp.yaml_dialect.baseline import YamlBaseline

HEAD = """# Keys

Every key of a command line: its default, what is allowed, what it means. Anything else is refused before a file is
opened, with a line that names the key, its value and what is allowed. EPIC's own keys stand in
[choices.md](choices.md).

This page is printed by `python -m vlp.config` from the schemas that check the command lines:
`vlp/sacred_dialect/keys.py` and `vlp/yaml_dialect/keys.py`, `config.py` of each baseline, and `keys.py` of ALBEF and
X-VLM.

## METER and ViLT

`python run.py with key=value`. Named configs set several keys at once: [meter.md](meter.md), [vilt.md](vilt.md).
"""
OF_SCRIPTS = """
## {title}

`SCRIPT.py --config FILE.yaml --flag VALUE key=value`: [{name}.md]({name}.md). Keys of a block stand in the YAML file
as a block, on the command line with a dot. Where scripts differ, their names stand behind what holds for them.
"""


def main() -> None:
    schemas = {each.title: each.schema for each in sacred_baselines().values()}
    print(HEAD, *key_table(schemas), sep="\n")
    for baseline in map(get_baseline, REGISTRY):
        if isinstance(baseline, YamlBaseline):
            print(OF_SCRIPTS.format(title=baseline.title, name=baseline.name))
            print(*script_table({name: each.command.schema for name, each in baseline.scripts.items()}), sep="\n")


if __name__ == "__main__":
    make_output_safe()
    main()
