"""The patch files hold insertions alone: no context, no hunk text, full hashes, no line that is not ours."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from patches.marks import PatchError
from patches.official.code_bases import CODE_BASES, SHIMS
from patches.official.lines import inserted
from patches.official.patch_file import OfficialPatch, dumps, loads
from patches.official.source import files_beside, patch_path
from tests.unit.patches_official.trees import contents, git, patch_of

SHIPPED = [(name, False) for name in CODE_BASES] + [(name, True) for name in SHIMS]


def text_of(baseline: str, shims: bool) -> str:
    return patch_path(baseline, shims=shims).read_text(encoding="utf-8")


@pytest.mark.parametrize(("baseline", "shims"), SHIPPED)
def test_the_shipped_patch_is_that_of_the_table_and_inserts_only(baseline: str, shims: bool) -> None:
    text = text_of(baseline, shims)
    patch = (SHIMS if shims else CODE_BASES)[baseline]
    assert loads(text, "patch") == patch and dumps(patch) == text
    diff = text[text.index("diff --git") :].splitlines()
    kinds = r"diff --git a/\S+ b/\S+|index [0-9a-f]{40}\.\.|--- a/\S+|\+\+\+ b/\S+|@@ -\d+,0 \+\d+,\d+ @@|\+.*"
    assert all(re.fullmatch(kinds, line) for line in diff)
    assert not patch.added


@pytest.mark.parametrize(("baseline", "shims"), SHIPPED)
def test_every_inserted_line_is_ours(baseline: str, shims: bool) -> None:
    """It calls our support file, or belongs to a function or a map that does."""
    for file in (SHIMS if shims else CODE_BASES)[baseline].files:
        for _, lines in file.insertions:
            assert any("epic" in line for line in lines), f"{file.path}: {lines}"


@pytest.mark.parametrize("baseline", CODE_BASES)
def test_what_is_put_beside_is_complete_and_of_the_checkouts_own_names_none(baseline: str) -> None:
    beside = files_beside(baseline, shims=True)
    assert {
        f"epic_{baseline}.py",
        "epic_support.py",
        "epic_shims.py",
        "epic_common/masking.py",
        "epic_common/LICENSE",
    } <= set(beside)
    assert all(name.startswith("epic_") for name in beside), "nothing where the official code may have a file"


@pytest.mark.parametrize(("baseline", "shims"), SHIPPED)
def test_git_puts_the_shipped_lines_where_the_command_does(baseline: str, shims: bool, tmp_path: Path) -> None:
    files = (SHIMS if shims else CODE_BASES)[baseline].files
    for file in files:
        (tmp_path / file.path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file.path).write_text("".join(f"{i}\n" for i in range(1, file.insertions[-1].after + 1)))
    before = contents(tmp_path)
    git(tmp_path, "apply", "--unidiff-zero", str(patch_path(baseline, shims=shims)))
    assert contents(tmp_path) == {file.path: inserted(before[file.path], file.insertions) for file in files}
    for after, lines in (insertion for file in files for insertion in file.insertions if insertion.after):
        assert any(f"{after}\n{lines[0]}\n".encode() in data for data in contents(tmp_path).values())


def test_reading_gives_what_was_written() -> None:
    patch = patch_of()
    with_record = OfficialPatch(
        patch.title, patch.repository, patch.commit, patch.files, {"epic_common/a.py": "0" * 40}
    )
    assert loads(dumps(with_record), "patch") == with_record


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("@@ -1,0 +2,1 @@\n", "@@ -1,0 +2,1 @@ def config():\n", "a hunk that is not"),
        ("+import epic_meter\n", " import torch\n+import epic_meter\n", "more than insertions"),
        ("@@ -1,0 +2,1 @@\n+", "@@ -1,1 +2,1 @@\n-import torch\n+", "more than insertions"),
        ("@@ -1,0 +2,1 @@", "@@ -1,0 +2,2 @@", "do not agree"),
        ("@@ -6,0 +8,1 @@", "@@ -6,0 +9,1 @@", "do not agree"),
        ("@@ -1,0 +2,1 @@", "@@ -9,0 +10,1 @@", "do not agree"),
        ("@@ -1,0 +2,1 @@", "@@ -1 +2 @@", "a hunk that is not"),
        ("+import epic_meter\n@@", "+\n@@", "ends with an empty line"),
        ("commit 0123", "commit 01 23", "header"),
        ("meter/config.py", "../meter/config.py", "more than insertions"),
        ("meter/config.py", "/meter/config.py", "more than insertions"),
        (".." + "\n", "..0000\n", "more than insertions"),
    ],
)
def test_anything_else_is_refused(old: str, new: str, message: str) -> None:
    text = dumps(patch_of())
    assert old in text
    with pytest.raises(PatchError, match=message):
        loads(text.replace(old, new), "p.patch")


def test_the_inserted_python_is_python(tmp_path: Path) -> None:
    """With a stand-in of the right depth around it, every insertion compiles."""
    for patch in CODE_BASES.values():
        for file in (file for file in patch.files if file.path.endswith(".py")):
            for _, lines in file.insertions:
                depth = (len(lines[0]) - len(lines[0].lstrip())) // 4 if lines[0] else 1
                frame = [" " * 4 * i + "def f():" for i in range(depth)]
                compile("\n".join([*frame, *lines]) + "\n", file.path, "exec")
