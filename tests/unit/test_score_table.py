"""The printed scores: papers' names, in percent, whole where nobody looks at a terminal."""

from __future__ import annotations

import pytest

from vlp.evaluation.score_table import print_scores


def test_a_row_for_each_split_and_a_column_for_each_score(capsys: pytest.CaptureFixture[str]) -> None:
    recalls = {"txt_r1": 12.25, "img_r10": 100.0}
    print_scores({"val": {**recalls, "acc": 0.5}, "test": recalls})
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip(" ─")]
    assert rows == [
        ["split", "TR@1", "IR@10", "accuracy"],
        ["val", "12.25", "100.00", "50.00"],
        ["test", "12.25", "100.00", "–"],
    ]


def test_a_wide_table_stays_whole_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    print_scores({"test": {f"a_long_name_of_a_score_{number}": float(number) for number in range(12)}})
    head, row = (line.split() for line in capsys.readouterr().out.splitlines() if line.strip(" ─"))
    assert len(head) == len(row) == 13 and head[-1] == "a_long_name_of_a_score_11" and row[-1] == "11.00"


def test_nothing_scored_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    print_scores({"test": {}})
    assert capsys.readouterr().out == ""
