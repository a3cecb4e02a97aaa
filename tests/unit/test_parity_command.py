"""The parity framework itself: it must notice a wrong value, a missing array and a broken fixture, and say so."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.parity import golden
from tests.parity.__main__ import main
from tests.parity.fixture import FIXTURES, PLAIN, TRAINING_PATH, Fixture, FixtureError, Lacking, check_keys
from tests.parity.replays import Replay
from tests.parity.runner import discover, modes, run

REPOSITORY = Path(__file__).parents[2]
EXACT = {"default": {"rtol": 0, "atol": 0}}


def write_fixture(folder: Path, name: str = "golden_new", arrays: dict[str, Any] | None = None, **changes: Any) -> Path:
    """A fixture that the positions_recall replay can run: one score matrix and its recalls (`changes` to the JSON)."""
    recall = {"role": "output", "level": "metric", "slice": None, "what": "", "args": {"function": "recall"}}
    recall["args"] |= {"scores": "s", "caption_image": "c"}  # type: ignore[operator]
    meta: dict[str, Any] = {"baseline": "meter", "replay": "positions_recall", "keys": None, "arch": None}
    meta |= {"config": None, "weights": None, "checkpoint": None, "trajectory": None, "tolerances": EXACT}
    meta |= {"inputs": {"s": {"array": "s"}, "c": {"array": "c"}}, "choices": {}, "notes": []}
    meta["arrays"] = {"s": {"role": "input"}, "c": {"role": "input"}, "recalls": recall}
    stored = {"s": np.eye(3, dtype=np.float32), "c": np.arange(3), "recalls": np.ones(6), **(arrays or {})}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / f"{name}.npz", **stored)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(meta | changes))
    return path


def command(*folders: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.parity", *map(str, folders)], cwd=REPOSITORY, capture_output=True, text=True
    )
    return done.returncode, done.stdout


def test_exit_codes_of_the_command(tmp_path: Path) -> None:
    write_fixture(tmp_path / "good" / "deeper")
    write_fixture(tmp_path / "unbuilt", baseline="vilt")
    broken = write_fixture(tmp_path / "broken")
    broken.with_suffix(".npz").write_bytes(b"not a zip")
    code, out = command(tmp_path / "good")
    assert code == 0 and "PASS" in out and "1 passed, 0 failed, 0 not replayed" in out
    code, out = command(tmp_path / "good", tmp_path / "unbuilt")
    assert code == 2 and "NOT REPLAYED" in out and "no replay for vilt positions_recall" in out
    code, out = command(tmp_path)
    assert code == 1 and "1 passed, 1 failed, 1 not replayed" in out and "cannot be read" in out


def printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main([str(folder)])
    return code, capsys.readouterr().out


def test_a_wrong_value_fails_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_fixture(tmp_path, arrays={"recalls": np.array([1, 1, 1, 1, 1, 0.5])})
    code, out = printed(tmp_path, capsys)
    assert code == 1 and "recalls: inf x its tolerance, computed 1.0, stored 0.5 at [5]" in out


def test_an_array_that_is_not_produced_fails_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_fixture(tmp_path, arrays={"extra": np.ones(2)})
    meta = json.loads(path.read_text())
    meta["arrays"]["extra"] = {**meta["arrays"]["recalls"], "args": {"function": "new"}}
    path.write_text(json.dumps(meta))
    code, out = printed(tmp_path, capsys)
    assert code == 1 and "extra: not produced by the replay" in out and "1 arrays" in out


def test_an_exception_fails_its_fixture_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_fixture(tmp_path, "a", arrays={"s": np.full((3, 3), np.nan)})
    write_fixture(tmp_path, "b")
    code, out = printed(tmp_path, capsys)
    assert code == 1 and "1 passed, 1 failed" in out
    assert "ValueError: the score of image 0 and caption 0 is NaN (recall.py:" in out


def test_nothing_to_compare_is_said_and_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_fixture(tmp_path)
    meta = json.loads(path.read_text())
    meta["arrays"]["recalls"]["role"] = "input"
    path.write_text(json.dumps(meta))
    code, out = printed(tmp_path, capsys)
    assert code == 2 and "NOT REPLAYED" in out and "nothing compared" in out


@pytest.mark.parametrize("remove", ["baseline", "replay"])
def test_a_fixture_that_does_not_say_what_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], remove: str
) -> None:
    path = write_fixture(tmp_path)
    meta = json.loads(path.read_text())
    del meta[remove]
    path.write_text(json.dumps(meta))
    code, out = printed(tmp_path, capsys)
    assert code == 2 and "NOT REPLAYED" in out and f"the fixture lacks {remove}" in out


def test_a_missing_key_of_a_product_is_a_failure(tmp_path: Path) -> None:
    """Only what the fixture itself is asked for in vain reads as lacking."""
    fixture = Fixture(write_fixture(tmp_path))

    settings: dict[str, Any] = {}

    def broken(fixture: Fixture, mode: str) -> Iterator[tuple[str, Any]]:
        yield "recalls", lambda: settings["threshold"]

    outcome = run(fixture, Replay(broken, (PLAIN,)), PLAIN)
    assert outcome.status == "failed" and not outcome.lacks
    assert outcome.failures[0].startswith("KeyError: 'threshold'")


def test_every_block_of_a_fixture_names_what_it_lacks(tmp_path: Path) -> None:
    config = {"schedule": {"rates": [{"lr": 1}]}}
    fixture = Fixture(write_fixture(tmp_path, config=config, inputs={"a": {"array": "gone"}, "b": {"value": {"c": 1}}}))
    with pytest.raises(Lacking, match=r"config\.schedule\.rates\.end"):
        fixture.config["schedule"]["rates"][0]["end"]
    for ask, name in ((fixture.inputs, "a"), (fixture.given, "a"), (fixture.inputs["b"], "d"), (fixture.arch, "width")):
        with pytest.raises(Lacking, match=name):
            ask[name]


@pytest.mark.parametrize("remove", ["golden_new.npz", None])
def test_lost_files_are_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str], remove: str | None) -> None:
    path = write_fixture(tmp_path)
    (tmp_path / "settings.json").write_text('{"no": "fixture"}')
    if remove:
        (tmp_path / remove).unlink()
        assert discover([tmp_path]) == [path]
        assert printed(tmp_path, capsys)[0] == 1
    else:
        path.unlink()
        assert main([str(tmp_path)]) == 1
        assert "holds no fixture" in capsys.readouterr().err
        assert main([str(tmp_path / "nowhere")]) == 1
        assert "is not a folder" in capsys.readouterr().err


def test_arrays_that_json_and_npz_do_not_share_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_fixture(tmp_path, arrays={"more": np.ones(1)})
    code, out = printed(tmp_path, capsys)
    assert code == 0 and "1 arrays" in out and "the fixture lacks arrays.more" in out


def test_the_training_path_needs_its_levels_only(tmp_path: Path) -> None:
    path = write_fixture(tmp_path, arrays={"loss": np.ones(()), "layer": np.zeros(2)})
    meta = json.loads(path.read_text())
    for name, level in (("loss", "loss"), ("layer", "layer")):
        meta["arrays"][name] = {"role": "output", "level": level, "slice": None}
    path.write_text(json.dumps(meta))
    fixture = Fixture(path)

    def training(fixture: Fixture, mode: str) -> Iterator[tuple[str, Any]]:
        yield "loss", torch.ones(())
        yield "layer", torch.ones(2)  # wrong, but of a level that the training path may change
        yield "unknown", torch.ones(1)

    replay = Replay(training, (PLAIN, TRAINING_PATH))
    assert modes(fixture, replay) == [PLAIN, TRAINING_PATH]
    outcome = run(fixture, replay, TRAINING_PATH)
    assert outcome.passed and outcome.compared == 1
    outcome = run(fixture, replay, PLAIN)
    assert [failure.split(":")[0] for failure in outcome.failures] == ["layer", "recalls"]
    assert modes(Fixture(write_fixture(tmp_path / "metric")), replay) == [PLAIN]


def test_inputs_are_made_as_the_json_says(tmp_path: Path) -> None:
    image = {"make": "image", "name": "n", "shape": [2, 3, 4, 4], "low": None, "high": None, "set": None}
    tokens = {"make": "tokens", "name": "t", "shape": [2, 5], "low": 3, "high": 9, "zero_outside": None}
    inputs = {
        "image": {**image, "zero_outside": [[4, 4], [2, 3]]},
        "ids": {**tokens, "set": {"[:, 0]": 101}},
        "size": {"value": 7},
        "s": {"array": "s"},
    }
    made = Fixture(write_fixture(tmp_path, inputs=inputs)).inputs
    expected = golden.image("n", 2, 3, 4, 4)
    expected[1, :, 2:] = 0
    expected[1, :, :, 3:] = 0
    assert np.array_equal(made["image"], expected)
    assert (made["ids"][:, 0] == 101).all()
    assert np.array_equal(made["ids"][:, 1:], golden.tokens("t", 2, 5, low=3, high=9)[:, 1:])
    assert made["size"] == 7 and np.array_equal(made["s"], np.eye(3))


TABLE = (
    "key\tshape\tdtype\nbody.weight\t2x3\tfloat32\nbody.bias\t2\tfloat32\nscale\t\tfloat32\nhead.weight\t2\tfloat32\n"
)


def state() -> dict[str, torch.Tensor]:
    return {
        "body.weight": torch.zeros(2, 3),
        "body.bias": torch.zeros(2),
        "scale": torch.zeros(()),
        "head.weight": torch.zeros(2),
    }


def test_fill_follows_the_rule_the_skips_and_the_prefixes(tmp_path: Path) -> None:
    (tmp_path / "keys.tsv").write_text(TABLE)
    weights = {"rule": "golden", "skip": ["*.bias"], "tied": None}
    fixture = Fixture(write_fixture(tmp_path, keys="keys.tsv", weights=weights))
    filled = fixture.fill(state())
    assert list(filled) == list(state())
    for key, shape in (("body.weight", (2, 3)), ("head.weight", (2,))):
        assert np.array_equal(filled[key].numpy(), golden.tensor(key, shape))
    assert not filled["body.bias"].any() and not filled["scale"].any()
    assert not fixture.fill(state(), prefixes=["head."])["body.weight"].any()
    with pytest.raises(Lacking, match=r"checkpoint\.keys"):
        fixture.fill(state(), checkpoint=True)


def test_key_tables_are_exact(tmp_path: Path) -> None:
    (tmp_path / "keys.tsv").write_text(TABLE)
    table = golden.keys(tmp_path / "keys.tsv")
    check_keys(state(), table)
    wrong: list[tuple[dict[str, torch.Tensor], str]] = [
        ({k: v for k, v in state().items() if k != "scale"}, "lacks 1 keys of the table, first scale"),
        (state() | {"more": torch.zeros(1)}, "1 keys that the table lacks, first more"),
        (dict(reversed(state().items())), "key order: head.weight stands where the table has body.weight"),
        (state() | {"scale": torch.zeros(1)}, r"scale is float32 \(1,\)"),
        (state() | {"scale": torch.zeros((), dtype=torch.int64)}, r"scale is int64 \(\)"),
    ]
    for model, message in wrong:
        with pytest.raises(FixtureError, match=message):
            check_keys(model, table)


def test_named_files_lie_beside_the_fixture_or_in_the_default_place(tmp_path: Path) -> None:
    fixture = Fixture(write_fixture(tmp_path))
    name = "keys_tiny_pretrain.tsv"
    assert fixture.file(name) == FIXTURES / "meter" / name
    (tmp_path / name).write_text(TABLE)
    assert fixture.file(name) == tmp_path / name
    with pytest.raises(Lacking, match=r"keys_none\.tsv \(which is neither in"):
        fixture.file("keys_none.tsv")
