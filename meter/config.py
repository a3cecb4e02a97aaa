"""METER's configuration: the official base keys and named configs, for ``python run.py with …``.

Keys below "ours" and the last ones of ``vlp.sacred_dialect.keys`` are not official.

Source: docs/official/meter.md §2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le

from meter.modules.sizes import CLIP_SIZES, SWIN_SIZES
from vlp.config.kinds import Amount, Choices, Name, Positive, Switch
from vlp.config.schema import Schema, key, with_defaults
from vlp.config.trial import TRIAL
from vlp.sacred_dialect.config import new_experiment
from vlp.sacred_dialect.keys import SacredKeys, loss_names

# EPIC >
from epic_common.config import named_configs
from epic_vlp.keys import with_epic_keys
# < EPIC

TASKS = ("itm", "mlm", "mpp", "vqa", "vcr", "vcr_qar", "nlvr2", "irtr", "contras", "snli")
_loss_names = partial(loss_names, TASKS)  # only "> 0" matters, the number is never a weight


class Init(Schema):
    """What each encoder starts from: pretrained, random, or a hub name or local file."""

    vision: Name = key("pretrained", "image encoder")
    text: Name = key("pretrained", "text encoder")


# EPIC >
@with_epic_keys
# < EPIC
@with_defaults(
    exp_name="meter",
    loss_names=_loss_names(itm=1, mlm=1),
    train_transform_keys=["clip"],
    val_transform_keys=["clip"],
    learning_rate=1e-5,
    num_gpus=8,
)
class MeterKeys(SacredKeys):
    """Every key with its default."""

    task_data: ClassVar[Mapping[str, str]] = {
        **{"mlm": "caption", "itm": "caption", "irtr": "caption"},
        **{"vqa": "vqa", "nlvr2": "nlvr2", "snli": "snli"},
    }

    # Image
    resolution_before: Positive = key(224, "image size of a Swin's released weights")
    vit: Annotated[str, Choices([*CLIP_SIZES, *SWIN_SIZES])] = key("ViT-B/32", "the image encoder")
    # Fusion
    num_top_layer: Annotated[int, Ge(1), Le(1000)] = key(6, "co-attention layers of each stream")
    input_image_embed_size: Positive = key(768, "width of the image encoder")
    input_text_embed_size: Positive = key(768, "width of the text encoder")
    num_layers: Positive = key(6, "official, without effect")
    mlp_ratio: Annotated[float, Gt(0), Le(1000)] = key(4, "width of a feed-forward layer, in hidden_size")
    # Optimiser
    lr_mult_head: Amount = key(5, "learning-rate factor of the heads")
    lr_mult_cross_modal: Amount = key(5, "learning-rate factor of the fusion layers")
    # Ours
    reorder_attention: Switch = key(
        True, "products of the fusion's attention in the order that needs fewest; False: the fused kernel alone"
    )
    init: Init | Literal["pretrained", "random"] = key(Init(), "what the encoders start from")

    def relations(self) -> Iterator[str]:
        yield from super().relations()
        if self.vit in CLIP_SIZES:
            kind, width, step = "the patch size", CLIP_SIZES[self.vit].width, CLIP_SIZES[self.vit].patch_size
        else:
            kind, width, step = "Swin's", SWIN_SIZES[self.vit].width, 32
        if self.image_size % step:
            yield f"image_size={self.image_size} is not a multiple of {kind} {step} (vit={self.vit})"
        if self.input_image_embed_size != width:
            yield f"vit={self.vit} gives {width} channels, input_image_embed_size={self.input_image_embed_size}"


_FINETUNE: dict[str, Any] = {
    "max_steps": None,
    "warmup_steps": 0.1,
    "tokenizer": "bert-base-uncased",
    "input_text_embed_size": 768,
    "vit": "ViT-B/32",
    "train_transform_keys": ["clip"],
    "val_transform_keys": ["clip"],
    "input_image_embed_size": 768,
    "lr_mult_cross_modal": 5,
}
_RETRIEVAL: dict[str, Any] = {
    **_FINETUNE,
    "loss_names": _loss_names(itm=0.5, irtr=1),
    "batch_size": 512,
    "max_epoch": 10,
    "draw_false_text": 15,
    "get_recall_metric": True,
    "learning_rate": 5e-6,
    "lr_mult_head": 5,
    "image_size": 384,
}
NAMED_CONFIGS: dict[str, dict[str, Any]] = {
    "task_mlm_itm_clip_bert": {
        "exp_name": "mlm_itm",
        "datasets": ["coco", "vg", "sbu", "gcc"],
        "loss_names": _loss_names(itm=1, mlm=1),
        "batch_size": 4096,
        "max_epoch": 10,
        "max_steps": 100000,
        "warmup_steps": 0.1,
        "whole_word_masking": True,
        "vocab_size": 30522,
        "max_text_len": 50,
        "image_size": 224,
        "tokenizer": "bert-base-uncased",
        "train_transform_keys": ["clip"],
        "val_transform_keys": ["clip"],
        "learning_rate": 1e-5,
        "val_check_interval": 1.0,
        "lr_mult_head": 5,
        "lr_mult_cross_modal": 5,
        "num_top_layer": 6,
        "hidden_size": 768,
        "num_heads": 12,
    },
    "task_finetune_nlvr2_clip_bert": {
        **_FINETUNE,
        "exp_name": "finetune_nlvr2",
        "datasets": ["nlvr2"],
        "loss_names": _loss_names(nlvr2=1),
        "batch_size": 256,
        "max_epoch": 10,
        "draw_false_image": 0,
        "learning_rate": 1e-5,
        "lr_mult_head": 10,
        "max_text_len": 50,
        "image_size": 288,
    },
    "task_finetune_vqa_clip_bert": {
        **_FINETUNE,
        "exp_name": "finetune_vqa",
        "datasets": ["vqa"],
        "loss_names": _loss_names(vqa=1),
        "batch_size": 512,
        "max_epoch": 10,
        "draw_false_image": 0,
        "learning_rate": 5e-6,
        "lr_mult_head": 50,
        "val_check_interval": 0.1,
        "max_text_len": 50,
        "image_size": 576,
    },
    "task_finetune_irtr_coco_clip_bert": {**_RETRIEVAL, "exp_name": "finetune_irtr_coco", "datasets": ["coco"]},
    "task_finetune_irtr_f30k_clip_bert": {**_RETRIEVAL, "exp_name": "finetune_irtr_f30k", "datasets": ["f30k"]},
    "task_finetune_snli_clip_bert": {
        **_FINETUNE,
        "exp_name": "finetune_snli",
        "datasets": ["snli"],
        "loss_names": _loss_names(snli=1),
        "batch_size": 64,
        "max_epoch": 5,
        "draw_false_image": 0,
        "learning_rate": 2e-6,
        "lr_mult_head": 10,
        "max_text_len": 50,
        "image_size": 384,
    },
    # Image encoders
    "swin32_base224": {
        "vit": "swin_base_patch4_window7_224_in22k",
        "patch_size": 32,
        "image_size": 224,
        "train_transform_keys": ["imagenet"],
        "val_transform_keys": ["imagenet"],
        "input_image_embed_size": 1024,
        "resolution_before": 224,
    },
    "swin32_base384": {
        "vit": "swin_base_patch4_window12_384_in22k",
        "patch_size": 32,
        "image_size": 384,
        "train_transform_keys": ["imagenet"],
        "val_transform_keys": ["imagenet"],
        "input_image_embed_size": 1024,
        "resolution_before": 384,
    },
    "swin32_large384": {
        "vit": "swin_large_patch4_window12_384_in22k",
        "patch_size": 32,
        "image_size": 384,
        "train_transform_keys": ["imagenet"],
        "val_transform_keys": ["imagenet"],
        "input_image_embed_size": 1536,
        "resolution_before": 384,
    },
    "clip32": {
        "vit": "ViT-B/32",
        "image_size": 224,
        "patch_size": 32,
        "train_transform_keys": ["clip"],
        "val_transform_keys": ["clip"],
        "input_image_embed_size": 768,
    },
    "clip16": {
        "vit": "ViT-B/16",
        "image_size": 224,
        "patch_size": 16,
        "train_transform_keys": ["clip"],
        "val_transform_keys": ["clip"],
        "input_image_embed_size": 768,
    },
    # Text encoders
    "text_roberta": {"tokenizer": "roberta-base", "vocab_size": 50265, "input_text_embed_size": 768},
    "text_roberta_large": {"tokenizer": "roberta-large", "vocab_size": 50265, "input_text_embed_size": 1024},
    # Augmentation
    "imagenet_randaug": {"train_transform_keys": ["imagenet_randaug"]},
    "clip_randaug": {"train_transform_keys": ["clip_randaug"]},
    # Ours: the 16M setting of the paper, and models of the same classes that a CPU trains
    "data_16m": {"datasets": ["coco", "vg", "sbu", "gcc", "cc12m"]},
    "tiny": {
        "vit": "ViT-Tiny/16",
        "patch_size": 16,
        "image_size": 64,
        "train_transform_keys": ["clip"],
        "val_transform_keys": ["clip"],
        "input_image_embed_size": 128,
        "input_text_embed_size": 128,
        "hidden_size": 128,
        "num_heads": 4,
        "num_top_layer": 3,
        "drop_rate": 0.0,  # models of this size underfit
        "max_text_len": 30,
        "init": {"vision": "random", "text": "pretrained"},
        **TRIAL,
        "batch_size": 32,
        "warmup_steps": 0.1,
    },
}
# EPIC >
NAMED_CONFIGS |= named_configs()
# < EPIC
ex = new_experiment("METER", MeterKeys, NAMED_CONFIGS)
