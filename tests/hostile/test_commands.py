"""Raw downloads, outputs and options of the commands beside the launchers."""

from __future__ import annotations

from pathlib import Path

from tests.hostile.cases_raw import CHECK_CASES, FIT_CASES, LIST_CASES, OTHER_CASES, RAW_CASES, TO_ARROW, good
from tests.hostile.groups import OUTPUT
from tests.hostile.harness import Shell, keeps_its_promise, nothing_changes
from tests.hostile.table import Case, Row, each_case
from vlp.data.conversion.output import held_output


def keeps(case: Case, shell: Shell, place: Path) -> None:
    case.make(place)
    items = [item.replace("{place}", str(place)) for item in case.row.items]
    with nothing_changes(place, but=case.written):
        keeps_its_promise(case.row, shell.run(*items))


@each_case([*RAW_CASES, *LIST_CASES, *CHECK_CASES, *FIT_CASES, *OTHER_CASES])
def test_the_commands(case: Case, shell: Shell, tmp_path: Path) -> None:
    keeps(case, shell, tmp_path)


def test_two_conversions_into_one_folder(shell: Shell, tmp_path: Path) -> None:
    row = Row(OUTPUT, TO_ARROW, 1, ("is converting coco into", "wait"))
    (tmp_path / "arrow").mkdir()
    with held_output(tmp_path / "arrow", "coco"):
        keeps(Case("two", row, good), shell, tmp_path)
