"""The documents must keep saying what the code does: commands, tables, links."""

from __future__ import annotations

import importlib
import importlib.util
import operator
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sacred.arg_parser import get_config_updates
from sacred.initialize import create_run

from albef.config import COMMANDS
from epic_common.config import PAPER_NAMES, PRESETS, EpicConfig
from meter.config import MeterKeys
from vlp.config.schema import defaults
from vlp.sacred_dialect.baseline import SacredBaseline, sacred_baselines
from vlp.sacred_dialect.command_line import check_command_line
from vlp.sacred_dialect.settings import PRECISIONS, accumulation
from vlp.yaml_dialect.command_line import resolved
from xvlm import run as tasks_of_xvlm
from xvlm.config import COMMANDS as COMMANDS_OF_XVLM

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
# Facts of the official code print official commands, whose placeholders and files are not ours.
OURS = [page for page in PAGES if page.parent.name != "official"]


def lines_of_code(page: Path) -> Iterator[str]:
    """Every command of a page's bash blocks, continuation lines joined."""
    for block in re.findall(r"^```bash\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        yield from block.replace("\\\n", " ").splitlines()


def launcher_commands() -> list[list[str]]:
    """Every printed call of a launcher, as the items behind ``with``; each once."""
    words = [shlex.split(line, comments=True) for page in OURS for line in lines_of_code(page) if ".py with" in line]
    return [list(items) for items in dict.fromkeys(tuple(line[line.index("with") + 1 :]) for line in words)]


def test_the_pages_print_the_recipes() -> None:
    named = {item for items in launcher_commands() for item in items if "=" not in item}
    assert len(launcher_commands()) >= 20
    assert {"task_mlm_itm_clip_bert", "task_finetune_irtr_f30k_clip_bert", "epic", "data_16m", "clip32"} <= named
    assert {"task_mlm_itm", "task_finetune_irtr_f30k_randaug", "task_finetune_vqa_randaug", "step200k"} <= named


def baseline_of(items: list[str]) -> SacredBaseline:
    """The baseline whose task a command names."""
    (task,) = (item for item in items if item.startswith("task_"))
    (baseline,) = (each for each in sacred_baselines().values() if task in each.experiment.named_configs)
    return baseline


@pytest.mark.parametrize("items", launcher_commands(), ids=lambda items: " ".join(items)[-60:])
def test_every_printed_command_is_accepted(items: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("epic_vlp.check.check_files", lambda *_: None)  # the files that a page names are the reader's
    baseline = baseline_of(items)
    check_command_line(baseline.experiment, ["run.py", "with", *items])
    updates, named = get_config_updates(items)
    config = create_run(baseline.experiment, "print_config", updates, named_configs=named).config
    baseline.check(config)
    assert accumulation(config) >= 1 and config["precision"] in PRECISIONS
    epic = EpicConfig.from_dict(config["epic"])
    assert bool(config["teacher_path"] or config["saliency_cache"]) == epic.needs_teacher
    assert bool(epic.generator) == (epic.generator_training == "trained")


def script_commands(xvlm: bool = False) -> list[tuple[str, list[str]]]:
    """Every printed call of a script of ALBEF, or of X-VLM, and what follows its name; each once."""
    lines = [
        line
        for page in OURS
        for line in lines_of_code(page)
        if "--config" in line
        and "run.py" not in line
        and "-m reproduce" not in line
        and ("XVLM" in line or page.name == "xvlm.md") == xvlm
    ]
    found = [shlex.split(line, comments=True) for line in lines]
    calls = [(words, next(i for i, word in enumerate(words) if word.endswith(".py"))) for words in found]
    readers = {"epic_saliency_cache": "Pretrain"}  # it reads the command line of the run
    return [
        (readers.get(script := words[0].removesuffix(".py"), script), list(words[1:]))
        for words in dict.fromkeys(tuple(words[i:]) for words, i in calls)
    ]


def test_the_pages_print_every_script() -> None:
    assert {name for name, _ in script_commands()} == set(COMMANDS)
    configs = {Path(words[words.index("--config") + 1]).name for _, words in script_commands()}
    assert {"Pretrain.yaml", "Pretrain_4M_epic.yaml", "Pretrain_16M_epic.yaml", "Retrieval_coco.yaml"} <= configs


@pytest.mark.parametrize(("name", "words"), script_commands(), ids=lambda value: " ".join(value)[-60:])
def test_every_printed_script_is_accepted(name: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlp.yaml_dialect.command_line.check_files", lambda *_: None)  # the files are the reader's
    monkeypatch.chdir(ROOT / "albef")
    config = resolved(COMMANDS[name], words)
    assert config["checkpoint"] or name == "Pretrain"
    if name == "Pretrain":
        epic = EpicConfig.from_dict(config["epic"])
        assert bool(config["teacher_path"]) == epic.needs_teacher
        assert bool(epic.generator) == (epic.generator_training == "trained")


def run_commands() -> list[list[str]]:
    """The arguments of every printed ``run.py --task``; each once."""
    words = [
        shlex.split(line, comments=True) for page in OURS for line in lines_of_code(page) if "run.py --task" in line
    ]
    return [list(items) for items in dict.fromkeys(tuple(line[line.index("--task") :]) for line in words)]


def scripts_of_xvlm(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """The calls of scripts that the printed commands of X-VLM make, also those that ``run.py`` makes."""
    monkeypatch.setattr(tasks_of_xvlm.os.path, "exists", lambda _: True)  # the files are the reader's
    monkeypatch.setattr(tasks_of_xvlm.os.path, "isdir", lambda _: True)
    calls = script_commands(xvlm=True)
    for items in run_commands():
        args = tasks_of_xvlm.arguments(items)
        task = tasks_of_xvlm.checked_task(args)
        calls += [
            (command[0].removesuffix(".py"), [*command[1:], *args.items]) for command in task.commands(args, task)
        ]
    monkeypatch.undo()
    return calls


def test_the_pages_print_every_script_of_xvlm(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = scripts_of_xvlm(monkeypatch)
    assert {name for name, _ in calls} == set(COMMANDS_OF_XVLM) and len(run_commands()) > 10
    configs = {Path(words[words.index("--config") + 1]).name for _, words in calls}
    assert {f"Pretrain_XVLM_base_{size}{end}.yaml" for size in ("4m", "16m") for end in ("", "_epic")} <= configs


def test_every_printed_command_of_xvlm_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = scripts_of_xvlm(monkeypatch)
    monkeypatch.setattr("vlp.yaml_dialect.command_line.check_files", lambda *_: None)
    monkeypatch.chdir(ROOT / "xvlm")
    for name, words in calls:
        config = resolved(COMMANDS_OF_XVLM[name], words)
        assert config["checkpoint"] or name == "Pretrain"
        if name == "Pretrain":
            epic = EpicConfig.from_dict(config["epic"])
            assert bool(config["teacher_path"] or config["saliency_cache"]) == epic.needs_teacher, words


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
        for baseline in sacred_baselines().values():
            assert named in baseline.experiment.named_configs or named == "none"
    assert not rows


@pytest.mark.parametrize("baseline", ["meter", "vilt"])
def test_the_table_of_batches_follows_the_rule(baseline: str) -> None:
    page = (ROOT / f"docs/{baseline}.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) × (\d+) × (\d+) \| (\d+) \| (\d+)", page, re.MULTILINE)
    assert rows
    for nodes, gpus, batch, accumulated, pairs in (map(int, row) for row in rows):
        config = {"batch_size": 4096, "per_gpu_batchsize": batch, "num_gpus": gpus, "num_nodes": nodes}
        assert accumulation(config) == accumulated
        assert accumulated * nodes * gpus * batch == pairs


def anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def test_every_page_is_linked_from_another() -> None:
    linked = {
        (page.parent / target).resolve()
        for page in PAGES
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    }
    assert not [page.name for page in PAGES if page.name != "README.md" and page not in linked]


def test_documents_name_files_that_exist() -> None:
    folders = "epic_common|epic_vlp|vlp|meter|vilt|albef|xvlm|scenes|patches|benchmarks|tests|docs|demo"
    for page in OURS:
        for name in re.findall(rf"`((?:{folders})/[\w./]+)`", page.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{page.name} names {name}"


def test_documents_name_modules_that_exist() -> None:
    named = {name for page in OURS for name in re.findall(r"python -m ([\w.]+)", page.read_text(encoding="utf-8"))}
    assert {"demo", "patches", "vlp.data.arrow"} <= named
    assert not [name for name in named if importlib.util.find_spec(name) is None]


def test_documents_name_targets_of_the_makefile() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in OURS:
        inline = re.findall(r"`make ([\w-]+)", page.read_text(encoding="utf-8"))
        named = [*inline, *re.findall(r"^make ([\w-]+)", "\n".join(lines_of_code(page)), re.MULTILINE)]
        assert set(named) <= targets, page.name


# What says where a command of a page writes, a file that is then there, and the folders that it is run in.
LOG_DIR = defaults(MeterKeys)["log_dir"]
WRITES = (
    (r"--output(?:_folder)? (?!data)|OUTPUT=", "{}/file", [""]),
    (r"--output(?=_dir| data)(?:_dir)? ", "{}/file", ["albef/", "xvlm/"]),
    (r"saliency_cache=", "{}/manifest.json", ["meter/", "vilt/", "xvlm/"]),
    (r"log_dir=", "{}/file", ["meter/", "vilt/"]),
    (r"exp_name=", LOG_DIR + "/{}_seed0_from_/version_0/metrics.jsonl", ["meter/", "vilt/"]),
)


def test_what_the_commands_write_into_the_checkout_is_ignored_by_git() -> None:
    """Relative paths, as they are printed; names in capitals, too, which stand for folders of the user's own."""
    places = set[str]()
    for option, place, folders in WRITES:
        for code in ("\n".join(lines_of_code(page)) for page in OURS):
            names = [name.rstrip("/") for name in re.findall(rf"(?:{option})[\"']?(\w[\w./-]*)", code)]
            places |= {folder + place.format(name) for name in names for folder in folders}
    assert {"xvlm/data/pretrain_4m/file", "albef/data/file", "albef/output/Pretrain_4M/file"} <= places
    assert {"ARROW_ROOT/file", "CAPTIONS.txt/file", "vilt/SALIENCY/manifest.json", "runs/meter_4m/file"} <= places
    assert "meter/result/mlm_itm_epic_seed0_from_/version_0/metrics.jsonl" in places
    said = subprocess.run(["git", "check-ignore", *places], cwd=ROOT, capture_output=True, text=True, check=False)
    assert places == set(said.stdout.split())


def test_the_method_names_functions_that_exist() -> None:
    """The last column of the table of steps: ``module.attribute`` in ``epic_common``."""
    page = (ROOT / "docs/method.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d+\. .* \| ([^|]+) \|$", page, re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`([\w.]+)`", row)]
    assert len(rows) == 9 and len(named) >= 9
    for name in named:
        module = re.match(r"[a-z_.]+(?=\.)", name)
        assert module is not None, name
        operator.attrgetter(name[module.end() + 1 :])(importlib.import_module(f"epic_common.{module[0]}"))


def test_the_citation_carries_the_version_of_the_package() -> None:
    (ours,) = re.findall(r'version="([\d.]+)"', (ROOT / "setup.py").read_text(encoding="utf-8"))
    (cited,) = re.findall(r"^version: ([\d.]+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert ours == cited
