"""What experiments.yaml says: rows, cells, stages; and what is wrong with a file of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from reproduce.experiments import EXPERIMENTS, Experiments, Places, load, on_machines
from vlp.config.schema import ConfigError


@pytest.fixture(scope="module")
def experiments() -> Experiments:
    return load()


def test_stages_come_after_what_they_read(experiments: Experiments) -> None:
    for row in experiments.rows.values():
        done: set[str] = set()
        for name in row.stages:
            assert set(experiments.stages[name].after) <= done, name
            done.add(name)
        assert {cell.stage for cell in row.cells} <= done


def test_a_teacher_and_the_vanilla_row_are_one_stage(experiments: Experiments) -> None:
    vanilla, epic = experiments.row("table1/meter-4m"), experiments.row("table1/meter-4m-epic")
    assert "meter/4m/vanilla/pretrain" in vanilla.stages and "meter/4m/vanilla/pretrain" in epic.stages
    (teacher,) = (word for word in experiments.stage("meter/4m/epic/pretrain").command if "teacher_path" in word)
    assert teacher == "teacher_path={checkpoint:meter/4m/vanilla/pretrain}"


def test_a_command_is_filled(experiments: Experiments) -> None:
    stage = experiments.stage("meter/4m/epic/pretrain")
    words = experiments.resolved(stage, Places(Path("/data"), Path("/runs")), gpus=4, nodes=2)
    assert words[:6] == ["python", "run.py", "with", "data_root=/data/arrow", "num_gpus=4", "num_nodes=2"]
    assert "teacher_path=/runs/meter/4m/vanilla/pretrain/last.ckpt" in words
    assert "log_dir=/runs/meter/4m/epic/pretrain" in words


def test_torchrun_gets_the_machines() -> None:
    words = ["torchrun", "--nproc_per_node=8", "Pretrain.py"]
    assert on_machines(words, 4, 1) == ["torchrun", "--nproc_per_node=4", "Pretrain.py"]
    assert on_machines(words, 8, 3) == ["torchrun", "--nnodes=3", "--nproc_per_node=8", "Pretrain.py"]


WRONG = {
    "kind: pretrain": ("kind: pretrian", "stage meter/4m/vanilla/pretrain: kind='pretrian' is none of check"),
    "kind: evaluate": ("knid: evaluate", "unknown key 'knid'; did you mean 'kind'?"),
    "{vision}": ("{vison}", "{vison} is no field; did you mean 'vision'?"),
    "load_path={checkpoint:vqa}": ("load_path={checkpoint:vqs}", "comes after 'meter/4m/vanilla/vqs'; did you mean"),
    "baseline: METER, data: 4M, epic: false": ("baseline: METRE, data: 4M, epic: false", "is 0 lines of table1"),
    "model: meter/4m/vanilla}": ("model: meter/4m/vanila}", "no family has the model 'meter/4m/vanila'"),
}


@pytest.mark.parametrize(("right", "wrong", "said"), [(a, *b) for a, b in WRONG.items()], ids=list(WRONG))
def test_a_wrong_file_is_refused_by_its_place(tmp_path: Path, right: str, wrong: str, said: str) -> None:
    path = tmp_path / "experiments.yaml"
    path.write_text(EXPERIMENTS.read_text(encoding="utf-8").replace(right, wrong), encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load(path)
    assert str(error.value).startswith(str(path)) and said in str(error.value)


def test_unknown_rows_get_the_nearest_name(experiments: Experiments) -> None:
    with pytest.raises(ConfigError, match="did you mean 'table1/meter-4m-epic'"):
        experiments.row("table1/meter-4m-epik")
