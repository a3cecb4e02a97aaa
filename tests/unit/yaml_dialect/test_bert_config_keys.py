"""Single keys of the file that ``bert_config`` names, changed on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from albef.config import COMMANDS
from vlp.yaml_dialect.command_line import resolved

ALBEF = Path(__file__).parents[3] / "albef"


def test_a_key_of_the_command_line_changes_that_of_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("vlp.yaml_dialect.command_line.check_files", lambda *_: None)
    monkeypatch.chdir(ALBEF)
    file = json.loads((ALBEF / "configs/config_bert.json").read_text())
    (tmp_path / "bert.json").write_text(json.dumps({**file, "hidden_dropout_prob": 0.2}))
    for given, read in (([], file), ([f"bert_config={tmp_path / 'bert.json'}"], {**file, "hidden_dropout_prob": 0.2})):
        assert resolved(COMMANDS["Pretrain"], given)["bert_config"] == read
    config = resolved(COMMANDS["Pretrain"], ["bert_config.num_hidden_layers=8", "bert_config.fusion_layer=4"])
    assert config["bert_config"] == {**file, "num_hidden_layers": 8, "fusion_layer": 4}
