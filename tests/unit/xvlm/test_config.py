"""X-VLM's files hold the official values (docs/official/xvlm.md §2), and the schemas' defaults are the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vlp.config.schema import ConfigError, check, defaults
from vlp.yaml_dialect.command_line import merged, resolved
from vlp.yaml_dialect.keys import json_keys
from vlp.yaml_dialect.yaml_file import read_json, read_yaml
from xvlm.config import COMMANDS

XVLM = Path(__file__).parents[3] / "xvlm"
CONFIGS = XVLM / "configs"

SHARED: dict[str, Any] = {
    **{"use_clip_vit": False, "use_swin": True, "use_roberta": False, "patch_size": 32},
    **{"text_config": "configs/config_bert.json", "text_encoder": "data/bert-base-uncased"},
}
CONTRAST = {"embed_dim": 256, "temp": 0.07}
MASKS = {
    **{"max_words": 40, "max_tokens": 40, "mask_prob": 0.25, "max_masks": 8, "mask_whole_word": True},
    **{"skipgram_prb": 0.2, "skipgram_size": 3},
}
IMAGES = {
    **{"image_key": "binary", "is_image_rpath": False, "caption_key": "caption", "tokenized": False},
    **{"batch_size": 128, "num_workers": 4},
}
REGIONS = {**IMAGES, "iter_perc": 0.5, "max_images": 48, "max_regions": 5, "min_perc_in_image": 0.5}
STAGE: dict[str, Any] = {
    "accelerator": {
        **{"SYNCBN": False, "FP16_OPT_LEVEL": "O1", "FP16_LOSS_SCALE": "dynamic", "RNG_SEED": 42},
        **{"GRAD_ACCUMULATE_STEPS": 1, "CLIP_GRAD_NORM": 1.0},
    },
}


def swin(res: int) -> dict[str, Any]:
    return {"image_res": res, "vision_config": f"configs/config_swinB_{res}.json"}


def optimisation(lr: float, epochs: int, warmup: float = 0.1) -> dict[str, Any]:
    return {
        "optimizer": {"opt": "adamW", "lr": lr, "weight_decay": 0.01, "lr_mult": 2},
        "schedular": {"sched": "linear", "lr": lr, "epochs": epochs, "num_warmup_steps": warmup},
    }


def streams(*names: str) -> list[str]:
    """Officially ``hdfs://path/to/<name>``."""
    return [f"data/pretrain_4m/{name}" for name in names]


def lists(*names: str) -> list[str]:
    return [f"data/finetune/{name}.json" for name in names]


def retrieval(name: str, root: str, k_test: int) -> dict[str, Any]:
    return {
        **{"train_file": lists(f"{name}_train"), "val_file": lists(f"{name}_val")[0]},
        **{"test_file": lists(f"{name}_test")[0], "image_root": root, **swin(384)},
        **{"batch_size_train": 20, "batch_size_test": 12, "batch_size_test_text": 64, "k_test": k_test},
        **{"max_tokens": 40, **CONTRAST, **optimisation(3e-5, 10)},
    }


def vqa(res: int, start_eval: int) -> dict[str, Any]:
    return {
        **{"train_file": lists("vqa_train", "vqa_val", "vg_qa"), "test_file": lists("vqa_test")},
        **{"answer_list": "data/finetune/answer_list.json", "vqa_root": "images/coco/"},
        **{"vg_root": "images/visualgenome/", **swin(res), "batch_size_train": 24, "batch_size_test": 32},
        **{"num_dec_layers": 6, "max_tokens": 40, "k_test": 128, "start_eval": start_eval},
        **optimisation(5e-5, 10),
    }


REFERENCES: dict[str, Any] = {
    **{"train_file": lists("refcoco+_train"), "test_file": lists("refcoco+_val", "refcoco+_test")},
    **{"refcoco_data": "data/finetune/", "image_root": "images/coco/", **swin(384), "batch_size": 20, "max_tokens": 40},
}
DETECTIONS = {
    **{"det_file": "data/finetune/refcoco+/dets.json", "coco_file": "data/finetune/refcoco+/cocos.json"},
}
KARPATHY = "data/finetune/coco_karpathy/coco_karpathy_"
OFFICIAL: dict[str, dict[str, Any]] = {
    "Pretrain_XVLM_base_4m": {
        **{"train_file": streams("coco", "vg", "sbu", "cc3m"), "train_dataset_size": 5114489, "images": IMAGES},
        **{"train_file_regions": streams("coco_objs", "vg_objs", "vg_regions"), "regions": REGIONS, **swin(224)},
        **{**MASKS, "calc_image_bbox_loss": False, **CONTRAST, "ckpt_frequent_step": 50000, "ckpt_frequent": 5},
        **{"load_bertL_by_sep": False, **optimisation(1e-4, 41, 2500), **STAGE},
    },
    "NLVR_pretrain_O1": {
        **{"train_file": streams("coco", "vg", "sbu", "cc3m"), "train_dataset_size": 5114489, "images": IMAGES},
        **{**swin(224), **MASKS, "embed_dim": 256, "load_bertL_by_sep": False, **optimisation(3e-5, 2), **STAGE},
    },
    "Grounding_bbox_pretrain_O1": {
        "train_file_regions": streams("coco_objs_rm_leak", "vg_objs_rm_leak", "vg_regions_rm_leak"),
        **{"train_dataset_size": 318547, **swin(224), **MASKS},
        "regions": {**REGIONS, "iter_perc": 1.0, "batch_size": 24, "max_images": 9},
        **{"calc_image_bbox_loss": False, **optimisation(3e-5, 2), **STAGE},
    },
    "Captioning_pretrain_O1": {
        **{"train_file": streams("coco", "vg", "sbu", "cc3m"), "train_dataset_size": 5114489},
        **{"images": {**IMAGES, "caption_key": "desc"}, **swin(224), **MASKS, "load_bertL_by_sep": False},
        **{**optimisation(3e-5, 2), **STAGE},
    },
    "Retrieval_coco": retrieval("coco", "images/coco/", 256),
    "Retrieval_flickr": retrieval("flickr30k", "images/", 128),
    "VQA": vqa(384, 7),
    "VQA_480": vqa(480, 0),
    "NLVR": {
        **{f"{split}_file": lists(f"nlvr_{stem}") for split, stem in (("train", "train"), ("val", "dev"))},
        **{"test_file": lists("nlvr_test"), "image_root": "images/nlvr2/", **swin(384), "batch_size": 10},
        **optimisation(3e-5, 10),
    },
    "Grounding": {**REFERENCES, **DETECTIONS, **CONTRAST, "block_num": 9, **optimisation(2e-5, 5)},
    # Officially without careful_hflip, which its data set reads.
    "Grounding_bbox": {**REFERENCES, "careful_hflip": True, **optimisation(3e-5, 10)},
    "Captioning": {
        **{"train_file": [f"{KARPATHY}train.json"]},
        **{f"{split}_file": f"{KARPATHY}{split}.json" for split in ("val", "test")},
        **{f"{split}_gt_file": f"{KARPATHY}{split}_gt.json" for split in ("val", "test")},
        **{"image_root": "images/coco/", **swin(384), "batch_size_train": 32, "batch_size_test": 32},
        **{"num_dec_layers": 6, "max_tokens": 40, "label_smoothing": 0.1, "max_length": 20, "min_length": 5},
        **{"num_beams": 3, "prompt": "a picture of ", "start_eval": 0, **optimisation(1e-5, 5)},
    },
}
SCRIPTS = {
    **{"Retrieval_coco": "Retrieval", "Retrieval_flickr": "Retrieval", "VQA_480": "VQA"},
    **{"Pretrain_XVLM_base_4m": "Pretrain", "Pretrain_XVLM_base_16m": "Pretrain", "Grounding_weakly": "Grounding"},
}
DEFAULT = sorted(OFFICIAL.keys() - {"Retrieval_coco", "VQA_480"})
EVERY = [path for path in sorted(CONFIGS.glob("**/*.yaml"), key=str) if "epic" not in path.name]


def script_of(path: Path) -> str:
    stem = path.stem.removesuffix("_O1")
    return SCRIPTS.get(stem, stem)


def with_contents(values: dict[str, Any], schema: Any) -> dict[str, Any]:
    return {**values, **{name: read_json(XVLM / values[name]) for name in json_keys(schema)}}


@pytest.mark.parametrize("name", OFFICIAL)
def test_a_yaml_file_has_the_official_keys_and_values(name: str) -> None:
    values = read_yaml(CONFIGS / f"{name}.yaml")
    ours = {"image_root": ""} if "train_dataset_size" in values else {}
    assert values == {**SHARED, **ours, **OFFICIAL[name]}
    assert type(values["optimizer"]["lr"]) is float


def test_what_the_setting_of_16m_images_changes() -> None:
    four, sixteen = (read_yaml(CONFIGS / f"Pretrain_XVLM_base_{size}.yaml") for size in ("4m", "16m"))
    assert sixteen == {
        **{**four, "train_file": streams("coco", "vg", "sbu", "cc3m", "cc12m"), "train_dataset_size": 16219845},
        "train_file_regions": [*four["train_file_regions"], *streams("openimages", "obj365", "refcoco_rm_leak")],
        "regions": {**REGIONS, "tokenized": True, "num_workers": 2},
        **{"max_words": 30, "max_tokens": 30, "max_masks": 6, "schedular": {**four["schedular"], "epochs": 38}},
    }


@pytest.mark.parametrize("name", DEFAULT)
def test_the_defaults_of_a_script_are_those_of_its_yaml_file(name: str) -> None:
    schema = COMMANDS[script_of(Path(name))].schema
    values = with_contents(read_yaml(CONFIGS / f"{name}.yaml"), schema)
    assert merged(defaults(schema), values) == defaults(schema)
    check(schema, defaults(schema))


@pytest.mark.parametrize("path", EVERY, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_yaml_file_is_one_that_its_script_takes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlp.yaml_dialect.command_line.check_files", lambda *_: None)
    monkeypatch.chdir(XVLM)
    config = resolved(COMMANDS[script_of(path)], ["--config", str(path)])
    assert config["text_config"]["encoder_width"] == config["vision_config"]["vision_width"]


def test_of_every_script_there_is_a_small_model() -> None:
    assert {path.stem for path in (CONFIGS / "tiny").glob("*.yaml") if "epic" not in path.name} == {*COMMANDS}


def test_evaluations_of_vlue() -> None:
    folder = CONFIGS / "vlue-base-test"
    files = {path.stem: read_yaml(path) for path in folder.glob("*.yaml")}
    assert files.keys() == {"Retrieval", "VQA_480", "NLVR", "Grounding_bbox", "Grounding_weakly"}
    for name, values in files.items():
        assert {key: values[key] for key in SHARED} == SHARED
        assert {key: values[key] for key in swin(384)} == swin(480 if name == "VQA_480" else 384)
        assert values.get("image_root", "images/marvl/") == "images/marvl/"
        assert ("vlue_test" in values) == name.startswith("Grounding") == values.get("vlue_test", False)
    assert (files["Retrieval"]["batch_size_test"], files["Retrieval"]["batch_size_train"]) == (64, 64)
    assert (files["Retrieval"]["k_test"], files["VQA_480"]["k_test"], files["VQA_480"]["batch_size_test"]) == (
        256,
        128,
        32,
    )
    assert {files[name]["batch_size"] for name in ("NLVR", "Grounding_bbox", "Grounding_weakly")} == {20}
    assert files["Grounding_bbox"]["careful_hflip"] is True


@pytest.mark.parametrize(("res", "window"), [(224, 7), (384, 12), (480, 15)])
def test_swin_is_the_official_one(res: int, window: int) -> None:
    assert json.loads((CONFIGS / f"config_swinB_{res}.json").read_text()) == {
        **{"ckpt": "data/swin_base_patch4_window7_224_22k.pth", "vision_width": 1024, "image_res": res},
        **{"window_size": window, "embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32]},
    }


def test_the_text_models_are_the_official_ones() -> None:
    bert, roberta = (json.loads((CONFIGS / f"config_{name}.json").read_text()) for name in ("bert", "roberta"))
    assert bert == {
        **{"architectures": ["BertForMaskedLM"], "hidden_size": 768, "num_hidden_layers": 12},
        **{"num_attention_heads": 12, "intermediate_size": 3072, "hidden_act": "gelu", "hidden_dropout_prob": 0.1},
        **{"attention_probs_dropout_prob": 0.1, "initializer_range": 0.02, "layer_norm_eps": 1e-12},
        **{"max_position_embeddings": 512, "pad_token_id": 0, "type_vocab_size": 2, "vocab_size": 30522},
        **{"model_type": "bert", "fusion_layer": 6, "encoder_width": 1024},
    }
    assert roberta == {
        **bert,
        **{"architectures": ["RobertaForMaskedLM"], "model_type": "roberta", "layer_norm_eps": 1e-5},
        **{"max_position_embeddings": 514, "type_vocab_size": 1, "vocab_size": 50265},
        **{"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2},
    }


def test_clip_is_the_official_one() -> None:
    values = json.loads((CONFIGS / "config_clipvitB.json").read_text())
    official = {
        **{"ckpt": "data/clip-vit-base-patch16.bin", "vision_width": 768, "patch_size": 16, "intermediate_size": 3072},
        **{"hidden_act": "quick_gelu", "num_attention_heads": 12, "num_hidden_layers": 12, "local_attn_depth": 4},
    }
    assert values == {**official, "attention_dropout": 0.0}


def test_flags_and_their_official_defaults() -> None:
    outputs = {
        **{"Pretrain": "output/pretrain", "NLVR_pretrain": "output/nlvr_pretrain", "VQA": "output/vqa"},
        **{"Grounding_bbox_pretrain": "output/bbox_pretrain", "NLVR": "output/nlvr", "Grounding": "output/refcoco"},
        "Grounding_bbox": "output/refcoco_bbox",
    }
    for name, command in COMMANDS.items():
        values = defaults(command.schema)
        assert values["output_dir"] == outputs.get(name, values["output_dir"])
        assert (XVLM / command.config).is_file()
        assert {key: values[key] for key in ("checkpoint", "device", "seed", "world_size", "dist_url")} == {
            **{"checkpoint": "", "device": "cuda", "seed": 42, "world_size": 1, "dist_url": "env://"}
        }
        stage = name.lower().endswith("pretrain")
        assert ("evaluate" in values) == ("bs" in values) == ("output_hdfs" in values) == (not stage)
        assert values.get("bs", -1) == -1 and values["distributed"] is True
        assert ("accelerator" in values) == stage
    assert defaults(COMMANDS["Grounding"].schema)["gradcam_mode"] == "itm"


# What keys decide together ------------------------------------------------------------------------------------


def of(script: str, *argv: str, config: str = "") -> dict[str, Any]:
    file = CONFIGS / f"{config}.yaml" if config else XVLM / COMMANDS[script].config
    return resolved(COMMANDS[script], ["--config", str(file), *argv])


@pytest.fixture
def _no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlp.yaml_dialect.command_line.check_files", lambda *_: None)


@pytest.fixture
def _eight_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "8", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "8"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("_no_files", "_eight_processes")
@pytest.mark.parametrize(
    ("script", "name"), [("Retrieval", "batch_size_train"), ("NLVR", "batch_size"), ("Grounding_bbox", "batch_size")]
)
def test_bs_is_the_batch_of_all_gpus(script: str, name: str) -> None:
    file = OFFICIAL[{"Retrieval": "Retrieval_flickr"}.get(script, script)][name]
    assert of(script)[name] == of(script, "--bs", "-1")[name] == file
    assert of(script, "--bs", "64")[name] == 8
    assert of(script, "--bs", "70")[name] == 8  # as officially, bs // world_size
    with pytest.raises(ConfigError, match=r"--bs 7: 8 processes need a sample each"):
        of(script, "--bs", "7")


@pytest.mark.usefixtures("_no_files")
def test_flags_that_leave_the_file_as_it_is() -> None:
    config = of("Grounding", "--block_num", "-1", "--epochs", "-1")
    assert (config["block_num"], config["schedular"]["epochs"]) == (9, 5)
    config = of("Grounding", "--block_num", "7", "--epochs", "1")
    assert (config["block_num"], config["schedular"]["epochs"]) == (7, 1)


@pytest.mark.usefixtures("_no_files")
def test_precision_is_what_the_accelerator_says() -> None:
    assert of("Pretrain")["precision"] == 16
    assert of("Pretrain", "accelerator.FP16_OPT_LEVEL=O0")["precision"] == 32
    assert of("Pretrain", "precision=bf16")["precision"] == "bf16"
    assert of("Pretrain", "accelerator.backend=apex")["precision"] is None
    assert of("Retrieval")["precision"] == 32


@pytest.mark.usefixtures("_no_files")
def test_one_number_of_loader_processes_for_both_streams() -> None:
    assert [of("Pretrain")[name]["num_workers"] for name in ("images", "regions")] == [4, 4]
    config = of("Pretrain", "num_workers=0")
    assert [config[name]["num_workers"] for name in ("images", "regions")] == [0, 0]
    assert of("NLVR_pretrain", "num_workers=1")["images"]["num_workers"] == 1


@pytest.mark.usefixtures("_no_files")
def test_the_fusion_layers_read_what_the_image_encoder_gives() -> None:
    clip = ("use_clip_vit=True", f"vision_config={CONFIGS / 'config_clipvitB.json'}", "patch_size=16")
    config = of("Pretrain", *clip)
    assert config["text_config"]["encoder_width"] == config["vision_config"]["vision_width"] == 768
    assert config["vision_config"]["local_attn_depth"] == 4


@pytest.mark.usefixtures("_no_files")
@pytest.mark.parametrize(
    ("script", "items", "said"),
    [
        (
            "Pretrain",
            ["patch_size=16"],
            "^patch_size=16: .* make it Swin, .* patches of 32: give patch_size=32$",
        ),
        (
            "Pretrain",
            ["use_swin=False"],
            "^patch_size=32: .*use_swin=False make it DeiT, .* give patch_size=16$",
        ),
        (
            "Pretrain",
            ["use_clip_vit=True", "vision_config.patch_size=14"],
            "patch_size=32: .* make it CLIP as vision_config describes it, which has patches of 14",
        ),
        (
            "Pretrain",
            ["image_res=384"],
            "image_res=384, but vision_config.image_res=224: .* vision_config=configs/config_swinB_384.json",
        ),
        ("Pretrain", ["image_res=200", "vision_config.image_res=200"], "image_res=200 is not a multiple of patch_size"),
        ("Pretrain", ["vision_config.window_size=5"], "window_size=5: stage 0 of image_res=224 is 56 patches wide"),
        ("Pretrain", ["vision_config.vision_width=512"], "vision_width=512, but vision_config.embed_dim=128 grows to"),
        ("Pretrain", ["vision_config.num_heads=[4, 8, 16]"], "give each stage one of both"),
        ("Pretrain", ["vision_config.num_heads=[3, 8, 16, 32]"], "stage 0 has 128 channels, not a multiple of 3"),
        ("Pretrain", ["use_roberta=True"], "^use_roberta=True: .* BERT alone"),
        ("Pretrain", ["train_dataset_size=128"], "^train_dataset_size=128: an epoch needs two steps or more of 1 proc"),
        ("Pretrain", ["images.batch_size=1"], "images.batch_size=1: its objectives need at least 2 samples"),
        ("Pretrain", ["regions.batch_size=1"], "regions.batch_size=1: matching needs at least 2 texts"),
        ("Pretrain", ["regions.caption_key=desc"], "regions.caption_key='desc': expected 'caption'"),
        ("Pretrain", ["max_tokens=600"], "max_tokens=600, but text_config.max_position_embeddings=512"),
        (
            "Pretrain",
            ["text_config.fusion_layer=12"],
            "text_config.fusion_layer=12 leaves no fusion layer of text_config",
        ),
        ("Pretrain", ["accelerator.FP16_OPT_LEVEL=O4"], "FP16_OPT_LEVEL='O4': expected 'O0', 'O1' or 'O2'"),
        ("Pretrain", ["accelerator.GRAD_ACCUMULATE_STEPS=2"], "GRAD_ACCUMULATE_STEPS=2: expected 1"),
        ("Pretrain", ["accelerator.backend=apex", "precision=16"], "leave precision out"),
        ("Pretrain", ["schedular.num_warmup_steps=1.5"], "num_warmup_steps=1.5: expected a whole number"),
        ("Pretrain", ["images.batchsize=3"], "unknown config key 'images.batchsize'; did you mean 'images.batch_size'"),
        ("Grounding_bbox_pretrain", ["train_file_regions=[]"], "train_file_regions is empty"),
        ("Grounding", ["--block_num", "3"], "block_num=3: the fusion layers are 6 to 11"),
        ("Grounding", ["det_file="], "det_file is empty: only vlue_test=True"),
        ("Grounding", ["--epochs", "0"], "^--epochs 0: expected a whole number of passes"),
        ("VQA", ["--output_hdfs", "hdfs://a"], "^--output_hdfs hdfs://a: HDFS is not written"),
        ("Captioning", ["--scst"], "^--scst: self-critical training is not part of this code"),
        ("Captioning", ["min_length=21"], "min_length=21 is above max_length=20"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_contradicts_itself_is_said_in_a_line(script: str, items: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        of(script, *items)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows").mkdir()
    with pytest.raises(ConfigError, match=r"train_file=.*hdfs://path/to/coco: HDFS is not read or written: mount it"):
        of("Pretrain", "train_file=[hdfs://path/to/coco, rows]")
    with pytest.raises(ConfigError) as caught:
        of("Pretrain", "train_file=rows", "train_file_regions=[rows, absent]")
    assert "absent: no such file or folder; docs/data.md says how to make the lists" in str(caught.value)
    with pytest.raises(ConfigError, match="output_dir=hdfs://a/b: HDFS is not read or written"):
        of("Pretrain", "--output_dir", "hdfs://a/b")
    assert of("Pretrain", "train_file=rows", "train_file_regions=[]")["train_file_regions"] == []
