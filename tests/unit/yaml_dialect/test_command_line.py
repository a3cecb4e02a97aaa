"""From a command line to a configuration, and what is wrong with one."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from albef.config import COMMANDS
from tests.unit.yaml_dialect.small_runs import COMMAND, YAML
from vlp.config.schema import ConfigError, defaults
from vlp.yaml_dialect.command_line import merged, nested_items, resolved

BASE = defaults(COMMAND.schema)
ALBEF = Path(__file__).parents[3] / "albef"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One process, in a folder with the YAML file."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Small.yaml").write_text(YAML, encoding="utf-8")


def of(*argv: str) -> dict[str, Any]:
    return resolved(COMMAND, argv)


def test_defaults_then_the_file_then_flags_then_items() -> None:
    config = of("--seed", "5", "rows=7", "--text_encoder=folder", "schedular.epochs=2", "optimizer.weight_decay=1e-1")
    assert config.keys() == BASE.keys()
    assert (config["alpha"], config["batch_size"], config["rows"], config["seed"]) == (0.4, 2, 7, 5)
    assert config["text_encoder"] == "folder"
    assert config["schedular"] == {
        **{"sched": "cosine", "lr": 1e-2, "epochs": 2, "min_lr": 1e-4, "warmup_lr": 1e-3, "warmup_epochs": 1},
        **{"decay_rate": 1, "cooldown_epochs": 0},
    }
    assert config["optimizer"] == {"opt": "adamW", "lr": 1e-2, "weight_decay": 0.1}


@pytest.mark.parametrize(
    ("argv", "resume"),
    [
        ([], False),
        (["--resume"], True),
        (["--resume", "True"], True),
        (["--resume", "False"], False),
        (["--resume=false"], False),
        (["--resume", "0"], False),
        (["--resume", "rows=3"], True),
        (["rows=3", "--resume", "--seed", "3"], True),
        (["resume=True"], True),
    ],
)
def test_switches_mean_what_they_say(argv: list[str], resume: bool) -> None:
    config = of(*argv)
    assert config["resume"] is resume
    assert config["rows"] == (3 if "rows=3" in argv else 9)


def test_the_argument_of_the_old_launcher_is_taken() -> None:
    for argument in ("--local_rank=0", "--local-rank=0"):
        assert of(argument) == of()
    assert of("--local_rank", "0") == of()


@pytest.mark.parametrize(
    ("item", "value"),
    [
        ("alpha=1e-1", 0.1),
        ("alpha=0", 0),
        ("distill=False", False),
        ("resume_from=None", None),
        ("resume_from=null", None),
        ("resume_from=auto", "auto"),
        ("max_steps=~", None),
        ("text_encoder=a=b", "a=b"),
        ("checkpoint=", ""),
        ("text_encoder='3'", "3"),
        ("resume_anyway=[alpha, seed]", ["alpha", "seed"]),
        ("init=random", "random"),
    ],
)
def test_values_are_read_as_yaml(item: str, value: Any) -> None:
    assert of(item)[item.partition("=")[0]] == value


def test_a_block_keeps_the_keys_that_are_not_given() -> None:
    assert of("init={vision: random}")["init"] == {"vision": "random", "text": "pretrained"}


@pytest.mark.parametrize(
    ("argv", "key", "value"),
    [
        (["alpha=1", "alpha=0.5"], "alpha", 0.5),
        (["--seed", "1", "seed=2"], "seed", 2),
        (["seed=2", "--seed=1"], "seed", 1),
        (["seed=2", "--seed", "1", "seed=3"], "seed", 3),
        (["resume_from=auto", "resume_from=None"], "resume_from", None),
        (["--checkpoint", "seed", "--seed", "4"], "seed", 4),  # a value that reads like a key
    ],
)
def test_the_last_word_on_a_key_counts(argv: list[str], key: str, value: Any, tmp_path: Path) -> None:
    (tmp_path / "seed").write_bytes(b"")  # a checkpoint that is only looked for
    assert of(*argv)[key] == value


def test_the_last_word_on_a_block_s_key_counts() -> None:
    base = of()["optimizer"]
    assert of("optimizer={lr: 1.0}", "optimizer.lr=0.5", "schedular.lr=0.5")["optimizer"] == {**base, "lr": 0.5}
    given = of("optimizer.lr=0.5", "optimizer={lr: 1.0, weight_decay: 0.2}", "schedular.lr=1.0")["optimizer"]
    assert given == {**base, "lr": 1.0, "weight_decay": 0.2}


def test_init_of_one_encoder_leaves_the_file_s_to_the_other(tmp_path: Path) -> None:
    (tmp_path / "Small.yaml").write_text(YAML + "init: random\n", encoding="utf-8")
    assert of("init.text=pretrained")["init"] == {"vision": "random", "text": "pretrained"}
    assert of()["init"] == of("seed=1")["init"] == "random"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["alpa=1"], r"unknown config key 'alpa'; did you mean 'alpha'\?"),
        (["schedular.epoch=1"], r"unknown config key 'schedular.epoch'; did you mean 'schedular.epochs'\?"),
        (["alpha.b=1"], "unknown config key 'alpha.b': alpha has no keys"),
        (["alpha=x"], "alpha='x': expected a number, at least 0, at most 1"),
        (["schedular.epochs=1.5"], r"schedular.epochs=1.5: expected a whole number, at least 1"),
        (["schedular.epochs=True"], r"schedular.epochs=True: expected a whole number"),
        (["distill=yes"], "distill='yes': expected True or False"),
        (["alpha=[1"], r"alpha=\[1: no YAML value"),
        (["alpha=.nan"], "alpha=nan: expected"),
        (["alpha=!!python/name:os.system"], "alpha=!!python/name:os.system: no YAML value"),
        (["alpha"], "'alpha': expected key=value, or a flag with two dashes"),
        (["--config", "Smal.yaml"], "^Smal.yaml: no such file$"),
        (["checkpoint=absent.pth"], "checkpoint=absent.pth: no such file"),
        (
            ["checkpoint=hdfs://a/b.pth"],
            r"^checkpoint=hdfs://a/b.pth: HDFS is not read or written: mount it",
        ),
        (["--config", "hdfs://a/b.yaml"], "^--config=hdfs://a/b.yaml: HDFS is not read"),
        (["bert_config=absent.json"], "bert_config=absent.json: no such file, here or beside the YAML file"),
        (["bert_config.fusion_layers=3"], "unknown config key 'bert_config.fusion_layers'"),
        (["bert_config.fusion_layer=12"], "fusion_layer=12 leaves no fusion layer of bert_config.num_hidden_layers=12"),
        (["bert_config.encoder_width=64"], "bert_config.encoder_width=64, but vision_config.width=768"),
        (["image_res=250"], "image_res=250 is not a multiple of vision_config.patch_size=16"),
        (["batch_size=1"], "batch_size=1: its objectives need at least 2 samples of a GPU"),
        (["optimizer.lr=1e-3"], r"schedular.lr=0.01, but optimizer.lr=0.001: give both"),
        (["resume_anyway=alpa"], r"resume_anyway=alpa: there is no such key; did you mean 'alpha'\?"),
        (["--evaluate"], "--evaluate needs --checkpoint"),
        (["--world_size", "8"], r"--world_size 8, but 1 process\(es\) were started"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(argv: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        of(*argv)
    assert "\n" not in str(caught.value)


def test_every_wrong_item_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        of("alpa=1", "rows=2", "bacth_size=3")
    assert [line.split("'")[1] for line in str(caught.value).splitlines()] == ["alpa", "bacth_size"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "rows: 9\nbatchsize: 3\n",
            r"^Small.yaml, line 2: unknown config key 'batchsize'; did you mean 'batch_size'\?$",
        ),
        ("\nrows: many\n", r"^Small.yaml, line 2: rows='many': expected a whole number, at least 1$"),
        (
            "rows: 9\nschedular:\n  epoch: 3\n",
            r"^Small.yaml, line 2: unknown config key 'schedular.epoch'; did you mean 'schedular.epochs'\?$",
        ),
        ("alpha: '0.4'\n", r"^Small.yaml, line 1: alpha='0.4': expected a number"),
        ("rows: 3\nrows: 4\n", r"^Small.yaml, line 2: duplicate key"),
    ],
)
def test_what_is_wrong_with_the_file_is_said_with_its_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "Small.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        of()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--sed", "3"], "error: unknown flag --sed; did you mean '--seed'?\n"),
        (["--rows", "3"], "error: unknown flag --rows: a key of the YAML file is given as rows=VALUE\n"),
        (["--seed", "x"], "error: argument --seed: invalid int value: 'x'\n"),
        (["--resume", "maybe"], "error: --resume maybe: expected True or False\n"),
        (["--device", "tpu"], "error: argument --device: invalid choice"),
        (["--seed"], "error: argument --seed: expected one argument\n"),
    ],
)
def test_wrong_flags_end_with_status_2(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        of(*argv)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(said)


@pytest.mark.parametrize("place", ["here", "beside", "named"])
def test_the_text_model_is_looked_for_here_and_beside_the_file(place: str, tmp_path: Path) -> None:
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "Small.yaml").write_text("bert_config: configs/bert.json\n", encoding="utf-8")
    where = {"here": folder / "bert.json", "beside": folder / "configs/bert.json", "named": folder / "bert.json"}[place]
    where.parent.mkdir(exist_ok=True)
    where.write_text('{"hidden_size": 24}')
    if place == "named":  # from another folder, with the file's folder moved
        moved = tmp_path / "moved"
        folder.rename(moved)
        folder = moved
    config = of("--config", str(folder / "Small.yaml"))
    assert config["bert_config"]["hidden_size"] == 24 and config["bert_config"]["num_hidden_layers"] == 12


def test_wrong_json_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "bert.json").write_text('{"hidden_size": }')
    with pytest.raises(ConfigError, match=r"^bert.json, line 1: not JSON"):
        of("bert_config=bert.json")
    (tmp_path / "bert.json").write_text('{"hidden_sizes": 3}')
    with pytest.raises(ConfigError, match=r"unknown config key 'bert_config.hidden_sizes'; did you mean"):
        of("bert_config=bert.json")


KEYS = st.sampled_from(["alpha", "rows", "optimizer.lr", "schedular.min_lr", "bert_config.hidden_size", "text_encoder"])


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(KEYS, st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6) | st.booleans(), max_size=4))
def test_items_say_what_they_are_given(values: dict[str, Any]) -> None:
    items = [f"{name}={json.dumps(value)}" for name, value in values.items()]
    config = reduce(merged, nested_items(items, BASE), BASE)
    for name, value in values.items():
        block, _, inner = name.rpartition(".")
        got = (config[block] if block else config)[inner]
        assert got == value and type(got) is type(value)
    untouched = BASE.keys() - {name.split(".")[0] for name in values}
    assert all(config[name] == BASE[name] for name in untouched)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text("abcdefhlprs_.=-{}[]:&*!'\"01e \x00\ud800é", max_size=12), max_size=3))
def test_no_command_line_ends_in_a_traceback(argv: list[str]) -> None:
    try:
        of(*argv)
    except ConfigError as error:
        assert str(error)
    except SystemExit as error:
        assert error.code in (0, 2)


# ALBEF's own scripts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_help_lists_the_flags_at_once(name: str) -> None:
    """From inside the folder, as officially; nothing large is imported for it."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", f"{name}.py", "--help"], cwd=ALBEF, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for flag in ("--config", "--checkpoint", "--output_dir", "--text_encoder", "--device", "--seed", "--dist_url"):
        assert flag in done.stdout
    assert "local_rank" not in done.stdout and "local-rank" not in done.stdout
    loaded = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert "pydantic" in loaded and not loaded & {"torch", "lightning", "transformers", "timm"}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_script_without_its_data_says_so_in_lines(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ALBEF / f"{name}.py"), "--config", str(ALBEF / COMMANDS[name].config)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and not done.stdout
    lines = done.stderr.splitlines()
    assert lines and all(line.startswith("error: ") for line in lines)
    assert "no such file; docs/data.md" in lines[0] and "train_file=" in lines[0]


def test_the_queue_takes_whole_batches_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ALBEF)
    argv = ["batch_size=48"]
    with pytest.raises(ConfigError, match=r"queue_size=65536 is not a multiple of 1 process\(es\) x batch_size=48"):
        resolved(COMMANDS["Pretrain"], argv)
    for name, value in {"RANK": "0", "WORLD_SIZE": "3", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"not a multiple of 3 process\(es\) x batch_size=64"):
        resolved(COMMANDS["Pretrain"], [])


@pytest.mark.parametrize(
    ("name", "argv", "said"),
    [
        ("Pretrain", ["batch_size=1"], "batch_size=1: its objectives need at least 2 samples"),
        ("Retrieval", ["batch_size_train=1"], "batch_size_train=1: its objectives need at least 2"),
        ("Pretrain_nlvr", ["batch_size=2"], "batch_size=2: its objectives need at least 3"),
        ("Grounding", ["--block_num", "5"], "block_num=5: the fusion layers are 6 to 11"),
        ("Grounding", ["--gradcam_mode", "itc", "--block_num", "12"], "block_num=12: the image blocks are 0 to 11"),
        ("Pretrain", ["vision_width=512"], "vision_width=512, but vision_config.width=768"),
        ("Pretrain", ["--resume"], "--resume needs --checkpoint"),
        ("VE", ["temp=0.1"], "unknown config key 'temp'"),
    ],
)
def test_relations_of_albefs_keys(name: str, argv: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ALBEF)
    with pytest.raises(ConfigError, match=said):
        resolved(COMMANDS[name], argv)


def test_scoring_needs_no_training_lists(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for split in ("val", "test"):
        (tmp_path / f"data/flickr30k_{split}.json").write_text("[]")
    (tmp_path / "best.pth").write_bytes(b"")
    config = str(ALBEF / "configs/Retrieval_flickr.yaml")
    argv = ["--config", config, "--checkpoint", "best.pth"]
    assert resolved(COMMANDS["Retrieval"], [*argv, "--evaluate"])["evaluate"] is True
    with pytest.raises(ConfigError, match=r"flickr30k_train\.json: no such file"):
        resolved(COMMANDS["Retrieval"], argv)
