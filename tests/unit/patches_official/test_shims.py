"""The opt-in shims, with the libraries that are installed here: each in a fresh process, as a launcher imports it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from patches.tree import ROOT

SUPPORT = ROOT / "patches" / "official" / "support"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "##s", "run"]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with the shims and a tokeniser module that cannot be imported."""
    root = tmp_path_factory.mktemp("theirs")
    (root / "epic_shims.py").write_bytes((SUPPORT / "epic_shims.py").read_bytes())
    (root / "models").mkdir()
    (root / "models" / "tokenization_bert.py").write_text("raise AttributeError('vocab')\n")
    (root / "c.yaml").write_text("lr: 1e-5\nepic: {ratio: 0.35}\n")
    (root / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    return root


def run(checkout: Path, *lines: str) -> str:
    script = "\n".join(["import epic_shims", "epic_shims.install()", *lines])
    (checkout / "launcher.py").write_text(script)
    result = subprocess.run([sys.executable, "launcher.py"], cwd=checkout, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_every_import_of_the_official_code_works_with_the_installed_libraries(checkout: Path) -> None:
    out = run(
        checkout,
        "import ruamel_yaml as yaml, ruamel.yaml, torchmetrics",
        "from pytorch_lightning.metrics import Metric",
        "from transformers.modeling_utils import (",
        "    apply_chunking_to_forward, find_pruneable_heads_and_indices, prune_linear_layer)",
        "assert Metric is torchmetrics.Metric",
        "loaded = yaml.load(open('c.yaml'), Loader=yaml.Loader)",
        "assert ruamel.yaml.load(open('c.yaml'), Loader=ruamel.yaml.Loader) == loaded",
        "yaml.dump(loaded, open('d.yaml', 'w'))",
        "print(loaded, yaml.load(open('d.yaml'), Loader=yaml.Loader) == loaded)",
        "from models.tokenization_bert import BertTokenizer",
        "tokenizer = BertTokenizer('vocab.txt')",
        "settings = dict(padding='longest', truncation=True, max_length=4, return_tensors='pt')",
        "batch = tokenizer(['A dogs', 'run a dog run'], **settings)",
        "print(batch.input_ids.tolist(), batch.attention_mask.tolist(), tokenizer('a', 'run').input_ids)",
    )
    assert out.splitlines() == [
        "{'lr': 1e-05, 'epic': {'ratio': 0.35}} True",
        "[[2, 5, 6, 7], [2, 8, 5, 6]] [[1, 1, 1, 1], [1, 1, 1, 1]] [2, 5, 3, 8, 3]",
    ]


@pytest.mark.slow
def test_lightnings_old_checkpoints_load_and_foreign_classes_do_not(checkout: Path) -> None:
    from pytorch_lightning.callbacks import ModelCheckpoint

    torch.save({"state_dict": {"w": torch.ones(1)}, "callbacks": {ModelCheckpoint: {}}}, checkout / "old.ckpt")
    torch.save({"w": Path("x")}, checkout / "foreign.ckpt")
    out = run(
        checkout,
        "import pickle, torch",
        "print(torch.load('old.ckpt')['state_dict']['w'].item())",
        "try: torch.load('foreign.ckpt')",
        "except pickle.UnpicklingError: print('refused')",
    )
    assert out.split() == ["1.0", "refused"]
