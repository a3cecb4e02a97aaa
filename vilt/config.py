"""ViLT's configuration: the official base keys and named configs, for ``python run.py with …``.

Keys below "ours" and the last ones of ``vlp.sacred_dialect.keys`` are not official.

Source: docs/official/vilt.md §2, §3.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, MinLen

from vilt.datamodules.tables import SPECS
from vilt.modules.sizes import VIT_SIZES
from vlp.config.kinds import Amount, Choices, Name, Positive
from vlp.config.schema import Schema, key, with_defaults
from vlp.config.trial import TRIAL
from vlp.data.arrow.registry import DatasetSpec
from vlp.data.transform_keys import PIXELBERT, PIXELBERT_STEP
from vlp.sacred_dialect.config import new_experiment
from vlp.sacred_dialect.keys import SacredKeys, loss_names

# EPIC >
from epic_common.config import named_configs
from epic_vlp.keys import with_epic_keys
# < EPIC

# A task's head is built from any value > 0, its objective is trained from 1 on; the number is never a weight.
_loss_names = partial(loss_names, ("itm", "mlm", "mpp", "vqa", "nlvr2", "irtr"))
Datasets = Annotated[list[Annotated[str, Choices(SPECS)]], MinLen(1)]
Transforms = Annotated[list[Annotated[str, Choices(PIXELBERT)]], MinLen(1)]


class Init(Schema):
    """What the transformer starts from: pretrained, random, or a local file."""

    vision: Name = key("pretrained", "the transformer; embeddings of text are random")


# EPIC >
@with_epic_keys
# < EPIC
@with_defaults(
    exp_name="vilt",
    loss_names=_loss_names(itm=1, mlm=1),
    max_steps=25000,
    warmup_steps=2500,
    precision=16,
)
class ViltKeys(SacredKeys):
    """Every key with its default."""

    task_data: ClassVar[Mapping[str, str]] = {
        **{"mlm": "caption", "itm": "caption", "mpp": "caption", "irtr": "caption"},
        **{"vqa": "vqa", "nlvr2": "nlvr2"},
    }
    specs: ClassVar[Mapping[str, DatasetSpec]] = SPECS

    datasets: Datasets = key(["coco", "vg", "sbu", "gcc"], "the tables to read")
    # Image
    train_transform_keys: Transforms = key(["pixelbert"], "views of a training image, one each")
    val_transform_keys: Transforms = key(["pixelbert"], "views of an evaluated image, one each")
    image_size: Annotated[int, Ge(PIXELBERT_STEP), Le(4096)] = key(
        384, "pixels of the shorter side, which is cut to a multiple of 32; the longer one has at most 1333/800 of it"
    )
    max_image_len: Annotated[int, Ge(-1)] = key(-1, "patches that are kept of an image; -1: all")
    # Transformer
    vit: Annotated[str, Choices(VIT_SIZES)] = key("vit_base_patch32_384", "the transformer")
    num_layers: Positive = key(12, "its layers")
    mlp_ratio: Annotated[float, Gt(0), Le(1000)] = key(4, "width of a feed-forward layer, in hidden_size")
    # Optimiser
    lr_mult: Amount = key(1, "learning-rate factor of the heads of VQAv2 and NLVR2")
    # Ours
    init: Init | Literal["pretrained", "random"] = key(Init(), "what the transformer starts from")

    def relations(self) -> Iterator[str]:
        yield from super().relations()
        if self.max_image_len == 0:
            yield "max_image_len=0 keeps no patch of an image: a number of patches, or -1 for all of them"
        size = VIT_SIZES[self.vit]
        wanted = {
            "hidden_size": size.width,
            "num_layers": size.layers,
            "num_heads": size.heads,
            "patch_size": size.patch_size,
        }
        for name, value in wanted.items():
            if getattr(self, name) != value:
                yield f"vit={self.vit} has {name}={value} (here {getattr(self, name)})"


_PRETRAIN: dict[str, Any] = {
    "exp_name": "mlm_itm",
    "datasets": ["coco", "vg", "sbu", "gcc"],
    "loss_names": _loss_names(itm=1, mlm=1),
    "batch_size": 4096,
    "max_epoch": 10,
    "max_image_len": 200,
}
_FINETUNE: dict[str, Any] = {"max_epoch": 10, "max_steps": None, "warmup_steps": 0.1, "learning_rate": 1e-4}
_NLVR2: dict[str, Any] = {
    **_FINETUNE,
    "exp_name": "finetune_nlvr2",
    "datasets": ["nlvr2"],
    "loss_names": _loss_names(nlvr2=1),
    "batch_size": 128,
    "draw_false_image": 0,
}
_VQA: dict[str, Any] = {
    **_FINETUNE,
    "exp_name": "finetune_vqa",
    "datasets": ["vqa"],
    "loss_names": _loss_names(vqa=1),
    "batch_size": 256,
    "draw_false_image": 0,
    "val_check_interval": 0.1,
    "lr_mult": 10,
}
_RETRIEVAL: dict[str, Any] = {
    **_FINETUNE,
    "loss_names": _loss_names(itm=0.5, irtr=1),
    "batch_size": 256,
    "get_recall_metric": True,
    "draw_false_text": 15,
}
_TASKS: dict[str, dict[str, Any]] = {
    "task_mlm_itm": _PRETRAIN,
    "task_finetune_nlvr2": _NLVR2,
    "task_finetune_vqa": _VQA,
    "task_finetune_irtr_coco": {**_RETRIEVAL, "exp_name": "finetune_irtr_coco", "datasets": ["coco"]},
    "task_finetune_irtr_f30k": {**_RETRIEVAL, "exp_name": "finetune_irtr_f30k", "datasets": ["f30k"]},
}
NAMED_CONFIGS: dict[str, dict[str, Any]] = {
    "env_dandelin": {
        "data_root": "/data2/dsets/dataset",
        "log_dir": "/data2/vilt/result",
        "num_gpus": 8,
        "num_nodes": 1,
    },
    **_TASKS,
    **{
        f"{name}_randaug": {
            **values,
            "exp_name": f"{values['exp_name']}_randaug",
            "train_transform_keys": ["pixelbert_randaug"],
        }
        for name, values in _TASKS.items()
    },
    "task_mlm_itm_mpp": {
        **_PRETRAIN,
        "exp_name": "mlm_itm_mpp",
        "loss_names": _loss_names(itm=1, mlm=1, mpp=1),
    },
    # After a task's config, which sets max_epoch too
    "step25k": {"max_epoch": 100, "max_steps": 25000},
    "step50k": {"max_epoch": 100, "max_steps": 50000},
    "step100k": {"max_epoch": 100, "max_steps": 100000},
    "step200k": {"max_epoch": 200, "max_steps": 200000},
    "vit32_base": {
        "vit": "vit_base_patch32_384",
        "patch_size": 32,
        "hidden_size": 768,
        "num_heads": 12,
        "num_layers": 12,
    },
    # Ours: the 16M setting of the paper, and a model of the same classes that a CPU trains
    "data_16m": {"datasets": ["coco", "vg", "sbu", "gcc", "cc12m"]},
    "tiny": {
        "vit": "vit_tiny_patch16_64",
        "patch_size": 16,
        "image_size": 64,
        "hidden_size": 128,
        "num_heads": 4,
        "num_layers": 4,
        "drop_rate": 0.0,  # models of this size underfit
        "max_text_len": 30,
        "init": {"vision": "random"},
        "precision": 32,
        **TRIAL,
        "batch_size": 32,
        "warmup_steps": 0.1,
    },
}
# EPIC >
NAMED_CONFIGS |= named_configs()
# < EPIC
ex = new_experiment("ViLT", ViltKeys, NAMED_CONFIGS)
