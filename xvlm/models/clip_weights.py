"""CLIP's image encoder under the names of timm, which :class:`vlp.nn.region_vit.RegionVit` has.

Source: docs/official/xvlm.md §2.3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_PREFIX = "vision_model."
_RENAMES = (
    ("embeddings.patch_embedding.", "patch_embed.proj."),
    ("embeddings.class_embedding", "cls_token"),
    ("embeddings.position_embedding.weight", "pos_embed"),
    ("pre_layrnorm.", "norm_pre."),  # transformers' spelling
    ("post_layernorm.", "norm."),
    ("encoder.layers.", "blocks."),
    (".layer_norm1.", ".norm1."),
    (".layer_norm2.", ".norm2."),
    (".self_attn.out_proj.", ".attn.proj."),
)
_QUERY = re.compile(r"(.*)\.self_attn\.q_proj\.(weight|bias)")


def from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a transformers CLIP, its text side left out; a state of other names as it is."""
    own = {name.removeprefix(_PREFIX): t for name, t in state.items() if name.startswith(_PREFIX)}
    if not own:
        return dict(state)
    result = {_timm_name(name): tensor for name, tensor in own.items() if not re.search(r"\.[qkv]_proj\.", name)}
    for query in filter(None, map(_QUERY.fullmatch, own)):
        parts = [own[query[0].replace(".q_proj.", f".{part}_proj.")] for part in "qkv"]
        result[_timm_name(f"{query[1]}.attn.qkv.{query[2]}")] = torch.cat(parts)
    result["cls_token"] = result["cls_token"].view(1, 1, -1)
    result["pos_embed"] = result["pos_embed"][None]
    return result


def _timm_name(name: str) -> str:
    for theirs, timms in _RENAMES:
        name = name.replace(theirs, timms)
    return name
