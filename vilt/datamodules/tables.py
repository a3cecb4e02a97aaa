"""Which Arrow tables each dataset key of ViLT reads, where they are not METER's (docs/official/vilt.md §3.3)."""

from __future__ import annotations

from dataclasses import replace

from vlp.data.arrow.registry import SPECS as SHARED

_GCC_VAL = ("conceptual_caption_val_0",)
_OWN = (
    replace(SHARED["gcc"], val=_GCC_VAL, test=_GCC_VAL),
    replace(SHARED["vqa"], train=("vqav2_train", "vqav2_trainable_val"), val=("vqav2_rest_val",)),
)
SPECS = {key: SHARED[key] for key in ("vg", "f30k", "coco", "sbu", "cc12m", "nlvr2")} | {s.key: s for s in _OWN}
