"""EPIC as a patch: the committed patch is that of the tree, and taking it out and putting it back loses no byte."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patches.check import problems
from patches.marks import CLOSE, OPEN, PatchError, blocks, lines_of, without_blocks
from patches.tree import ROOT, Tree, patch_path, present, read_tree, vanilla, write_tree
from patches.unified import applied, difference

GIT = ["git", "apply"]
PATCH = pytest.param(
    ["patch", "-p1", "-i"], marks=pytest.mark.skipif(shutil.which("patch") is None, reason="no patch command here")
)
MARKED = f"a: 1\n{OPEN}\nepic:\n  ratio: 0.35\n{CLOSE}\nb: 2\n"


def run(*command: str, root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=root, capture_output=True, text=True)


def patches(*arguments: str, root: Path) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "patches", *arguments, root=root)


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file() and path.parent.name != "__pycache__")
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A repository of the baselines and their patches alone."""
    for name in ("patches", *present()):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "result"))
    return tmp_path


@pytest.fixture
def yaml(tmp_path: Path) -> Path:
    """A repository of one baseline configured by YAML files, as ALBEF and X-VLM are."""
    shutil.copytree(ROOT / "patches", tmp_path / "patches", ignore=shutil.ignore_patterns("__pycache__", "*.patch"))
    (tmp_path / "albef" / "configs").mkdir(parents=True)
    (tmp_path / "albef" / "configs" / "Pretrain.yaml").write_text(MARKED)
    (tmp_path / "albef" / "configs" / "Pretrain_epic.yaml").write_text("teacher: none\n")
    (tmp_path / "albef" / "Pretrain.py").write_text("import torch\n")
    return tmp_path


# The committed patch ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("baseline", present())
def test_the_patch_is_that_of_the_tree(baseline: str) -> None:
    """After a change of marked lines or of EPIC's files: python -m patches write."""
    assert problems(baseline) == []


@pytest.mark.parametrize("tool", [GIT, PATCH, [sys.executable, "-m", "patches", "apply"]])
@pytest.mark.parametrize("baseline", present())
def test_out_and_in_again(baseline: str, tool: list[str], copy: Path) -> None:
    before = contents(copy / baseline)
    done = patches("remove", baseline, root=copy)
    assert done.returncode == 0, done.stderr
    after = contents(copy / baseline)
    assert after and all(b"epic" not in text.lower() for text in after.values())
    operand = baseline if "patches" in tool else f"patches/{baseline}.patch"
    done = run(*tool, operand, root=copy)
    assert done.returncode == 0, done.stderr
    assert contents(copy / baseline) == before


def test_what_is_done_already_is_no_error(copy: Path) -> None:
    """One baseline out, then all in, as a reader of the README does; every command may be given twice."""
    before = contents(copy)
    first, *others = present()
    assert patches("remove", first, root=copy).returncode == 0
    again = patches("remove", first, root=copy)
    assert (again.returncode, again.stdout, again.stderr) == (0, f"{first} is vanilla already\n", "")
    for already in (others, [first, *others]):
        done = patches("apply", root=copy)
        assert (done.returncode, done.stderr) == (0, "")
        assert [line for line in done.stdout.splitlines() if "already" in line] == [
            f"{name} has EPIC already" for name in already
        ]
        assert contents(copy) == before


def test_a_tree_with_other_lines_of_epic_is_not_taken_for_done(yaml: Path) -> None:
    patches("write", root=yaml)
    (yaml / "albef" / "configs" / "Pretrain_epic.yaml").unlink()
    before = contents(yaml / "albef")
    done = patches("apply", root=yaml)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: albef has lines of EPIC, other ones than patches/albef.patch inserts: python -m patches list albef\n"
    )
    assert contents(yaml / "albef") == before


def test_the_vanilla_copy_is_as_tidy_as_the_patched_one(copy: Path) -> None:
    patches("remove", root=copy)
    shutil.copy(ROOT / "pyproject.toml", copy)
    # Without I001: an import block that ends with a marked import leaves one blank line more.
    for command in (["format", "--check"], ["check", "--ignore", "I001"]):
        done = run(sys.executable, "-m", "ruff", *command, *present(), root=copy)
        assert done.returncode == 0, done.stdout


def test_the_patch_only_inserts() -> None:
    for baseline in present():
        body = [line for line in patch_path(baseline).read_text().splitlines() if not line.startswith("--- ")]
        assert not [line for line in body if line.startswith("-")]


# Any tree ---------------------------------------------------------------------------------------------------

# Few distinct lines, so that marked lines often equal their neighbours.
PIECES = st.lists(st.tuples(st.booleans(), st.lists(st.sampled_from(["", "x = 1", "\x0cy", "é\r"]), max_size=5)))


def marked_text(pieces: list[tuple[bool, list[str]]]) -> str:
    lines = [line for epic, block in pieces for line in ([OPEN, *block, CLOSE] if epic else block)]
    return "".join(f"{line}\n" for line in lines)


@settings(max_examples=150, deadline=None)
@given(PIECES, PIECES, st.booleans())
def test_a_patch_leads_from_the_vanilla_tree_to_the_tree(
    first: list[tuple[bool, list[str]]], second: list[tuple[bool, list[str]]], whole: bool
) -> None:
    tree: Tree = {"albef/a.py": marked_text(first), "albef/b.yaml": marked_text(second)}
    if whole:
        tree["albef/configs/x_epic.yaml"] = "x: 1\n"
    bare = vanilla(tree)
    assert bare["albef/a.py"] == "".join(f"{line}\n" for epic, block in first if not epic for line in block)
    assert applied(difference(tree), bare, "p") == tree


@pytest.mark.parametrize("tool", [GIT, PATCH])
def test_other_tools_read_the_same_patch(tool: list[str], tmp_path: Path) -> None:
    text = "".join(f"line {i}\n" for i in range(20))
    block = f"{OPEN}\nnew\n{CLOSE}\n"
    tree: Tree = {
        "albef/begin.py": block + text,
        "albef/both.py": "one\n" + block + text + block + "last\n",
        "albef/end.py": text + block,
        "albef/nothing_else.py": block,
        "albef/sub/new_epic.yaml": "x: 1\n\ny: 2\n",
    }
    write_tree({}, vanilla(tree), tmp_path)
    (tmp_path / "p.patch").write_text(difference(tree))
    done = run(*tool, "p.patch", root=tmp_path)
    assert done.returncode == 0, done.stderr
    assert read_tree("albef", tmp_path) == tree


def test_configs_in_yaml_and_a_first_patch(yaml: Path) -> None:
    missing = patches("check", root=yaml)
    assert missing.returncode == 1
    assert "patches/albef.patch is missing; write it with: python -m patches write albef" in missing.stderr
    assert patches("write", "albef", root=yaml).returncode == 0
    assert patches("check", "albef", root=yaml).stdout == "albef: well\n"
    listed = patches("list", "albef", root=yaml).stdout
    assert "albef/configs/Pretrain.yaml:2" in listed and "albef/configs/Pretrain_epic.yaml" in listed
    assert "4 lines in 1 blocks of 1 files (2 without their marks); wholly EPIC's: 1 lines" in listed
    before = contents(yaml / "albef")
    assert patches("remove", root=yaml).returncode == 0
    assert (yaml / "albef" / "configs" / "Pretrain.yaml").read_text() == "a: 1\nb: 2\n"
    assert not (yaml / "albef" / "configs" / "Pretrain_epic.yaml").exists()
    assert "vanilla" in patches("check", root=yaml).stdout
    assert patches("apply", root=yaml).returncode == 0
    assert contents(yaml / "albef") == before


# What is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{OPEN}\nx\n{OPEN}\ny\n{CLOSE}\n", r"f\.py:3: '# EPIC >' inside the block that line 1 opens"),
        (f"x\n{OPEN}\ny\n", r"f\.py:2: '# EPIC >' without a '# < EPIC' after it"),
        (f"x\n{CLOSE}\n", r"f\.py:2: '# < EPIC' without an '# EPIC >' before it"),
        (f"x = 1  {OPEN}\n", r"f\.py:1: a mark stands alone"),
        (f"#EPIC>\nx\n{CLOSE}\n", r"f\.py:1: a mark stands alone"),
        (f"{OPEN}\nx\n# <EPIC\n", r"f\.py:3: a mark stands alone"),
        ("x", r"f\.py: the last line has no line end"),
    ],
)
def test_marks_that_are_wrong_are_named(text: str, message: str) -> None:
    for read in (lines_of, without_blocks, blocks):
        with pytest.raises(PatchError, match=message):
            read(text, "f.py")


def test_a_wrong_mark_is_an_error_of_every_command(yaml: Path) -> None:
    config = yaml / "albef" / "configs" / "Pretrain.yaml"
    config.write_text(MARKED.replace(f"{CLOSE}\n", ""))
    for command in ("list", "check", "write", "remove", "apply"):
        done = patches(command, "albef", root=yaml)
        assert (done.returncode, done.stderr) == (
            1,
            f"error: albef/configs/Pretrain.yaml:2: '{OPEN}' without a '{CLOSE}' after it\n",
        )


def test_a_stale_patch_is_noticed_and_nothing_is_removed(yaml: Path) -> None:
    patches("write", root=yaml)
    config = yaml / "albef" / "configs" / "Pretrain.yaml"
    config.write_text(MARKED.replace("0.35", "0.5"))
    before = contents(yaml / "albef")
    for command in ("check", "remove"):
        done = patches(command, "albef", root=yaml)
        assert done.returncode == 1 and "python -m patches write albef" in done.stderr
    assert contents(yaml / "albef") == before


def test_epic_outside_the_marks_is_noticed(yaml: Path) -> None:
    (yaml / "albef" / "Pretrain.py").write_text("import torch\nfrom epic_common import Epic\n")
    patches("write", root=yaml)
    done = patches("check", root=yaml)
    assert done.returncode == 1
    assert done.stderr == "error: albef/Pretrain.py:2: names EPIC outside the marks: from epic_common import Epic\n"


def test_a_vanilla_tree_that_has_changed_is_left_alone(yaml: Path) -> None:
    patches("write", root=yaml)
    patches("remove", root=yaml)
    assert "albef is vanilla" in patches("write", root=yaml).stderr  # not an empty patch
    config = yaml / "albef" / "configs" / "Pretrain.yaml"
    config.write_text("a: 1\nb: 3\n")
    before = contents(yaml / "albef")
    done = patches("apply", root=yaml)
    assert done.returncode == 1 and "does not apply to albef/configs/Pretrain.yaml:2" in done.stderr
    assert contents(yaml / "albef") == before
