"""No program of ours ends through its output: the function by itself, the programs that call it, and a run."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CALL = "make_output_safe"
# All that keeps a stream: a logging handler, a console of rich, a bar of tqdm; more than any buffer holds.
PROGRAM = """
import logging, subprocess, sys
from rich.console import Console
from rich.table import Table
from tqdm import tqdm
from vlp.safe_output import make_output_safe
if __name__ == "__main__":
    make_output_safe()
    logging.basicConfig(level="INFO", stream=sys.stdout)
    logging.info("a first line")
    table = Table("→", "日本")
    table.add_row("·", "\\ud800")
    Console().print(table)
    for number in tqdm(range(3)):
        print("step 1/3 · 日本 " * 10_000)
        logging.info("\\udce4 · %d", number)
    print("half a line", end="")
    print("ü", file=sys.stderr)
    sys.stdout.isatty(), sys.stderr.isatty()
    subprocess.run([sys.executable, "-c", "import os; os.fstat(1)"], check=True)
    with open(sys.argv[1], "w") as file:
        file.write("whole")
"""
ENDS = {
    "closed": "{} >&- 2>&-",
    "without standard output": "{} >&-",
    "nothing at all": "{} <&- >&- 2>&-",
    "full": "{} >/dev/full 2>/dev/full",
    "a pipe that nobody reads": "{{ {}; echo $? >&3; }} 3>status 2>&1 | true; exit $(cat status)",
    "head": "{{ {}; echo $? >&3; }} 3>status 2>&1 | head -1; exit $(cat status)",
}
ASCII = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def shell(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    merged = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(["bash", "-c", line], cwd=folder, env=merged, capture_output=True, timeout=120)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("end", ENDS)
def test_results_are_written_whatever_becomes_of_the_output(end: str, unbuffered: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    line = ENDS[end].format(f"{sys.executable} program.py result")
    done = shell(line, tmp_path, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 0 and b"Error" not in done.stderr, done.stderr
    assert (tmp_path / "result").read_text() == "whole"


def test_a_character_that_cannot_be_printed_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    done = shell(f"{sys.executable} program.py result", tmp_path, **ASCII)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"INFO:root:a first line\n") and b"step 1/3 ? ?? step" in done.stdout
    assert b"half a line" in done.stdout
    assert b"INFO:root:? ? 2\n" in done.stdout and b"\\xfc" in done.stderr


def test_what_can_be_printed_is_printed_to_the_byte(tmp_path: Path) -> None:
    safe = "from vlp.safe_output import make_output_safe\nmake_output_safe()\n"
    prints = "import sys\nprint('ä·日', end='\\n\\n')\nprint('x' * 99_999)\nprint('y', file=sys.stderr)\n"
    outputs = []
    for name, text in {"plain.py": prints, "safe.py": safe + prints}.items():
        (tmp_path / name).write_text(text)
        done = shell(f"{sys.executable} {name}", tmp_path, PYTHONIOENCODING="utf-8")
        outputs.append((done.returncode, done.stdout, done.stderr))
    assert outputs[0] == outputs[1] and outputs[0][0] == 0


def test_a_closed_output_takes_no_later_file(tmp_path: Path) -> None:
    """What a library of C prints to number 1 must not end up in a file that was opened meanwhile."""
    text = "from vlp.safe_output import make_output_safe\nmake_output_safe()\nimport os\n"
    (tmp_path / "program.py").write_text(
        f"{text}file = open('result', 'w')\nos.write(1, b'noise')\nfile.write('whole')\n"
    )
    assert shell(f"{sys.executable} program.py >&-", tmp_path).returncode == 0
    assert (tmp_path / "result").read_text() == "whole"


# Who calls it ----------------------------------------------------------------------------------------------------

STARTS = {"start": "vlp/yaml_dialect/start.py", "launch": "vlp/sacred_dialect/command_line.py"}
ALIAS = "vlp/data/scenes.py"  # runs another program


def calls(body: list[ast.stmt]) -> list[str]:
    """Names of the functions that statements call, in order."""
    found = [node for statement in body for node in ast.walk(statement) if isinstance(node, ast.Call)]
    return [node.func.id for node in found if isinstance(node.func, ast.Name)]


def programs() -> dict[str, list[ast.stmt]]:
    """Every file that is started as a program -> what it then does."""
    found: dict[str, list[ast.stmt]] = {}
    tracked = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in tracked.stdout.split():
        if name.startswith("tests/") and name != "tests/parity/__main__.py":
            continue
        for node in ast.parse((ROOT / name).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'":
                found[name] = node.body
    return found


def test_every_program_makes_its_output_safe_first() -> None:
    found = programs()
    assert {"scenes/__main__.py", "meter/run.py", "xvlm/run.py", "epic_common/fit_lm.py"} <= set(found) and len(
        found
    ) > 40
    for name, body in found.items():
        if name != ALIAS:
            assert calls(body)[0] in (CALL, *STARTS), f"{name}: call {CALL}() first"


def test_so_do_the_functions_that_start_the_launchers() -> None:
    for function, name in STARTS.items():
        for node in ast.parse((ROOT / name).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name == function:
                assert calls(node.body[1:2]) == [CALL]
                break
        else:
            pytest.fail(f"{name} has no {function}")


def test_the_method_has_the_same_file() -> None:
    ours, theirs = ((ROOT / folder / "safe_output.py").read_bytes() for folder in ("vlp", "epic_common"))
    assert ours == theirs
