"""ALBEF's YAML files hold the official values (docs/official/albef.md §2), and the schemas' defaults are the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from albef.config import COMMANDS
from vlp.config.schema import check, defaults
from vlp.yaml_dialect.command_line import merged
from vlp.yaml_dialect.yaml_file import read_yaml

CONFIGS = Path(__file__).parents[3] / "albef/configs"

QUEUES: dict[str, Any] = {"vision_width": 768, "embed_dim": 256, "temp": 0.07, "queue_size": 65536, "momentum": 0.995}
SOFT: dict[str, Any] = {"alpha": 0.4, "distill": True, "warm_up": True}


def optimisation(lr: float, epochs: int, min_lr: float, warmup_epochs: int) -> dict[str, Any]:
    return {
        "optimizer": {"opt": "adamW", "lr": lr, "weight_decay": 0.02},
        "schedular": {
            **{"sched": "cosine", "lr": lr, "epochs": epochs, "min_lr": min_lr, "decay_rate": 1},
            **{"warmup_lr": 1e-5, "warmup_epochs": warmup_epochs, "cooldown_epochs": 0},
        },
    }


def lists(*names: str) -> list[str]:
    return [f"data/{name}.json" for name in names]


OFFICIAL: dict[str, dict[str, Any]] = {
    "Pretrain": {
        "train_file": lists("coco", "vg", "cc12m", "cc3m_train", "cc3m_val", "sbu"),
        **{"image_res": 256, "batch_size": 64, "mlm_probability": 0.15, "alpha": 0.4},
        **QUEUES,
        **optimisation(1e-4, 30, 1e-5, 20),
    },
    "Retrieval_coco": {
        **{"train_file": lists("coco_train"), "val_file": "data/coco_val.json", "test_file": "data/coco_test.json"},
        **{"image_res": 384, "batch_size_train": 32, "batch_size_test": 64, "k_test": 256, **QUEUES, **SOFT},
        **optimisation(1e-5, 5, 1e-6, 1),
    },
    "Retrieval_flickr": {
        "train_file": lists("flickr30k_train"),
        **{"val_file": "data/flickr30k_val.json", "test_file": "data/flickr30k_test.json"},
        **{"image_res": 384, "batch_size_train": 32, "batch_size_test": 64, "k_test": 128, **QUEUES, **SOFT},
        **optimisation(1e-5, 10, 1e-6, 1),
    },
    "VQA": {
        **{"train_file": lists("vqa_train", "vqa_val", "vg_qa"), "test_file": lists("vqa_test")},
        **{"answer_list": "data/answer_list.json", "eos": "[SEP]", "k_test": 128},
        **{"image_res": 384, "batch_size_train": 32, "batch_size_test": 16, **SOFT},
        **optimisation(2e-5, 8, 1e-6, 4),
    },
    "VE": {
        **{f"{split}_file": f"data/ve_{stem}.json" for split, stem in (("train", "train"), ("val", "dev"))},
        **{"test_file": "data/ve_test.json", "image_res": 384, "batch_size_train": 32, "batch_size_test": 64},
        **{**SOFT, "warm_up": False},
        **optimisation(2e-5, 5, 1e-6, 1),
    },
    "NLVR_pretrain": {
        "train_file": lists("coco", "vg", "cc3m_train", "cc3m_val", "sbu"),
        **{"image_res": 256, "batch_size": 64, "vision_width": 768, "embed_dim": 256},
        **optimisation(2e-5, 1, 1e-5, 1),
    },
    "NLVR": {
        **{f"{split}_file": lists(f"nlvr_{stem}") for split, stem in (("train", "train"), ("val", "dev"))},
        **{"test_file": lists("nlvr_test"), "image_res": 384, "batch_size": 16, "eval_ema": False, **SOFT},
        **optimisation(2e-5, 10, 1e-6, 1),
    },
    "Grounding": {
        **{"train_file": lists("refcoco+_train"), "test_file": lists("refcoco+_val", "refcoco+_test")},
        **{"refcoco_data": "data", "det_file": "data/refcoco+/dets.json", "coco_file": "data/refcoco+/cocos.json"},
        **{"image_res": 384, "batch_size": 32, **QUEUES, **SOFT},
        **optimisation(1e-5, 5, 1e-6, 1),
    },
}
SCRIPTS = {"Retrieval_coco": "Retrieval", "Retrieval_flickr": "Retrieval", "NLVR_pretrain": "Pretrain_nlvr"}
ROOTS = {"image_root", "vqa_root", "vg_root"}


@pytest.mark.parametrize("name", OFFICIAL)
def test_a_yaml_file_has_the_official_keys_and_values(name: str) -> None:
    values = {key: value for key, value in read_yaml(CONFIGS / f"{name}.yaml").items() if key not in ROOTS}
    assert values == {"bert_config": "configs/config_bert.json", **OFFICIAL[name]}
    assert type(values["optimizer"]["lr"]) is float


@pytest.mark.parametrize("name", sorted(OFFICIAL.keys() - {"Retrieval_coco"}))
def test_the_defaults_of_a_script_are_those_of_its_yaml_file(name: str) -> None:
    schema = COMMANDS[SCRIPTS.get(name, name)].schema
    values = read_yaml(CONFIGS / f"{name}.yaml")
    values["bert_config"] = json.loads((CONFIGS / "config_bert.json").read_text())
    assert merged(defaults(schema), values) == defaults(schema)
    check(schema, defaults(schema))


def test_the_text_model_is_the_official_one() -> None:
    assert json.loads((CONFIGS / "config_bert.json").read_text()) == {
        **{"architectures": ["BertForMaskedLM"], "hidden_size": 768, "num_hidden_layers": 12},
        **{"num_attention_heads": 12, "intermediate_size": 3072, "hidden_act": "gelu", "hidden_dropout_prob": 0.1},
        **{"attention_probs_dropout_prob": 0.1, "initializer_range": 0.02, "layer_norm_eps": 1e-12},
        **{"max_position_embeddings": 512, "pad_token_id": 0, "type_vocab_size": 2, "vocab_size": 30522},
        **{"model_type": "bert", "fusion_layer": 6, "encoder_width": 768},
    }


def test_the_settings_of_the_paper_differ_in_their_lists_alone() -> None:
    official = read_yaml(CONFIGS / "Pretrain.yaml")
    assert read_yaml(CONFIGS / "Pretrain_16M.yaml") == official
    four = [name for name in official["train_file"] if "cc12m" not in name]
    assert read_yaml(CONFIGS / "Pretrain_4M.yaml") == {**official, "train_file": four}


def test_flags_and_their_official_defaults() -> None:
    outputs = {
        **{"Pretrain": "Pretrain/", "Retrieval": "output/Retrieval_flickr", "VQA": "output/vqa", "VE": "output/VE"},
        **{"NLVR": "output/NLVR", "Pretrain_nlvr": "output/NLVR_pretrain", "Grounding": "output/RefCOCO"},
    }
    for name, command in COMMANDS.items():
        values = defaults(command.schema)
        assert values["output_dir"] == outputs[name]
        assert (CONFIGS.parent / command.config).is_file()
        assert {key: values[key] for key in ("checkpoint", "text_encoder", "device", "seed", "world_size")} == {
            **{"checkpoint": "", "text_encoder": "bert-base-uncased", "device": "cuda", "seed": 42, "world_size": 1}
        }
        assert (values["dist_url"], values["distributed"]) == ("env://", True)
        assert ("resume" in values) == (name == "Pretrain")
        assert ("text_decoder" in values) == (name == "VQA")
        assert ("evaluate" in values) == (not name.startswith("Pretrain"))
    grounding = defaults(COMMANDS["Grounding"].schema)
    assert (grounding["gradcam_mode"], grounding["block_num"]) == ("itm", 8)
