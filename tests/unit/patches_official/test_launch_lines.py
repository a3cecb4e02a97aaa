"""METER's and ViLT's lines of `make test-official`, read by the experiments here, which know the official names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.official.launches import LAUNCHES, Run
from vlp.config.schema import ConfigError
from vlp.sacred_dialect.baseline import sacred_baselines
from vlp.sacred_dialect.command_line import configured

RUN = Run(checkout=Path(), data=Path("data"), output=Path("output"))
TEACHER, SAVED = Path("teacher.ckpt"), Path("last.ckpt")


def resolved(name: str, run: Run) -> dict[str, Any]:
    baseline: Any = sacred_baselines()[name]
    start, word, *items = LAUNCHES[name].command(run)
    assert (start, word) == ("run.py", "with")
    return configured(baseline.experiment, baseline.schema, items)


@pytest.mark.parametrize("name", sacred_baselines())
def test_a_run_and_its_continuation_are_what_they_should_be(name: str) -> None:
    plain = resolved(name, RUN)
    assert (plain["loss_names"]["mlm"], plain["loss_names"]["itm"]) == (1, 1)
    assert (plain["data_root"], plain["log_dir"], plain["datasets"]) == ("data/arrow", "output", ["coco"])
    assert (plain["num_gpus"], plain["precision"], plain["batch_size"], plain["max_steps"]) == (1, 32, 2, 4)
    assert not plain["epic"]["enabled"]
    on = resolved(name, Run(RUN.checkout, RUN.data, RUN.output, teacher=TEACHER, resumed=SAVED))
    assert (on["epic"]["enabled"], on["teacher_path"]) == (True, str(TEACHER))
    assert (on["resume_from"], on["max_steps"]) == (str(SAVED), 8)


@pytest.mark.parametrize("name", sacred_baselines())
def test_an_unknown_key_is_noticed(name: str) -> None:
    baseline: Any = sacred_baselines()[name]
    with pytest.raises(ConfigError, match="max_step"):
        configured(baseline.experiment, baseline.schema, ["max_step=4"])
