"""What experiments.yaml says: rows, cells, stages; and what is wrong with a file of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from epic_common.config import EpicConfig
from reproduce.configs import config_hash, resolved_config
from reproduce.experiments import EXPERIMENTS, Experiments, Places, load, on_machines, printed_tables
from vlp.config.schema import ConfigError


@pytest.fixture(scope="module")
def experiments() -> Experiments:
    return load()


def test_every_printed_cell_is_measured_by_one_cell_of_a_row(experiments: Experiments) -> None:
    printed = []
    for table, lines in printed_tables().items():
        for line in lines if table.startswith("table") else ():
            about = line.get("variant") or f"{line['baseline']} {line['data']} {line['epic']}"
            printed += [(table, about, name, value) for name, value in line.items() if isinstance(value, float)]
    assert len(printed) == 423
    measured = []
    for row in experiments.rows.values():
        about = row.label if row.table > 3 else f"{row.label} {row.data} {row.variant == 'epic'}"
        measured += [(f"table{row.table}", about, cell.column, cell.printed) for cell in row.cells]
    assert Counter(measured) == Counter(printed)


def test_tables_4_and_5_are_measured_on_validation_splits(experiments: Experiments) -> None:
    rows = [row for row in experiments.rows.values() if row.table > 3]
    assert {(cell.column.split("_")[0], cell.split) for row in rows for cell in row.cells} == {
        ("nlvr2", "dev"),
        ("f30k", "val"),
        ("coco", "val"),
    }
    for name in {name for row in rows for name in row.stages if name.startswith("meter/")}:
        command = experiments.stages[name].command
        assert ("eval_split=val" in command) == ("irtr" in " ".join(command)), name


def test_the_ablations_share_stages(experiments: Experiments) -> None:
    assert experiments.row("table4/epic").stages == experiments.row("table5/lm-finetune").stages


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


def test_every_command_is_one_that_its_baseline_takes(experiments: Experiments) -> None:
    """One model of each family goes through all stages, the others through pre-training."""
    places, seen = Places(Path("/data"), Path("/runs")), set()
    for stage in experiments.stages.values():
        family, template = (stage.name.split("/")[0], "ablation" in stage.name), stage.name.rsplit("/", 1)[-1]
        if stage.kind == "pretrain" or (family, template) not in seen:
            seen.add((family, template))
            config = resolved_config(stage, experiments.resolved(stage, places))
            if stage.kind == "pretrain":
                epic = EpicConfig.from_dict(config["epic"])
                assert bool(config["teacher_path"]) == epic.needs_teacher, stage.name
                assert bool(epic.generator) == (epic.generator_training == "trained"), stage.name
    assert len(seen) > 30


def test_a_hash_is_that_of_the_numbers(experiments: Experiments) -> None:
    def hashed(data: str, root: str, *items: str, gpus: int = 8) -> str:
        places = Places(Path(data), Path(root))
        stage = experiments.stage("meter/4m/epic/f30k_zs")
        config = resolved_config(stage, [*experiments.resolved(stage, places, gpus), *items])
        return config_hash(config, 0, ["before"], places)

    first = hashed("/data", "/runs")
    assert hashed("/other", "/elsewhere", "num_workers=3", gpus=2) == first
    assert hashed("/data", "/runs", "image_size=288") != first


@pytest.mark.parametrize("wrong", ["task_finetune_irtr_f30", "image_size=385", "eval_split=dev", "imagesize=384"])
def test_a_wrong_item_names_the_stage(experiments: Experiments, wrong: str) -> None:
    stage = experiments.stage("meter/4m/epic/f30k_zs")
    words = experiments.resolved(stage, Places(Path("/data"), Path("/runs")))
    with pytest.raises(ConfigError, match="stage meter/4m/epic/f30k_zs: "):
        resolved_config(stage, [*words, wrong])
