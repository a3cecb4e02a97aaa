"""ViLT's transformer by its official name, and the ImageNet weights that it starts from.

``init`` decides the start: ``pretrained`` (default), ``random``, or ``init.vision=<local file>``, such as the file that
ViLT started from, jx_vit_base_p32_384-830016f5.pth. Embeddings of text are random in ViLT.

Source: docs/official/vilt.md §4.3, §8.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from vilt.modules.sizes import VIT_SIZES
from vilt.modules.vision_transformer import VisionTransformer
from vlp.checkpoint.weights import WeightsError, check_tensors, read_state_dict, sha256_of_file, sha256_of_tensors
from vlp.initial_weights import timm_weights
from vlp.nn.positions import interpolate_vit_positions

log = logging.getLogger(__name__)

# timm's names of pre-trained weights of these sizes.
PRETRAINED = {"vit_base_patch32_384": "vit_base_patch32_384.augreg_in21k_ft_in1k"}
ORIGINAL = "jx_vit_base_p32_384-830016f5.pth"


def build_transformer(config: dict[str, Any]) -> VisionTransformer:
    """The transformer of a resolved config, with its pre-trained weights unless a checkpoint will bring others.

    Raises:
        ValueError: ``init`` is neither of its words.
        HubError: a hub name whose weights cannot be had.
        WeightsError: weights that cannot be read or do not fit.
    """
    transformer = VisionTransformer(
        VIT_SIZES[config["vit"]], config["mlp_ratio"], config["drop_rate"], mask_token=config["loss_names"]["mpp"] > 0
    )
    init = resolve_init(config["init"])
    if init != "random" and not (config["load_path"] or config["resume_from"]):
        load_imagenet(transformer, init, config["vit"])
    return transformer


def resolve_init(init: str | Mapping[str, str]) -> str:
    """``init=random`` and ``init.vision=random`` say the same."""
    if not isinstance(init, str):
        return init["vision"]
    if init not in ("random", "pretrained"):
        raise ValueError(f"init={init!r}: say init.vision={init}; alone go random and pretrained")
    return init


def load_imagenet(transformer: VisionTransformer, init: str, vit: str) -> None:
    """Fill ``transformer`` from a local file or, for "pretrained", from timm's hub.

    Raises:
        HubError: the hub's cannot be had.
        WeightsError: no such weights, or weights of another architecture.
    """
    if init == "pretrained":
        state, source = _from_hub(vit)
        digest = sha256_of_tensors(state)
    elif Path(init).exists():
        state, source, digest = read_state_dict(init), init, sha256_of_file(init)
    else:
        raise WeightsError(f"init.vision={init}: no such file; give one ({ORIGINAL}), pretrained or random")
    expected = transformer.state_dict()
    grid = transformer.patch_embed.grid_size
    try:
        state = {name: _fitted(name, t.float(), expected[name], grid) for name, t in state.items() if name in expected}
    except ValueError as error:
        raise WeightsError(f"{source}: {error}") from error
    check_tensors(source, state, expected, "Check vit")
    if missing := [name for name in expected if name not in state and name != "mask_token"]:
        raise WeightsError(f"{source} lacks {missing[:3]} ({len(missing)} tensors) of vit={vit}")
    transformer.load_state_dict(state, strict=False)
    log.info("[init] vision: %s, %d tensors, sha256 %s", source, len(state), digest)


def _from_hub(vit: str) -> tuple[dict[str, Tensor], str]:
    """timm's weights for ``vit`` and their name."""
    if vit not in PRETRAINED:
        raise WeightsError(f"vit={vit} has no pre-trained weights; give init.vision=<file> or init=random")
    name = PRETRAINED[vit]
    state = timm_weights(name, f"give init.vision=FILE ({ORIGINAL}), or init=random")
    log.warning(
        "[init] %s is not the file that ViLT started from: for that one give init.vision=<path of %s>", name, ORIGINAL
    )
    return state, name


def _fitted(name: str, value: Tensor, expected: Tensor, grid: tuple[int, int]) -> Tensor:
    """Old files hold the patch embedding flat, and files of other image sizes another position table.

    Source: docs/official/vilt.md §8.
    """
    if name == "patch_embed.proj.weight" and value.numel() == expected.numel():
        return value.reshape(expected.shape)
    return interpolate_vit_positions(value, grid) if name == "pos_embed" else value
