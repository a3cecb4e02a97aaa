"""The documents must keep saying what the code does: commands, tables, links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from sacred.arg_parser import get_config_updates
from sacred.initialize import create_run

from epic_common.config import PAPER_NAMES, PRESETS, EpicConfig
from vlp.baseline import REGISTRY, get_baseline
from vlp.sacred_dialect.baseline import SacredBaseline
from vlp.sacred_dialect.command_line import check_command_line
from vlp.sacred_dialect.settings import PRECISIONS, accumulation

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def code_blocks(text: str) -> Iterator[str]:
    yield from re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def launcher_commands() -> list[list[str]]:
    """Every printed call of a launcher, as the items behind ``with``."""
    lines = [line for block in code_blocks(README) for line in block.replace("\\\n", " ").splitlines()]
    words = [shlex.split(line, comments=True) for line in lines if ".py with" in line]
    return [line[line.index("with") + 1 :] for line in words]


def test_the_readme_prints_the_recipes() -> None:
    named = {item for items in launcher_commands() for item in items if "=" not in item}
    assert len(launcher_commands()) >= 10
    assert {"task_mlm_itm_clip_bert", "task_finetune_irtr_f30k_clip_bert", "epic", "data_16m", "clip32"} <= named
    assert {"task_mlm_itm", "task_finetune_irtr_f30k_randaug", "task_finetune_vqa_randaug", "step200k"} <= named


def baseline_of(items: list[str]) -> SacredBaseline:
    """The baseline whose task a command names."""
    (task,) = (item for item in items if item.startswith("task_"))
    (baseline,) = (each for each in map(get_baseline, REGISTRY) if task in each.experiment.named_configs)
    return baseline


@pytest.mark.parametrize("items", launcher_commands(), ids=lambda items: " ".join(items)[-60:])
def test_every_printed_command_is_accepted(items: list[str]) -> None:
    baseline = baseline_of(items)
    check_command_line(baseline.experiment, ["run.py", "with", *items])
    updates, named = get_config_updates(items)
    config = create_run(baseline.experiment, "print_config", updates, named_configs=named).config
    baseline.check(config)
    assert accumulation(config) >= 1 and config["precision"] in PRECISIONS
    epic = EpicConfig.from_dict(config["epic"])
    assert bool(config["teacher_path"] or config["saliency_cache"]) == epic.needs_teacher
    assert bool(epic.generator) == (epic.generator_training == "trained")


def test_the_table_of_variants_is_that_of_the_code() -> None:
    rows = {}
    for paper, named, sets in re.findall(r"^\| ([^|]+) \| (none|`epic\w*`) \| ([^|]+) \|", README, re.MULTILINE):
        values = dict(item.split("=") for item in re.findall(r"`epic\.(\w+=\w+)`", sets))
        rows[named.strip("`")] = (paper, values)
    for preset, settings in PRESETS.items():
        named = {"vanilla": "none", "epic": "epic"}.get(preset, f"epic_{preset}")
        paper, values = rows.pop(named)
        assert values == {name: str(value) for name, value in settings.items()}
        assert paper.startswith(PAPER_NAMES[preset])
        for baseline in map(get_baseline, REGISTRY):
            assert named in baseline.experiment.named_configs or named == "none"
    assert not rows


def test_the_table_of_batches_follows_the_rule() -> None:
    rows = re.findall(r"^\| (\d+) × (\d+) × (\d+) \| (\d+) \| (\d+)", README, re.MULTILINE)
    assert rows
    for nodes, gpus, batch, accumulated, pairs in (map(int, row) for row in rows):
        config = {"batch_size": 4096, "per_gpu_batchsize": batch, "num_gpus": gpus, "num_nodes": nodes}
        assert accumulation(config) == accumulated
        assert accumulated * nodes * gpus * batch == pairs


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert "://" in target or (page.parent / target).exists(), target


def test_documents_name_files_that_exist() -> None:
    for page in PAGES:
        for name in re.findall(
            r"`((?:epic_common|epic_vlp|vlp|meter|vilt|tests|docs|demo)/[\w./]+)`", page.read_text(encoding="utf-8")
        ):
            assert (ROOT / name).exists(), f"{page.name} names {name}"


def test_the_citation_carries_the_version_of_the_package() -> None:
    (ours,) = re.findall(r'version="([\d.]+)"', (ROOT / "setup.py").read_text(encoding="utf-8"))
    (cited,) = re.findall(r"^version: ([\d.]+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert ours == cited
