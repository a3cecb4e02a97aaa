"""Checkpoints of tiny models of every baseline that read captions of scenes, as runs of ours leave them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertForMaskedLM, RobertaConfig, RobertaForMaskedLM

from epic_common.language_models.small import FAMILIES
from epic_vlp.attach import build_epic
from epic_vlp.parts import settings_of
from reproduce.figures.configuration import config_of
from scenes.coco_layout import TRUTH_FILE, Request, write_coco
from tests.launch.launcher import ROOT
from tests.unit.small_parts import stirred
from vlp.baseline import get_baseline
from vlp.data.tokenizers import load_tokenizer
from vlp.sacred_dialect.baseline import SacredBaseline

WIDTH = 128  # of the text encoders of the baselines' smallest configurations


def scenes_in(folder: Path) -> Path:
    """A few scenes of every split, and the captions of all in ``captions.txt``; the folder of both."""
    write_coco(folder / "raw", Request(train=8, val=3, test=3, captions=2, image_size=64, seed=1))
    records = map(json.loads, (folder / "raw" / TRUTH_FILE).read_text().splitlines())
    lines = [text for record in records for caption in record["captions"] for text in _texts(caption)]
    (folder / "captions.txt").write_text("\n".join(lines))
    return folder


def _texts(caption: dict[str, Any]) -> list[str]:
    return [caption["raw"], *(foil["text"] for foil in caption["foils"])]


def language_model_in(scenes: Path, family: str) -> Path:
    """A folder with a tokenizer of whole words of the scenes and a masked language model of random weights."""
    folder = scenes / family
    if not folder.exists():
        lines = (scenes / "captions.txt").read_text().splitlines() * 3
        tokenizer = FAMILIES[family].train_tokenizer(lines, 1000, 40)
        tokenizer.save_pretrained(folder)
        sizes: dict[str, Any] = {"hidden_size": WIDTH, "intermediate_size": 64, "num_attention_heads": 2}
        sizes |= {"vocab_size": len(tokenizer), "num_hidden_layers": 1, "pad_token_id": tokenizer.pad_token_id}
        torch.manual_seed(0)
        if family == "bert":
            BertForMaskedLM(BertConfig(**sizes)).save_pretrained(folder)
        else:
            RobertaForMaskedLM(RobertaConfig(**sizes, type_vocab_size=1)).save_pretrained(folder)
    return folder


def tiny_checkpoint(name: str, scenes: Path, *epic: str, seed: int = 0) -> Path:
    """The checkpoint of a tiny model of random weights; ``epic`` are items of its command line, none: vanilla."""
    baseline, path = get_baseline(name), scenes / f"{name}_{len(list(scenes.glob('*.ckpt')))}.ckpt"
    folder = language_model_in(scenes, baseline.text_family)
    size = len(load_tokenizer(folder))
    if isinstance(baseline, SacredBaseline):
        small = ["hidden_size=32", "num_heads=2"] if name == "meter" else []
        items, file = (
            [*baseline.pretraining, *baseline.small, *small, f"tokenizer={folder}", f"vocab_size={size}"],
            None,
        )
    else:
        file = ROOT / name / "configs" / "tiny" / "Pretrain.yaml"
        items = {
            "albef": ["--text_encoder", str(folder), f"bert_config.vocab_size={size}", "queue_size=16"],
            "xvlm": [f"text_encoder={folder}", f"text_config.vocab_size={size}"],
        }[name]
    config = config_of(baseline, None, file, [*items, *epic], trains=False)
    settings = settings_of(baseline, config)
    torch.manual_seed(seed)
    model: Any = baseline.model(config)
    if settings.enabled:
        model.epic = build_epic(baseline, config, settings, load_tokenizer(folder), rank=0)
    state = stirred(model).state_dict()
    torch.save({"state_dict": state, "hyper_parameters": {"config": config}}, path)
    return path
